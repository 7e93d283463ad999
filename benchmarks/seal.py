"""How fast a window is sealed beside Polars, DuckDB, PipelineDP and plain numpy, each with all cores.

    python -m benchmarks.seal --json FILE [--quick] [--profile]

All seal the same rows with the same semantics: duplicates by pseudonym and report id, units without consent, sums by unit
and partition, at most 20 partitions of a unit, clamped sums; units and sum of each partition come out. Every engine starts
from its own form of the rows in memory; that is not timed. Results are compared before times.
"""

from __future__ import annotations

import gc
import importlib.metadata
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from benchmarks.report import Goal, ended, parser_of, write_report
from benchmarks.sealing.duckdb_engine import DuckDB
from benchmarks.sealing.hushmeter import Sealer
from benchmarks.sealing.pipelinedp_engine import PipelineDPEngine
from benchmarks.sealing.plain import Plain
from benchmarks.sealing.polars_engine import Polars
from benchmarks.sealing.workload import L0, Answer, Workload, workloads
from hushmeter.pipeline.bucket_jobs import Processes
from hushmeter.runtime import cores

OURS, POLARS, DUCKDB, PIPELINEDP, NUMPY = "hushmeter", "polars", "duckdb", "pipelinedp", "numpy_plain"
GOALS = (
    Goal((POLARS, "typical"), 5.0, passes=1.2),
    *(Goal((POLARS, name), 3.0, passes=0.8) for name in ("wide", "skewed", "tiny")),
    Goal((DUCKDB, "geomean"), 10.0, passes=1.3),
    Goal((PIPELINEDP, "geomean"), 200.0),
)


class Engine(Protocol):
    """One engine with one window at hand."""

    def answer(self) -> Answer:
        """What it says."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is run.

    Attributes:
        values: of a workload.
        rows: values for PipelineDP, whose cost a value does not depend on it.
        rounds: how often each engine runs, taking turns.
    """

    values: int
    rows: int
    rounds: int


