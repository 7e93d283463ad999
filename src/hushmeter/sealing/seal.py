"""Seals rows, bucket by bucket, into a Tally: assign, dedupe, consent, project, bound, aggregate.

Pure numpy on columns. Every step uses a unit's own rows only (P1), so sealing buckets of units one after another, or in
several sealings whose tallies are added up, is the same as sealing all rows at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hushmeter import limits
from hushmeter.errors import ensure
from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.participation import KeptWindows
from hushmeter.model.plan import Metric, Plan
from hushmeter.model.report import Bool, ReportBatch, UInt32, UInt64, sorted_tokens
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import Int64, Window
from hushmeter.plan.built_in import CAPPED, PARTICIPANTS
from hushmeter.plan.catalog import Catalog
from hushmeter.sealing.bounding import counts_of
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
    return Sums(plan, window).tally()


def seal(
    rows: ReportBatch,
    window: Window,
    *,
    catalog: Catalog,
    consent: ConsentTable,
    salt: bytes,
    participation: Mapping[str, Participation] | None = None,
) -> Tally:
    """Aggregates the rows of some units into the exact bounded aggregates of one window; see `Sealing`."""
    sealing = Sealing(window, catalog=catalog, salt=salt, participation=participation)
    sealing.add(rows, consent)
    return sealing.tally()


class Sealing:
    """The exact bounded aggregates of one window, of more and more units.

    Args:
        window: the release window.
        catalog: of the plan that the window is released under.
        salt: 16 secret bytes of the window, the key of partition orders (P4).
        participation: by metric that bounds it at this resolution; all of them.
    """

    def __init__(
        self, window: Window, *, catalog: Catalog, salt: bytes, participation: Mapping[str, Participation] | None = None
    ) -> None:
        plan = catalog.plan
        self._window = window
        self._catalog = catalog
        self._salt = salt
        self._participation = participation or {}
        self._deadline_ms = plan.resolution(window.resolution).deadline_ms(window)
        released = [(i, metric) for i, metric in enumerate(plan.metrics) if metric in plan.metrics_in(window)]
        # Private partitions are gathered over all units; public ones are added up part by part.
        self._opened = [(i, m) for i, m in released if any(d.open for d in m.dimensions)]
        self._closed = [(i, m) for i, m in released if not any(d.open for d in m.dimensions)]
        self._done: Tally | None = None
        self._sums = Sums(plan, window)
        self._units = 0

    def add(self, rows: ReportBatch, consent: ConsentTable) -> None:
        """Adds the rows of units of which nothing was added before.

        Args:
            rows: every row of these units in the storage windows under the window, in any order, duplicates included.
            consent: the units' consent at this moment, under the pseudonyms of the window's period.

        Privacy:
            Adding or removing one unit moves each vector by at most `Measurement.sensitivity` in the norms that it names.
        """
        plan = self._catalog.plan
        ensure(consent.purposes == plan.purpose_names, "the consent table is of another plan")
        order = deduplicated(rows, assigned(rows, self._window, self._deadline_ms))
        row_units, units = unit_numbers(rows.pseudonyms[order])
        self._make_room(len(units))
        starts, since = rows.interval_start_ms[order], given_since(units, consent)
        _count_participants(self._sums, plan, row_units, starts, since)
        # P8: a point counts only if every purpose of its metric was allowed before its interval began, and still is.
        allowed = {
            purposes: since[:, [plan.purpose_names.index(p) for p in purposes]].max(axis=1)[row_units] <= starts
            for purposes in {metric.purposes for _, metric in self._closed + self._opened}
        }
        some = np.flatnonzero(np.logical_or.reduce(list(allowed.values()))) if allowed else np.zeros(0, np.int64)
        if not len(some):
            return
        chosen = _Rows(rows, order[some], row_units[some], units, {p: a[some] for p, a in allowed.items()})
        if self._closed:
            for part in chosen.parts():
                self._add_part(chosen, part, self._closed, opened=False)
        if self._opened:
            self._add_part(chosen, slice(0, len(some)), self._opened, opened=True)

    def tally(self) -> Tally:
        """What was added; a function of the set of reports, not of their order."""
        tally = self._sums.tally()
        return tally if self._done is None else self._done + tally

    def _make_room(self, units: int) -> None:
        """No sum of so many units leaves int64, as `plan check` has proven; sums of more are added up with care (P6)."""
        if self._units and self._units + units > limits.UNITS_MAX:
            self._done, self._units = self.tally(), 0
            self._sums = Sums(self._catalog.plan, self._window)
        self._units += units

    def _add_part(self, chosen: _Rows, rows: slice, metrics: list[tuple[int, Metric]], *, opened: bool) -> None:
        part = _Part.of(chosen, rows, self._salt, opened=opened)
        for index, metric in metrics:
            series = part.series - np.uint32(self._catalog.first_series(index))
            mine = series < metric.series_count
            allowed = chosen.allowed[metric.purposes][rows]
            if not allowed.all():
                mine &= np.repeat(allowed, part.lengths)
            if metric.name in self._sums.kept:
                ensure(metric.name in self._participation, f"{metric.name}: which windows were kept?")
                present = counts_of(np.flatnonzero(mine), part.counts) > 0
                mine &= np.repeat(self._bound_participation(metric, part.units, present), part.counts)
            if part.tokens is not None:
                # The door refuses points without a token; a point of no private partition has no place here either.
                mine &= part.tokens > 0
            add_views(self._sums, metric, self._window.resolution, part.points(metric, series, mine))

    def _bound_participation(self, metric: Metric, units: UInt64, present: Bool) -> Bool:
        """Which units the window keeps, bool[u] (P7); counts those with points of the metric that it does not, and does."""
        sums, carried = self._sums, self._participation[metric.name]
        most = metric.bounds[self._window.resolution].max_windows
        ensure(most is not None, f"{metric.name} does not bound participation at {self._window.resolution}")
        admitted = admitted_units(units, carried.earlier, carried.index, most or 0)
        sums.kept[metric.name] = np.concatenate((sums.kept[metric.name], units[present & admitted]))
        vector = sums.vectors[VectorKey(CAPPED, ("metric",), MeasurementName.CAPPED)]
        capped = [np.count_nonzero(present & ~admitted), np.count_nonzero(present & admitted)]
        vector[sums.capped_row[metric.name]] += capped
        return admitted


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of which something may count, sorted by unit.

    Attributes:
        all: rows.
        order: int64[n], indices into them.
        units: int64[n], rising, indices into `pseudonyms`.
        pseudonyms: uint64[u, 2].
        allowed: bool[n], whether the units allow the purposes.
    """

    all: ReportBatch
    order: Int64
    units: Int64
    pseudonyms: UInt64
    allowed: Mapping[tuple[str, ...], Bool]

    def parts(self) -> Iterator[slice]:
        """Cuts the rows where a unit ends, into parts of about `_PART_POINTS` points."""
        ends = np.flatnonzero(np.append(self.units[1:] != self.units[:-1], True)) + 1
        points = np.cumsum(self.all.offsets[self.order + 1] - self.all.offsets[self.order])[ends - 1]
        at, before, start = 0, 0, 0
        while at < len(ends):
            at = max(at, min(int(np.searchsorted(points, before + _PART_POINTS)), len(ends) - 1))
            yield slice(start, int(ends[at]))
            start, before, at = int(ends[at]), int(points[at]), at + 1


