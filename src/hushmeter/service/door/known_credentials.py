"""The credentials that a process knows: the store's own, followed on a thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog

from hushmeter import limits
from hushmeter.access.credentials import Credential, Proof, parts_of, proves
from hushmeter.errors import CredentialsUnread, Unauthenticated
from hushmeter.ports import Clock, CredentialStore
from hushmeter.service.deployment.logs import fields_of
from hushmeter.service.deployment.meters import Meters

MISS_PAUSE_S = 0.1
"""Unknown ids make a worker look for new credentials no oftener than that; who sends one waits for the look."""
_MISSING = (
    "this service asks for a credential: send it as metadata 'authorization: Bearer hm_...' (clients of hushmeter read a "
    "credential file, or HUSHMETER_CREDENTIAL); an operator makes one with 'hushmeter credential create'"
)
_UNKNOWN = "the credential is not valid here; ask an operator for a new one ('hushmeter credential create')"
_EXPIRED = "the credential has expired; ask an operator for a new one ('hushmeter credential create')"


class KnownCredentials:
    """Which credentials hold; every method runs on the event loop that called `start`.

    Args:
        store: holds the credentials.
        clock: by which credentials expire, and by which what is known grows stale.
        meters: count the reads that failed.
        on_change: is called with the ids that hold, after each read that found a change.
        required: whether a credential is asked for also while the store holds none; the first one that is made begins to
            ask for them in any case.
    """

    def __init__(
        self,
        store: CredentialStore,
        clock: Clock,
        meters: Meters,
        on_change: Callable[[Collection[str]], None],
        *,
        required: bool,
    ) -> None:
        self._store = store
        self._clock = clock
        self._meters = meters
        self._on_change = on_change
        self._required = required
        self._changes = 0
        self._known: dict[str, Credential] = {}
        self._followed_s = 0.0
        self._missed_s = -MISS_PAUSE_S
        self._following: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        # A thread of its own: whoever asks much must not keep the gate from learning who may come in.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gate")
        self._log = structlog.get_logger("hushmeter.gate")

    @property
    def required(self) -> bool:
        """Whether callers are asked for a credential."""
        return self._required

    async def start(self) -> None:
        """Learns the credentials, and begins to follow them.

        Raises:
            Failure: they cannot be read.
        """
        await self._follow()
        self._following = asyncio.create_task(self._keep_following())

    async def stop(self) -> None:
        """Follows no longer."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def proved_by(self, bearer: str) -> Credential:
        """The credential that a bearer text proves.

        A text that proves nothing waits for a look at the store, whether or not its id is known: the time says nothing
        either.

        Args:
            bearer: `hm_<id>_<secret>`; empty where none was sent.

        Raises:
            Unauthenticated: it proves none.
            CredentialsUnread: nobody can tell.
        """
        if not bearer:
            raise Unauthenticated(_MISSING)
        credential_id, secret_hash = parts_of(bearer) or ("", bytes(32))

        def proof() -> Proof:
            return proves(self._known.get(credential_id), secret_hash, self._clock.now_ms())

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

    def ensure_valid(self, credential: Credential | None) -> None:
        """Makes sure that a credential which was proved still holds.

        Args:
            credential: as it was proved; None of a caller whom nobody asked for one.

        Raises:
            Unauthenticated: the credential was revoked or has expired meanwhile, or one is asked for now.
            CredentialsUnread: nobody can tell.
        """
        if credential is None:
            if self._required:
                raise Unauthenticated(_MISSING)
            return
        self._ensure_fresh()
        known = self._known.get(credential.credential_id)
        if known is None:
            raise Unauthenticated(_UNKNOWN)
        if known.expired(self._clock.now_ms()):
            raise Unauthenticated(_EXPIRED)

    def _ensure_fresh(self) -> None:
        """Makes sure that what is known of credentials is not older than it may be."""
        if self._clock.monotonic_s() - self._followed_s > limits.CREDENTIALS_STALE_S:
            raise CredentialsUnread("the credentials cannot be read at the moment, so nobody is let in; try again later")

    async def _look(self) -> None:
        """Looks for credentials that nobody knows yet, once for all who wait for it."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_soon())
        await asyncio.shield(self._looking)

    async def _look_soon(self) -> None:
        """One look, not too soon after the last one."""
        await asyncio.sleep(max(0.0, self._missed_s + MISS_PAUSE_S - self._clock.monotonic_s()))
        self._missed_s = self._clock.monotonic_s()
        # Who comes from now on may have a credential that this look is too early to see.
        self._looking = None
        await self._try_to_follow()

    async def _follow(self) -> None:
        """Reads the credentials where the store has changed since the last read."""
        before = self._clock.monotonic_s()
        read = partial(self._store.credentials, self._changes)
        changes, credentials = await asyncio.get_running_loop().run_in_executor(self._thread, read)
        self._followed_s = max(self._followed_s, before)
        # A slower read that began earlier must not undo a newer one; changes are only ever added.
        if changes <= self._changes:
            return
        self._changes = changes
        self._required = True
        self._known = {c.credential_id: c for c in credentials if c.revoked_at_ms is None}
        self._on_change(self._known)

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
            self._log.warning("could not look for credentials, will try again", **fields_of(error))
