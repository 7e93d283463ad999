"""From unit ids to subjects and pseudonyms: keyed hashes, so that no unit id is ever stored (P3)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hushmeter.model.time import Window

SUBJECT_BYTES = 16


def subject_of(deployment_key: bytes, unit_id: bytes) -> bytes:
    """The 16 bytes that consent and erasure know a unit by: `BLAKE2b(deployment key, unit_id)`."""
    return subjects_of(deployment_key, (unit_id,))[0]


def subjects_of(deployment_key: bytes, unit_ids: Sequence[bytes]) -> list[bytes]:
    """The subjects of many units; see `subject_of`."""
    return _hashes(deployment_key, unit_ids)


def pseudonym_of(period_key: bytes, subject: bytes) -> bytes:
    """The 16 bytes that the log knows a unit by in one protection period: `BLAKE2b(period key, subject)`.

    **Privacy:** once the period key is destroyed, rows of two periods can no longer be joined, nor found for a unit.
    """
    return pseudonyms_of(period_key, (subject,))[0]


def pseudonyms_of(period_key: bytes, subjects: Sequence[bytes]) -> list[bytes]:
    """The pseudonyms of many subjects in one period; see `pseudonym_of`."""
    return _hashes(period_key, subjects)


def window_salt(period_key: bytes, window: Window) -> bytes:
    """The 16 secret bytes that order partitions in one window (P4); a function of key and window, so sealing repeats."""
    name = f"partition order/{window.resolution}/{window.start_ms}".encode()
    return _hashes(period_key, (name,))[0]


def _hashes(key: bytes, messages: Sequence[bytes]) -> list[bytes]:
    blake2b = hashlib.blake2b
    return [blake2b(message, key=key, digest_size=SUBJECT_BYTES).digest() for message in messages]