@dataclass(frozen=True, slots=True)
class _Part:
    """The points of some units, sorted by unit.

    Attributes:
        units, bases, counts: uint64[u, 2], uint64[u], int64[u], how many points each has.
        lengths: int64[n], how many points each row has.
        series, values: uint32[m], int64[m].
        tokens: int64[m] numbers, for metrics with an open dimension.
        dictionary, marks: of all tokens, likewise.
    """

    units: UInt64
    bases: UInt64
    counts: Int64
    lengths: Int64
    series: UInt32
    values: Int64
    tokens: Int64 | None
    dictionary: tuple[bytes, ...]
    marks: UInt64

    @classmethod
    def of(cls, chosen: _Rows, part: slice, salt: bytes, *, opened: bool) -> _Part:
        """The points of some consecutive rows, whole units each."""
        rows, order = chosen.all, chosen.order[part]
        starts = rows.offsets[order]
        lengths = rows.offsets[order + 1] - starts
        ends = np.cumsum(lengths)
        points = np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1])
        last = np.flatnonzero(np.append(chosen.units[part][1:] != chosen.units[part][:-1], True))
        units = chosen.pseudonyms[chosen.units[part][last]]
        dictionary, tokens = sorted_tokens(rows.tokens, rows.token_numbers) if opened else ((), rows.token_numbers)
        return cls(
            units,
            unit_bases(units, salt),
            np.diff(ends[last], prepend=0),
            lengths,
            rows.series[points],
            rows.values[points],
            tokens[points].astype(np.int64) if opened else None,
            dictionary,
            token_marks(dictionary, salt),
        )

    def points(self, metric: Metric, series: UInt32, mine: Bool) -> Points:
        """Those points that are of a metric and may count.

        Args:
            metric: the metric.
            series: uint32[m], each point's place in the metric's block.
            mine: bool[m].
        """
        place, values, tokens, counts = series.astype(np.int64), self.values, self.tokens, self.counts
        if not mine.all():
            chosen = np.flatnonzero(mine)
            place, values, counts = place[chosen], values[chosen], counts_of(chosen, counts)
            tokens = tokens[chosen] if tokens is not None else None
        component = None
        if len(metric.components) > 1:
            place, component = np.divmod(place, len(metric.components))
        return Points(counts, place, component, values, tokens, self.bases, self.dictionary, self.marks)


def _count_participants(sums: Sums, plan: Plan, row_units: Int64, row_starts: Int64, since: Int64) -> None:
    """Counts the units with a report whose interval began after each purpose was allowed (P8); once a purpose."""
    vector = sums.vectors.get(VectorKey(PARTICIPANTS, ("purpose",), MeasurementName.UNITS))
    if vector is None:
        return
    for purpose in range(len(plan.purposes)):
        present = np.zeros(len(since), np.bool_)
        present[row_units[since[row_units, purpose] <= row_starts]] = True
        vector[purpose, 0] += np.count_nonzero(present)
