"""The real service on a clock that the audit moves: workers, servers and sealer, their doors on loopback ports.

Sealing happens on the auditor's own thread, so that a script decides what comes before, during and after sealing. Two
rehearsals from one `Foundation` have the same deployment, keys, credentials and clock: only data makes them differ.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from grpc.experimental import ChannelOptions

from hushmeter.access.credentials import Credential, bearer_of, hash_of
from hushmeter.access.roles import Role
from hushmeter.access.unit_tokens import ISSUER_KEY_NAME as TOKEN_KEY
from hushmeter.clock import ReplayClock
from hushmeter.model.key_names import period_key
from hushmeter.model.plan import Plan
from hushmeter.model.states import WindowState
from hushmeter.model.time import Window
from hushmeter.patience import await_true
from hushmeter.ports import Mechanisms, StateStore
from hushmeter.rehearsal.audit.frozen import FrozenMechanisms, Hidden, WatchedStore
from hushmeter.rehearsal.service import is_settled, unsettled
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.deployment.restoring import restore
from hushmeter.service.processes.embedded import serving
from hushmeter.service.sealer.sealer import Sealer
from hushmeter.signatures import SIGNING_KEY_NAME as SIGNING_KEY
from hushmeter.storage.state.store import SqlStateStore

ELSEWHERE: Final = "purpose_of_others"
"""A purpose that no plan of the audit has."""
RULES: Final = AccessRules(credentials_required=True, unit_tokens=True)
_CALL_S = 60.0
_NO_THREADS: Final = ((ChannelOptions.SingleThreadedUnaryStream, 1),)
"""The calling thread waits for the answer, so that no call starts a thread."""


class Killed(BaseException):
    """Stands for a kill of the sealer's process: only the rehearsal catches it, and starts another sealer."""


@dataclass(frozen=True, slots=True)
class Foundation:
    """A founded deployment that nobody has used: every rehearsal begins from a copy.

    Attributes:
        directory: of its state and keys.
        plan: its plan.
        founded_ms: when it was founded, milliseconds since the Unix epoch.
        bearers: credentials by name: a role, `analyst of PURPOSE`, or `nobody`, which has none.
    """

    directory: Path
    plan: Plan
    founded_ms: int
    bearers: Mapping[str, str | None]

    @classmethod
    def lay(cls, directory: Path, plan_text: str, founded_ms: int, mechanisms: Mechanisms) -> Foundation:
        """Founds a deployment, and makes the keys that decide what is counted: they are the same in every copy."""
        context = open_context(_config(directory), ReplayClock(founded_ms), mechanisms, plan_text)
        period = context.plan.privacy.period
        start = period.window_of(founded_ms + 1).start_ms
        for name in ("deployment", SIGNING_KEY, TOKEN_KEY, period_key(start), period_key(period.end_of(start))):
            context.keys.get_or_create(name)
        bearers = _with_credentials(context.store, context.plan, founded_ms)
        context.store.close()
        return cls(directory, context.plan, founded_ms, bearers)


def _with_credentials(store: StateStore, plan: Plan, now_ms: int) -> dict[str, str | None]:
    """Makes a credential of each kind at a moment, and returns them by name, as `Foundation.bearers`."""
    bearers: dict[str, str | None] = {"nobody": None}
    named = {
        "ingest": (Role.INGEST, ()),
        "consent": (Role.CONSENT, ()),
        "analyst": (Role.ANALYST, plan.purpose_names),
    }
    for purpose in (*plan.purpose_names, ELSEWHERE):
        named[f"analyst of {purpose}"] = (Role.ANALYST, (purpose,))
    for name, (role, purposes) in named.items():
        digest = hashlib.sha256(f"{name} at {now_ms}".encode()).digest()
        made = Credential(digest[:8].hex(), name, role, purposes, hash_of(digest), now_ms)
        store.add_credential(made)
        bearers[name] = bearer_of(made.credential_id, digest)
    return bearers


@dataclass(frozen=True, slots=True)
class Reply:
    """Everything that one call returned: messages, status, its text, and initial and trailing metadata."""

    messages: tuple[bytes, ...]
    code: str
    details: str
    metadata: tuple[tuple[str, str | bytes], ...]


