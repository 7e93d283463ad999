"""Seals rows, bucket by bucket, into a Tally: dedupe, assign, consent, project, bound, aggregate.

Pure numpy on columns. Every step uses a unit's own rows only (P1), so sealing buckets of units one after another, or in
several sealings whose tallies are added up, is the same as sealing all rows at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hushmeter import limits
from hushmeter.errors import ensure
from hushmeter.model.arrays import Bool, Int64, UInt64
from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.participation import KeptWindows
from hushmeter.model.plan import Metric, Plan
from hushmeter.model.report import ReportBatch, sorted_tokens
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import Window
from hushmeter.plan.built_in import CAPPED, PARTICIPANTS
from hushmeter.plan.catalog import Catalog
from hushmeter.sealing.mixing import token_marks, unit_bases
from hushmeter.sealing.participation import admitted_units
from hushmeter.sealing.rows import UnitRows, assigned, deduplicated, given_since
from hushmeter.sealing.views import Points, Tokens, ViewSums, add_views


@dataclass(frozen=True, slots=True)
class Participation:
    """Which windows of a period were kept before one, for a metric with bounded participation (P7).

    Attributes:
        earlier: of the same metric, resolution and period.
        index: of the window that is sealed.
    """

    earlier: KeptWindows
    index: int


def seal(
    rows: ReportBatch,
    window: Window,
    *,
    catalog: Catalog,
    consent: ConsentTable,
    salt: bytes,
    copy_key: bytes,
    participation: Mapping[str, Participation] | None = None,
) -> Tally:
    """Aggregates the rows of some units into the exact bounded aggregates of one window; see `Sealing`."""
    sealing = Sealing(window, catalog=catalog, salt=salt, copy_key=copy_key, participation=participation)
    sealing.add(rows, consent)
    return sealing.tally()


class Sealing:
    """The exact bounded aggregates of one window, of more and more units.

    Args:
        window: the release window.
        catalog: of the plan that the window is released under.
        salt: 16 secret bytes of the window, the key of partition orders (P4).
        copy_key: secret of the window's period, see `hushmeter.sealing.copies` (P2).
        participation: by metric that bounds it at this resolution; all of them.
    """

    def __init__(
        self,
        window: Window,
        *,
        catalog: Catalog,
        salt: bytes,
        copy_key: bytes,
        participation: Mapping[str, Participation] | None = None,
    ) -> None:
        plan = catalog.plan
        self._window = window
        self._catalog = catalog
        self._salt = salt
        self._copy_key = copy_key
        self._participation = participation or {}
        self._deadline_ms = plan.resolution(window.resolution).deadline_ms(window)
        self._released = [(i, metric) for i, metric in enumerate(plan.metrics) if metric in plan.metrics_in(window)]
        self._done: Tally | None = None
        self._sums = ViewSums(plan, window)
        self._units = 0

    def add(self, rows: ReportBatch, consent: ConsentTable) -> None:
        """Adds the rows of units of which nothing was added before.

        Args:
            rows: every row of these units in the storage windows under the window, in any order, duplicates included.
            consent: the units' consent as the window's cut-off has fixed it, under the pseudonyms of the window's period.

        Privacy:
            Adding or removing one unit moves each vector by at most `Measurement.sensitivity` in the norms that it names.
        """
        plan = self._catalog.plan
        ensure(consent.purposes == plan.purpose_names, "the consent table is of another plan")
        # rows: n rows with m points, of any units, duplicates included.
        chosen = assigned(rows, self._window, self._deadline_ms)
        # chosen: int64[k], indices of the rows that the window holds, rising.
        reports = deduplicated(rows, chosen, plan.finest.span, self._copy_key)
        # reports: j rows, one a report, unit after unit: indices int64[j], units int64[j], pseudonyms uint64[u, 2].
        if not len(reports.rows):
            return
        if len(reports.pseudonyms) > limits.UNITS_MAX:
            middle = reports.pseudonyms[len(reports.pseudonyms) // 2]
            for half in _halves(rows, middle):
                self.add(half, consent)
            return
        self._make_room(len(reports.pseudonyms))
        starts, since = rows.asks_consent_at_ms[reports.rows], given_since(reports.pseudonyms, consent)
        # starts: int64[j], by when each report's unit must have agreed; since: int64[u, purposes], since when it has.
        _count_participants(self._sums, plan, reports.units, starts, since)
        columns = _Columns.of(rows, reports)
        # columns: all m points as they came, and whose each one is, int64[m].
        for index, metric in self._released:
            # A report's points count only if its unit had allowed every purpose of their metric before the report's
            # interval began and before the report came, and allows them still (P8).
            purposes = [plan.purpose_names.index(purpose) for purpose in metric.purposes]
            allowed = since[:, purposes].max(axis=1)[reports.units] <= starts
            # allowed: bool[j]; what goes on are the indices of those reports' rows, int64[i], unit after unit.
            self._add_metric(index, metric, columns, reports.rows.compress(allowed))

    def tally(self) -> Tally:
        """What was added; a function of the set of reports, not of their order."""
        tally = self._sums.tally()
        return tally if self._done is None else self._done + tally

    def _make_room(self, units: int) -> None:
        """Begins new sums before those of more units could leave int64; of fewer none can, as `plan check` proves (P6)."""
        if self._units and self._units + units > limits.UNITS_MAX:
            self._done, self._units = self.tally(), 0
            self._sums = ViewSums(self._catalog.plan, self._window)
        self._units += units

    def _add_metric(self, index: int, metric: Metric, columns: _Columns, allowed: Int64) -> None:
        """Adds one metric's points to its views: those of allowed rows, of units that the window keeps."""
        series = columns.rows.series - np.uint32(self._catalog.first_series(index))
        # series: uint32[m], numbers within the metric; those of other metrics are larger than any of its own.
        ours = series < metric.series_count
        mine = columns.of_rows(allowed) & ours
        # mine: bool[m], the metric's points in allowed rows.
        if metric.name in self._sums.kept:
            ensure(metric.name in self._participation, f"{metric.name}: which windows were kept?")
            present = np.zeros(len(columns.pseudonyms), np.bool_)
            present[columns.units[mine]] = True
            # present: bool[u], units with such a point.
            mine &= self._bound_participation(metric, columns.pseudonyms, present)[columns.units]
        opened = any(d.open for d in metric.dimensions)
        if opened:
            # The door refuses points without a token. A point without one is in no private partition, and is left out here.
            mine &= columns.rows.token_numbers > 0
        count = np.count_nonzero(mine)
        if not count:
            return
        bases = unit_bases(columns.pseudonyms, self._salt)
        # bases: uint64[u], where each unit's keyed order of partitions begins.
        if ours.all() and count > _MOST * len(mine) and not any(d.open or d.per_unit for d in metric.dimensions):
            # Nearly all points are chosen: the few others come along and count nowhere, which costs less than moving all.
            units, values, tokens = columns.units.copy(), columns.rows.values, None
            units[~mine] = len(bases)
        else:
            chosen = np.flatnonzero(mine)
            units, values, series = columns.units.take(chosen), columns.rows.values.take(chosen), series.take(chosen)
            tokens = self._tokens(columns.rows, chosen) if opened else None
        partitions, components = series.astype(np.int64), None
        if len(metric.components) > 1:
            partitions, components = np.divmod(partitions, len(metric.components))
        # units, partitions, components, values: int64[p] of the p points that go on; `views` bounds and adds them up.
        points = Points(units, partitions, components, values, bases, tokens)
        add_views(self._sums, metric, self._window.resolution, points)

    def _tokens(self, rows: ReportBatch, chosen: Int64) -> Tokens:
        dictionary, numbers = sorted_tokens(rows.tokens, rows.token_numbers)
        return Tokens(numbers[chosen].astype(np.int64), dictionary, token_marks(dictionary, self._salt))

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


