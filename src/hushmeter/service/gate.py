"""The gate before every method: who calls, whether they may, and how often.

Runs as an interceptor, so that no method can be forgotten: one that the table of roles does not name is for operators.
What is refused says what to do, and never which half of a credential was wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog

from hushmeter import limits
from hushmeter.access.credentials import Access, Credential, Proof, bearer_in, parts_of, proves
from hushmeter.access.rates import Bucket
from hushmeter.access.roles import OPEN_PREFIX, Role, roles_of
from hushmeter.errors import Failure, Forbidden, HushmeterError, RateLimited, Unauthenticated
from hushmeter.model.plan import Metric
from hushmeter.service.context import Context
from hushmeter.service.logs import told
from hushmeter.service.meters import Meters
from hushmeter.service.rules import AccessRules
from hushmeter.service.statuses import refuse

MISS_PAUSE_S = 0.1
"""Unknown ids make a worker look for new credentials no oftener than that; who sends one waits for the look."""
_MISSING = (
    "this service asks for a credential: send it as metadata 'authorization: Bearer hm_...' (clients of hushmeter read a "
    "credential file, or HUSHMETER_CREDENTIAL); an operator makes one with 'hushmeter credential create'"
)
_UNKNOWN = "the credential is not valid here; ask an operator for a new one ('hushmeter credential create')"
_EXPIRED = "the credential has expired; ask an operator for a new one ('hushmeter credential create')"

_passage: ContextVar[Passage | None] = ContextVar("passage", default=None)


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Lets calls in, or refuses them.

    Args:
        context: the deployment, whose store holds the credentials.
        meters: operators' metrics.
        rules: what is asked for.
    """

    def __init__(self, context: Context, meters: Meters, rules: AccessRules) -> None:
        self._context = context
        self._meters = meters
        self._rules = rules
        self._changes = 0
        self._known: dict[str, Credential] = {}
        self._buckets: dict[str, Bucket] = {}
        self._required = rules.credentials_required or rules.unit_tokens
        self._followed_s = 0.0
        self._missed_s = -MISS_PAUSE_S
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("hushmeter.gate")

    async def start(self) -> None:
        """Learns the credentials, and begins to follow them.

        Raises:
            Failure: they cannot be read.
        """
        await self._follow()
        self._task = asyncio.create_task(self._keep_following())

    async def stop(self) -> None:
        """Follows no longer."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Lets one call through, as gRPC asks; a refusal is a handler that answers with its status."""
        method = handler_call_details.method
        if self._required and not method.startswith(OPEN_PREFIX):
            try:
                _passage.set(await self._enter(method, handler_call_details.invocation_metadata))
            except HushmeterError as error:
                self._meters.calls_refused.labels(type(error).__name__).inc()
                return _refusing(error)
        return await continuation(handler_call_details)

    def still(self, credential: Credential) -> None:
        """Takes one more message of a credential in.

        Raises:
            Unauthenticated: it was revoked or has expired meanwhile.
            RateLimited: it sends too many.
        """
        known = self._known.get(credential.credential_id)
        if known is None:
            raise Unauthenticated(_UNKNOWN)
        if known.expired(self._context.clock.now_ms()):
            raise Unauthenticated(_EXPIRED)
        if not self._rules.messages_per_s:
            return
        bucket = self._buckets.get(known.credential_id)
        if bucket is None:
            bucket = self._buckets[known.credential_id] = Bucket(self._rules.messages_per_s, self._rules.message_burst)
        if wait_s := bucket.take(self._context.clock.monotonic_s()):
            raise RateLimited(
                f"this credential sends more than {self._rules.messages_per_s:g} messages a second (and "
                f"{self._rules.message_burst} at once); send fewer, larger messages, or try again in {wait_s:.3f} s",
                wait_s,
            )

    async def _enter(self, method: str, metadata: Any) -> Passage:
        """Who calls, proved.

        Raises:
            Unauthenticated, Forbidden, RateLimited: they may not.
            Failure: nobody can tell.
        """
        bearer = bearer_in([value for key, value in metadata or () if key == "authorization"])
        if not bearer:
            raise Unauthenticated(_MISSING)
        credential_id, secret_hash = parts_of(bearer) or ("", bytes(32))
        await self._look_for(credential_id)
        known = self._known.get(credential_id)
        match proves(known, secret_hash, self._context.clock.now_ms()):
            case Proof.EXPIRED:
                raise Unauthenticated(_EXPIRED)
            case Proof.GOOD if known is not None:
                self.still(known)
            case _:
                raise Unauthenticated(_UNKNOWN)
        passage = Passage(known, self, self._context)
        if known.role not in roles_of(method):
            needed = ", ".join(sorted(roles_of(method)))
            text = f"a credential of role {known.role} may not call {_short(method)}; use one of role {needed}"
            await passage.note(_short(method), refused=text)
            raise Forbidden(text)
        return passage

    async def _look_for(self, credential_id: str) -> None:
        """Makes sure that what is known is not older than it may be, and looks again for an id that nobody knows yet."""
        if credential_id and credential_id not in self._known:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look_soon())
            await asyncio.shield(self._looking)
        if self._context.clock.monotonic_s() - self._followed_s > limits.CREDENTIALS_STALE_S:
            raise Failure("the credentials cannot be read at the moment, so nobody is let in; try again later")

    async def _look_soon(self) -> None:
        """One look for all who wait for one."""
        await asyncio.sleep(max(0.0, self._missed_s + MISS_PAUSE_S - self._context.clock.monotonic_s()))
        self._missed_s = self._context.clock.monotonic_s()
        # Who comes from now on may have a credential that this look is too early to see.
        self._looking = None
        await self._try_to_follow()

    async def _follow(self) -> None:
        before = self._context.clock.monotonic_s()
        changes, credentials = await asyncio.to_thread(self._context.store.credentials, self._changes)
        self._followed_s = max(self._followed_s, before)
        # A slower read that began earlier must not undo a newer one; changes are only ever added.
        if changes <= self._changes:
            return
        self._changes = changes
        self._required = True
        self._known = {c.credential_id: c for c in credentials if c.revoked_at_ms is None}
        self._buckets = {name: bucket for name, bucket in self._buckets.items() if name in self._known}

    async def _keep_following(self) -> None:
        while True:
            await asyncio.sleep(limits.CREDENTIALS_FOLLOWED_S)
            await self._try_to_follow()

    async def _try_to_follow(self) -> None:
        try:
            await self._follow()
        except Exception as error:
            # Whatever it is, the next look may succeed; until then what is known grows stale.
            self._meters.failures.labels("credentials").inc()
            self._log.warning("could not look for credentials, will try again", **told(error))


