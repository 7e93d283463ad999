"""From unit ids to subjects and pseudonyms: keyed hashes, so that no unit id is ever stored (P3)."""

from __future__ import annotations

import hashlib

from hushmeter.model.time import Window

SUBJECT_BYTES = 16


def subject_of(deployment_key: bytes, unit_id: bytes) -> bytes:
    """The 16 bytes that consent and erasure know a unit by: `BLAKE2b(deployment key, unit_id)`."""
    return hashlib.blake2b(unit_id, key=deployment_key, digest_size=SUBJECT_BYTES).digest()


def pseudonym_of(period_key: bytes, subject: bytes) -> bytes:
    """The 16 bytes that the log knows a unit by in one protection period: `BLAKE2b(period key, subject)`.

    **Privacy:** once the period key is destroyed, rows of two periods can no longer be joined, nor found for a unit.
    """
    return hashlib.blake2b(subject, key=period_key, digest_size=SUBJECT_BYTES).digest()


def window_salt(period_key: bytes, window: Window) -> bytes:
    """The 16 secret bytes that order partitions in one window (P4); a function of key and window, so sealing repeats."""
    name = f"partition order/{window.resolution}/{window.start_ms}".encode()
    return hashlib.blake2b(name, key=period_key, digest_size=SUBJECT_BYTES).digest()
