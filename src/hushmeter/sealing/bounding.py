"""Which partitions of a view each unit keeps (P4): its own rows decide, in a keyed order of the window."""

from __future__ import annotations

import numpy as np

from hushmeter.model.plan import Metric
from hushmeter.model.report import UInt64
from hushmeter.model.time import Int64
from hushmeter.sealing.mixing import partition_order, scope_order


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


def kept(units: Int64, partitions: Int64, scopes: Int64, bases: UInt64, l0: int) -> Int64:
    """The (unit, partition) pairs that count, after bounding.

    A unit keeps one combination of unit-scoped values, the first in its keyed order, and of the partitions with it the
    first `l0`.

    Args:
        units: int64[k], rising.
        partitions: int64[k], partition numbers of the view; pairs are unique.
        scopes: int64[k], numbers of the unit-scoped values; 0 where the view has none.
        bases: uint64[u], each unit's order (see `unit_bases`).
        l0: how many partitions one unit keeps.

    Returns:
        int64[j], indices of the kept pairs, in no order that matters.

    Privacy:
        One unit is in at most `l0` pairs; other units' rows have no say (P1).
    """
    counts = np.bincount(units, minlength=len(bases))
    if (counts <= l0).all() and (scopes == 0).all():
        return np.arange(len(units))
    own = bases[units]
    order = np.lexsort((partitions, partition_order(own, partitions), scopes, scope_order(own, scopes), units))
    first = (np.cumsum(counts) - counts)[units[order]]
    rank = np.arange(len(order)) - first
    same_scope = scopes[order] == scopes[order[first]]
    chosen: Int64 = order[(rank < l0) & same_scope]
    return chosen
