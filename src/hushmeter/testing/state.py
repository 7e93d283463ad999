"""A state store in memory: the real one, on SQLite's in-memory database, so that there is nothing to keep in step."""

from __future__ import annotations

from hushmeter.storage.state.store import SqlStateStore


def memory_state_store() -> SqlStateStore:
    """A new, empty state store that ends with its last reference; threads may share it and take turns."""
    return SqlStateStore.open("sqlite://")