class Rehearsal:
    """One run of a service from a foundation; a context manager.

    Args:
        foundation: what it begins from.
        directory: where its own copy goes; must not exist.
        mechanisms: noise that does not depend on data.
        rules: credentials, unit tokens and rates that callers must keep to.
        workers: how many.

    Attributes:
        bearers: credentials that are valid now, by the names of the foundation's.
        store: the state, as its processes see it.
        sealer: runs inside `advance` alone.
        told: what other units were answered, in order.
        seen: the exact vectors of each published window, before noise.
    """

    sealer: Sealer

    def __init__(
        self,
        foundation: Foundation,
        directory: Path,
        mechanisms: FrozenMechanisms,
        rules: AccessRules = RULES,
        workers: int = 2,
    ) -> None:
        shutil.copytree(foundation.directory, directory)
        self.foundation = foundation
        self.plan = foundation.plan
        self.clock = ReplayClock(foundation.founded_ms)
        self.bearers = foundation.bearers
        self._directory = directory
        self._config = _config(directory)
        self._rules = rules
        self.mechanisms = mechanisms
        self.told: list[tuple[str, Reply]] = []
        self.seen: dict[Window, dict[str, Hidden]] = {}
        self._workers = workers
        self._served = contextlib.ExitStack()
        self._channels: list[grpc.Channel] = []

    def __enter__(self) -> Rehearsal:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._served.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def restart(self, away_ms: int) -> None:
        """Stops the service, and starts it again `away_ms` milliseconds later from what is on disk."""
        self._served.close()
        self.clock.advance_to(self.clock.now_ms() + away_ms)
        self._open()

    def back_up(self) -> None:
        """Writes the backup that a restore begins from, beside the service."""
        self.context.store.back_up(self._directory / "backup")

    def restore(self, away_ms: int) -> None:
        """Stops the service, and restores it `away_ms` milliseconds later: a new state directory, the same keys."""
        self._served.close()
        self.clock.advance_to(self.clock.now_ms() + away_ms)
        self._config = self._config.model_copy(update={"state_dir": self._directory / "restored"})
        restore(self._directory / "backup", self._config, self.clock, self.mechanisms)
        store = SqlStateStore.existing(self._config.state_dir)
        self.bearers = _with_credentials(store, self.plan, self.clock.now_ms())
        store.close()
        self._open()

    def call(self, method: str, bearer: str, message: bytes = b"", *, worker: int = 0, first: bool = False) -> Reply:
        """Calls a method with the bytes of a request and one of the credentials; returns everything that came back.

        Args:
            method: full name.
            bearer: name of the credential.
            message: the request.
            worker: number of the worker that is asked.
            first: end after the first answer, where the method has no end.
        """
        metadata, channel = self._credential(bearer), self._channel(worker)
        # Every method can be called with one message and answers a stream of them, whatever it is declared as.
        call = channel.unary_stream(method)(message, metadata=metadata, timeout=_CALL_S)
        messages: list[bytes] = []
        try:
            for answer in call:
                messages.append(answer)
                if first:
                    call.cancel()
                    return Reply(tuple(messages), "OK", "", ())
        except grpc.RpcError:
            pass  # The call's status says what failed.
        return Reply(tuple(messages), call.code().name, call.details() or "", _metadata(call))

    def flood(self, method: str, bearer: str, count: int, *, worker: int = 0) -> Reply:
        """Sends `count` empty messages in one stream; returns how the stream ended, and not how many were answered."""
        call = self._channel(worker).stream_stream(method)(
            iter([b""] * count), metadata=self._credential(bearer), timeout=_CALL_S
        )
        with contextlib.suppress(grpc.RpcError):
            for _ in call:
                pass
        return Reply((), call.code().name, call.details() or "", _metadata(call))

    def _channel(self, worker: int) -> Any:
        return self._channels[worker % len(self._channels)]

    def _credential(self, bearer: str) -> list[tuple[str, str]]:
        secret = self.bearers[bearer]
        return [] if secret is None else [("authorization", f"Bearer {secret}")]

    def advance(self, now_ms: int, between: Callable[[], None] = lambda: None) -> None:
        """Moves the clock, and seals until nothing is due; after a kill another sealer goes on.

        Args:
            now_ms: milliseconds since the Unix epoch.
            between: called after each turn of the sealer.
        """
        self.clock.advance_to(now_ms)

        def turn() -> bool:
            try:
                self.sealer.run_due()
            except Killed:
                # The killed sealer's memory is gone; the store and the keys' record say where the next one goes on.
                self.sealer = Sealer(self.context, Meters())
            between()
            return is_settled(self.context)

        await_true(turn, lambda: unsettled(self.context))
        # One more turn does what waits until windows have ended.
        self.sealer.run_due()

    def ended(self) -> list[tuple[Window, WindowState]]:
        """Every window that has ended, and how, in time order."""
        records = self.context.store.windows([WindowState.RELEASED, WindowState.LOST])
        return sorted((r.window, r.state) for r in records)

    def _open(self) -> None:
        context = open_context(self._config, self.clock, self.mechanisms)
        self.store = WatchedStore(context.store, self.mechanisms, self.seen)
        self.context: Context = dataclasses.replace(context, store=self.store)
        self.sealer = Sealer(self.context, Meters())
        targets = self._served.enter_context(serving(self.context, self._rules, workers=self._workers, seals=False))
        self._channels = [self._served.enter_context(grpc.insecure_channel(target, _NO_THREADS)) for target in targets]


def _config(directory: Path) -> Config:
    return Config(state_dir=directory / "state", keys_dir=directory / "keys", listen="127.0.0.1:0")


def _metadata(call: Any) -> tuple[tuple[str, str | bytes], ...]:
    """Initial and trailing metadata, in this order."""
    return tuple((k, v) for k, v in (*(call.initial_metadata() or ()), *(call.trailing_metadata() or ())))


def in_parts(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Items in parts of `size`; the last part may be shorter."""
    return (items[i : i + size] for i in range(0, len(items), size))
