from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from hushmeter.ingest.identity import pseudonym_of, subject_of, subjects_of, window_salt
from hushmeter.model.time import Span

KEYS = st.binary(min_size=32, max_size=32)


@given(KEYS, KEYS, st.binary(min_size=1, max_size=64))
def test_names_of_a_unit_are_keyed_hashes(deployment_key: bytes, period_key: bytes, unit_id: bytes) -> None:
    """A subject is the unit id's hash under the deployment's key, a pseudonym the subject's under the period's (P3)."""
    subject = hashlib.blake2b(unit_id, key=deployment_key, digest_size=16).digest()
    assert subject_of(deployment_key, unit_id) == subject
    assert pseudonym_of(period_key, subject) == hashlib.blake2b(subject, key=period_key, digest_size=16).digest()
    assert subjects_of(deployment_key, [unit_id, b"other", unit_id])[::2] == [subject, subject]


@given(KEYS, KEYS, st.integers(0, 2**41))
def test_each_window_has_a_secret_order_of_its_own(key: bytes, other: bytes, moment: int) -> None:
    """Sealing again meets the same order; another window, resolution or period's key has another one (P4)."""
    hour, day = (Span.parse(length).window_of(moment) for length in ("1h", "1d"))
    following = Span.parse("1h").window_of(hour.end_ms + 1)
    salts = [window_salt(key, window) for window in (hour, following, day)]
    assert salts == [window_salt(key, window) for window in (hour, following, day)]
    assert len({*salts, *(window_salt(other, window) for window in (hour, following, day))}) == (3 if key == other else 6)
    assert all(len(salt) == 16 for salt in salts)
