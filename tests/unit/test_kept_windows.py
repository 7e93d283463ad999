"""How the sets of kept windows are written down: for the holder of the period's key, in one place, the same every time."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from hushmeter.errors import InvariantError, KeyUnavailable
from hushmeter.model.participation import KeptWindows
from hushmeter.model.time import Span, Window
from hushmeter.sealing.participation import decrypted, encrypted, window_index

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
PLACE, OTHER_PLACE = b"calls/1h/2026-03-02", b"calls/1h/2026-03-09"
UNITS = np.array([[1, 2], [2**64 - 1, 0]], np.uint64)
KEPT = KeptWindows.none(168).keeping(UNITS, 3).keeping(UNITS[:1], 130)
"""Two units of a week of hours, whose sets have three words."""
PLAIN = (
    (3).to_bytes(4, "little")
    + b"".join(n.to_bytes(8, "little") for n in (1, 2, 2**3, 0, 2**2))
    + b"".join(n.to_bytes(8, "little") for n in (2**64 - 1, 0, 2**3, 0, 0))
)
"""What is encrypted: the number of words, and then a row a unit, of pseudonym and words."""


def cipher(period_key: bytes) -> AESSIV:
    return AESSIV(hashlib.blake2b(key=period_key, person=b"kept windows", digest_size=64).digest())


def test_kept_windows_are_encrypted_under_the_period_s_key_for_their_place() -> None:
    """The bytes are those of AES-SIV under a key of 512 bits, derived from the period's, with the place beside them."""
    assert encrypted(KEPT, KEY, PLACE) == cipher(KEY).encrypt(PLAIN, [PLACE])


def test_kept_windows_come_back_as_they_were() -> None:
    """Pseudonyms and sets come back, of several units, of one and of none, with as many words as the period needs."""
    for kept in (KEPT, KeptWindows.none(1).keeping(UNITS[1:], 0), KeptWindows.none(168)):
        found = decrypted(encrypted(kept, KEY, PLACE), KEY, PLACE)
        assert found.pseudonyms.dtype == found.windows.dtype == np.uint64
        np.testing.assert_array_equal(found.pseudonyms, kept.pseudonyms, strict=True)
        np.testing.assert_array_equal(found.windows, kept.windows, strict=True)


def test_kept_windows_of_before_can_be_read() -> None:
    """What an earlier hushmeter wrote in these bytes is read as these sets."""
    found = decrypted(cipher(KEY).encrypt(PLAIN, [PLACE]), KEY, PLACE)
    assert found.windows_of((1).to_bytes(8, "big") + (2).to_bytes(8, "big")) == {3, 130}
    assert found.windows_of(b"\xff" * 8 + bytes(8)) == {3}


@pytest.mark.parametrize(("key", "place"), [(OTHER_KEY, PLACE), (KEY, OTHER_PLACE)], ids=["key", "place"])
def test_kept_windows_of_another_key_or_place_are_refused(key: bytes, place: bytes) -> None:
    """Sets of another period's key, or of another metric, resolution or period, are not read, and the text says whose."""
    told = f"the kept windows of {place.decode()} are damaged or another key's; restore the state from a backup"
    with pytest.raises(KeyUnavailable, match=f"^{re.escape(told)}$"):
        decrypted(encrypted(KEPT, KEY, PLACE), key, place)


@pytest.mark.parametrize("at", [0, 20, -1])
def test_damaged_kept_windows_are_refused(at: int) -> None:
    """One bit that changed anywhere is found."""
    damaged = bytearray(encrypted(KEPT, KEY, PLACE))
    damaged[at] ^= 1
    with pytest.raises(KeyUnavailable, match="are damaged or another key's"):
        decrypted(bytes(damaged), KEY, PLACE)


def test_windows_are_numbered_from_their_period_s_start() -> None:
    """The first window of a period is number 0, and a window before the period or between two windows has no number."""
    span = Span.parse("1h")
    period = Span.parse("1w").window_of(1_772_500_000_000)
    first = span.window_from(period.start_ms)
    assert window_index(first, period, span) == 0
    assert window_index(span.window_from(period.end_ms - span.length_ms), period, span) == 167
    for start in (period.start_ms - span.length_ms, period.start_ms + 1):
        with pytest.raises(InvariantError):
            window_index(Window("1h", start, start + span.length_ms), period, span)
