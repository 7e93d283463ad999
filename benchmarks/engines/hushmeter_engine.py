"""hushmeter through its real stages: plan, prices, sealing, noise, estimates. Only noise is drawn again for each run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import numpy as np

from benchmarks.engines.common import QUANTILES, Answers, Float, Task
from benchmarks.workloads import Events
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.consent import ConsentTable
from hushmeter.model.plan import Plan
from hushmeter.model.release import Release
from hushmeter.model.report import ReportBatch
from hushmeter.model.tally import Tally
from hushmeter.model.time import DAY_MS, Window
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.catalog import Catalog, assign_blocks
from hushmeter.plan.measurements import derivation
from hushmeter.plan.reading import parse_plan
from hushmeter.query.estimates import estimate
from hushmeter.query.sums import Sums
from hushmeter.release.measuring import measure
from hushmeter.sealing.seal import seal
from hushmeter.service.deployment.budget import budget_of

_START_MS = 1_772_409_600_000
_PLAN = """
plan: utility
version: 1
privacy:
  {{unit: unit, period: {period}, epsilon: {epsilon}, delta: {delta}, expected_units: {units}, participants: false}}
resolutions: {{1d: {{lateness: 1h}}}}
purposes: {{compare: Compare engines.}}
metrics:
  measured:
    description: Values of a workload.
    owner: benchmarks@example.com
    expires: 2026-12-31
    category: performance
    purposes: [compare]
    kind: distribution
    unit: ms
    edges: {edges}
    weighting: event
    dimensions: {{partition: {dimension}}}
    views: [[partition]]
    per_unit: {{max_partitions: {l0}, range: [{low}, {high}], max_events: {events}}}
    statistics: [{statistics}]
"""


def hushmeter_runs(task: Task, *, private: bool = False) -> Iterator[Answers]:
    """Endless runs of one task.

    Args:
        task: what to release.
        private: whether partitions are private: tokens, released through selection.
    """
    plan = _plan(task, private=private)
    mechanisms = OpenDPMechanisms()
    prices = PriceList.of(plan, budget_of(plan, mechanisms), mechanisms)
    catalog = Catalog.of(plan, assign_blocks(plan))
    windows = [Window("1d", _START_MS + d * DAY_MS, _START_MS + (d + 1) * DAY_MS) for d in range(task.days)]
    tallies = [_tally(catalog, task.events.on(day), window, private=private) for day, window in enumerate(windows)]
    charges = [prices.charge(window, ()) for window in windows]
    while True:
        releases = [
            measure(tally, charge, mechanisms, plan=plan, completeness=1.0)[0]
            for tally, charge in zip(tallies, charges, strict=True)
        ]
        yield _answers(task, plan, releases)


def _plan(task: Task, *, private: bool) -> Plan:
    e = task.events
    names = [f"p{i}" for i in range(e.partition_count)]
    opened = f"{{open: true, max_length: 8, pattern: 'p[0-9]+', expected_values: {e.partition_count}}}"
    asked = [f"quantiles: {list(QUANTILES)}" if s == "quantiles" else s for s in task.statistics]
    text = _PLAN.format(
        period="1d" if task.days == 1 else "1w",
        epsilon=task.epsilon,
        delta=f"{task.delta:.12f}",
        units=e.on(0).unit_count,
        edges=list(e.edges),
        dimension=opened if private else f"{{values: [{', '.join(names)}]}}",
        l0=e.l0,
        low=e.low,
        high=e.high,
        events=e.max_events,
        statistics=", ".join(f"{{{s}}}" if ":" in s else s for s in asked),
    )
    return parse_plan(text, dt.date(2026, 3, 2))


def _tally(catalog: Catalog, e: Events, window: Window, *, private: bool) -> Tally:
    """Seals one day: a report a unit and partition."""
    keys, place = np.unique(np.column_stack((e.units, e.partitions)), axis=0, return_inverse=True)
    bins = len(e.edges) + 1
    totals = np.zeros((len(keys), bins + 1), np.int64)
    np.add.at(totals, (place.ravel(), np.searchsorted(e.edges, e.values, side="left")), 1)
    np.add.at(totals, (place.ravel(), np.full(len(e.values), bins)), e.values)
    n, width = len(keys), bins + 1
    units = keys[:, 0].astype(np.uint64)
    pseudonyms = np.column_stack((units * np.uint64(0x9E3779B97F4A7C15), units))
    first = catalog.first_series(0) + (0 if private else 1) * keys[:, 1] * width
    series = (first[:, None] + np.arange(width)).ravel().astype(np.uint32)
    tokens = tuple(f"p{i}".encode() for i in range(e.partition_count)) if private else ()
    numbers = np.repeat(keys[:, 1] + 1, width).astype(np.uint32) if private else np.zeros(0, np.uint32)
    rows = ReportBatch(
        pseudonyms,
        np.column_stack((np.arange(n, dtype=np.uint64), units)),
        np.full(n, window.end_ms),
        np.full(n, window.start_ms + 1),
        np.full(n, window.start_ms + 2),
        np.ones(n, np.uint32),
        np.arange(n + 1) * width,
        series,
        totals.ravel(),
        tokens,
        numbers,
    )
    order = np.lexsort((pseudonyms[:, 1], pseudonyms[:, 0]))
    known = np.unique(pseudonyms[order], axis=0)
    consent = ConsentTable(("compare",), known, np.zeros((len(known), 1), np.int64))
    return seal(rows, window, catalog=catalog, consent=consent, salt=bytes(16), copy_key=bytes(32))


def _answers(task: Task, plan: Plan, releases: list[Release]) -> Answers:
    metric, e = plan.metrics[0], task.events
    found: dict[str, list[Float]] = {}
    for release in releases:
        rows = None if release.keys is None else [int(token[1:]) for _, token in release.keys]
        for statistic in metric.statistics:
            names = derivation(metric, statistic)
            told = estimate(metric, "1d", {n: Sums.of([release.vectors[n]]) for n in names}, statistic)
            values = np.full((e.partition_count, told.values.shape[1]), np.nan)
            values[slice(None) if rows is None else rows] = told.values
            found.setdefault(statistic.value, []).append(values)
    return {name: np.stack(days) for name, days in found.items()}
