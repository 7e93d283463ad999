"""Opens the state store's database, begins its transactions, and says in hushmeter's words what went wrong.

Everything that only SQLite has is here, but for how `schema` numbers rows and the steps of `migrations`. A writing
transaction takes the write lock at its beginning (`BEGIN IMMEDIATE`), so that what it reads cannot change before it writes,
whichever process or thread asks; readers never wait (WAL). A commit that returned is on the disk (`synchronous=FULL`).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import QueuePool

from hushmeter.errors import ConfigError, Failure, HushmeterError, InvariantError, StateConflict
from hushmeter.storage.disk import failure_of, is_the_systems, refusal_in, sync_directory
from hushmeter.storage.state import migrations, schema

K = TypeVar("K")
_T = TypeVar("_T")
STATE_NAME: Final = "state.db"
"""The database's file in a state directory."""
BUSY_TIMEOUT_S: Final = 30.0
"""How long a transaction waits for another process's write lock, and a thread for a connection."""
_MEMORY_NAME: Final = "in memory"
_WRITES: Final = "hushmeter_writes"
_IN_MEMORY: Final = (None, "", ":memory:")
_PRIMARY_CODE: Final = 0xFF
_UNUSABLE: Final = (
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_CORRUPT,
)
_UNTOLD: Final = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
"""What SQLite says of a disk that is full or read-only or fails, or where no descriptor is left: not which it is."""
_LOCKED: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_TAKEN: Final = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
# Closing any handle on a file gives up all of a process's locks on it, so no thread may open while another makes the file.
_opening = threading.Lock()


class OnDatabase:
    """A part of the state store, or the whole of it: each method is one transaction on the database that all parts share.

    Args:
        database: opened, with today's schema.
    """

    def __init__(self, database: Database) -> None:
        self._database = database


