"""States of earlier schemas, each with its keys: units agreed, one withdrew, one was erased, the first hour is released.

Rows wait, of schema 8 in an hour whose rows are final and which is not released.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from hushmeter.storage.state.database import Database, url_of

ARCHIVES = sorted((Path(__file__).parent / "data").glob("state_of_schema_*.tar.gz"))
(OF_SCHEMA_7,) = (archive for archive in ARCHIVES if "schema_7" in archive.name)


def unpacked(archive: Path, directory: Path) -> Path:
    """The state directory of an archive, below a directory."""
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")
    return directory / "state"


def migrated(archive: Path, directory: Path) -> Path:
    """The same, once its store has been brought to today's schema."""
    state_dir = unpacked(archive, directory)
    Database.migrate(url_of(state_dir / "state.db"))
    return state_dir
