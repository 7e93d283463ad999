"""Which partitions of a view each unit keeps (P4): its own rows decide, in a keyed order of the window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hushmeter.model.plan import Metric
from hushmeter.model.report import UInt64
from hushmeter.model.time import Int64
from hushmeter.sealing.mixing import mix, partition_marks, partition_order, scope_marks, scope_order


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
    scopes = grid.scopes[partitions]
    if (counts <= l0).all() and (scopes == 0).all():
        return np.arange(len(units))
    own, marks, scope_mark = bases[units], grid.marks[partitions], grid.scope_marks[partitions]
    order = np.lexsort((partitions, partition_order(own, marks), scopes, scope_order(own, scope_mark), units))
    first = (np.cumsum(counts) - counts)[units[order]]
    rank = np.arange(len(order)) - first
    same_scope = scopes[order] == scopes[order[first]]
    chosen: Int64 = order[(rank < l0) & same_scope]
    return chosen
