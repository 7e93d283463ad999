"""Signatures hold for one statement, of one kind, by one key."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from hushmeter.signatures import is_signed, public_key, sign

KEYS = st.binary(min_size=32, max_size=32)
KINDS = st.sampled_from(["receipt", "record", "approval"])


@given(KEYS, KINDS, st.binary(max_size=64))
def test_a_signature_holds(key: bytes, kind: str, content: bytes) -> None:
    """What was signed is signed."""
    assert is_signed(public_key(key), kind, content, sign(key, kind, content))


@given(KEYS, KEYS, KINDS, KINDS, st.binary(max_size=16), st.binary(max_size=16))
def test_for_nothing_else(key: bytes, other: bytes, kind: str, as_kind: str, content: bytes, as_content: bytes) -> None:
    """Another key, kind or content is not signed."""
    assume((key, kind, content) != (other, as_kind, as_content))
    assert not is_signed(public_key(other), as_kind, as_content, sign(key, kind, content))


@given(st.binary(max_size=40), st.binary(max_size=70))
def test_noise_is_no_signature(key: bytes, signature: bytes) -> None:
    """Bytes of any length are refused, not stumbled over."""
    assert not is_signed(key, "receipt", b"x", signature)
