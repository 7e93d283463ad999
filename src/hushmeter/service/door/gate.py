"""The gate before every method: who calls, whether they may, and how often.

Runs as an interceptor, so that no method can be forgotten: one that the table of roles does not name is for operators.
What is refused says what to do, and never which half of a credential was wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import grpc

from hushmeter import limits
from hushmeter.access.credentials import AccessLine, Credential, bearer_in
from hushmeter.access.rates import TokenBucket
from hushmeter.access.roles import METHODS, OPEN, RESERVED_METHODS, roles_of
from hushmeter.errors import Forbidden, RateLimited
from hushmeter.ports import Clock, CredentialStore
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.door.known_credentials import KnownCredentials
from hushmeter.service.door.passage import Passage, come_in
from hushmeter.service.door.statuses import RETRY_AFTER_S, refuse


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Lets calls in, or refuses them; it is the `Guard` of every call that it let in.

    Args:
        store: holds the credentials and the access log.
        clock: of the deployment.
        meters: operators' metrics.
        rules: what is asked for.
    """

    def __init__(self, store: CredentialStore, clock: Clock, meters: Meters, rules: AccessRules) -> None:
        self._store = store
        self._clock = clock
        self._calls_refused = meters.calls_refused
        self._rules = rules
        asked = rules.credentials_required or rules.unit_tokens
        self._known = KnownCredentials(store, clock, meters, self._forget_others, required=asked)
        self._token_buckets: dict[tuple[str, bool], TokenBucket] = {}
        self._noted_s: dict[tuple[str, str], float] = {}

    async def start(self) -> None:
        """Learns the credentials, and begins to follow them.

        Raises:
            Failure: they cannot be read.
        """
        await self._known.start()

    async def stop(self) -> None:
        """Follows credentials no longer."""
        await self._known.stop()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Lets one call through, as gRPC asks; a refusal is a handler that answers with its status."""
        method = handler_call_details.method
        if method not in OPEN:
            try:
                come_in(await self._enter(method, handler_call_details.invocation_metadata))
            except Exception as error:
                # Whatever it is, the call is not let in; what was not foreseen is answered as an internal error.
                self._calls_refused.labels(type(error).__name__).inc()
                return _refusing(error)
        return await continuation(handler_call_details)

    def ensure_admitted(self, credential: Credential | None) -> None:
        """Makes sure that who was let in would be let in now; None is who came while nobody was asked.

        Raises:
            Unauthenticated: the credential was revoked or has expired meanwhile, or one is asked for now.
            Failure: nobody can tell.
        """
        self._known.ensure_valid(credential)

    def admit_message(self, credential: Credential | None, method: str = "") -> None:
        """Takes one more message in; raises as `ensure_admitted` does.

        Raises:
            RateLimited: the credential sends too many. Many units come through one credential, so the answer is the same
                whenever it is given (R4).
        """
        self.ensure_admitted(credential)
        if credential is None or not self._rules.messages_per_s:
            return
        # What a unit withdraws or erases waits behind no report.
        name = credential.credential_id, method in RESERVED_METHODS
        bucket = self._token_buckets.get(name)
        if bucket is None:
            bucket = self._token_buckets[name] = TokenBucket(self._rules.messages_per_s, self._rules.message_burst)
        if not bucket.take(self._clock.monotonic_s()):
            raise RateLimited(
                f"this credential sends more than {self._rules.messages_per_s:g} messages a second (and "
                f"{self._rules.message_burst} at once); send fewer, larger messages, or try again in a moment",
                RETRY_AFTER_S,
            )

    async def note(self, credential: Credential, what: str, purposes: tuple[str, ...], refused: str) -> None:
        """Writes a line of the access log.

        Raises:
            Failure: it cannot be written.
        """
        line = AccessLine(credential.credential_id, what, self._clock.now_ms(), purposes, refused)
        await asyncio.to_thread(self._store.record_access, line)

    async def _enter(self, method: str, metadata: Any) -> Passage:
        """The passage of a caller who may call a method.

        Raises:
            Unauthenticated, Forbidden, RateLimited: they may not.
            Failure: nobody can tell.
        """
        if not self._known.required:
            return Passage(None, self)
        bearer = bearer_in([value for key, value in metadata or () if key == "authorization"])
        credential = await self._known.proved_by(bearer)
        self.admit_message(credential, method)
        passage = Passage(credential, self)
        if credential.role not in roles_of(method):
            # What somebody wrote in place of a method's name goes nowhere.
            name = _short(method) if method in METHODS else "an unknown method"
            needed = ", ".join(sorted(roles_of(method)))
            text = f"a credential of role {credential.role} may not call {name}; use one of role {needed}"
            if self._is_news(credential.credential_id, name):
                await passage.note(name, refused=text)
            raise Forbidden(text)
        return passage

    def _is_news(self, credential_id: str, what: str) -> bool:
        """Whether a refusal says more than the last one of its kind; who is refused must not fill the access log."""
        now = self._clock.monotonic_s()
        noted = self._noted_s.get((credential_id, what))
        if noted is not None and now - noted < limits.REFUSAL_NOTED_S:
            return False
        self._noted_s[credential_id, what] = now
        return True

    def _forget_others(self, credential_ids: Collection[str]) -> None:
        """Forgets rates and refusals of all other credentials: they were revoked."""
        self._token_buckets = {name: bucket for name, bucket in self._token_buckets.items() if name[0] in credential_ids}
        self._noted_s = {name: at for name, at in self._noted_s.items() if name[0] in credential_ids}


def _short(method: str) -> str:
    return method.rpartition("/")[2]


def _refusing(error: Exception) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler of any method that refuses it, without waiting for a message."""

    async def answer(_messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(answer)