@dataclass(frozen=True, slots=True)
class Passage:
    """One call that was let in.

    Attributes:
        credential: whose.
    """

    credential: Credential
    _gate: Gate = field(repr=False)
    _context: Context = field(repr=False)

    def another_message(self) -> None:
        """Takes a further message of a stream in; raises as `Gate.still` does."""
        self._gate.still(self.credential)

    async def note(self, what: str, purposes: tuple[str, ...] = (), refused: str = "") -> None:
        """Writes a line of the access log; what cannot be written there is not answered."""
        line = Access(self.credential.credential_id, what, self._context.clock.now_ms(), purposes, refused)
        await asyncio.to_thread(self._context.store.record_access, line)

    async def ask(self, what: str, metric: Metric | None = None) -> None:
        """Notes a query, and refuses it where none of the metric's purposes is the credential's.

        Raises:
            Forbidden: it is outside its purposes.
        """
        if metric is None:
            await self.note(what)
            return
        mine = self.credential
        shared = tuple(p for p in metric.purposes if mine.role is Role.OPERATOR or p in mine.purposes)
        text = (
            f"this credential may ask for {', '.join(mine.purposes)}; people allowed {metric.name} for "
            f"{', '.join(metric.purposes)} alone: ask for a metric of a purpose of yours (ListMetrics tells), or ask an "
            "operator for a credential of that purpose"
        )
        await self.note(f"{what} {metric.name}", shared, "" if shared else text)
        if not shared:
            raise Forbidden(text)


def passage() -> Passage | None:
    """How the call in hand came in; None where nobody is asked who they are."""
    return _passage.get()


def _short(method: str) -> str:
    return method.rpartition("/")[2]


def _refusing(error: HushmeterError) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler of any method that refuses it, without waiting for a message."""

    async def answer(_messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(answer)
