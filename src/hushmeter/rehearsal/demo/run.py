"""The demo: a year of flights through the real service, day by day, and the truth of every window beside it."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hushmeter.api.ingest.v1.ingest_pb2 import Acknowledgement
from hushmeter.api.report.v1.report_pb2 import RejectionReason, Report
from hushmeter.clock import ReplayClock
from hushmeter.errors import ConfigError
from hushmeter.model.key_names import period_key
from hushmeter.model.time import DAY_MS, MINUTE_MS, Window
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.rehearsal import demo
from hushmeter.rehearsal.demo.flights import (
    DAYS_OF_YEAR,
    DEMO_PURPOSE,
    DEMO_START_MS,
    Year,
    flight_reports,
    load_year,
    refuses,
    withdraws,
)
from hushmeter.rehearsal.demo.results import Results, write_results
from hushmeter.rehearsal.demo.truth import Truth
from hushmeter.rehearsal.service import RehearsedService
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.logs import configure_logs
from hushmeter.service.deployment.opening import open_context

_SOURCE = "demo"
_REASON_PREFIX = "REJECTION_REASON_"


@dataclass(slots=True)
class Tallying:
    """What the client saw: numbers of reports that were sent, acknowledged and rejected, and of values."""

    sent: int = 0
    acknowledged: int = 0
    values: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def take(self, reports: list[Report], acknowledgements: list[Acknowledgement]) -> None:
        """Counts reports that were sent, and what became of them."""
        self.sent += len(reports)
        self.values += sum(len(r.series) for r in reports)
        for acknowledgement in acknowledgements:
            self.acknowledged += acknowledgement.accepted
            reasons = (RejectionReason.Name(r.reason) for r in acknowledgement.rejections)
            self.rejected.update(reason.removeprefix(_REASON_PREFIX) for reason in reasons)


class StreamedYear:
    """Sends the flights of each day to a service, and adds up the truth beside it.

    Args:
        year: the flights.
        service: a service whose clock stands at the beginning of the year.

    Attributes:
        tallying: what the client saw.
        truth: the exact values of the windows.
    """

    def __init__(self, year: Year, service: RehearsedService) -> None:
        self._year = year
        self._days = len(year.days)
        self._service = service
        self._plan = service.client.plan()
        self._allowed: dict[str, int] = {}
        self._sent: list[list[Report]] = []
        self.tallying = Tallying()
        self.truth = Truth(service.context.catalog, service.context.keys.get_or_create("deployment"))

    def stream(self, progress: Progress) -> None:
        """Streams every day; windows are sealed on the way, and all have ended at the end."""
        task = progress.add_task("2013", total=self._days)
        self._agree([a for a in self._year.aircraft if not refuses(a)])
        for day in range(self._days):
            if day == self._days // 2:
                self._service.settled()
                self._withdraw([a for a in self._allowed if withdraws(a)])
            self._stream_day(day)
            progress.update(task, advance=1, description=f"2013, day {day + 1:3}")
        # The week that holds the last day ends after it, without more flights.
        end_ms = DEMO_START_MS + self._days * DAY_MS
        week = self._week_of(end_ms)
        if week.end_ms > end_ms:
            self._add_truth_of_week(week)
        self._service.advance(end_ms + 7 * DAY_MS)

    def _agree(self, aircraft: list[str]) -> None:
        self._service.decide(aircraft, {DEMO_PURPOSE: True}, source=_SOURCE)
        self._allowed = dict.fromkeys(aircraft, DEMO_START_MS)

    def _withdraw(self, aircraft: list[str]) -> None:
        self._service.decide(aircraft, {DEMO_PURPOSE: False}, source=_SOURCE)
        for one in aircraft:
            del self._allowed[one]

    def _stream_day(self, day: int) -> None:
        """Sends one day's reports soon after its end, and adds the truth of the windows that end with it."""
        end_ms = DEMO_START_MS + (day + 1) * DAY_MS
        self._service.clock.advance_to(end_ms + 10 * MINUTE_MS)
        reports = flight_reports(self._plan, self._year.days[day], day)
        self._sent.append(reports)
        self.tallying.take(reports, self._service.send(reports))
        self._add_truth(Window("1d", end_ms - DAY_MS, end_ms), day, day + 1)
        week = self._week_of(end_ms)
        if week.end_ms == end_ms:
            self._add_truth_of_week(week)

    def _week_of(self, moment_ms: int) -> Window:
        return self._service.context.plan.resolution("1w").span.window_of(moment_ms)

    def _add_truth_of_week(self, week: Window) -> None:
        first = max(0, (week.start_ms - DEMO_START_MS) // DAY_MS)
        last = min(self._days, (week.end_ms - DEMO_START_MS) // DAY_MS)
        self._add_truth(week, first, last)

    def _add_truth(self, window: Window, first: int, last: int) -> None:
        """Adds what a window of some days would hold; its period's key is there, as nothing of the period was scrubbed."""
        context = self._service.context
        key = context.keys.get(period_key(context.plan.privacy.period.window_of(window.end_ms).start_ms))
        reports = list(itertools.chain.from_iterable(self._sent[first:last]))
        flights = itertools.chain.from_iterable(self._year.days[first:last])
        self.truth.add(window, reports, flights, self._allowed, key)


def demo_plan() -> str:
    """The text of the demo's telemetry plan."""
    return files(demo).joinpath("plan.yaml").read_text(encoding="utf-8")


def run_demo(out: Path, keep: Path | None, console: Console, days: int = DAYS_OF_YEAR) -> None:
    """Runs the main job and writes its results; `write_results` says which.

    Args:
        out: the directory that they go to.
        keep: where the state is kept; None for nowhere.
        console: where the table of results and the progress go.
        days: how many days of the year; 1 to 365.

    Raises:
        ConfigError: there is a state already where it is to be kept, or the flights are not installed.
    """
    configure_logs("console", quiet=True)
    year = load_year(days)
    out.mkdir(parents=True, exist_ok=True)
    if keep is not None and ((keep / "state.db").exists() or Config(state_dir=keep).keys.exists()):
        raise ConfigError(f"{keep} holds a state already, or keys of one lie beside it; choose a new directory for --keep")
    with tempfile.TemporaryDirectory(prefix="hushmeter-demo-") as temporary:
        config = Config(state_dir=keep or Path(temporary) / "state")
        clock = ReplayClock(DEMO_START_MS)
        context = open_context(config, clock, OpenDPMechanisms(), demo_plan())
        _run(year, context, clock, out, console)
        context.store.close()
    if keep is not None:
        console.print(
            f"The state is kept in {keep}, its keys in {config.keys}; serve it with: "
            f"hushmeter serve --state-dir {keep} --clock-is-right"
        )


def _run(year: Year, context: Context, clock: ReplayClock, out: Path, console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with RehearsedService(context, clock) as service:
        console.print(f"The service listens on {service.target}; flights follow, day by day.")
        streamed = StreamedYear(year, service)
        began_s = time.monotonic()
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
            streamed.stream(progress)
        seconds = time.monotonic() - began_s
        tables, budget_line = _query_back(service)
    seen = streamed.tallying
    results = Results(
        context,
        tables,
        streamed.truth,
        seen.sent,
        seen.acknowledged,
        dict(seen.rejected),
        seen.values / seconds,
        year.anonymous,
    )
    write_results(results, out, console)
    console.print(budget_line)


def _query_back(service: RehearsedService) -> tuple[list[pa.Table], str]:
    """Every release of every metric, view and resolution over gRPC, and the budget in words."""
    tables = [
        service.analyst.releases(metric.name, view, resolution=resolution)
        for metric in service.context.plan.measured
        for resolution in metric.at
        for view in metric.views
    ]
    budget = service.analyst.metrics().budget
    line = (
        f"One {budget.privacy_unit}'s whole record of {budget.period} cost at most epsilon {budget.epsilon:g} at delta "
        f"{budget.delta:g} (currency {budget.currency}, {float(Fraction(budget.amount)):.4f} a period)."
    )
    return tables, line