class Database:
    """One database, with transactions for readers and writers. Safe for several threads and processes.

    Args:
        engine: as `_engine_of` makes it.
        name: of the database in messages.
    """

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self._reader = engine
        self._writer = engine.execution_options(**{_WRITES: True})
        self._name = name
        self._in_file = engine.url.database is not None
        self._peeking = threading.Lock()
        self._peeks: Any = None

    @classmethod
    def open(cls, url: str, *, as_it_is: bool = False) -> Database:
        """Opens the database that a URL names, and makes file and tables where it is new.

        Args:
            url: `sqlite:///PATH`, or `sqlite://` for one that lives in memory, as long as this object.
            as_it_is: makes nothing; refuses a database that is not there.

        Raises:
            ConfigError: the URL names no SQLite database, the file cannot be used, or its schema has another version.
            StorageFull: there is no room for it.
        """
        path = _path_of(url)
        name = _MEMORY_NAME if path is None else str(path)
        with _opening:
            if path is not None and not as_it_is:
                _make_file(path)
            database = cls(_engine_of(path), name)
            try:
                if not as_it_is:
                    database._make(in_file=path is not None)
                database._ensure_todays()
            except BaseException:
                database.close()
                raise
        return database

    @classmethod
    def migrate(cls, url: str, *, tries: bool = False) -> tuple[int, tuple[tuple[int, str], ...]]:
        """Brings a database of an earlier schema to today's: all of it, or nothing. Nobody may serve it meanwhile.

        What a step removes is overwritten, also in the log of writes.

        Args:
            url: `sqlite:///PATH` of a database that is there.
            tries: takes no step; says which ones it would take.

        Returns:
            The version of before, and the steps after it, as `migrations.steps_after` has them; none where it is today's.

        Raises:
            ConfigError: the database is not hushmeter's, or there is no way from its schema to today's.
            LedgerBroken: its ledger does not hold, so that no step may stand for it.
            StateConflict: another process brought it there meanwhile.
            StorageFull, Failure: the disk refused, and nothing was changed; or the steps were taken, but what they removed
                stands in the log of writes still: to be called again.
        """
        path = _path_of(url)
        if path is None or not path.exists():
            raise ConfigError(f"there is no database {path or url}; give the state_dir of a service")
        database = cls(_engine_of(path), str(path))
        try:
            with database.read() as connection:
                version = database._version(connection)
            if not migrations.OLDEST <= version < schema.SCHEMA_VERSION:
                database._ensure_todays()
            steps = migrations.steps_after(version)
            if tries:
                return version, steps
            if steps:
                # In any other mode the pages of before would go to a file that is removed, and not overwritten.
                database._log_writes()
                with database.write() as connection:
                    if database._version(connection) != version:
                        raise StateConflict(f"{path} was brought to another schema meanwhile; nothing was changed")
                    migrations.migrate(connection, version)
            database._forget_writes()
        finally:
            database.close()
        return version, steps

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One reading transaction: everything in it sees the same state."""
        with _in_our_words(self._name), self._reader.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One writing transaction: all of it becomes durable at its end, or nothing does.

        Raises:
            StorageFull: there is no room.
            StateConflict: something is recorded already that exists only once.
            Failure: another process held the write lock for too long.
        """
        with _in_our_words(self._name), self._writer.begin() as connection:
            yield connection

    def paged(
        self, page_after: Callable[[sa.Connection, K], list[_T]], after: K, key: Callable[[_T], K], size: int
    ) -> Iterator[_T]:
        """What stands in a table, page by page; no transaction stays open between pages, however slowly they are read.

        Args:
            page_after: the next rows after a key, in its order; fewer than `size` are the last.
            after: the key before the first.
            key: of a row.
            size: of a page.
        """
        while True:
            with self.read() as connection:
                page = page_after(connection, after)
            yield from page
            if len(page) < size:
                return
            after = key(page[-1])

    def peek(self, statement: sa.Select[Any]) -> tuple[Any, ...]:
        """The one row that one statement finds, as of one moment; a transaction of its own costs many times as much.

        Args:
            statement: a constant, which is written as SQL once.
        """
        with _in_our_words(self._name), self._peek_connection() as connection:
            cursor = connection.cursor()
            row: tuple[Any, ...] = cursor.execute(_text_of(statement)).fetchone()
            # A statement that has not ended would go on seeing what it saw.
            cursor.close()
            return row

    def settle_in_one_file(self) -> None:
        """Puts everything into the one file, durably, so that it can be copied; nobody else may use it meanwhile."""
        self._end_peeks()
        with _in_our_words(self._name), contextlib.closing(self._reader.raw_connection()) as raw:
            raw.cursor().execute("PRAGMA journal_mode=DELETE").close()

    def close(self) -> None:
        """Closes every connection that is not in use."""
        self._end_peeks()
        self._reader.dispose()

    @contextlib.contextmanager
    def _peek_connection(self) -> Iterator[Any]:
        """A connection that stays out of the pool, since handing one out costs ten times what a peek does.

        A database in memory is its one connection, which threads take turns on.
        """
        if not self._in_file:
            with contextlib.closing(self._reader.raw_connection()) as raw:
                yield raw
            return
        with self._peeking:
            if self._peeks is None:
                pooled = self._reader.raw_connection()
                pooled.detach()
                self._peeks = pooled.dbapi_connection
            yield self._peeks

    def _end_peeks(self) -> None:
        with self._peeking:
            if self._peeks is not None:
                self._peeks.close()
                self._peeks = None

    def _forget_writes(self) -> None:
        """Empties the log of writes, where what a step removed stands still; raises `Failure` where somebody reads it."""
        with _in_our_words(self._name), contextlib.closing(self._reader.raw_connection()) as raw:
            cursor = raw.cursor()
            busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            cursor.close()
        if busy:
            raise Failure(
                f"{self._name} has this hushmeter's schema, but a process reads it, so that what was removed stands in its "
                "log of writes still; stop that process, and run hushmeter migrate again"
            )

    def _log_writes(self) -> None:
        """Lets writes go to a log beside the file, so that readers never wait."""
        with _in_our_words(self._name), contextlib.closing(self._reader.raw_connection()) as raw:
            raw.cursor().execute("PRAGMA journal_mode=WAL").close()

    def _make(self, *, in_file: bool) -> None:
        """Makes the tables of a new database; leaves any other as it is."""
        if in_file:
            self._log_writes()
        with self.write() as connection:
            if not sa.inspect(connection).get_table_names():
                schema.METADATA.create_all(connection)
                connection.execute(sa.insert(schema.alembic_version).values(version_num=str(schema.SCHEMA_VERSION)))

    def _version(self, connection: sa.Connection) -> int:
        version = migrations.version_of(connection)
        if version is None:
            raise ConfigError(f"the database {self._name} is not hushmeter's; choose another state_dir")
        return version

    def _ensure_todays(self) -> None:
        """Refuses a database of another schema than today's."""
        with self.read() as connection:
            version = self._version(connection)
        if version != schema.SCHEMA_VERSION:
            way = "serve it with the hushmeter that made it"
            if version > schema.SCHEMA_VERSION:
                way = "install a newer hushmeter"
            elif version >= migrations.OLDEST:
                way = "stop what serves it, and bring it there with hushmeter migrate; nothing was changed"
            raise ConfigError(
                f"the state store {self._name} has schema version {version}, this hushmeter needs "
                f"{schema.SCHEMA_VERSION}; {way}"
            )


