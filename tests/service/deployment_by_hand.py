"""A deployment whose worker and sealer take every step only when the test says so, on one thread, without noise.

No server and no thread of its own, unlike a `RehearsedService`: what these tests are about lies between two steps, where a
real service never stands still; and a test takes milliseconds.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from hushmeter.consent.register import ConsentRegister
from hushmeter.ingest.admission import Admission, Door, admit
from hushmeter.ingest.identity import pseudonyms_of, subject_of, subjects_of
from hushmeter.ingest.raw import RawReports, SentReports
from hushmeter.model.consent import ERASURE, Decision
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.ports import StateStore
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.disclosure.unit_holdings import Holdings, holdings
from hushmeter.service.intake.open_segments import OpenSegments
from hushmeter.service.sealer.sealer import Sealer
from hushmeter.testing.clock import FakeClock
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.plans import plan_text
from tests.service.running_service import FOUNDED_MS

H = FOUNDED_MS

PLAN = plan_text(
    """
  starts:
    kind: counter
    per_unit: {range: [0, 100]}
    statistics: [units, sum]
""",
    resolutions="1h: {lateness: 10m}, 1d: {lateness: 1h}",
)
HOUR_DUE, DAY_DUE = H + HOUR_MS + 10 * MINUTE_MS, H + DAY_MS + HOUR_MS
"""The deadlines of the first hour and the first day."""


def capped(windows: str) -> str:
    """The same plan, of which a unit counts in so many windows a period: `capped("1h: 3, 1d: 1")`."""
    return PLAN.replace("range: [0, 100]", f"range: [0, 100], max_windows: {{{windows}}}")


def of_today(plan: str) -> str:
    """The same plan, whose metrics expire a while after today: for what asks the clock of the machine."""
    return re.sub(r"(?<=expires: )[0-9-]+", str(dt.datetime.now(dt.UTC).date() + dt.timedelta(days=200)), plan)


def opened(state_dir: Path, clock: FakeClock, plan: str = PLAN, *, serves: bool = True) -> Context:
    """Founds or opens a deployment; where it does not begin to serve, it belongs to what serves already."""
    return open_context(Config(state_dir=state_dir), clock, ExactMechanisms(), plan, serves=serves)


def sealer_of(context: Context) -> Sealer:
    """A sealer that works when its `run_due` is called."""
    return Sealer(context, Meters())


def reports(
    context: Context, units: Sequence[str], end_ms: int, value: int = 1, report_id: bytes | None = None
) -> SentReports:
    """One report of so many starts of each unit, of the minute before a moment; ids are new where none is given."""
    n, version = len(units), context.plan.version
    return SentReports(
        [(report_id or os.urandom(16), unit.encode(), end_ms - MINUTE_MS, end_ms, version) for unit in units],
        [context.catalog.first_series(0).to_bytes(4, "little")] * n,
        [value.to_bytes(8, "little", signed=True)] * n,
        [b""] * n,
    )


class Hand:
    """One worker's open segments, and the door before them.

    Args:
        context: the deployment.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.segments = OpenSegments(context)
        self.segments.enlist()
        self._register = ConsentRegister(context.plan.purposes)
        key, period_key = context.keys.get_or_create("deployment"), context.keys.get_or_create
        self.subject: Callable[[str], bytes] = lambda unit: subject_of(key, unit.encode())
        self._door = Door(
            context.era.columns,
            context.first_starts,
            lambda units: subjects_of(key, units),
            self._register.given_since,
            lambda period, subjects: pseudonyms_of(period_key(f"period/{period}"), subjects),
        )

    def decision(self, unit: str, *, given: bool) -> Decision:
        """That a unit gives consent, or withdraws it; not recorded."""
        return Decision(self.subject(unit), "tuning", given, 0, self._context.plan.purposes[0].text_hash)

    def decide(self, *units: str, given: bool = True) -> None:
        """Records that units give consent, or withdraw it."""
        decisions = [self.decision(unit, given=given) for unit in units]
        self._context.store.record_decisions(decisions, self.segments.now_ms)

    def held(self, unit: str) -> Holdings:
        """What a unit is told that asks now."""
        self._register.follow(self._context.store.decisions_after)
        since = self._register.given_since([self.subject(unit)])[0]
        allowed = {era.version.version: since for era in self._context.timeline.eras}
        return holdings(self._context, self.subject(unit), allowed, self.segments.now_ms())

    def send(self, unit: str, end_ms: int, value: int = 1, report_id: bytes | None = None) -> Admission:
        """Takes one report in, as a group commit does."""
        self._register.follow(self._context.store.decisions_after)
        admission = admit(
            RawReports.of([reports(self._context, [unit], end_ms, value, report_id)]),
            self._door,
            now := self.segments.now_ms(),
        )
        for start in admission.storage_starts.tolist():
            if not self.segments.takes(start, now):
                self.segments.open(start)
            self.segments.append({start: admission.batch})
        return admission


def erase(context: Context, hand: Hand, *units: str) -> None:
    """What the worker does that takes an erasure."""
    gone = [Decision(hand.subject(u), "tuning", given=False, received_at_ms=0, source=ERASURE) for u in units]
    context.store.record_decisions(gone, hand.segments.now_ms, {d.subject for d in gone})
    hand.segments.end_through(context.store.decided().erasing_through)


class WatchedStore:
    """A state store before one of whose calls something happens.

    Args:
        store: the real one.
        before: number of the call, from 0.
        happens: what another process does then.
    """

    def __init__(self, store: StateStore, before: int, happens: Callable[[], object]) -> None:
        self._store, self.before, self._happens = store, before, happens
        self.calls = 0

    def __getattr__(self, name: str) -> object:
        method = getattr(self._store, name)

        def call(*arguments: object) -> object:
            self.calls += 1
            if self.calls == self.before + 1:
                self._happens()
            return method(*arguments)

        return call


def sums(context: Context, resolution: str) -> dict[int, int]:
    """The released sums of starts, by window start in hours since the foundation; zeros left out."""
    found = {}
    for _, release in context.store.releases("starts", (), resolution, 0, 2**61):
        (total,) = (v.values.item() for name, v in release.vectors.items() if name == "sum")
        found[(release.key.window_start_ms - H) // HOUR_MS] = total
    return {hour: total for hour, total in found.items() if total}


def windows(context: Context, *states: WindowState) -> list[tuple[str, int]]:
    """Windows in some states, as (resolution, hours since the foundation)."""
    return [(r.window.resolution, (r.window.start_ms - H) // HOUR_MS) for r in context.store.windows(states)]
