"""How accurate hushmeter is beside PipelineDP and OpenDP, under one guarantee, with one set of bounds, on the same data.

    python -m benchmarks.utility --json FILE [--quick]

Every engine releases the same statistics of the same days and partitions, (epsilon, delta)-differentially private for one
unit's whole record of the period. Errors are against the exact values of all events, so that they hold noise and bounding
alike. A peer may be set up in several ways; each statistic is compared with the best of them.
"""

from __future__ import annotations

import itertools
import math
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.engines.common import Answers, Float, Task, truth
from benchmarks.engines.hushmeter_engine import hushmeter_runs
from benchmarks.engines.opendp_engine import opendp_private_runs, opendp_runs
from benchmarks.engines.pipelinedp_engine import Setup, pipelinedp_runs, setups
from benchmarks.report import Goal, ended, parser_of, write_report
from benchmarks.workloads import DAYS, Events, flights, heavy, zipf

EPSILON, DELTA = 2.0, 1e-6
ALL = ("units", "sum", "mean", "histogram", "quantiles")
OURS, PIPELINEDP, OPENDP = "hushmeter", "PipelineDP", "OpenDP"
PIPELINEDP_PLD, OPENDP_ZCDP = "PipelineDP, PLD accountant (experimental)", "OpenDP, budget divided as rho"
PRIVATE = "private partitions kept"

GOALS = tuple(
    Goal((f"{prefix}rmse_vs_{peer}", statistic), bound, at_most=True)
    for prefix, bound in (("", 0.6), ("single_", 1.0))
    for peer in ("pipelinedp", "opendp")
    for statistic in ALL
)

_FASTER = 4
"""Engines that only draw noise anew run so many times as often."""

