"""Projects one metric's points onto its views, bounds each unit, and adds what is left to the tally's vectors (P4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hushmeter.errors import InvariantError
from hushmeter.model.arrays import Bool, Int64, UInt64
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.plan import Metric, Plan
from hushmeter.model.release import PartitionKey
from hushmeter.model.tally import Tally, VectorKey, ViewKey, merged_keys
from hushmeter.model.time import Window
from hushmeter.plan.built_in import CAPPED, capped_metrics
from hushmeter.plan.measurements import columns_of, is_additive, names_of
from hushmeter.sealing.bounding import Grid, kept, private_partitions, public_grid, view_numbers
from hushmeter.sealing.statistics import contribution


@dataclass(frozen=True, slots=True)
class Points:
    """The points of one metric that may count.

    Attributes:
        units: int64[m], index of each one's unit in `bases`; `len(bases)` where it counts nowhere, which is so of no point
            of a metric with an open or a unit-scoped dimension.
        partitions, components, values: int64[m]; components are None where a metric has one.
        bases: uint64[u], the units' keyed orders.
        tokens: of a metric with an open dimension.
    """

    units: Int64
    partitions: Int64
    components: Int64 | None
    values: Int64
    bases: UInt64
    tokens: Tokens | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """Each point's value of the open dimension.

    Attributes:
        numbers: int64[m], 1 + index in the dictionary.
        dictionary: the tokens, rising.
        marks: uint64[t + 1], what tells them apart in a keyed order.
    """

    numbers: Int64
    dictionary: tuple[bytes, ...]
    marks: UInt64


@dataclass(frozen=True, slots=True)
class _Cells:
    """What bounded units have in the partitions that they keep, a row a (unit, partition).

    Attributes:
        units, partitions: int64[k].
        totals: int64[k, components].
        dropped: bool[k], whether the unit was in more partitions than it keeps.
    """

    units: Int64
    partitions: Int64
    totals: Int64
    dropped: Bool


class ViewSums:
    """A tally in the making: zeros for every public vector, no rows for open views (T3).

    Args:
        plan: the plan.
        window: the release window.
    """

    def __init__(self, plan: Plan, window: Window) -> None:
        self.window = window
        self.vectors: dict[VectorKey, Int64] = {}
        self.keys: dict[ViewKey, tuple[PartitionKey, ...]] = {}
        none = np.zeros((0, 2), np.uint64)
        self.kept: dict[str, UInt64] = {m.name: none for m in capped_metrics(plan, window.resolution)}
        capped = next((m for m in plan.built_in if m.name == CAPPED), None)
        self.capped_row = {name: row for row, name in enumerate(capped.dimensions[0].values)} if capped else {}
        for metric in plan.metrics_in(window):
            for view in metric.views:
                rows = metric.view_partitions(view)
                if metric.open_dimension(view):
                    self.keys[metric.name, view] = ()
                    rows = 0
                for name in names_of(metric, view):
                    vector = np.zeros((rows, columns_of(metric, name)), np.int64)
                    self.vectors[VectorKey(metric.name, view, name)] = vector

    def add_private(
        self, metric: str, view: tuple[str, ...], keys: tuple[PartitionKey, ...], added: Mapping[MeasurementName, Int64]
    ) -> None:
        """Adds vectors of an open view, with a row for each of some private partitions, which rise."""
        merged, rows, their_rows = merged_keys(self.keys[metric, view], keys)
        self.keys[metric, view] = merged
        for name, vector in added.items():
            total = np.zeros((len(merged), vector.shape[1]), np.int64)
            total[rows] = self.vectors[VectorKey(metric, view, name)]
            total[their_rows] += vector
            self.vectors[VectorKey(metric, view, name)] = total

    def tally(self) -> Tally:
        """What was added so far."""
        return Tally(self.window, self.vectors, self.keys, self.kept)


def add_views(sums: ViewSums, metric: Metric, resolution: str, points: Points) -> None:
    """Adds one metric's points to all its views."""
    if metric.shared_bounding:
        _add_shared(sums, metric, resolution, points)
        return
    for view in metric.views:
        if metric.open_dimension(view):
            _add_open(sums, metric, view, resolution, points)
            continue
        whole = len(view) == len(metric.dimensions)
        numbers = points.partitions if whole else view_numbers(metric, view)[points.partitions]
        cells = _bounded(metric, public_grid(metric, view), metric.l0(view, resolution), numbers, points)
        for name in names_of(metric, view):
            added = contribution(name, metric, metric.bounds[resolution], cells.totals, cells.dropped)
            _add(sums.vectors[VectorKey(metric.name, view, name)], cells.partitions, added)