def url_of(path: Path) -> str:
    """A SQLite file, as SQLAlchemy names it."""
    return f"sqlite:///{path.absolute()}"


def error_of(error: BaseException | None, name: str, directory: Path | None = None) -> HushmeterError:
    """What a database's error means to callers; never holds a value that was to be written.

    Args:
        error: the driver's own, which names constraints and files and no values.
        name: of the database.
        directory: that it is in, which is asked what SQLite does not say; None where it is in memory.
    """
    code, said = getattr(error, "sqlite_errorcode", 0), str(error)
    if isinstance(error, sqlite3.IntegrityError):
        if code in _TAKEN:
            return StateConflict(f"the state store {name} holds this already ({said}); nothing was changed")
        return InvariantError(f"a promise of the state store {name} would have been broken: {said}")
    refusal = _refusal_of(code & _PRIMARY_CODE, directory)
    if refusal is not None:
        return failure_of(refusal, f"using the state store {name} ({said})")
    match code & _PRIMARY_CODE:
        case primary if primary in _UNUSABLE:
            return ConfigError(
                f"cannot use the state store {name}: {said}; check that it is hushmeter's state.db and that this account "
                "may write it and its directory, restore it from a backup, or choose another state_dir"
            )
        case primary if primary in _LOCKED:
            return Failure(f"the state store {name} was locked for more than {BUSY_TIMEOUT_S:g} s: {said}; try again")
        case _:
            return Failure(f"the state store {name} failed: {said}; nothing was recorded")


def _refusal_of(code: int, directory: Path | None) -> OSError | None:
    """What the system refuses, where that is what a code of SQLite means; asked where SQLite does not say."""
    if code == sqlite3.SQLITE_FULL:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if code in _UNTOLD and directory is not None and (refusal := refusal_in(directory)) and is_the_systems(refusal):
        return refusal
    return OSError(errno.EIO, os.strerror(errno.EIO)) if code == sqlite3.SQLITE_IOERR else None


@contextlib.contextmanager
def _in_our_words(name: str) -> Iterator[None]:
    try:
        yield
    except exc.DBAPIError as error:
        raise error_of(error.orig, name, _directory_of(name)) from None
    except sqlite3.Error as error:
        raise error_of(error, name, _directory_of(name)) from None
    except exc.TimeoutError:
        raise Failure(f"no connection to the state store {name} was free for {BUSY_TIMEOUT_S:g} s; try again") from None


@functools.cache
def _text_of(statement: sa.Select[Any]) -> str:
    return str(statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))


def _directory_of(name: str) -> Path | None:
    return None if name == _MEMORY_NAME else Path(name).parent


def _path_of(url: str) -> Path | None:
    """The file that a URL names; None for a database in memory."""
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError:
        raise ConfigError("the state store's URL cannot be read; write sqlite:///PATH") from None
    if parsed.get_backend_name() != "sqlite" or parsed.query:
        shown = parsed.render_as_string(hide_password=True)
        raise ConfigError(f"no state store at {shown}: this version of hushmeter takes sqlite:///PATH alone")
    return None if parsed.database in _IN_MEMORY else Path(str(parsed.database))


def _make_file(path: Path) -> None:
    """Makes an empty file that only this account may read, unless there is one; SQLite's other files get its mode."""
    try:
        path.touch(mode=0o600, exist_ok=False)
        sync_directory(path.parent)
    except FileExistsError:
        return
    except OSError as error:
        if is_the_systems(error):
            raise failure_of(error, f"making the state store {path}") from None
        raise ConfigError(f"cannot make the state store {path}: {error.strerror}; choose another state_dir") from None


def _engine_of(path: Path | None) -> sa.Engine:
    # A database in memory is its one connection: a pool of one makes threads take turns on it.
    sizes = {"pool_size": 1, "max_overflow": 0} if path is None else {}
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=None if path is None else str(path)),
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        poolclass=QueuePool,
        pool_timeout=BUSY_TIMEOUT_S,
        hide_parameters=True,
        **sizes,
    )
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    # The driver must not begin transactions of its own: `_begin` does.
    connection.isolation_level = None
    for pragma in ("foreign_keys=ON", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
