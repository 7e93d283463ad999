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
    _consent_by_schedule(connection)


def _consent_by_schedule(connection: sa.Connection) -> None:
    """Receipts get an order that holds, windows a number that fixes their consent, and decisions lose their free text.

    Windows that wait are sealed with what is decided now. Languages and sources were free text until now, and no plan of
    before has a list of them; removed text is overwritten, not only forgotten.
    """
    connection.exec_driver_sql("PRAGMA secure_delete=ON")
    connection.exec_driver_sql(
        "CREATE TABLE receipts (id INTEGER NOT NULL CHECK (id = 1), from_ms BIGINT NOT NULL, PRIMARY KEY (id))"
    )
    connection.exec_driver_sql("INSERT INTO receipts SELECT 1, coalesce(max(received_at_ms), 0) FROM decisions")
    connection.exec_driver_sql("ALTER TABLE windows ADD COLUMN decisions_through BIGINT NOT NULL DEFAULT 0")
    connection.exec_driver_sql("UPDATE windows SET decisions_through = (SELECT coalesce(max(sequence), 0) FROM decisions)")
    connection.exec_driver_sql("UPDATE decisions SET locale = '' WHERE locale != ''")
    connection.exec_driver_sql("UPDATE decisions SET source = '' WHERE source NOT IN ('', 'erasure')")


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
