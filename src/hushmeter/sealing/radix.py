"""Sorting by small integers: numpy sorts 16-bit keys stably by radix, several times faster than wide ones.

References:
    D. Knuth: The Art of Computer Programming, volume 3 (1998), section 5.2.5: least significant digit first.
"""

from __future__ import annotations

import numpy as np

from hushmeter.model.report import Bool
from hushmeter.model.time import Int64

_DIGIT = 1 << 16


def sorted_by(units: Int64, keys: Int64, largest: int) -> Int64:
    """The order by unit, and within a unit by key; equal ones stay as they are.

    Args:
        units: int64[m], rising, from 0 on.
        keys: int64[m], from 0 to `largest`.
        largest: at most 2^32 - 1.

    Returns:
        int64[m], indices.
    """
    order = np.argsort((keys & (_DIGIT - 1)).astype(np.uint16), kind="stable")
    if largest >= _DIGIT:
        order = order[np.argsort((keys >> 16).astype(np.uint16)[order], kind="stable")]
    most = int(units[-1]) if len(units) else 0
    order = order[np.argsort((units & (_DIGIT - 1)).astype(np.uint16)[order], kind="stable")]
    if most >= _DIGIT:
        order = order[np.argsort((units >> 16).astype(np.uint16)[order], kind="stable")]
    return order


def first_of_runs(*columns: Int64) -> Bool:
    """bool[m]: whether each row of sorted columns differs from the one before it; the first one does."""
    first = np.ones(len(columns[0]), np.bool_)
    if len(first):
        np.not_equal(columns[0][1:], columns[0][:-1], out=first[1:])
        for column in columns[1:]:
            first[1:] |= column[1:] != column[:-1]
    return first
