"""What the state store owes to its database: files, several processes, the world's failures, the schema."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import resource
import sqlite3
from collections.abc import Iterator
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from hushmeter.errors import ConfigError, Failure, InvariantError, StateConflict, StorageFull, WindowClosed
from hushmeter.model.consent import Decision
from hushmeter.patience import PATIENCE_S
from hushmeter.storage.disk import Disk
from hushmeter.storage.state import database, migrations, schema
from hushmeter.storage.state.database import STATE_NAME, error_of
from hushmeter.storage.state.store import SqlStateStore
from hushmeter.testing.contracts.state_values import (
    ALL_BEGUN,
    BLOCKS,
    DEPLOYMENT,
    RHO,
    cost,
    hour,
    outcome_of,
    publish_window,
    seal_window,
)
from hushmeter.testing.state import memory_state_store

SPAWN = multiprocessing.get_context("spawn")


def url_of(directory: Path) -> str:
    """The URL of the database in a directory."""
    return database.url_of(directory / STATE_NAME)


@pytest.fixture
def store() -> Iterator[SqlStateStore]:
    """A new store in memory."""
    opened = memory_state_store()
    yield opened
    opened.close()


class TestFile:
    """What only a file has."""

    def test_reopened(self, tmp_path: Path) -> None:
        """A store that is closed and opened again holds the same."""
        store = SqlStateStore.open(url_of(tmp_path))
        store.found(DEPLOYMENT, BLOCKS)
        store.start_worker("w", 100)
        store.register_segment("w", "s", hour(0), [hour(0)])
        store.close_segment("s", 3)
        seal_window(store, hour(0))
        publish_window(store, hour(0))
        store.record_decisions([Decision(bytes(16), "tuning", True, 5)], lambda: 5)
        store.mark_scrubbed(0)

        def seen(of: SqlStateStore) -> tuple[object, ...]:
            found = of.deployment(), of.series_blocks(), of.beats(), of.segments([0]), of.windows(ALL_BEGUN)
            return (*found, *outcome_of(of, hour(0)), of.decisions_after(0))

        before = seen(store)
        store.close()
        again = SqlStateStore.open(url_of(tmp_path))
        assert seen(again) == before
        with pytest.raises(WindowClosed, match="scrubbed"):
            again.register_segment("w", "later", hour(0), [hour(0)])
        again.close()

    @pytest.mark.parametrize("file", [True, False])
    def test_a_new_store_has_todays_schema(self, tmp_path: Path, *, file: bool) -> None:
        """A new database, in a file or in memory, says that it has today's schema, also when it is opened again."""
        for _ in range(2):
            opened = database.Database.open(url_of(tmp_path) if file else "sqlite://")
            with opened.read() as connection:
                assert connection.scalar(sa.select(schema.alembic_version.c.version_num)) == str(schema.SCHEMA_VERSION)
            opened.close()

    def test_looks_see_what_other_processes_decided(self, tmp_path: Path) -> None:
        """Each look sees all that was committed before it, and leaves nothing open that a checkpoint would wait for."""
        looking, deciding = SqlStateStore.open(url_of(tmp_path)), SqlStateStore.open(url_of(tmp_path))
        for number in range(1, 4):
            deciding.record_decisions([Decision(bytes(16), "tuning", True, 5)], lambda: 5)
            assert looking.decided().newest == number
        with sqlite3.connect(tmp_path / "state.db") as connection:
            assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
        connection.close()
        deciding.close()
        # A look comes first, so that its connection is there when the file is to be the one file.
        assert looking.decided().newest == 3
        looking.settle_in_one_file()
        assert not (tmp_path / "state.db-wal").exists()
        assert looking.decided().newest == 3
        looking.close()

    def test_two_stores_on_one_file(self, tmp_path: Path) -> None:
        """What one store has committed another sees, and a reader in the middle of its pages blocks no writer."""
        one, two = SqlStateStore.open(url_of(tmp_path)), SqlStateStore.open(url_of(tmp_path))
        seal_window(one, hour(0))
        publish_window(two, hour(0))
        with pytest.raises(StateConflict):
            publish_window(one, hour(0))
        assert outcome_of(one, hour(0)) == outcome_of(two, hour(0))
        one.close()
        two.close()

    def test_durable_and_private(self, tmp_path: Path) -> None:
        """Only its account may read the database's files; commits are synchronous and the journal is a WAL."""
        store = SqlStateStore.open(url_of(tmp_path))
        with store._database.write() as connection:
            pragmas = {p: connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous")}
            assert pragmas == {"journal_mode": "wal", "synchronous": 2}
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
            assert {oct(p.stat().st_mode & 0o777) for p in tmp_path.iterdir()} == {"0o600"}
        store.close()

    @pytest.mark.parametrize(
        ("version", "way"),
        [
            (0, "hushmeter that made it"),
            (migrations.OLDEST - 1, "hushmeter that made it"),
            (schema.SCHEMA_VERSION + 1, "newer hushmeter"),
        ],
    )
    def test_other_schema(self, tmp_path: Path, version: int, way: str) -> None:
        """A store of another schema version is refused with the way on, and is left as it was."""
        SqlStateStore.open(url_of(tmp_path)).close()
        raw = sqlite3.connect(tmp_path / "state.db")
        raw.execute("UPDATE alembic_version SET version_num = ?", (str(version),))
        raw.commit()
        with pytest.raises(ConfigError, match=f"schema version {version}.*{way}"):
            SqlStateStore.open(url_of(tmp_path))
        assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [(str(version),)]
        raw.close()

    def test_unusable_files(self, tmp_path: Path) -> None:
        """What is not hushmeter's database is refused by its path: another file, database, directory, or place."""
        path = tmp_path / "state.db"
        path.write_text("not a database, but long enough that it could be one" * 100)
        with pytest.raises(ConfigError, match=r"state\.db.*state_dir"):
            SqlStateStore.open(url_of(tmp_path))
        path.unlink()
        raw = sqlite3.connect(path)
        raw.execute("CREATE TABLE mine (x)")
        raw.close()
        with pytest.raises(ConfigError, match=r"state\.db is not hushmeter's"):
            SqlStateStore.open(url_of(tmp_path))
        path.unlink()
        path.mkdir()
        with pytest.raises(ConfigError, match=r"state\.db"):
            SqlStateStore.open(url_of(tmp_path))
        with pytest.raises(ConfigError, match="missing"):
            SqlStateStore.open(f"sqlite:///{tmp_path / 'missing' / 'state.db'}")

    @pytest.mark.parametrize("url", ["postgresql://me:secret@host/db", "sqlite:///x?mode=ro", "no url"])
    def test_other_urls(self, url: str) -> None:
        """A URL of another database is refused, without its password."""
        with pytest.raises(ConfigError, match="sqlite:///PATH") as refusal:
            SqlStateStore.open(url)
        assert "secret" not in str(refusal.value)


class TestFailures:
    """What the world does to a database."""

    def test_full_disk(self, store: SqlStateStore) -> None:
        """A full disk refuses a write as a whole, reading goes on, and with room it can be tried again."""
        store.start_worker("w", 0)
        many = [Decision(bytes(16), "tuning", True, n, bytes(64)) for n in range(2_000)]
        with store._database.read() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StorageFull, match="free space"):
            store.record_decisions(many, lambda: 5)
        assert store.decisions_after(0) == (0, ())
        assert store.beats() == {"w": 0}
        with store._database.read() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1000000")
        assert store.record_decisions(many, lambda: 5) == 5
        assert store.decided().newest == 2_000

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (sqlite3.SQLITE_FULL, StorageFull),
            (sqlite3.SQLITE_IOERR_WRITE, Failure),
            (sqlite3.SQLITE_NOTADB, ConfigError),
            (sqlite3.SQLITE_CANTOPEN, ConfigError),
            (sqlite3.SQLITE_READONLY, ConfigError),
            (sqlite3.SQLITE_CORRUPT, ConfigError),
            (sqlite3.SQLITE_BUSY, Failure),
            (sqlite3.SQLITE_ERROR, Failure),
        ],
    )
    def test_codes(self, code: int, kind: type[Exception]) -> None:
        """Each of SQLite's codes becomes the error that callers can act on, with the database's name."""
        said = sqlite3.OperationalError("as SQLite says")
        said.sqlite_errorcode = code
        error = error_of(said, "x.db")
        assert type(error) is kind
        assert "as SQLite says" in str(error)
        assert "x.db" in str(error)

    @pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY])
    @pytest.mark.parametrize(
        ("number", "kind", "way"),
        [
            (errno.ENOSPC, StorageFull, "free space"),
            (errno.EDQUOT, StorageFull, "free space"),
            (errno.EROFS, Failure, "the file system is read-only"),
            (errno.EIO, Failure, "the disk cannot be read or written"),
            (errno.EMFILE, Failure, "no descriptor is left"),
        ],
    )
    def test_what_sqlite_does_not_say(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, number: int, kind: type[Exception], way: str
    ) -> None:
        """A full disk, a read-only one, one that fails and missing descriptors are told apart by asking the system."""
        said = sqlite3.OperationalError("as SQLite says")
        said.sqlite_errorcode = code
        plain = error_of(said, "x.db", tmp_path)
        assert type(plain) is (Failure if code == sqlite3.SQLITE_IOERR_WRITE else ConfigError)
        assert list(tmp_path.iterdir()) == []
        with monkeypatch.context() as patch:
            patch.setattr(Disk, "create", mock.Mock(side_effect=OSError(number, os.strerror(number))))
            error = error_of(said, "x.db", tmp_path)
        assert type(error) is kind
        assert way in str(error)
        assert "as SQLite says" in str(error)

    def test_no_descriptor_is_left(self, tmp_path: Path) -> None:
        """A process that may open no more files says so, and not that the state store cannot be used."""
        SqlStateStore.open(url_of(tmp_path)).close()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken: list[int] = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            for attempt in (lambda: SqlStateStore.existing(tmp_path), lambda: SqlStateStore.open(url_of(tmp_path))):
                with pytest.raises(Failure, match="no descriptor is left"):
                    attempt()
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_foreign_keys_hold(self, store: SqlStateStore) -> None:
        """A broken reference is a defect of ours, not a conflict; what was to be written is not in its text."""
        row = {"segment_id": "s", "worker_id": "nobody", "storage_start_ms": 0, "closed": False}
        row |= {"frames": 0, "resolutions": ""}
        with pytest.raises(InvariantError, match="FOREIGN KEY") as defect, store._database.write() as connection:
            connection.execute(sa.insert(schema.segments).values(row))
        assert "nobody" not in str(defect.value)


