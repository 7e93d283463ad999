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
    _add_known_keys(connection)


def _add_known_keys(connection: sa.Connection) -> None:
    """Makes room for keys' fingerprints; whoever opens the key ring next fills them in."""
    name = sa.Column("name", sa.Text, primary_key=True)
    sa.Table("known_keys", sa.MetaData(), name, sa.Column("fingerprint", sa.LargeBinary, nullable=False)).create(connection)


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
