"""Which partitions of a view each unit keeps (P4): its own points decide, in a keyed order of the window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hushmeter.model.arrays import Bool, Float64, Int64, UInt64
from hushmeter.model.plan import Metric
from hushmeter.sealing.mixing import mix, partition_marks, partition_order, scope_marks, scope_order
from hushmeter.sealing.radix import DIGIT_BITS, first_of_runs, sorted_by

_SPARE = 2
"""For each partition that a unit keeps, about so many of its points are sorted at the first attempt."""
_GRIDS_MAX = 64
_NO_ORDER, _NOT_SHORT = np.uint64(0), np.False_


def view_numbers(metric: Metric, view: tuple[str, ...], *, scope_only: bool = False) -> Int64:
    """The view's partition number of each full partition number.

    Args:
        metric: with its dimensions in the order of partition numbers.
        view: names of dimensions, in that order.
        scope_only: number by the view's unit-scoped dimensions alone.

    Returns:
        int64[metric.partitions], mixed radix of the view's dimensions, the last one fastest; read-only.
    """
    return _mixed_radix(tuple((d.size, d.name in view and (d.per_unit or not scope_only)) for d in metric.dimensions))


@lru_cache(_GRIDS_MAX)
def _mixed_radix(dimensions: tuple[tuple[int, bool], ...]) -> Int64:
    """Numbers by those dimensions alone that count, of (size, whether it counts)."""
    numbers = np.zeros(1, np.int64)
    for size, counted in dimensions:
        digits = np.arange(size) if counted else np.zeros(size, np.int64)
        numbers = (numbers[:, None] * (size if counted else 1) + digits).ravel()
    numbers.flags.writeable = False
    return numbers


@dataclass(frozen=True, slots=True)
class Grid:
    """The partitions that some points fall into.

    Attributes:
        marks: uint64[g], what tells the partitions apart in a keyed order.
        scopes: int64[g], number of each partition's combination of unit-scoped values; None where there is one alone.
        scope_marks: uint64[g], what tells those apart; or None.
    """

    marks: UInt64
    scopes: Int64 | None
    scope_marks: UInt64 | None

    def __len__(self) -> int:
        return len(self.marks)


def public_grid(metric: Metric, view: tuple[str, ...]) -> Grid:
    """All partitions of a view without an open dimension, in the order of their numbers; read-only."""
    return _public_grid(tuple((d.size, d.per_unit) for d in metric.view_dimensions(view)))


@lru_cache(_GRIDS_MAX)
def _public_grid(dimensions: tuple[tuple[int, bool], ...]) -> Grid:
    """The grid of dimensions, of (size, whether a unit has one value alone)."""
    marks = partition_marks(np.arange(math.prod(size for size, _ in dimensions)))
    marks.flags.writeable = False
    scopes = _mixed_radix(dimensions)
    if not scopes.any():
        return Grid(marks, None, None)
    of_scopes = scope_marks(scopes)
    of_scopes.flags.writeable = False
    return Grid(marks, scopes, of_scopes)


@dataclass(frozen=True, slots=True)
class PrivatePartitions:
    """The private partitions that some points fall into, in the order of public number and token's bytes.

    Attributes:
        public: int64[g], number of each one's public partition in the view.
        tokens: int64[g], number of each one's token in the dictionary.
        grid: of them.
        numbers: int64[m], which of them each point falls into.
    """

    public: Int64
    tokens: Int64
    grid: Grid
    numbers: Int64


def private_partitions(
    metric: Metric, view: tuple[str, ...], partitions: Int64, tokens: Int64, marks: UInt64
) -> PrivatePartitions:
    """The partitions of an open view that some points fall into.

    Other units' tokens have no say in the order of a unit's partitions, even where two tokens have one mark (P1).

    Args:
        metric: whose view.
        view: with an open dimension.
        partitions: int64[m], full partition number of each point.
        tokens: int64[m], token number of each point; numbers rise as the bytes of tokens do.
        marks: uint64[t + 1], see `token_marks`.
    """
    public = view_numbers(metric, view)[partitions]
    pairs, place = np.unique(public * len(marks) + tokens, return_inverse=True)
    public, token = np.divmod(pairs, len(marks))
    of_view = _mixed_radix(tuple((d.size, d.per_unit) for d in metric.view_dimensions(view)))
    scopes, scope_mark = of_view[public], scope_marks(of_view[public])
    opened = metric.open_dimension(view)
    if opened is not None and opened.per_unit:
        scopes = scopes * len(marks) + token
        scope_mark = mix(scope_mark + marks[token])
    scoped = any(d.per_unit for d in metric.view_dimensions(view))
    order = mix(partition_marks(public) + marks[token])
    grid = Grid(order, scopes if scoped else None, scope_mark if scoped else None)
    return PrivatePartitions(public, token, grid, place)


@dataclass(frozen=True, slots=True)
class Kept:
    """What counts of some points: k (unit, partition) pairs, by unit and in its keyed order, and the points in each.

    Attributes:
        units, partitions: int64[k], no pair twice.
        points: int64[j], indices of the points, pair by pair.
        pairs: int64[j], which pair each of them is in.
        dropped: bool[u], of which units something was left out.
    """

    units: Int64
    partitions: Int64
    points: Int64
    pairs: Int64
    dropped: Bool


def kept(units: Int64, partitions: Int64, grid: Grid, bases: UInt64, l0: int) -> Kept:
    """The pairs that count: of each unit one combination of unit-scoped values, and with it at most `l0` partitions.

    The combination and the partitions that count are the first ones in the unit's keyed order.

    Args:
        units: int64[m], each point's unit; `len(bases)`, in a grid without unit-scoped values, where it counts nowhere.
        partitions: int64[m], indices into the grid.
        grid: the partitions.
        bases: uint64[u], each unit's order (see `unit_bases`).
        l0: how many partitions one unit keeps.

    Privacy:
        One unit is in at most `l0` pairs; other units' points have no say (P1).
    """
    nowhere = len(bases)
    counts = np.bincount(units, minlength=nowhere)
    some_count_nowhere, counts = len(counts) > nowhere, counts[:nowhere]
    inside, scoped = None, counts
    if grid.scopes is not None and grid.scope_marks is not None:
        inside = _of_first_scope(units, grid.scopes[partitions], grid.scope_marks[partitions], bases)
        units, partitions = units.take(inside), partitions.take(inside)
        scoped = np.bincount(units, minlength=len(bases))
    all_bases = np.append(bases, _NO_ORDER) if some_count_nowhere else bases
    order = partition_order(all_bases.take(units), grid.marks.take(partitions))
    # Sorting costs most. So at first only those points are sorted that lie in the first share of their unit's order. A
    # unit that has too few partitions there has all its points sorted. Either way a unit keeps the first partitions of
    # its order.
    share = np.minimum(1.0, _SPARE * l0 / np.maximum(scoped, 1))
    pairs = _first_pairs(_below(order, units, share), units, share, order, partitions, l0)
    short = (share < 1.0) & (pairs.had < l0)
    if short.any():
        again = np.flatnonzero((np.append(short, _NOT_SHORT) if some_count_nowhere else short).take(units))
        pairs = pairs.replaced(short, _first_pairs(again, units, np.ones(len(share)), order, partitions, l0))
    points = pairs.points if inside is None else inside.take(pairs.points)
    dropped = (scoped < counts) | (pairs.had > l0) | (pairs.sorted < scoped)
    return Kept(pairs.units, pairs.partitions, points, pairs.pairs, dropped)


def _of_first_scope(units: Int64, scopes: Int64, marks: UInt64, bases: UInt64) -> Int64:
    """Which points are of the one combination of unit-scoped values that their unit keeps; indices, rising."""
    order = scope_order(bases.take(units), marks)
    smallest = np.full(len(bases), np.iinfo(np.uint64).max)
    np.minimum.at(smallest, units, order)
    # Where two combinations have one hash, the one with the lower number counts: no other unit has a say in that.
    candidates = np.flatnonzero(order == smallest.take(units))
    lowest = np.full(len(bases), np.iinfo(np.int64).max)
    np.minimum.at(lowest, units[candidates], scopes[candidates])
    chosen: Int64 = candidates[scopes[candidates] == lowest[units[candidates]]]
    return chosen


def _below(order: UInt64, units: Int64, share: Float64) -> Int64:
    """The points in the first share of their unit's order, as rising indices; none of them counts nowhere."""
    limited = share < 1.0
    if not limited.any():
        return np.flatnonzero(units < len(share))
    limits = np.full(len(share) + 1, np.iinfo(np.uint64).max)
    limits[:-1][limited] = np.ldexp(share[limited], 64).astype(np.uint64)
    limits[-1] = 0
    below = np.flatnonzero(order <= limits.take(units))
    # The limit of points that count nowhere is 0, so those of them whose hash is 0 were found as well.
    return below if order.all() else below.compress(units.take(below) < len(share))


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The first pairs among those points that were sorted.

    Attributes:
        units, partitions, points, pairs: see `Kept`.
        had: int64[u], how many pairs each unit had among them.
        sorted: int64[u], how many of its points were sorted.
    """

    units: Int64
    partitions: Int64
    points: Int64
    pairs: Int64
    had: Int64
    sorted: Int64

    def replaced(self, units: Bool, other: _Pairs) -> _Pairs:
        """The same with other pairs for some units."""
        mine = ~units.take(self.units)
        numbers, stay = np.cumsum(mine) - 1, mine.take(self.pairs)
        count = np.count_nonzero(mine)
        return _Pairs(
            np.concatenate((self.units.compress(mine), other.units)),
            np.concatenate((self.partitions.compress(mine), other.partitions)),
            np.concatenate((self.points.compress(stay), other.points)),
            np.concatenate((numbers.take(self.pairs.compress(stay)), other.pairs + count)),
            np.where(units, other.had, self.had),
            np.where(units, other.sorted, self.sorted),
        )


def _first_pairs(points: Int64, units: Int64, share: Float64, order: UInt64, partitions: Int64, l0: int) -> _Pairs:
    """Sorts some points by unit and keyed order, and takes each unit's first `l0` pairs.

    Args:
        points: int64[j], indices of the points.
        units: int64[m], of all points.
        share: float64[u], no point of a unit is beyond this share of its order.
        order: uint64[m], of all points.
        partitions: int64[m], of all points.
        l0: how many pairs a unit keeps.
    """
    units, order, partitions = units.take(points), order.take(points), partitions.take(points)
    # A unit's share fixes the leading bits of its hashes. The digit is the 16 bits after them.
    leading = np.floor(-np.log2(share)).astype(np.uint64)
    digits = order << leading.take(units) if leading.any() else order
    digits = digits >> np.uint64(64 - DIGIT_BITS)
    place = sorted_by((units, (len(share) - 1).bit_length()), (digits, DIGIT_BITS))
    counts = np.bincount(units, minlength=len(share))
    keys, partitions = (units << DIGIT_BITS | digits.view(np.int64)).take(place), partitions.take(place)
    runs, changes = first_of_runs(keys), first_of_runs(partitions)
    tied = np.flatnonzero(changes & ~runs)
    if len(tied):
        _order_ties(tied, np.flatnonzero(runs), place, order, partitions)
        changes = first_of_runs(partitions)
    begins = np.logical_or(runs, changes, out=runs)
    starts, pairs = np.flatnonzero(begins), np.cumsum(begins) - 1
    of_pairs = keys.take(starts) >> DIGIT_BITS
    had = np.bincount(of_pairs, minlength=len(share))
    first = np.arange(len(starts)) - np.repeat(np.cumsum(had) - had, had) < l0
    if not first.all():
        kept = first.take(pairs)
        place, pairs = place.compress(kept), (np.cumsum(first) - 1).take(pairs.compress(kept))
        starts, of_pairs = starts.compress(first), of_pairs.compress(first)
    return _Pairs(of_pairs, partitions.take(starts), points.take(place), pairs, had, counts)


def _order_ties(tied: Int64, starts: Int64, place: Int64, order: UInt64, partitions: Int64) -> None:
    """Sorts runs of equal digits that hold several partitions by whole hashes and then by number, in place.

    Args:
        tied: int64[t], where a run's partition is not the one before.
        starts: int64[r], where runs begin.
        place: int64[j], what is sorted: indices into `order`.
        order: uint64[j], hashes.
        partitions: int64[j], as they are sorted.
    """
    run = np.unique(np.searchsorted(starts, tied) - 1)
    first, after = starts[run], np.append(starts, len(place))[run + 1]
    where = np.repeat(first - np.cumsum(after - first) + (after - first), after - first) + np.arange((after - first).sum())
    mixed, named = place[where], partitions[where]
    by = np.lexsort((named, order[mixed], np.repeat(run, after - first)))
    place[where], partitions[where] = mixed[by], named[by]
