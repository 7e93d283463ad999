"""Sorting by small integers: numpy sorts 16-bit keys stably by radix, several times faster than wide ones.

References:
    D. Knuth: The Art of Computer Programming, volume 3 (1998), section 5.2.5: least significant digit first.
"""

from __future__ import annotations

import numpy as np

from hushmeter.model.arrays import Bool, Int64, UInt64
from hushmeter.model.report import UInt16

DIGIT_BITS = 16


def sorted_by(*keys: tuple[UInt64 | UInt16 | Int64, int]) -> Int64:
    """The order by several keys, the first one most significant; equal rows stay as they are.

    Args:
        keys: at least one column, [m], each with its number of bits: its values are from 0 to 2^bits - 1.

    Returns:
        int64[m], indices.
    """
    digits = [
        (key >> key.dtype.type(shift) if shift else key).astype(np.uint16, copy=False)
        for key, bits in reversed(keys)
        for shift in range(0, max(bits, 1), DIGIT_BITS)
    ]
    order: Int64 = np.argsort(digits[0], kind="stable")
    for digit in digits[1:]:
        order = order.take(np.argsort(digit.take(order), kind="stable"))
    return order


def first_of_runs(*columns: UInt64 | Int64 | Bool) -> Bool:
    """bool[m]: whether each row of sorted columns differs from the one before it; the first one does."""
    first = np.ones(len(columns[0]), np.bool_)
    if len(first):
        np.not_equal(columns[0][1:], columns[0][:-1], out=first[1:])
        for column in columns[1:]:
            first[1:] |= column[1:] != column[:-1]
    return first
