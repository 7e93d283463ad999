"""What consent costs with many decisions: memory, and time a report at the door, with a thousand units and with a million.

    python -m benchmarks.consent --json FILE [--quick]

Each register follows a state store as a worker does, in a process of its own, whose memory is counted. Then the door is
asked about groups of units in random order, as group commits ask, and sealing asks for the table of a period: the first
one, and one after another withdrawal.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import Goal, ended, parser_of, write_report
from hushmeter.consent.register import ConsentRegister
from hushmeter.errors import ensure
from hushmeter.ingest.admission import Door, admit
from hushmeter.ingest.columns import PlanColumns
from hushmeter.ingest.identity import pseudonyms_of
from hushmeter.ingest.raw import RawReports, SentReports
from hushmeter.model.consent import Decision
from hushmeter.model.plan import Purpose
from hushmeter.plan.catalog import Catalog, assign_blocks
from hushmeter.plan.reading import parse_plan
from hushmeter.storage.state.store import SqlStateStore

GOALS = (Goal(("door_time_with_many",), 1.2, at_most=True),)
PURPOSES = (Purpose("tuning", "Tune models."), Purpose("research", "Do research."))
FEW = 1_000
GROUP = 2_000
ROUNDS = 201
NOW_MS = 1_772_413_200_000
_BATCH = 10_000
_KEY = b"subjects"
PLAN = """
plan: consent
version: 1
privacy: {unit: device, period: 1w, epsilon: 4, delta: 1e-8, expected_units: 100}
resolutions: {1h: {lateness: 10m}}
purposes: {tuning: Tune models., research: Do research.}
metrics:
  starts:
    description: Starts.
    owner: bench@example.com
    expires: 2026-12-31
    category: product_usage
    purposes: [tuning, research]
    kind: counter
    per_unit: {range: [0, 100]}
    statistics: [units, sum]
"""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one register costs.

    Attributes:
        units: that have decided, about two purposes each.
        follow_s: to take all decisions in, as at a start.
        memory_bytes: that the process has grown by, once it has answered.
        lookup_us: to find one unit's consent, for groups of 2,000 random units.
        door_us: to admit one report of few values, lookup and hashes and all, for the same groups.
        first_table_s: the first table of a period.
        next_table_s: another one after one more decision.
    """

    units: int
    follow_s: float
    memory_bytes: int
    lookup_us: float
    door_us: float
    first_table_s: float
    next_table_s: float


def _unit(number: int) -> bytes:
    return f"unit-{number:08d}".encode()


def subject(number: int) -> bytes:
    """A unit's subject: any 16 bytes that look random."""
    return pseudonyms_of(_KEY, [_unit(number)])[0]


def fill(store: SqlStateStore, units: int) -> None:
    """Has units allow both purposes, one decision after another."""
    for first in range(0, units, _BATCH):
        names = [subject(n) for n in range(first, min(first + _BATCH, units))]
        given = [Decision(u, p.name, given=True, received_at_ms=0, text_hash=p.text_hash) for u in names for p in PURPOSES]
        store.record_decisions(given, lambda: first)  # noqa: B023


def measured(store: SqlStateStore, units: int) -> Costs:
    """Follows a store that has been filled, and asks."""
    before = _resident_bytes()
    register = ConsentRegister(PURPOSES)
    follow_s = _seconds(lambda: register.follow(store.decisions_after))
    door, rng = _door(register), np.random.default_rng(1)
    lookups, admissions = list[float](), list[float]()
    for _ in range(ROUNDS):
        numbers = rng.integers(0, units, GROUP).tolist()
        # Two groups, so that what one brings into the caches does not help the other.
        group, raw = [subject(n) for n in rng.integers(0, units, GROUP).tolist()], _reports(door, numbers)
        began = time.perf_counter()
        register.given_since(group)
        between = time.perf_counter()
        lookups.append(between - began)
        admission = admit(raw, door, NOW_MS)
        admissions.append(time.perf_counter() - between)
        ensure(len(admission.admitted) == GROUP, "every unit has agreed")
    memory = _resident_bytes() - before
    key = secrets.token_bytes(32)

    def table() -> None:
        register.table(0, lambda subjects: pseudonyms_of(key, subjects))

    first_s = _seconds(table)
    register.take(register.sequence + 1, [Decision(subject(0), "tuning", given=False, received_at_ms=units)])
    lookup_us, door_us = (1e6 * statistics.median(taken) / GROUP for taken in (lookups, admissions))
    return Costs(units, follow_s, memory, lookup_us, door_us, first_s, _seconds(table))


def _door(register: ConsentRegister) -> Door:
    plan = parse_plan(PLAN, dt.date(2026, 3, 2))
    columns = PlanColumns.of(Catalog.of(plan, assign_blocks(plan)))
    period_key = secrets.token_bytes(32)
    return Door(
        columns,
        np.zeros(len(plan.resolutions), np.int64),
        lambda unit_ids: pseudonyms_of(_KEY, unit_ids),
        register.given_since,
        lambda _period, subjects: pseudonyms_of(period_key, subjects),
    )


def _reports(door: Door, numbers: Sequence[int]) -> RawReports:
    """One report of one value of each unit, in one message."""
    n, series = len(numbers), door.columns.catalog.first_series(0)
    reports = [(secrets.token_bytes(16), _unit(k), NOW_MS - 60_000, NOW_MS, 1) for k in numbers]
    return RawReports.of([SentReports(reports, [series.to_bytes(4, "little")] * n, [bytes(8)] * n, [b""] * n)])


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark and writes its report; with `--measure` one register, for the process that started this one."""
    parser = parser_of("consent", __doc__, quick="a hundred thousand units at most")
    parser.add_argument("--measure", type=int, metavar="UNITS", help=argparse.SUPPRESS)
    parser.add_argument("--database", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        store = SqlStateStore.open(options.database)
        options.json.write_text(json.dumps(asdict(measured(store, options.measure))), encoding="utf-8")
        return 0
    many = 100_000 if options.quick else 1_000_000
    with tempfile.TemporaryDirectory() as directory:
        few_costs, many_costs = (_alone(Path(directory), units) for units in (FEW, many))
    for costs in (few_costs, many_costs):
        print(", ".join(f"{name} {value:.6g}" for name, value in asdict(costs).items()))
    figures = {"few": asdict(few_costs), "many": asdict(many_costs)}
    figures["many"]["bytes_per_unit"] = many_costs.memory_bytes / many_costs.units
    ratios = {"door_time_with_many": many_costs.door_us / few_costs.door_us}
    write_report(options.json, "consent", {"units": [FEW, many], "purposes": len(PURPOSES)}, figures, ratios)
    return ended(GOALS, ratios)


def _alone(directory: Path, units: int) -> Costs:
    """Measures in a process of its own."""
    url, path = f"sqlite:///{directory / f'{units}.db'}", directory / f"{units}.json"
    store = SqlStateStore.open(url)
    fill(store, units)
    store.close()
    command = [sys.executable, "-m", "benchmarks.consent", "--json", str(path), "--measure", str(units), "--database", url]
    subprocess.run(command, check=True)
    return Costs(**json.loads(path.read_text(encoding="utf-8")))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
