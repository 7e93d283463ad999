"""A fast 64-bit mixer for orders inside sealing.

The mixer need not resist anybody: any order that is a function of the unit's own data and the window's key is sound (P4).
Senders choose tokens, so tokens are marked with a keyed hash.

References:
    G. Steele, D. Lea, C. Flood: Fast Splittable Pseudorandom Number Generators (2014), the SplitMix64 finaliser.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.arrays import Int64, UInt64

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)


def mix(x: UInt64) -> UInt64:
    """Scatters 64-bit numbers over the 64-bit numbers, one to one.

    Args:
        x: uint64[n].

    Returns:
        uint64[n].
    """
    mixed = x >> _SHIFTS[0]
    mixed ^= x
    mixed *= _FIRST
    shifted = mixed >> _SHIFTS[1]
    mixed ^= shifted
    mixed *= _SECOND
    np.right_shift(mixed, _SHIFTS[2], out=shifted)
    mixed ^= shifted
    return mixed


def unit_bases(pseudonyms: UInt64, salt: bytes) -> UInt64:
    """The start of each unit's keyed order in one window (P4).

    Args:
        pseudonyms: uint64[n, 2].
        salt: 16 secret bytes of the window.

    Returns:
        uint64[n].
    """
    ensure(len(salt) == 16, f"a window's salt is 16 bytes, got {len(salt)}")
    high, low = np.frombuffer(salt, ">u8").astype(np.uint64)
    return mix(pseudonyms[:, 0] ^ high) + mix(pseudonyms[:, 1] ^ low)


def partition_marks(partitions: Int64) -> UInt64:
    """What tells the public partitions of a view apart in a keyed order.

    Args:
        partitions: int64[n], partition numbers of the view.

    Returns:
        uint64[n].
    """
    return mix((partitions + 1).astype(np.uint64))


def scope_marks(scopes: Int64) -> UInt64:
    """What tells combinations of unit-scoped values apart in a keyed order.

    Args:
        scopes: int64[n], mixed-radix numbers of the unit-scoped values.

    Returns:
        uint64[n].
    """
    return mix(scopes.astype(np.uint64) + _GOLDEN)


def token_marks(tokens: Sequence[bytes], key: bytes) -> UInt64:
    """What tells tokens apart: a hash of their bytes, whatever their number in a dictionary is.

    Args:
        tokens: n tokens.
        key: the window's salt: tokens are chosen by whoever sends them, so that without a secret two with one hash could
            be found.

    Returns:
        uint64[n + 1], the first for points without a token.
    """
    digests = b"".join(hashlib.blake2b(token, digest_size=8, key=key).digest() for token in tokens)
    return np.frombuffer(bytes(8) + digests, ">u8").astype(np.uint64)


def partition_order(bases: UInt64, marks: UInt64) -> UInt64:
    """Where each partition stands in its unit's keyed order.

    Args:
        bases: uint64[n], from `unit_bases`, one a row.
        marks: uint64[n], of the partitions.

    Returns:
        uint64[n].
    """
    return mix(bases + marks)


def scope_order(bases: UInt64, marks: UInt64) -> UInt64:
    """Where each combination of unit-scoped values stands in its unit's keyed order.

    Args:
        bases: uint64[n], from `unit_bases`, one a row.
        marks: uint64[n], of the combinations.

    Returns:
        uint64[n].
    """
    return mix(bases ^ marks)