def _add(vector: Int64, rows: Int64, added: Int64) -> None:
    """Adds int64[k, columns] to some rows of a vector, which may be named several times."""
    columns = vector.shape[1]
    cells = rows if columns == 1 else (rows[:, None] * columns + np.arange(columns)).ravel()
    np.add.at(vector.reshape(-1), cells, added.ravel())


def _bounded(metric: Metric, grid: Grid, l0: int, numbers: Int64, points: Points) -> _Cells:
    """Keeps of each unit the partitions that count, and adds its points up by partition.

    Args:
        metric: whose points.
        grid: the partitions of the view.
        l0: how many partitions one unit keeps.
        numbers: int64[m], index of each point's partition in the grid.
        points: m points.
    """
    pairs = kept(points.units, numbers, grid, points.bases, l0)
    columns = len(metric.components)
    totals = np.zeros((len(pairs.units), columns), np.int64)
    cells = pairs.pairs
    if points.components is not None:
        cells = cells * columns + points.components.take(pairs.points)
    np.add.at(totals.reshape(-1), cells, points.values.take(pairs.points))
    return _Cells(pairs.units, pairs.partitions, totals, pairs.dropped.take(pairs.units))


def _add_open(sums: ViewSums, metric: Metric, view: tuple[str, ...], resolution: str, points: Points) -> None:
    """An open view: a row for each private partition that some unit keeps, in the order of public number and token."""
    tokens = points.tokens
    if tokens is None:
        raise InvariantError(f"{metric.name}: points without tokens are in no private partition")
    private = private_partitions(metric, view, points.partitions, tokens.numbers, tokens.marks)
    cells = _bounded(metric, private.grid, metric.l0(view, resolution), private.numbers, points)
    used = np.unique(cells.partitions)
    public, named = private.public[used].tolist(), (private.tokens[used] - 1).tolist()
    # Keys rise: the order of tokens' bytes is the order of their text.
    keys = tuple((number, tokens.dictionary[token].decode()) for number, token in zip(public, named, strict=True))
    row_of = np.zeros(len(private.grid), np.int64)
    row_of[used] = np.arange(len(used))
    vectors = {}
    for name in names_of(metric, view):
        vector = np.zeros((len(used), columns_of(metric, name)), np.int64)
        added = contribution(name, metric, metric.bounds[resolution], cells.totals, cells.dropped)
        _add(vector, row_of[cells.partitions], added)
        vectors[name] = vector
    sums.add_private(metric.name, view, keys, vectors)


def _add_shared(sums: ViewSums, metric: Metric, resolution: str, points: Points) -> None:
    """All views from one bounded row set: what is additive is added up from its rows, other rows are counted anew (E2)."""
    everything, bounds = tuple(d.name for d in metric.dimensions), metric.bounds[resolution]
    grid, l0 = public_grid(metric, everything), metric.l0(everything, resolution)
    cells = _bounded(metric, grid, l0, points.partitions, points)
    for view in metric.views:
        numbers = view_numbers(metric, view)[cells.partitions]
        merged = _merged(cells, numbers, metric.view_partitions(view))
        for name in names_of(metric, view):
            vector = sums.vectors[VectorKey(metric.name, view, name)]
            if is_additive(metric, name):
                _add(vector, numbers, contribution(name, metric, bounds, cells.totals, cells.dropped))
            else:
                _add(vector, merged.partitions, contribution(name, metric, bounds, merged.totals, merged.dropped))


def _merged(cells: _Cells, numbers: Int64, size: int) -> _Cells:
    """The kept rows again, added up by the partitions of a coarser view."""
    pairs, pair_of = np.unique(cells.units * size + numbers, return_inverse=True)
    totals = np.zeros((len(pairs), cells.totals.shape[1]), np.int64)
    np.add.at(totals, pair_of, cells.totals)
    dropped = np.zeros(len(pairs), np.bool_)
    dropped[pair_of[cells.dropped]] = True
    units, partitions = np.divmod(pairs, size)
    return _Cells(units, partitions, totals, dropped)
