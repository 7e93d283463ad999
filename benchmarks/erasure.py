"""How long it takes until rows of erased units are gone, beside copying the same files durably.

    python -m benchmarks.erasure --json FILE [--quick]

A deployment holds some hours of raw data, as files that were compacted when they were sealed. Then one unit is erased, and
after it a thousand at once, as a sealer does it. The peer copies every file of raw data, one after another, each synced:
no way of removing rows from all files by writing them anew does less.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.consent import PLAN
from benchmarks.report import Goal, ended, parser_of, write_report
from hushmeter.errors import ensure
from hushmeter.ingest.identity import pseudonyms_of
from hushmeter.model.key_names import period_key
from hushmeter.model.report import ReportBatch, pairs_of
from hushmeter.model.time import HOUR_MS
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.disclosure.unit_holdings import Holdings, holdings
from hushmeter.service.intake.open_segments import OpenSegments
from hushmeter.service.sealer.erasures import Erasing
from hushmeter.testing.clock import FakeClock

GOALS = (Goal(("one_unit_over_copying",), 1.5, at_most=True), Goal(("a_thousand_over_copying",), 3.0, at_most=True))
START_MS = 1_772_409_600_000
"""Monday, 2 March 2026: all hours are of one week, and of one period."""
MANY = 1_000
VALUES = 20
"""Of each report."""
ROUNDS = 5


def rows_of(key: bytes, units: int, hour: int) -> ReportBatch:
    """One report of each unit in one hour."""
    rng = np.random.default_rng(hour)
    end = START_MS + hour * HOUR_MS + rng.integers(1, HOUR_MS, units)
    return ReportBatch(
        pairs_of(pseudonyms_of(key, [subject(n) for n in range(units)])),
        rng.integers(0, 2**63, (units, 2)).astype(np.uint64),
        end,
        end - 60_000,
        end,
        np.ones(units, np.uint32),
        np.arange(units + 1) * VALUES,
        rng.integers(1, 2_000, units * VALUES).astype(np.uint32),
        rng.integers(0, 100, units * VALUES),
    )


def subject(number: int) -> bytes:
    """What the log knows a unit by."""
    return number.to_bytes(16, "big")


def filled(directory: Path, hours: int, units: int) -> Context:
    """A deployment that holds so many hours, each with one report of each unit, compacted."""
    context = open_context(Config(state_dir=directory), FakeClock(START_MS), OpenDPMechanisms(), PLAN)
    segments = OpenSegments(context)
    segments.enlist()
    period = context.plan.privacy.period.window_of(START_MS + 1)
    key = context.keys.get_or_create(period_key(period.start_ms))
    for hour in range(hours):
        start = START_MS + hour * HOUR_MS
        segments.open(start)
        segments.append({start: rows_of(key, units, hour)})
        segments.close(start)
        for s in context.store.segments([start]):
            context.log.compact(start, s.segment_id, s.frames)
    return context


def erased_s(context: Context, units: Sequence[bytes]) -> float:
    """How long it takes until no file holds rows of some units, from the moment at which that is recorded."""
    began = time.perf_counter()
    context.store.record_decisions([], context.clock.now_ms, units)
    Erasing(context, Meters()).run()
    took = time.perf_counter() - began
    ensure(context.store.erasures() == (), "an erasure is not done")
    ensure(not held(context, units[0]).rows, "rows of an erased unit are left")
    return took


def held(context: Context, unit: bytes) -> Holdings:
    """What is held on a unit that allows everything."""
    since = {era.version.version: np.zeros(len(era.plan.purposes), np.int64) for era in context.timeline.eras}
    return holdings(context, unit, since, context.clock.now_ms())


def copied_s(directory: Path) -> float:
    """How long it takes to copy every file of raw data durably, one after another, in the place of the old one."""
    began = time.perf_counter()
    for path in sorted((directory / "log").glob("*/*.runs")):
        copy = path.with_suffix(".copy")
        with copy.open("wb") as file:
            file.write(path.read_bytes())
            file.flush()
            os.fsync(file.fileno())
        copy.rename(path)
        descriptor = os.open(path.parent, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return time.perf_counter() - began


def in_turns(rounds: int, *works: Callable[[], float]) -> list[float]:
    """The median of what each of them takes, in turns."""
    taken = [[work() for work in works] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark and writes its report."""
    parser = parser_of("erasure", __doc__, quick="half a day of 6 MB an hour, not six of 9 MB")
    options = parser.parse_args(arguments)
    hours, units, rounds = (12, 20_000, 3) if options.quick else (144, 30_000, ROUNDS)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        context = filled(directory, hours, units)
        size = sum(path.stat().st_size for path in (directory / "log").glob("*/*.runs"))
        left = iter(range(units))

        def erase(count: int) -> Callable[[], float]:
            return lambda: erased_s(context, [subject(next(left)) for _ in range(count)])

        copying_s, one_s, many_s = in_turns(rounds, lambda: copied_s(directory), erase(1), erase(MANY))
        held_s = statistics.median(_seconds(lambda: held(context, subject(units - 1))) for _ in range(rounds))
        context.store.close()
    figures = {"copying_s": copying_s, "one_unit_s": one_s, "a_thousand_units_s": many_s, "held_s": held_s}
    print(", ".join(f"{key} {value:.4g}" for key, value in figures.items()))
    ratios = {"one_unit_over_copying": one_s / copying_s, "a_thousand_over_copying": many_s / copying_s}
    write_report(options.json, "erasure", {"hours": hours, "bytes": size, "units": units}, figures, ratios)
    return ended(GOALS, ratios)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