Runs = Callable[[], Iterator[Answers]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is run.

    Attributes:
        units: of a synthetic fleet.
        cells: numbers of a statistic, over all runs, that an error is computed from; fewer where runs are slow.
        slow_runs: most runs of an engine that aggregates anew in each.
        slow_pld_runs: most runs of one that also composes distributions anew.
    """

    units: int
    cells: int
    slow_runs: int
    slow_pld_runs: int


FULL = Effort(units=10_000, cells=1_000, slow_runs=300, slow_pld_runs=4)
QUICK = Effort(units=1_000, cells=150, slow_runs=8, slow_pld_runs=0)


@dataclass(frozen=True, slots=True)
class Row:
    """The error of one statistic of one task from one engine, in its best setup.

    Attributes:
        workload, task, engine, statistic: which.
        rmse: root of the mean squared error.
        median_relative: median of |error| / |true value| where the true value is not zero.
    """

    workload: str
    task: str
    engine: str
    statistic: str
    rmse: float
    median_relative: float


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark and writes its report."""
    parser = parser_of("utility", __doc__, quick="small fleets, fewer runs, no experimental setups")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    effort = QUICK if options.quick else FULL
    workloads = (flights(), zipf(effort.units), heavy(effort.units))
    rows: list[Row] = []
    kept: dict[str, dict[str, float]] = {}
    for events in workloads:
        for name, task in tasks(events):
            rows += _compare(name, task, effort)
            print(f"{events.name}, {name}: done", file=sys.stderr)
        kept[events.name] = _private(Task(events, EPSILON, DELTA, ("units",)), effort)
    workload: dict[str, object] = {"epsilon": EPSILON, "delta": DELTA, "days": DAYS}
    for e in workloads:
        workload[e.name] = {"units": e.unit_count, "events": len(e.units), "partitions": e.partition_count}
    figures = {"rows": [_figures(row, rows) for row in rows if row.engine == OURS], PRIVATE: kept}
    ratios = _ratios(rows, kept)
    write_report(options.json, "utility", workload, figures, ratios)
    print(_table(rows, kept))
    return ended(GOALS, ratios)


def tasks(events: Events) -> Iterator[tuple[str, Task]]:
    """What is asked of a workload: everything for a week, one statistic for a week, and each alone on one day."""
    yield "all of a week", Task(events, EPSILON, DELTA, ALL)
    yield "units of a week", Task(events, EPSILON, DELTA, ("units",))
    yield "mean of a week", Task(events, EPSILON, DELTA, ("mean",))
    for statistic in ALL:
        asked = ("histogram", "quantiles") if statistic == "quantiles" else (statistic,)
        if asked != ("histogram",):
            yield f"{' and '.join(asked)} of a day", Task(events, EPSILON, DELTA, asked, days=1)


def _compare(name: str, task: Task, effort: Effort) -> Iterator[Row]:
    exact = truth(task)
    engines: dict[str, list[Runs]] = {
        OURS: [lambda: hushmeter_runs(task)],
        OPENDP: [lambda: opendp_runs(task)],
        OPENDP_ZCDP: [lambda: opendp_runs(task, zcdp=True)],
        PIPELINEDP: [_of_pipelinedp(task, s) for s in setups(pld=False, means="mean" in task.statistics)],
        PIPELINEDP_PLD: [
            _of_pipelinedp(task, s)
            for s in setups(pld=True, means="mean" in task.statistics)
            if task.days > 1 and s.gaussian
        ],
    }
    cells = math.prod(exact[task.statistics[0]].shape)
    for engine, ways in engines.items():
        slow = {PIPELINEDP: effort.slow_runs, PIPELINEDP_PLD: effort.slow_pld_runs}
        wanted = max(2, math.ceil(effort.cells / cells))
        count = min(wanted, slow[engine]) if engine in slow else _FASTER * wanted
        found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for way in ways if count else ():
            runs = list(itertools.islice(way(), count))
            for statistic in task.statistics:
                found[statistic].append(_errors([run[statistic] for run in runs], exact[statistic]))
        for statistic, errors in found.items():
            yield Row(task.events.name, name, engine, statistic, min(e for e, _ in errors), min(m for _, m in errors))


def _of_pipelinedp(task: Task, setup: Setup) -> Runs:
    return lambda: pipelinedp_runs(task, setup)


def _errors(answers: Sequence[Float], exact: Float) -> tuple[float, float]:
    """Root mean square and median relative error; NaN cells, of nobody, do not count."""
    error = np.abs(np.stack(answers) - exact)
    nonzero = np.abs(exact) > 0
    relative = error[:, nonzero] / np.abs(exact[nonzero])
    return float(np.sqrt(np.nanmean(error**2))), float(np.nanmedian(relative))


def _private(task: Task, effort: Effort) -> dict[str, float]:
    """How many partitions with units in them each engine keeps, in the mean over runs; and how many there are."""
    there = truth(task)["units"] > 0
    ways: dict[str, list[Runs]] = {
        OURS: [lambda: hushmeter_runs(task, private=True)],
        OPENDP: [lambda: opendp_private_runs(task)],
        PIPELINEDP: [lambda s=s: pipelinedp_runs(task, s, private=True) for s in setups(pld=False, means=False)],  # type: ignore[misc]
    }
    count = min(effort.slow_runs, 10)
    kept = {
        engine: max(
            float(np.mean([np.isfinite(run["units"][there]).sum() for run in itertools.islice(way(), count)]))
            for way in of_engine
        )
        for engine, of_engine in ways.items()
    }
    return kept | {"there are": float(np.count_nonzero(there))}


def _figures(row: Row, rows: Sequence[Row]) -> dict[str, object]:
    same = {r.engine: r for r in rows if (r.workload, r.task, r.statistic) == (row.workload, row.task, row.statistic)}
    told: dict[str, object] = {"workload": row.workload, "task": row.task, "statistic": row.statistic}
    told["rmse"] = {engine: r.rmse for engine, r in same.items()}
    told["median_relative_error"] = {engine: r.median_relative for engine, r in same.items()}
    return told


def _ratios(rows: Sequence[Row], kept: Mapping[str, Mapping[str, float]]) -> dict[str, object]:
    """Our root mean square errors in a peer's, by statistic the geometric mean over workloads and tasks.

    `single_` for one day's release alone; without it for weeks, where several releases share a budget.
    """
    names = {"pipelinedp": PIPELINEDP, "opendp": OPENDP, "pipelinedp_pld": PIPELINEDP_PLD, "opendp_zcdp": OPENDP_ZCDP}
    ratios: dict[str, object] = {}
    for key, peer in names.items():
        for prefix, shared in (("", True), ("single_", False)):
            by_statistic = _against(rows, peer, shared=shared)
            if by_statistic:
                ratios[f"{prefix}rmse_vs_{key}"] = {statistic: _mean(found) for statistic, found in by_statistic.items()}
    for key in ("pipelinedp", "opendp"):
        ratios[f"private_partitions_kept_vs_{key}"] = sum(found[OURS] for found in kept.values()) / max(
            1.0, sum(found[names[key]] for found in kept.values())
        )
    return ratios


def _against(rows: Sequence[Row], peer: str, *, shared: bool) -> dict[str, list[float]]:
    theirs = {(r.workload, r.task, r.statistic): r.rmse for r in rows if r.engine == peer}
    found: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        other = theirs.get((row.workload, row.task, row.statistic))
        if row.engine == OURS and other is not None and row.task.endswith("week") == shared:
            found[row.statistic].append(row.rmse / other)
    return found


def _mean(ratios: Sequence[float]) -> float:
    """Geometric mean."""
    return math.exp(math.fsum(math.log(ratio) for ratio in ratios) / len(ratios))


def _table(rows: Sequence[Row], kept: Mapping[str, Mapping[str, float]]) -> str:
    lines = [
        f"{'workload':9}{'task':32}{'statistic':11}{'hushmeter':>12}" + "".join(f"{f'x {e[:14]}':>17}" for e in _PEERS)
    ]
    for row in (r for r in rows if r.engine == OURS):
        same = {r.engine: r for r in rows if (r.workload, r.task, r.statistic) == (row.workload, row.task, row.statistic)}
        ratios = "".join(f"{row.rmse / same[e].rmse:18.2f}" if e in same else f"{'':18}" for e in _PEERS)
        lines.append(f"{row.workload:9}{row.task:32}{row.statistic:11}{row.rmse:12.4g}{ratios}")
    lines += [f"{w:9}{PRIVATE:32}" + ", ".join(f"{e} {count:.0f}" for e, count in s.items()) for w, s in kept.items()]
    return "\n".join(lines)


_PEERS = (PIPELINEDP, OPENDP, PIPELINEDP_PLD, OPENDP_ZCDP)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
