"""The state store on a database: `StateStore`, one transaction a method.

One file a protocol, each over the one `Database` that they share:

    plans.py        `PlanStore`        deployment, plan versions, keys that were used, epochs, restores
    workers.py      `WorkerStore`      workers, when the service served, segments, scrubbed storage windows
    windows.py      `WindowStore`      release windows, releases, the ledger, kept windows
    consent.py      `ConsentStore`     decisions, receipts, erasures
    credentials.py  `CredentialStore`  credentials, the access log
    database.py                        transactions, error words, the lock: all that only SQLite has
    schema.py, migrations.py           the tables, and how those of an earlier version, in SQLite, are brought here
    release_rows.py, release_payload.py    a release as a row of its table

How one transaction spans files: a method is a transaction, and a public function whose first argument is a connection is a
part of one. The method that is called begins the transaction, and hands its connection to the parts of other files; a part
neither begins nor ends anything. One file alone writes a table. Who needs something written to a table of another file, or
a number that this transaction fixes, calls the other file's part. There are four:

    workers.newest_segment     in `begin_closing` (which segments a window waits for), in `record_decisions` (which an
                               erasure waits for)
    consent.decisions_before   in `begin_closing` (where a window's consent ends)
    consent.newest_decision    in `record_restore` (which grants are void)
    credentials.revoke_all     in `record_restore`

A publication needs no part: window, charge, releases and kept windows are all of windows.py. A backup reads every table in
one transaction of `backup`. A second database brings a class with what these files call of `Database`: `read`, `write`,
`paged`, `peek` and `close`; the five files stay as they are.
"""

from __future__ import annotations

from pathlib import Path

from hushmeter.errors import ConfigError
from hushmeter.storage import backup
from hushmeter.storage.state.consent import SqlConsent
from hushmeter.storage.state.credentials import SqlCredentials
from hushmeter.storage.state.database import STATE_NAME, Database, url_of
from hushmeter.storage.state.plans import SqlPlans
from hushmeter.storage.state.windows import SqlWindows
from hushmeter.storage.state.workers import SqlWorkers


class SqlStateStore(SqlPlans, SqlWorkers, SqlWindows, SqlConsent, SqlCredentials):
    """Everything durable but raw rows and keys; safe for several threads and processes at once.

    Whatever returned is on the disk. Every method raises `StorageFull` where there is no room and `Failure` where the
    database cannot be had; nothing has changed then.

    Args:
        database: opened, with today's schema.
    """

    @classmethod
    def open(cls, url: str) -> SqlStateStore:
        """Opens the store that a URL names; makes it where it is new.

        Args:
            url: `sqlite:///PATH`; `sqlite://` for a store in memory that ends with this object.

        Raises:
            ConfigError: the URL or its file cannot be used, or its schema has another version.
            StorageFull: there is no room for it.
        """
        return cls(Database.open(url))

    @classmethod
    def existing(cls, state_dir: Path) -> SqlStateStore:
        """Opens the store in a state directory, as a service left it or uses it; it is not brought to another schema.

        Raises:
            ConfigError: there is none, it cannot be used, or its schema has another version.
        """
        path = state_dir / STATE_NAME
        if not path.exists():
            raise ConfigError(f"{state_dir} holds no {STATE_NAME}; give the state_dir of a service")
        return cls(Database.open(url_of(path), as_it_is=True))

    def back_up(self, path: Path) -> None:
        """See `StateStore`."""
        backup.back_up(self._database, path)

    def settle_in_one_file(self) -> None:
        """Puts everything into the database's one file, so that it can be moved; nobody else may use it meanwhile."""
        self._database.settle_in_one_file()

    def close(self) -> None:
        """See `StateStore`."""
        self._database.close()
