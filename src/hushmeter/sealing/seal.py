"""Seals one bucket of rows into a Tally: assign, dedupe, consent, project, bound, aggregate.

Pure numpy on columns. Every step uses a unit's own rows only (P1), so sealing buckets of units one by one and adding the
tallies up is the same as sealing all rows at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.participation import KeptWindows
from hushmeter.model.plan import Metric, Plan
from hushmeter.model.report import Bool, ReportBatch, UInt64, sorted_tokens
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import Int64, Window
from hushmeter.plan.built_in import CAPPED, PARTICIPANTS
from hushmeter.plan.catalog import Catalog
from hushmeter.sealing.mixing import token_marks, unit_bases
from hushmeter.sealing.participation import admitted_units
from hushmeter.sealing.rows import assigned, deduplicated, given_since, unit_numbers
from hushmeter.sealing.views import Points, Sums, add_views


@dataclass(frozen=True, slots=True)
class Participation:
    """Which windows of a period were kept before one, for a metric with bounded participation (P7).

    Attributes:
        earlier: of the same metric, resolution and period.
        index: of the window that is sealed.
    """

    earlier: KeptWindows
    index: int


def empty_tally(plan: Plan, window: Window) -> Tally:
    """The tally of nobody: zeros for every public vector that a window of this resolution releases (T3)."""
    sums = Sums(plan, window)
    return Tally(window, sums.vectors, sums.keys, sums.kept)


def seal(
    rows: ReportBatch,
    window: Window,
    *,
    catalog: Catalog,
    consent: ConsentTable,
    salt: bytes,
    participation: Mapping[str, Participation] | None = None,
) -> Tally:
    """Aggregates the rows of some units into the exact bounded aggregates of one window.

    Args:
        rows: every row of these units in the storage windows under the window, in any order, duplicates included.
        window: the release window.
        catalog: of the plan that the window is released under.
        consent: the units' consent at this moment, under the pseudonyms of the window's period.
        salt: 16 secret bytes of the window, the key of partition orders (P4).
        participation: by metric that bounds it at this resolution; all of them.

    Returns:
        The tally; a function of the set of reports, not of their order.

    Privacy:
        Adding or removing one unit moves each vector by at most `Measurement.sensitivity` in the norms that it names.
    """
    plan = catalog.plan
    ensure(consent.purposes == plan.purpose_names, "the consent table is of another plan")
    sums = Sums(plan, window)
    rows = deduplicated(rows.take(assigned(rows, window, plan.resolution(window.resolution).deadline_ms(window))))
    row_units, units = unit_numbers(rows)
    since = given_since(units, consent)
    dictionary, tokens = sorted_tokens(rows.tokens, rows.token_numbers)
    bases, marks = unit_bases(units, salt), token_marks(dictionary, salt)
    lengths = np.diff(rows.offsets)
    point_units, point_starts = np.repeat(row_units, lengths), np.repeat(rows.interval_start_ms, lengths)
    metric_of, place = catalog.locate(rows.series)
    _count_participants(sums, plan, row_units, rows.interval_start_ms, since)
    released = plan.metrics_in(window)
    for index, metric in enumerate(plan.metrics):
        if metric not in released:
            continue
        # P8: a point counts only if every purpose of its metric was allowed before its interval began, and still is.
        allowed_since = since[:, [plan.purpose_names.index(p) for p in metric.purposes]].max(axis=1)
        mine = np.flatnonzero(metric_of == index)
        mine = mine[allowed_since[point_units[mine]] <= point_starts[mine]]
        if metric.name in sums.kept:
            ensure(participation is not None and metric.name in participation, f"{metric.name}: which windows were kept?")
            carried = (participation or {})[metric.name]
            admitted = _bound_participation(sums, metric, window.resolution, units, point_units[mine], carried)
            mine = mine[admitted[point_units[mine]]]
        if any(d.open for d in metric.dimensions):
            # The door refuses points without a token; a point of no private partition has no place here either.
            mine = mine[tokens[mine] > 0]
        partition, component = np.divmod(place[mine], len(metric.components))
        token = tokens[mine].astype(np.int64)
        points = Points(point_units[mine], partition, component, rows.values[mine], token, bases, dictionary, marks)
        add_views(sums, metric, window.resolution, points)
    return Tally(window, sums.vectors, sums.keys, sums.kept)


def _count_participants(sums: Sums, plan: Plan, row_units: Int64, row_starts: Int64, since: Int64) -> None:
    """Counts the units with a report whose interval began after each purpose was allowed (P8); once a purpose."""
    vector = sums.vectors.get(VectorKey(PARTICIPANTS, ("purpose",), MeasurementName.UNITS))
    if vector is None:
        return
    for purpose in range(len(plan.purposes)):
        present = np.zeros(len(since), np.bool_)
        present[row_units[since[row_units, purpose] <= row_starts]] = True
        vector[purpose, 0] += np.count_nonzero(present)


def _bound_participation(
    sums: Sums, metric: Metric, resolution: str, units: UInt64, point_units: Int64, carried: Participation
) -> Bool:
    """Which units the window keeps, bool[u] (P7); counts those with points of the metric that it does not, and does."""
    most = metric.bounds[resolution].max_windows
    ensure(most is not None, f"{metric.name} does not bound participation at {resolution}")
    admitted = admitted_units(units, carried.earlier, carried.index, most or 0)
    present = np.zeros(len(units), np.bool_)
    present[point_units] = True
    sums.kept[metric.name] = units[present & admitted]
    vector = sums.vectors[VectorKey(CAPPED, ("metric",), MeasurementName.CAPPED)]
    vector[sums.capped_row[metric.name]] += [np.count_nonzero(present & ~admitted), np.count_nonzero(present & admitted)]
    return admitted
