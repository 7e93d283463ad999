"""Backups: a state store of its own, without anything that leads to raw data (C6).

Plan, budget, windows, ledger, releases, decisions and credentials' hashes are in it. Left out are segments, workers and
erasures, which lead to rows, when the service served, kept windows, which are sealed under a period's key, the epoch in
which the state serves, and the fingerprints of keys, which may be new ones where it is restored. Rows and keys were never
in it.
"""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa

from hushmeter.errors import ConfigError
from hushmeter.ledger.entries import verify_chain
from hushmeter.storage.disk import failure_of, sync_directory
from hushmeter.storage.state import schema
from hushmeter.storage.state.database import Database, url_of
from hushmeter.storage.state.plans import SqlPlans
from hushmeter.storage.state.windows import SqlWindows

ROWS_PER_PAGE = 64
_LEFT_OUT = {
    schema.alembic_version,
    schema.epoch,
    schema.segments,
    schema.workers,
    schema.servings,
    schema.erasures,
    schema.kept_windows,
    schema.known_keys,
}


def back_up(source: Database, path: Path) -> None:
    """Writes a backup of everything that was committed when it began, whole or not at all; the store may be in use.

    Raises:
        ConfigError: the file exists, or cannot be made.
        LedgerBroken: the copied ledger does not hold.
        StorageFull, Failure: it could not be made durable.
    """
    partial = path.with_name(f"{path.name}.{os.urandom(8).hex()}.partial")
    try:
        target = Database.open(url_of(partial))
        try:
            with source.read() as reading, target.write() as writing:
                _copy(reading, writing)
            _verify(target)
            target.settle_in_one_file()
        finally:
            target.close()
        _put(partial, path)
    finally:
        for leftover in path.parent.glob(f"{partial.name}*"):
            leftover.unlink(missing_ok=True)


def _copy(reading: sa.Connection, writing: sa.Connection) -> None:
    for table in schema.METADATA.sorted_tables:
        if table in _LEFT_OUT:
            continue
        rows = reading.execution_options(yield_per=ROWS_PER_PAGE).execute(sa.select(table))
        for page in rows.mappings().partitions():
            writing.execute(sa.insert(table), [dict(row) for row in page])


def _verify(target: Database) -> None:
    if SqlPlans(target).deployment() is None:
        raise ConfigError("there is no deployment in this state yet; back it up once it has been served")
    copied = SqlWindows(target)
    verify_chain(copied.ledger(), copied.checkpoints())


def _put(partial: Path, path: Path) -> None:
    try:
        # Unlike a rename it never replaces a file.
        os.link(partial, path)
        sync_directory(path.parent)
    except FileExistsError:
        raise ConfigError(f"{path} exists; name another file, a backup is never overwritten") from None
    except OSError as error:
        raise failure_of(error, f"putting the backup {path} in its place") from None
