"""One real service in one process, on a clock that the caller moves.

The workers, the gRPC server on a loopback port and the sealer are those of `hushmeter serve`; only time is replayed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from hushmeter.analyst import AnalystClient
from hushmeter.api.ingest.v1.ingest_pb2 import Acknowledgement
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.clock import ReplayClock
from hushmeter.model.states import WindowState
from hushmeter.patience import await_true
from hushmeter.sdk import IngestClient
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.context import Context
from hushmeter.service.door.tls import Tls
from hushmeter.service.processes.embedded import serving

_DECIDING_AT_ONCE = 64
_REPORTS_PER_MESSAGE = 250


class RehearsedService:
    """Serves a deployment for as long as it is entered.

    Args:
        context: the deployment; its store is closed at the end.
        clock: the deployment's.
        rules: credentials, unit tokens and rates that callers must keep to; none by default.
        tls: what the service proves itself with; None for plain text.

    Attributes:
        target: `host:port`; set once the service is entered, like both clients.
        client: of an application.
        analyst: of an analyst.
    """

    target: str
    client: IngestClient
    analyst: AnalystClient

    def __init__(
        self, context: Context, clock: ReplayClock, rules: AccessRules | None = None, tls: Tls | None = None
    ) -> None:
        self.context = context
        self.clock = clock
        self._rules, self._tls = rules, tls
        self._parts = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Starts the service.

        Raises:
            ConfigError: it did not start.
        """
        with contextlib.ExitStack() as parts:
            (self.target,) = parts.enter_context(serving(self.context, self._rules, self._tls))
            self.client = parts.enter_context(IngestClient(self.target))
            self.analyst = parts.enter_context(AnalystClient(self.target))
            self._parts = parts.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._parts.close()

    def decide(self, units: Iterable[str], decisions: Mapping[str, bool], *, source: str = "") -> None:
        """Sends the same decisions of many units, 64 units at once; returns when all bind.

        Args:
            units: who decides.
            decisions: by purpose.
            source: where the decisions were made, one of those that the plan lists.
        """
        with ThreadPoolExecutor(_DECIDING_AT_ONCE) as pool:
            list(pool.map(lambda unit: self.client.set_consent(unit, decisions, source=source), units))

    def send(self, reports: Sequence[Report]) -> list[Acknowledgement]:
        """Sends reports over one stream, 250 in a message; returns an acknowledgement for each message."""
        starts = range(0, len(reports), _REPORTS_PER_MESSAGE)
        return list(self.client.stream(reports[i : i + _REPORTS_PER_MESSAGE] for i in starts))

    def advance(self, now_ms: int) -> None:
        """Moves the clock, and waits until the service has settled.

        Args:
            now_ms: milliseconds since the Unix epoch; a moment before the clock's is ignored.

        Raises:
            WaitedInVain: see `settled`.
        """
        self.clock.advance_to(now_ms)
        self.settled()

    def settled(self) -> None:
        """Waits until every window whose deadline has passed is released or lost.

        Raises:
            WaitedInVain: some windows did not end in time; the service's log says why.
        """
        await_true(lambda: is_settled(self.context), lambda: unsettled(self.context))


def is_settled(context: Context) -> bool:
    """Whether every window whose deadline has passed is released or lost."""
    now_ms = context.clock.now_ms()
    columns = range(len(context.plan.resolutions))
    begun = all(context.deadline_ms(next(context.upcoming(column))) > now_ms for column in columns)
    return begun and not context.store.windows([WindowState.CLOSING, WindowState.FIXED])


def unsettled(context: Context) -> str:
    """The windows that do not end, in words."""
    waiting = context.store.windows([WindowState.CLOSING, WindowState.FIXED])
    named = ", ".join(f"{record.window} {record.state}" for record in waiting) or "none has begun to close"
    return f"the service does not end its windows: {named}; its log says why"
