"""`hushmeter demo`: the real service on a loopback port, a replayed clock, a year of flights, and the truth beside it."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import pyarrow as pa
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hushmeter.analyst import AnalystClient
from hushmeter.api.ingest.v1.ingest_pb2 import Acknowledgement
from hushmeter.api.report.v1.report_pb2 import RejectionReason, Report
from hushmeter.cli import printing
from hushmeter.clock import ReplayClock
from hushmeter.errors import ConfigError
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, MINUTE_MS, Window
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.rehearsal.demo.flights import (
    DAYS,
    DEMO_PURPOSE,
    DEMO_START_MS,
    Flight,
    Year,
    flight_reports,
    load_year,
    refuses,
    withdraws,
)
from hushmeter.rehearsal.demo.results import Results, write_results
from hushmeter.rehearsal.demo.truth import Truth
from hushmeter.sdk import IngestClient
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.logs import configure_logs
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.processes.embedded import serving

REPORTS_PER_MESSAGE = 250
WITHDRAWAL_DAY = DAYS // 2
_CONSENTING_AT_ONCE = 64
_POLL_S = 0.002
_LOG_WIDTH = 110
"""Of what is printed into a file or a log, where no terminal tells its width."""


@dataclass(slots=True)
class Tallying:
    """What the client saw: counts of reports and values by fate."""

    sent: int = 0
    acknowledged: int = 0
    values: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def take(self, acknowledgement: Acknowledgement) -> None:
        """Counts one acknowledgement."""
        self.acknowledged += acknowledgement.accepted
        self.rejected.update(RejectionReason.Name(r.reason)[17:] for r in acknowledgement.rejections)


def run_demo(out: Path, keep: Path | None) -> int:
    """Runs the main job and writes `summary.json`, `releases.parquet` and `chart.png`; returns the exit status."""
    console = printing.console()
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    configure_logs("console", quiet=True)
    year = load_year()
    out.mkdir(parents=True, exist_ok=True)
    if keep is not None and ((keep / "state.db").exists() or Config(state_dir=keep).keys.exists()):
        raise ConfigError(f"{keep} holds a state already, or keys of one lie beside it; choose a new directory for --keep")
    with tempfile.TemporaryDirectory(prefix="hushmeter-demo-") as temporary:
        clock = ReplayClock(DEMO_START_MS)
        config = Config(state_dir=keep or Path(temporary) / "state", listen="127.0.0.1:0")
        plan_text = files("hushmeter.cli.demo").joinpath("plan.yaml").read_text(encoding="utf-8")
        context = open_context(config, clock, OpenDPMechanisms(), plan_text)
        truth = Truth(context.catalog, context.keys.get_or_create("deployment"))
        with serving(context) as port:
            console.print(f"The service listens on 127.0.0.1:{port}; a year of flights follows, day by day.")
            began = time.monotonic()
            tallying = _stream_year(year, context, clock, port, truth)
            seconds = time.monotonic() - began
            tables, budget_line = _query_back(context, port)
        results = Results(
            context,
            tables,
            truth,
            tallying.sent,
            tallying.acknowledged,
            dict(tallying.rejected),
            tallying.values / seconds,
            year.anonymous,
        )
        write_results(results, out, console)
        console.print(budget_line)
        context.store.close()
    if keep is not None:
        console.print(
            f"The state is kept in {keep}, its keys in {config.keys}; serve it with: "
            f"hushmeter serve --state-dir {keep} --clock-is-right"
        )
    return 0


def _stream_year(year: Year, context: Context, clock: ReplayClock, port: int, truth: Truth) -> Tallying:
    """Streams every day through gRPC and lets windows seal on the way; returns what the client saw."""
    tallying, sent = Tallying(), list[list[Report]]()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with IngestClient(f"127.0.0.1:{port}") as client, Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("2013", total=DAYS)
        consenting = [a for a in year.aircraft if not refuses(a)]
        _decide(client, consenting, given=True)
        allowed = dict.fromkeys(consenting, DEMO_START_MS)
        plan = client.plan()
        for day, flights in enumerate(year.days):
            now = DEMO_START_MS + (day + 1) * DAY_MS
            if day == WITHDRAWAL_DAY:
                _await_released(context, clock)
                leaving = [a for a in consenting if withdraws(a)]
                _decide(client, leaving, given=False)
                allowed = {a: since for a, since in allowed.items() if a not in set(leaving)}
            clock.advance_to(now + 10 * MINUTE_MS)
            reports = flight_reports(plan, flights, day)
            sent.append(reports)
            for acknowledgement in client.stream(_messages(reports)):
                tallying.take(acknowledgement)
            tallying.sent += len(reports)
            tallying.values += sum(len(r.series) for r in reports)
            _tell_truth(context, truth, year.days, sent, allowed, now)
            bar.update(task, advance=1, description=f"2013, day {day + 1:3}")
        # Past the last deadlines: the week that holds the last day ends with the first days of the next year.
        clock.advance_to(DEMO_START_MS + (DAYS + 7) * DAY_MS)
        _tell_last_week(context, truth, year.days, sent, allowed)
        _await_released(context, clock)
    return tallying


def _messages(reports: list[Report]) -> Iterator[list[Report]]:
    for start in range(0, len(reports), REPORTS_PER_MESSAGE):
        yield reports[start : start + REPORTS_PER_MESSAGE]


def _decide(client: IngestClient, aircraft: list[str], *, given: bool) -> None:
    with ThreadPoolExecutor(_CONSENTING_AT_ONCE) as pool:
        list(pool.map(lambda a: client.set_consent(a, {DEMO_PURPOSE: given}, source="demo"), aircraft))


def _await_released(context: Context, clock: ReplayClock) -> None:
    """Waits until every window whose deadline has passed has ended."""
    now = clock.now_ms()
    while True:
        waiting = context.store.windows([WindowState.CLOSING, WindowState.FIXED])
        begun = all(
            (newest := context.store.last_window_start(r.name)) is not None
            and r.deadline_ms(r.span.window_from(r.span.end_of(newest))) > now
            for r in context.plan.resolutions
        )
        if begun and not waiting:
            return
        time.sleep(_POLL_S)


def _tell_truth(
    context: Context, truth: Truth, days: list[list[Flight]], sent: list[list[Report]], allowed: dict[str, int], now: int
) -> None:
    """Computes the truth of the windows that end now; the period's key still lives, as nothing of it was scrubbed."""
    key = context.keys.get(f"period/{context.plan.privacy.period.window_of(now).start_ms}")
    day = len(sent) - 1
    truth.add(Window("1d", now - DAY_MS, now), sent[day], days[day], allowed, key)
    week = context.plan.resolution("1w").span.window_of(now)
    if week.end_ms == now:
        _tell_week(truth, week, days, sent, allowed, key)


