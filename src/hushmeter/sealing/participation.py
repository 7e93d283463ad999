"""Bounded participation: which units a window keeps, and how the sets of kept windows are carried (P7).

A window is kept iff fewer than `max_windows` earlier ones of the period were. The sets are encrypted under the key of the
period, so that nobody reads them once that key is destroyed. Encryption is deterministic (SIV): sealing a window again
gives the same bytes.

References:
    RFC 5297, Synthetic Initialization Vector (SIV) Authenticated Encryption.
    DP-SQLP (arXiv 2303.18086), section 3: bounded participation on streams.
"""

from __future__ import annotations

import hashlib

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from hushmeter.errors import KeyUnavailable, ensure
from hushmeter.model.arrays import Bool, UInt64
from hushmeter.model.participation import KeptWindows
from hushmeter.model.time import Span, Window
from hushmeter.sealing.rows import places_of


def window_index(window: Window, period: Window, span: Span) -> int:
    """The number of a window in its period, from 0."""
    index, rest = divmod(window.start_ms - period.start_ms, span.length_ms)
    ensure(rest == 0 and window.start_ms >= period.start_ms, f"window {window} is not one of period {period}")
    return index


def admitted_units(units: UInt64, kept: KeptWindows, index: int, most: int) -> Bool:
    """Which units may be in a window: those that were kept in fewer than `most` earlier ones.

    Args:
        units: uint64[u, 2], rising, each once.
        kept: of the same metric, resolution and period.
        index: of the window in its period.
        most: `max_windows`.

    Returns:
        bool[u].

    Privacy:
        A function of each unit's own rows; each unit is admitted to at most `most` windows of a period.
    """
    place = places_of(units, kept.pseudonyms)
    earlier = np.append(kept.earlier(index), 0)
    admitted: Bool = earlier[place] < most
    return admitted


def encrypted(kept: KeptWindows, period_key: bytes, place: bytes) -> bytes:
    """The sets as only the holder of the period's key can read them.

    Args:
        kept: the sets.
        period_key: 32 bytes.
        place: metric, resolution and period; authenticated.
    """
    words = kept.windows.shape[1]
    rows = np.concatenate((kept.pseudonyms, kept.windows), axis=1)
    plain = words.to_bytes(4, "little") + np.ascontiguousarray(rows, "<u8").tobytes()
    return AESSIV(_key(period_key)).encrypt(plain, [place])


def decrypted(ciphertext: bytes, period_key: bytes, place: bytes) -> KeptWindows:
    """The inverse of `encrypted`.

    Raises:
        KeyUnavailable: the sets are damaged, belong elsewhere, or are another key's.
    """
    try:
        plain = AESSIV(_key(period_key)).decrypt(ciphertext, [place])
    except InvalidTag:
        raise KeyUnavailable(
            f"the kept windows of {place.decode()} are damaged or another key's; restore the state from a backup"
        ) from None
    words = int.from_bytes(plain[:4], "little")
    rows = np.frombuffer(plain, "<u8", offset=4).reshape(-1, 2 + words).astype(np.uint64)
    return KeptWindows(rows[:, :2], rows[:, 2:])


def _key(period_key: bytes) -> bytes:
    return hashlib.blake2b(key=period_key, person=b"kept windows", digest_size=64).digest()
