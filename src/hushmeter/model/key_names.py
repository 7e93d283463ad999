"""The names of keys that are of a time: a key ring keeps each of its keys by name, see `hushmeter.ports.Keys`."""

from __future__ import annotations


def period_key(period_start_ms: int) -> str:
    """The name of the key that units have pseudonyms under in one protection period (P3)."""
    return f"period/{period_start_ms}"


def data_key(storage_start_ms: int) -> str:
    """The name of the key that the rows of one storage window are encrypted with."""
    return f"data/{storage_start_ms}"
