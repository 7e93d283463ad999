"""The gate before every method: who calls, whether they may, and how often.

Runs as an interceptor, so that no method can be forgotten: one that the table of roles does not name is for operators.
What is refused says what to do, and never which half of a credential was wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import structlog

from hushmeter import limits
from hushmeter.access.credentials import AccessLine, Credential, Proof, bearer_in, parts_of, proves
from hushmeter.access.rates import TokenBucket
from hushmeter.access.roles import METHODS, OPEN, RESERVED_METHODS, Role, roles_of
from hushmeter.errors import CredentialsUnread, Forbidden, RateLimited, Unauthenticated
from hushmeter.model.plan import Metric
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.logs import fields_of
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.door.statuses import RETRY_AFTER_S, refuse

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
        self.meters = meters
        self._rules = rules
        self._changes = 0
        self._known: dict[str, Credential] = {}
        self._buckets: dict[tuple[str, bool], TokenBucket] = {}
        self._refused_s: dict[tuple[str, str], float] = {}
        self._required = rules.credentials_required or rules.unit_tokens
        self._followed_s = 0.0
        self._missed_s = -MISS_PAUSE_S
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        # A thread of its own: whoever asks much must not keep the gate from learning who may come in.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gate")
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
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Lets one call through, as gRPC asks; a refusal is a handler that answers with its status."""
        method = handler_call_details.method
        if method not in OPEN:
            try:
                _passage.set(await self._enter(method, handler_call_details.invocation_metadata))
            except Exception as error:
                # Whatever it is, the call is not let in; what was not foreseen is told as an internal error.
                self.meters.calls_refused.labels(type(error).__name__).inc()
                return _refusing(error)
        return await continuation(handler_call_details)

    def holds(self, credential: Credential | None) -> None:
        """Makes sure that who was let in would be let in now; None is who came while nobody was asked.

        Raises:
            Unauthenticated: the credential was revoked or has expired meanwhile, or one is asked for now.
            Failure: nobody can tell.
        """
        if credential is None:
            if self._required:
                raise Unauthenticated(_MISSING)
            return
        self._ensure_fresh()
        known = self._known.get(credential.credential_id)
        if known is None:
            raise Unauthenticated(_UNKNOWN)
        if known.expired(self._context.clock.now_ms()):
            raise Unauthenticated(_EXPIRED)

    def still(self, credential: Credential | None, method: str = "") -> None:
        """Takes one more message in; raises as `holds` does.

        Raises:
            RateLimited: the credential sends too many. Many units come through one credential, so the answer is the same
                whenever it is given (R4).
        """
        self.holds(credential)
        if credential is None or not self._rules.messages_per_s:
            return
        # What a unit withdraws or erases waits behind no report.
        name = credential.credential_id, method in RESERVED_METHODS
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = TokenBucket(self._rules.messages_per_s, self._rules.message_burst)
        if not bucket.take(self._context.clock.monotonic_s()):
            raise RateLimited(
                f"this credential sends more than {self._rules.messages_per_s:g} messages a second (and "
                f"{self._rules.message_burst} at once); send fewer, larger messages, or try again in a moment",
                RETRY_AFTER_S,
            )

    async def _enter(self, method: str, metadata: Any) -> Passage:
        """Who calls, proved.

        Raises:
            Unauthenticated, Forbidden, RateLimited: they may not.
            Failure: nobody can tell.
        """
        if not self._required:
            return Passage(None, self, self._context)
        bearer = bearer_in([value for key, value in metadata or () if key == "authorization"])
        if not bearer:
            raise Unauthenticated(_MISSING)
        known = await self._prover(bearer)
        self.still(known, method)
        passage = Passage(known, self, self._context)
        if known.role not in roles_of(method):
            # What somebody wrote in place of a method's name goes nowhere.
            name = _short(method) if method in METHODS else "an unknown method"
            needed = ", ".join(sorted(roles_of(method)))
            text = f"a credential of role {known.role} may not call {name}; use one of role {needed}"
            if self._is_news(known.credential_id, name):
                await passage.note(name, refused=text)
            raise Forbidden(text)
        return passage

    async def _prover(self, bearer: str) -> Credential:
        """Whose credential a bearer text proves; raises `Unauthenticated` where it proves none.

        What proves nothing waits for a look at the store, whether or not its id is known: the time tells nothing either.
        """
        credential_id, secret_hash = parts_of(bearer) or ("", bytes(32))

        def proof() -> Proof:
            return proves(self._known.get(credential_id), secret_hash, self._context.clock.now_ms())

        if credential_id and proof() is Proof.NOTHING:
            await self._look()
        self._ensure_fresh()
        match proof():
            case Proof.GOOD:
                return self._known[credential_id]
            case Proof.EXPIRED:
                raise Unauthenticated(_EXPIRED)
            case Proof.NOTHING:
                raise Unauthenticated(_UNKNOWN)

    def _is_news(self, credential_id: str, what: str) -> bool:
        """Whether a refusal tells more than the last one of its kind; who is refused must not fill the access log."""
        now = self._context.clock.monotonic_s()
        fields_of = self._refused_s.get((credential_id, what))
        if fields_of is not None and now - fields_of < limits.REFUSAL_NOTED_S:
            return False
        self._refused_s[credential_id, what] = now
        return True

    def _ensure_fresh(self) -> None:
        """Makes sure that what is known of credentials is not older than it may be."""
        if self._context.clock.monotonic_s() - self._followed_s > limits.CREDENTIALS_STALE_S:
            raise CredentialsUnread("the credentials cannot be read at the moment, so nobody is let in; try again later")

    async def _look(self) -> None:
        """Looks for credentials that nobody knows yet, once for all who wait for it."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_soon())
        await asyncio.shield(self._looking)

    async def _look_soon(self) -> None:
        """One look, not too soon after the last one."""
        await asyncio.sleep(max(0.0, self._missed_s + MISS_PAUSE_S - self._context.clock.monotonic_s()))
        self._missed_s = self._context.clock.monotonic_s()
        # Who comes from now on may have a credential that this look is too early to see.
        self._looking = None
        await self._try_to_follow()

    async def _follow(self) -> None:
        before = self._context.clock.monotonic_s()
        read = partial(self._context.store.credentials, self._changes)
        changes, credentials = await asyncio.get_running_loop().run_in_executor(self._thread, read)
        self._followed_s = max(self._followed_s, before)
        # A slower read that began earlier must not undo a newer one; changes are only ever added.
        if changes <= self._changes:
            return
        self._changes = changes
        self._required = True
        self._known = {c.credential_id: c for c in credentials if c.revoked_at_ms is None}
        self._buckets = {name: bucket for name, bucket in self._buckets.items() if name[0] in self._known}
        self._refused_s = {fields_of: at for fields_of, at in self._refused_s.items() if fields_of[0] in self._known}

    async def _keep_following(self) -> None:
        while True:
            await asyncio.sleep(limits.CREDENTIALS_FOLLOWED_S)
            await self._try_to_follow()

    async def _try_to_follow(self) -> None:
        try:
            await self._follow()
        except Exception as error:
            # Whatever it is, the next look may succeed; until then what is known grows stale.
            self.meters.failures.labels("credentials").inc()
            self._log.warning("could not look for credentials, will try again", **fields_of(error))


@dataclass(frozen=True, slots=True)
class Passage:
    """One call that was let in.

    Attributes:
        credential: whose; None where nobody is asked who they are.
    """

    credential: Credential | None
    _gate: Gate = field(repr=False)
    _context: Context = field(repr=False)

    def another_message(self) -> None:
        """Takes a further message of a stream in; raises as `Gate.still` does."""
        self._gate.still(self.credential)

    def another_answer(self) -> None:
        """Lets a further answer of a stream out; raises as `Gate.holds` does."""
        self._gate.holds(self.credential)

    def serves(self, purposes: Collection[str]) -> bool:
        """Whether what people allowed for these purposes may be told to the caller."""
        mine = self.credential
        return mine is None or mine.role is Role.OPERATOR or any(p in mine.purposes for p in purposes)

    async def note(self, what: str, purposes: tuple[str, ...] = (), refused: str = "") -> None:
        """Writes a line of the access log; what cannot be written there is not answered."""
        if self.credential is None:
            return
        line = AccessLine(self.credential.credential_id, what, self._context.clock.now_ms(), purposes, refused)
        await asyncio.to_thread(self._context.store.record_access, line)

    async def ask(self, what: str, metric: Metric | None = None, parts: Collection[Collection[str]] = ()) -> None:
        """Notes a query, and refuses it where none of the metric's purposes is the credential's.

        Args:
            what: the method.
            metric: that is asked about.
            parts: the purposes of each part of it that is asked for by name, where parts have purposes of their own.

        Raises:
            Forbidden: it is outside its purposes.
        """
        mine = self.credential
        if metric is None or mine is None:
            await self.note(what)
            return
        outside = next((part for part in (metric.purposes, *parts) if not self.serves(part)), None)
        text = ""
        if outside is not None:
            text = (
                f"this credential may ask for {', '.join(mine.purposes)}; people allowed {metric.name} for "
                f"{', '.join(outside)} alone: ask for a metric of a purpose of yours (ListMetrics tells), or ask an "
                "operator for a credential of that purpose"
            )
        shared = tuple(p for p in metric.purposes if outside is None and self.serves((p,)))
        await self.note(f"{what} {metric.name}", shared, text)
        if text:
            raise Forbidden(text)


def passage() -> Passage | None:
    """How the call in hand came in; None where it passed no gate."""
    return _passage.get()


def _short(method: str) -> str:
    return method.rpartition("/")[2]


def _refusing(error: Exception) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler of any method that refuses it, without waiting for a message."""

    async def answer(_messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(answer)
