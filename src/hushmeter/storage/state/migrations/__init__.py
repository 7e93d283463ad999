"""Brings a state store of an earlier schema to today's, inside one writing transaction: all of it, or nothing.

A step makes the tables of one version out of those of the version before, as a revision of alembic whose name is the
version. It names tables and columns itself, because `schema` says what they are today, not what they were. Nothing that a
step removes can be had back, so that the first line of each says what it removes; there is no way down.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from hushmeter.storage.state import schema

OLDEST: Final = 7
"""Stores of earlier versions are refused."""
_BEFORE_ALEMBIC: Final = 8
_OLD_TABLE: Final = "meta"
"""What said which version it was, up to that one."""


def version_of(connection: sa.Connection) -> int | None:
    """The schema's version of a store; None where the database is not hushmeter's."""
    tables = sa.inspect(connection).get_table_names()
    if _OLD_TABLE in tables:
        return int(connection.scalar(sa.text(f"SELECT schema_version FROM {_OLD_TABLE}")) or 0)  # noqa: S608
    if schema.alembic_version.name not in tables:
        return None
    # Other programs keep revisions of their own in a table of that name.
    found = connection.scalars(sa.select(schema.alembic_version.c.version_num)).all()
    return int(found[0]) if len(found) == 1 and found[0].isdecimal() else None


def steps_after(version: int) -> tuple[tuple[int, str], ...]:
    """Every step from a version to today's, in order: the version that it leads to, and what it does and removes."""
    revisions = ScriptDirectory.from_config(_config()).walk_revisions()
    steps = sorted((int(script.revision), (script.doc or "").strip()) for script in revisions)
    return tuple((to, does) for to, does in steps if to > version)


def migrate(connection: sa.Connection, version: int) -> None:
    """Takes every step from a version to today's.

    Args:
        connection: inside a writing transaction.
        version: of the store, `OLDEST` to `SCHEMA_VERSION`.
    """
    config = _config()
    config.attributes["connection"] = connection
    if version <= _BEFORE_ALEMBIC:
        command.stamp(config, str(version) if version > OLDEST else "base", purge=True)
    command.upgrade(config, str(schema.SCHEMA_VERSION))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "hushmeter.storage.state:migrations")
    config.set_main_option("path_separator", "os")
    return config