def _publish_when_all_are_ready(url: str, ready: Barrier, outcomes: Queue[str]) -> None:
    store = SqlStateStore.open(url)
    ready.wait(PATIENCE_S)
    try:
        publish_window(store, hour(0))
        outcomes.put("published")
    except StateConflict:
        outcomes.put("conflict")
    store.close()


def _die_while_publishing(url: str) -> None:
    store = SqlStateStore.open(url)

    def die(*arguments: Any) -> None:
        if arguments[2].startswith("INSERT INTO releases"):
            os._exit(9)

    sa.event.listen(sa.Engine, "before_cursor_execute", die)
    publish_window(store, hour(0))


class TestProcesses:
    """Several processes on one file."""

    def test_race(self, tmp_path: Path) -> None:
        """Of two processes that publish the same window exactly one wins, and it is charged once."""
        store = SqlStateStore.open(url_of(tmp_path))
        seal_window(store, hour(0))
        outcomes: Queue[str] = SPAWN.Queue()
        ready = SPAWN.Barrier(2)
        both = [SPAWN.Process(target=_publish_when_all_are_ready, args=(url_of(tmp_path), ready, outcomes)) for _ in "ab"]
        _run(both)
        assert sorted(outcomes.get(timeout=PATIENCE_S) for _ in both) == ["conflict", "published"]
        outcomes.close()
        outcomes.join_thread()
        assert cost(store) == RHO
        assert len(list(store.ledger())) == 2
        store.close()

    def test_killed(self, tmp_path: Path) -> None:
        """A process that dies between charge and release leaves neither, and holds nobody up."""
        store = SqlStateStore.open(url_of(tmp_path))
        seal_window(store, hour(0))
        before = outcome_of(store, hour(0))
        process = SPAWN.Process(target=_die_while_publishing, args=(url_of(tmp_path),))
        _run([process])
        assert process.exitcode == 9
        assert outcome_of(store, hour(0)) == before
        publish_window(store, hour(0))
        store.close()


def _run(processes: list[Any]) -> None:
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode is not None


@pytest.mark.parametrize("table", schema.METADATA.sorted_tables, ids=lambda t: t.name)
def test_schema_is_valid_for_postgresql(table: sa.Table) -> None:
    """Every table and index can be written for PostgreSQL, with 64-bit numbers."""
    dialect = postgresql.dialect()
    text = str(CreateTable(table).compile(dialect=dialect))
    assert " INTEGER" not in text.replace("id INTEGER", "")
    for index in table.indexes:
        assert str(CreateIndex(index).compile(dialect=dialect))


@pytest.mark.parametrize("view", [(), ("platform",), ("a/b", "c,d", 'e"f', "é")])
def test_view_text(view: tuple[str, ...]) -> None:
    """A view comes back from its text, whatever its dimensions are called."""
    assert schema.view_of(schema.view_text(view)) == view
