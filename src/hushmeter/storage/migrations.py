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
    _add_serving(connection)


def _add_serving(connection: sa.Connection) -> None:
    """The epoch in which a state serves; it removes nothing."""
    connection.execute(
        sa.text("CREATE TABLE serving (id INTEGER NOT NULL CHECK (id = 1), epoch TEXT NOT NULL, PRIMARY KEY (id))")
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
