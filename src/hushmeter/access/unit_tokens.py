"""Signed unit tokens: who holds one may report, ask and decide as that unit until it expires, and as no other.

A token is 25 bytes: the version (1), the expiry in milliseconds since the Unix epoch (8 bytes, big-endian), and a tag of
16 bytes: BLAKE2b keyed by the deployment's key `unit-tokens`, over version, expiry and unit id. Nothing of it is stored.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from hushmeter.errors import ensure

TOKEN_BYTES: Final = 25
ISSUER_KEY_NAME: Final = "unit-tokens"
_VERSION = b"\x01"
_TAG_BYTES = 16
_TAG_AT = TOKEN_BYTES - _TAG_BYTES


def issue(key: bytes, unit_id: bytes, expires_ms: int) -> bytes:
    """A token of a unit.

    Args:
        key: 32 bytes.
        unit_id: as it will be sent with reports.
        expires_ms: from then on the token is refused.
    """
    ensure(0 <= expires_ms < 2**63, f"an expiry of {expires_ms} ms is no moment")
    head = _VERSION + expires_ms.to_bytes(8, "big")
    return head + _tag(key, head, unit_id)


def is_valid(key: bytes, unit_id: bytes, token: bytes, now_ms: int) -> bool:
    """Whether a token is of this unit and has not expired; takes as long for any unit."""
    head = token[:_TAG_AT]
    fits = len(token) == TOKEN_BYTES and head[:1] == _VERSION
    genuine = hmac.compare_digest(_tag(key, head, unit_id), token[_TAG_AT:])
    return genuine and fits and int.from_bytes(head[1:], "big") > now_ms


def invalid_among(key: bytes, unit_ids: Sequence[bytes], tokens: Mapping[int, bytes], now_ms: int) -> list[int]:
    """Which of many units did not send a valid token of their own.

    Args:
        key: 32 bytes.
        unit_ids: of n reports.
        tokens: by index; a report without one is missing here.
        now_ms: the server's receipt.

    Returns:
        Indices, rising.
    """
    return [i for i, unit_id in enumerate(unit_ids) if not is_valid(key, unit_id, tokens.get(i, b""), now_ms)]


def _tag(key: bytes, head: bytes, unit_id: bytes) -> bytes:
    # Version and expiry have a fixed length, so no two pairs of head and unit id are the same message.
    return hashlib.blake2b(head + unit_id, key=key, digest_size=_TAG_BYTES, person=b"hushmeter unit").digest()
