"""Seals one bucket of rows into a Tally: assign, dedupe, consent, project, bound, aggregate.

Pure numpy on columns. Every step uses a unit's own rows only (P1), so sealing buckets of units one by one and adding the
tallies up is the same as sealing all rows at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.participation import KeptWindows
from hushmeter.model.plan import Metric, Plan
from hushmeter.model.report import Bool, ReportBatch, UInt32, UInt64, gathered, sorted_tokens
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import Int64, Window
from hushmeter.plan.built_in import CAPPED, PARTICIPANTS
from hushmeter.plan.catalog import Catalog
from hushmeter.sealing.mixing import token_marks, unit_bases
from hushmeter.sealing.participation import admitted_units
from hushmeter.sealing.rows import assigned, deduplicated, given_since, unit_numbers
from hushmeter.sealing.views import Points, Sums, add_views

_PART_POINTS = 1 << 16
"""Points of some units that are worked on together: what is made of them fits the second-level cache."""


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
    chosen = assigned(rows, window, plan.resolution(window.resolution).deadline_ms(window))
    order = deduplicated(rows, chosen)
    row_units, units = unit_numbers(rows.pseudonyms[order])
    starts, lengths = rows.interval_start_ms[order], np.diff(rows.offsets)[order]
    since = given_since(units, consent)
    dictionary, tokens = sorted_tokens(rows.tokens, rows.token_numbers)
    marks = token_marks(dictionary, salt)
    _count_participants(sums, plan, row_units, starts, since)
    released = [(i, metric) for i, metric in enumerate(plan.metrics) if metric in plan.metrics_in(window)]
    # Private partitions are gathered over all units; public ones are added up part by part, small enough for the caches.
    opened = [(i, m) for i, m in released if any(d.open for d in m.dimensions)]
    closed = [(i, m) for i, m in released if not any(d.open for d in m.dimensions)]
    parts = [(part, closed) for part in _parts(row_units, lengths)] if closed else []
    for part, metrics in [*parts, (slice(0, len(order)), opened)]:
        if not metrics or part.start == part.stop:
            continue
        first, last = row_units[part.start], row_units[part.stop - 1] + 1
        offsets, points = gathered(rows.offsets, order[part])
        metric_of, place = catalog.locate(rows.series[points])
        of_part = _Part(
            units[first:last],
            unit_bases(units[first:last], salt),
            since[first:last],
            row_units[part] - first,
            starts[part],
            np.diff(offsets),
            metric_of,
            place,
            rows.values[points],
            tokens[points] if len(tokens) else tokens,
            dictionary,
            marks,
        )
        for index, metric in metrics:
            _add_metric(sums, plan, window, index, metric, of_part, participation or {})
    return Tally(window, sums.vectors, sums.keys, sums.kept)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some units' rows and points, sorted by unit.

    Attributes:
        units, bases, since: uint64[u, 2], uint64[u], int64[u, p].
        row_units, row_starts, lengths: int64[n].
        metrics, places, values: int64[m], which metric each point is of, and where in it.
        tokens: uint32[m] numbers, or none.
        dictionary, marks: of all tokens.
    """

    units: UInt64
    bases: UInt64
    since: Int64
    row_units: Int64
    row_starts: Int64
    lengths: Int64
    metrics: Int64
    places: Int64
    values: Int64
    tokens: UInt32
    dictionary: tuple[bytes, ...]
    marks: UInt64


def _parts(row_units: Int64, lengths: Int64) -> Iterator[slice]:
    """Cuts rows, sorted by unit, where a unit ends, into parts of about `_PART_POINTS` points."""
    ends = np.flatnonzero(np.append(row_units[1:] != row_units[:-1], len(row_units) > 0)) + 1
    points = np.cumsum(lengths)[ends - 1]
    start = 0
    while start < len(row_units):
        before = points[np.searchsorted(ends, start, side="right") - 1] if start else 0
        at = min(int(np.searchsorted(points, before + _PART_POINTS)), len(ends) - 1)
        yield slice(start, int(ends[at]))
        start = int(ends[at])


def _add_metric(
    sums: Sums,
    plan: Plan,
    window: Window,
    index: int,
    metric: Metric,
    part: _Part,
    participation: Mapping[str, Participation],
) -> None:
    """Adds one metric's points to its views: those that are allowed, of units that the window keeps."""
    # P8: a point counts only if every purpose of its metric was allowed before its interval began, and still is.
    allowed_since = part.since[:, [plan.purpose_names.index(p) for p in metric.purposes]].max(axis=1)
    allowed = allowed_since[part.row_units] <= part.row_starts
    mine = part.metrics == index
    if not allowed.all():
        mine &= np.repeat(allowed, part.lengths)
    if any(d.open for d in metric.dimensions):
        # The door refuses points without a token; a point of no private partition has no place here either.
        mine &= part.tokens > 0 if len(part.tokens) else False
    point_units = np.repeat(part.row_units, part.lengths)
    if metric.name in sums.kept:
        ensure(metric.name in participation, f"{metric.name}: which windows were kept?")
        present = np.zeros(len(part.units), np.bool_)
        present[point_units[mine]] = True
        admitted = _bound_participation(sums, metric, window.resolution, part.units, present, participation[metric.name])
        mine &= admitted[point_units]
    places, values, tokens = part.places, part.values, part.tokens
    if not mine.all():
        kept = np.flatnonzero(mine)
        point_units, places, values = point_units[kept], places[kept], values[kept]
        tokens = tokens[kept] if len(tokens) else tokens
    partition, component = np.divmod(places, len(metric.components)) if len(metric.components) > 1 else (places, None)
    points = Points(
        point_units, partition, component, values, tokens.astype(np.int64), part.bases, part.dictionary, part.marks
    )
    add_views(sums, metric, window.resolution, points)


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
    sums: Sums, metric: Metric, resolution: str, units: UInt64, present: Bool, carried: Participation
) -> Bool:
    """Which units the window keeps, bool[u] (P7); counts those with points of the metric that it does not, and does."""
    most = metric.bounds[resolution].max_windows
    ensure(most is not None, f"{metric.name} does not bound participation at {resolution}")
    admitted = admitted_units(units, carried.earlier, carried.index, most or 0)
    sums.kept[metric.name] = np.concatenate((sums.kept[metric.name], units[present & admitted]))
    vector = sums.vectors[VectorKey(CAPPED, ("metric",), MeasurementName.CAPPED)]
    vector[sums.capped_row[metric.name]] += [np.count_nonzero(present & ~admitted), np.count_nonzero(present & admitted)]
    return admitted