FULL = Effort(values=10_000_000, rows=200_000, rounds=5)
QUICK = Effort(values=2_000_000, rows=10_000, rounds=2)


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark and writes its report."""
    parser = parser_of("seal", __doc__, quick="fewer values")
    parser.add_argument("--profile", action="store_true", help="also say where the time goes")
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else FULL
    speeds: dict[str, dict[str, float]] = {}
    profiles: dict[str, dict[str, float]] = {}
    told: dict[str, object] = {}
    with Processes(cores()) as processes:
        for workload, small in zip(workloads(effort.values), workloads(effort.rows), strict=True):
            compare_without_order(small, processes)
            told[workload.name] = workload.told()
            speeds[workload.name], profiles[workload.name] = _measured(workload, small, effort, processes)
            print(_line(workload.name, speeds[workload.name]), file=sys.stderr, flush=True)
    ratios = _ratios(speeds)
    figures = {"values_per_second": speeds, "versions": _versions(), "profile_ns_per_value": profiles}
    write_report(options.json, "seal", told, figures, ratios)
    print(_table(ratios))
    if options.profile:
        print("\n".join(_stages(name, stages) for name, stages in profiles.items()))
    return ended(GOALS, ratios)


def compare_without_order(workload: Workload, processes: Processes) -> None:
    """Every engine says the same of a workload where each unit keeps all its partitions, whatever their order.

    Raises:
        AssertionError: one does not.
    """
    most = len(Plain.of(workload, workload.partition_count).kept_by_unit()) - 1
    truth = Plain.of(workload, most).answer()
    with _sealer(workload, most, processes) as sealer:
        _agree(OURS, workload, sealer.answer() == truth)
    peers: Mapping[str, Engine] = {
        POLARS: Polars.of(workload, most),
        DUCKDB: DuckDB.of(workload, most),
        PIPELINEDP: PipelineDPEngine(workload, most),
    }
    for name, peer in peers.items():
        _agree(name, workload, peer.answer() == truth)


def _measured(
    workload: Workload, small: Workload, effort: Effort, processes: Processes
) -> tuple[dict[str, float], dict[str, float]]:
    """Values a second by engine, and nanoseconds a value by stage; compares what engines say of the workload itself."""
    plain, pipelinedp = Plain.of(workload, L0), PipelineDPEngine(small, L0)
    polars, duckdb = Polars.of(workload, L0), DuckDB.of(workload, L0)
    values = dict.fromkeys((OURS, POLARS, DUCKDB, NUMPY), len(workload.values)) | {PIPELINEDP: pipelinedp.points}
    truth = plain.answer()
    with _sealer(workload, L0, processes) as sealer:
        _agree(OURS, workload, sealer.answer() == truth)
        _agree(POLARS, workload, replace(polars, keyed=True).answer() == truth)
        _agree(DUCKDB, workload, replace(duckdb, keyed=True).answer() == truth)
        forms: dict[str, list[Callable[[], object]]] = {
            POLARS: [polars.run, replace(polars, crowded_only=True).run],
            DUCKDB: [duckdb.run, replace(duckdb, crowded_only=True).run],
        }
        runs = {name: _fastest(ways) for name, ways in forms.items()} | {OURS: sealer.run}
        seconds = _taking_turns(runs, effort.rounds)
        # These take so long that one run says enough; both have run before.
        seconds |= {NUMPY: _seconds(plain.run), PIPELINEDP: _seconds(pipelinedp.answer)}
        stages = {stage: taken / len(workload.values) * 1e9 for stage, taken in sealer.profile().items()}
        duckdb.database.close()
    return {name: values[name] / taken for name, taken in seconds.items()}, stages


@contextmanager
def _sealer(workload: Workload, l0: int, processes: Processes) -> Iterator[Sealer]:
    sealer = Sealer(workload, l0, processes)
    try:
        yield sealer
    finally:
        sealer.close()
        gc.collect()


def _agree(name: str, workload: Workload, same: object) -> None:
    assert same, f"{name} does not say of {workload.name} what the others say; no time is worth comparing"


def _fastest(forms: Sequence[Callable[[], object]]) -> Callable[[], object]:
    """The form that is fastest in its second run."""
    for form in forms:
        form()
    return min(forms, key=_seconds)


def _taking_turns(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each, the median of its rounds; every round runs all of them once, and what it warms up is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            seconds = _seconds(run)
            if round_:
                taken[name].append(seconds)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _ratios(speeds: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Our throughput in a peer's, by workload, and the geometric mean."""
    ratios: dict[str, dict[str, float]] = {}
    for peer in (POLARS, DUCKDB, PIPELINEDP, NUMPY):
        found = {workload: speed[OURS] / speed[peer] for workload, speed in speeds.items()}
        ratios[peer] = found | {"geomean": math.exp(math.fsum(map(math.log, found.values())) / len(found))}
    return ratios


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("numpy", "polars", "duckdb", "pipeline-dp")}


def _line(workload: str, speed: Mapping[str, float]) -> str:
    return f"{workload}: " + ", ".join(f"{name} {found / 1e6:.2f}" for name, found in speed.items()) + " million values/s"


def _table(ratios: Mapping[str, Mapping[str, float]]) -> str:
    columns = list(next(iter(ratios.values())))
    lines = [f"{'hushmeter is faster than':26}" + "".join(f"{column:>10}" for column in columns)]
    lines += [f"{peer:26}" + "".join(f"{found[c]:>9.1f}x" for c in columns) for peer, found in ratios.items()]
    return "\n".join(lines)


def _stages(workload: str, stages: Mapping[str, float]) -> str:
    told = [f"{name} {taken:.1f}" for name, taken in stages.items() if taken >= _WORTH_TELLING_NS]
    return f"{workload}, ns a value on one core, {sum(stages.values()):.0f} in all: {', '.join(told)}"


_WORTH_TELLING_NS = 0.5

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