def _halves(rows: ReportBatch, middle: UInt64) -> tuple[ReportBatch, ReportBatch]:
    """The rows of units whose pseudonyms come before a pseudonym, and those of the others."""
    high, low = rows.pseudonyms[:, 0], rows.pseudonyms[:, 1]
    before = (high < middle[0]) | ((high == middle[0]) & (low < middle[1]))
    return rows.take(np.flatnonzero(before)), rows.take(np.flatnonzero(~before))


_MOST = 0.8
"""From this share of points on, those that are not chosen come along."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """Some units' rows as they came, and whose each point is.

    Attributes:
        rows: all of them.
        lengths: int64[n], how many points each row has.
        units: int64[m], index of each point's unit in `pseudonyms`; of rows that do not count any number.
        pseudonyms: uint64[u, 2], rising.
    """

    rows: ReportBatch
    lengths: Int64
    units: Int64
    pseudonyms: UInt64

    @classmethod
    def of(cls, rows: ReportBatch, reports: UnitRows) -> _Columns:
        """The columns of rows of which some count, each as a report of its unit."""
        units = np.zeros(len(rows), np.int64)
        units[reports.rows] = reports.units
        lengths = np.diff(rows.offsets)
        return cls(rows, lengths, np.repeat(units, lengths), reports.pseudonyms)

    def of_rows(self, rows: Int64) -> Bool:
        """bool[m]: which points are of some rows."""
        chosen = np.zeros(len(self.rows), np.bool_)
        chosen[rows] = True
        return np.repeat(chosen, self.lengths)


def _count_participants(sums: ViewSums, plan: Plan, row_units: Int64, row_starts: Int64, since: Int64) -> None:
    """Counts the units with a report whose interval began after each purpose was allowed (P8); once a purpose."""
    vector = sums.vectors.get(VectorKey(PARTICIPANTS, ("purpose",), MeasurementName.UNITS))
    if vector is None:
        return
    for purpose in range(len(plan.purposes)):
        present = np.zeros(len(since), np.bool_)
        present[row_units[since[row_units, purpose] <= row_starts]] = True
        vector[purpose, 0] += np.count_nonzero(present)