def _tell_last_week(
    context: Context, truth: Truth, days: list[list[Flight]], sent: list[list[Report]], allowed: dict[str, int]
) -> None:
    week = context.plan.resolution("1w").span.window_of(DEMO_START_MS + DAYS * DAY_MS)
    if week.end_ms > DEMO_START_MS + DAYS * DAY_MS:
        _tell_week(truth, week, days, sent, allowed, context.keys.get(f"period/{week.start_ms}"))


def _tell_week(
    truth: Truth, week: Window, days: list[list[Flight]], sent: list[list[Report]], allowed: dict[str, int], key: bytes
) -> None:
    first = max(0, (week.start_ms - DEMO_START_MS) // DAY_MS)
    last = min(DAYS, (week.end_ms - DEMO_START_MS) // DAY_MS)
    reports = list(itertools.chain.from_iterable(sent[first:last]))
    truth.add(week, reports, itertools.chain.from_iterable(days[first:last]), allowed, key)


def _query_back(context: Context, port: int) -> tuple[list[pa.Table], str]:
    """Every release of every metric, view and resolution over gRPC, and the budget in words."""
    with AnalystClient(f"127.0.0.1:{port}") as client:
        tables = [
            client.releases(metric.name, view, resolution=resolution)
            for metric in context.plan.measured
            for resolution in metric.at
            for view in metric.views
        ]
        budget = client.metrics().budget
    line = (
        f"One {budget.privacy_unit}'s whole record of {budget.period} cost at most epsilon {budget.epsilon:g} at delta "
        f"{budget.delta:g} (currency {budget.currency}, {float(Fraction(budget.amount)):.4f} a period)."
    )
    return tables, line
