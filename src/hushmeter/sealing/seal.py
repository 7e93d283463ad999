"""Seals one bucket of rows into a Tally: assign, dedupe, consent, project, bound, aggregate.

Pure numpy on columns. Every step uses a unit's own rows only (P1), so sealing buckets of units one by one and adding the
tallies up is the same as sealing all rows at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.consent import ConsentTable
from hushmeter.model.plan import Metric, Plan
from hushmeter.model.report import ReportBatch, UInt64
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import Int64, Window
from hushmeter.plan.catalog import Catalog
from hushmeter.plan.measurements import columns_of, names_of
from hushmeter.sealing.bounding import kept, view_numbers
from hushmeter.sealing.mixing import unit_bases
from hushmeter.sealing.rows import assigned, deduplicated, given_since, unit_numbers
from hushmeter.sealing.statistics import contribution


@dataclass(frozen=True, slots=True)
class _Points:
    """The points of one metric that may count: int64[m] columns, and the units' keyed orders uint64[u]."""

    units: Int64
    partitions: Int64
    components: Int64
    values: Int64
    bases: UInt64


def empty_tally(plan: Plan, window: Window) -> Tally:
    """The tally of nobody: zeros for every vector that a window of this resolution releases (T3)."""
    return Tally(
        window,
        {
            VectorKey(m.name, view, name): np.zeros((m.view_partitions(view), columns_of(m, name)), np.int64)
            for m in plan.metrics_in(window)
            for view in m.views
            for name in names_of(m)
        },
    )


def seal(rows: ReportBatch, window: Window, *, catalog: Catalog, consent: ConsentTable, salt: bytes) -> Tally:
    """Aggregates the rows of some units into the exact bounded aggregates of one window.

    Args:
        rows: every row of these units in the storage windows under the window, in any order, duplicates included.
        window: the release window.
        catalog: of the plan that the window is released under.
        consent: the units' consent at this moment, under the pseudonyms of the window's period.
        salt: 16 secret bytes of the window, the key of partition orders (P4).

    Returns:
        The tally; a function of the set of reports, not of their order.

    Privacy:
        Adding or removing one unit moves each vector by at most `Measurement.l2_sensitivity` in the L2 norm.
    """
    plan = catalog.plan
    ensure(consent.purposes == plan.purpose_names, "the consent table is of another plan")
    tally = empty_tally(plan, window)
    rows = deduplicated(rows.take(assigned(rows, window, plan.resolution(window.resolution).deadline_ms(window))))
    row_units, units = unit_numbers(rows)
    since = given_since(units, consent)
    bases = unit_bases(units, salt)
    lengths = np.diff(rows.offsets)
    point_units, point_starts = np.repeat(row_units, lengths), np.repeat(rows.interval_start_ms, lengths)
    metric_of, place = catalog.locate(rows.series)
    released = plan.metrics_in(window)
    for index, metric in enumerate(plan.metrics):
        if metric not in released:
            continue
        # P8: a point counts only if every purpose of its metric was allowed before its interval began, and still is.
        allowed_since = since[:, [plan.purpose_names.index(p) for p in metric.purposes]].max(axis=1)
        mine = np.flatnonzero(metric_of == index)
        mine = mine[allowed_since[point_units[mine]] <= point_starts[mine]]
        partition, component = np.divmod(place[mine], len(metric.components))
        points = _Points(point_units[mine], partition, component, rows.values[mine], bases)
        for view in metric.views:
            _add_view(tally, metric, view, points)
    return tally


def _add_view(tally: Tally, metric: Metric, view: tuple[str, ...], points: _Points) -> None:
    """Projects one metric's points onto a view, bounds each unit, and adds what is left to the tally's vectors (P4)."""
    resolution = tally.window.resolution
    bounds, size = metric.bounds[resolution], metric.view_partitions(view)
    keys = points.units * size + view_numbers(metric, view)[points.partitions]
    pairs, pair_of = np.unique(keys, return_inverse=True)
    totals = np.zeros((len(pairs), len(metric.components)), np.int64)
    np.add.at(totals, (pair_of, points.components), points.values)
    units, partitions = np.divmod(pairs, size)
    scope_of = np.zeros(size, np.int64)
    scope_of[view_numbers(metric, view)] = view_numbers(metric, view, scope_only=True)
    chosen = kept(units, partitions, scope_of[partitions], points.bases, metric.l0(view, resolution))
    for name in names_of(metric):
        vector = tally.vectors[VectorKey(metric.name, view, name)]
        np.add.at(vector, partitions[chosen], contribution(name, metric, bounds, totals[chosen]))
