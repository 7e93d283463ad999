"""Which partitions of a view each unit keeps (P4): its own rows decide, in a keyed order of the window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hushmeter.model.plan import Metric
from hushmeter.model.report import Bool, UInt64
from hushmeter.model.time import Int64
from hushmeter.sealing.mixing import mix, partition_marks, partition_order, scope_marks, scope_order
from hushmeter.sealing.radix import first_of_runs, sorted_by


def view_numbers(metric: Metric, view: tuple[str, ...], *, scope_only: bool = False) -> Int64:
    """The view's partition number of each full partition number.

    Args:
        metric: with its dimensions in the order of partition numbers.
        view: names of dimensions, in that order.
        scope_only: number by the view's unit-scoped dimensions alone.

    Returns:
        int64[metric.partitions], mixed radix of the view's dimensions, the last one fastest.
    """
    numbers = np.zeros(1, np.int64)
    for dimension in metric.dimensions:
        size = dimension.size
        counted = dimension.name in view and (dimension.per_unit or not scope_only)
        digits = np.arange(size) if counted else np.zeros(size, np.int64)
        numbers = (numbers[:, None] * (size if counted else 1) + digits).ravel()
    return numbers


@dataclass(frozen=True, slots=True)
class Grid:
    """The partitions that some points fall into.

    Attributes:
        marks: uint64[g], what tells the partitions apart in a keyed order.
        scopes: int64[g], number of each partition's combination of unit-scoped values.
        scope_marks: uint64[g], what tells those apart.
        public: int64[g], number of each partition's public partition in the view.
        tokens: int64[g], number of each partition's token in the dictionary, 0 where all are public.
    """

    marks: UInt64
    scopes: Int64
    scope_marks: UInt64
    public: Int64
    tokens: Int64

    def __len__(self) -> int:
        return len(self.marks)


def public_grid(metric: Metric, view: tuple[str, ...]) -> Grid:
    """All partitions of a view without an open dimension, in the order of their numbers."""
    size = metric.view_partitions(view)
    scopes = np.zeros(size, np.int64)
    scopes[view_numbers(metric, view)] = view_numbers(metric, view, scope_only=True)
    numbers = np.arange(size)
    return Grid(partition_marks(numbers), scopes, scope_marks(scopes), numbers, np.zeros(size, np.int64))


def private_grid(
    metric: Metric, view: tuple[str, ...], partitions: Int64, tokens: Int64, marks: UInt64
) -> tuple[Grid, Int64]:
    """The partitions of an open view that some points fall into, and which of them each point does.

    Args:
        metric: whose view.
        view: with an open dimension.
        partitions: int64[m], full partition number of each point.
        tokens: int64[m], token number of each point; numbers rise as the bytes of tokens do.
        marks: uint64[t + 1], see `token_marks`.

    Returns:
        The grid, and int64[m]. Partitions are in the order of public number and token's bytes, so that even two with one
        mark stand in an order that other units' tokens have no say in (P1).
    """
    public = view_numbers(metric, view)[partitions]
    pairs, place = np.unique(public * len(marks) + tokens, return_inverse=True)
    public, token = np.divmod(pairs, len(marks))
    scope_of = np.zeros(metric.view_partitions(view), np.int64)
    scope_of[view_numbers(metric, view)] = view_numbers(metric, view, scope_only=True)
    scopes, scope_mark = scope_of[public], scope_marks(scope_of[public])
    opened = metric.open_dimension(view)
    if opened is not None and opened.per_unit:
        scopes = scopes * len(marks) + token
        scope_mark = mix(scope_mark + marks[token])
    return Grid(mix(partition_marks(public) + marks[token]), scopes, scope_mark, public, token), place


def kept(units: Int64, partitions: Int64, grid: Grid, bases: UInt64, l0: int) -> Int64:
    """The (unit, partition) pairs that count, after bounding.

    A unit keeps one combination of unit-scoped values, the first in its keyed order, and of the partitions with it the
    first `l0`.

    Args:
        units: int64[k], rising.
        partitions: int64[k], indices into the grid; pairs are unique.
        grid: the partitions.
        bases: uint64[u], each unit's order (see `unit_bases`).
        l0: how many partitions one unit keeps.

    Returns:
        int64[j], indices of the kept pairs, in no order that matters.

    Privacy:
        One unit is in at most `l0` pairs; other units' rows have no say (P1).
    """
    counts = np.bincount(units, minlength=len(bases))
    if (counts <= l0).all() and not grid.scopes.any():
        return np.arange(len(units))
    inside = _of_first_scope(units, partitions, grid, bases, counts)
    if inside is not None:
        counts = np.bincount(units[inside], minlength=len(bases))
    over = (counts > l0)[units]
    safe = np.flatnonzero(~over if inside is None else ~over & inside)
    crowded = np.flatnonzero(over if inside is None else over & inside)
    return np.concatenate((safe, crowded[_first(units[crowded], partitions[crowded], grid, bases, l0)]))


def _of_first_scope(units: Int64, partitions: Int64, grid: Grid, bases: UInt64, counts: Int64) -> Bool | None:
    """Which pairs are of the one combination of unit-scoped values that their unit keeps; None for all of them."""
    scopes = grid.scopes[partitions]
    if not scopes.any():
        return None
    starts = (np.cumsum(counts) - counts)[counts > 0]
    order = scope_order(bases[units], grid.scope_marks[partitions])
    smallest = np.repeat(np.minimum.reduceat(order, starts), counts[counts > 0])
    # Of two combinations with one hash the lower number counts, which no other unit has a say in.
    candidates = np.where(order == smallest, scopes, np.iinfo(np.int64).max)
    chosen: Bool = candidates == np.repeat(np.minimum.reduceat(candidates, starts), counts[counts > 0])
    return chosen


def _first(units: Int64, partitions: Int64, grid: Grid, bases: UInt64, l0: int) -> Int64:
    """The first `l0` pairs of each unit in its keyed order, where every unit has more; units rise."""
    order = partition_order(bases[units], grid.marks[partitions])
    digits = (order >> np.uint64(48)).astype(np.int64)
    place = sorted_by(units, digits, 0xFFFF)
    first = first_of_runs(units)
    starts = np.flatnonzero(first)
    rank = np.arange(len(units)) - np.repeat(starts, np.diff(np.append(starts, len(units))))
    # Where the digits of the last that is kept and of the next are the same, only whole hashes can tell.
    border = place[starts + l0 - 1], place[starts + l0]
    tied = digits[border[0]] == digits[border[1]]
    if tied.any():
        unsure = np.repeat(tied, np.diff(np.append(starts, len(units))))
        where = np.flatnonzero(unsure)
        place[where] = where[np.lexsort((partitions[where], order[where], units[where]))]
    chosen: Int64 = place[rank < l0]
    return chosen
