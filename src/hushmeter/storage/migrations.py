"""Brings a state store of an earlier schema to today's, inside the transaction that opens it: all of it, or nothing.

A step makes the tables of one version out of those of the version before. It names tables and columns itself, because
`schema` says what they are today, not what they were. Nothing that a step removes can be had back, so that each says what
it removes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import sqlalchemy as sa

from hushmeter.storage import schema


def _to_8(connection: sa.Connection) -> None:
    """Version 8; see `schema`."""
    _servings_of_workers(connection)


def _servings_of_workers(connection: sa.Connection) -> None:
    """Adds `servings`: the service served while one of its workers did; removes nothing."""
    connection.exec_driver_sql(
        "CREATE TABLE servings (number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, started_at_ms BIGINT NOT NULL, "
        "seen_at_ms BIGINT NOT NULL, ended BOOLEAN NOT NULL)"
    )
    connection.exec_driver_sql("CREATE INDEX servings_by_seen ON servings (ended, seen_at_ms)")
    connection.exec_driver_sql(
        "INSERT INTO servings (started_at_ms, seen_at_ms, ended) "
        "SELECT started_at_ms, seen_at_ms, 1 FROM workers ORDER BY started_at_ms"
    )


STEPS: Final[Mapping[int, Callable[[sa.Connection], None]]] = {8: _to_8}
"""By version, the step that leads to it from the one before."""
OLDEST: Final = min(STEPS) - 1
"""Stores of earlier versions are refused."""


def migrate(connection: sa.Connection, version: int) -> None:
    """Takes every step from a version to today's.

    Args:
        connection: inside a writing transaction.
        version: of the store, `OLDEST` to `SCHEMA_VERSION`.
    """
    for following in range(version + 1, schema.SCHEMA_VERSION + 1):
        STEPS[following](connection)
    connection.execute(sa.update(schema.meta).values(schema_version=schema.SCHEMA_VERSION))
