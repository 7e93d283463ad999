"""The tables of the state store, as SQLite has them.

Types and indexes are such that PostgreSQL would take them too, which a test compiles; no store opens one.
Nothing here is a raw row, a key or a number of a tally. Privacy parameters are text where they are exact fractions; all
times are milliseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

import json
from typing import Any, Final

import sqlalchemy as sa

SCHEMA_VERSION: Final = 9
"""Raised by one whenever a table changes; `migrations` says how a store of an earlier version is brought here."""

# SQLite numbers rows by itself only where the column is declared INTEGER; its integers have 64 bits all the same.
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

METADATA: Final = sa.MetaData()


def _number(name: str, *, generated: bool = True) -> sa.Column[int]:
    """A primary key that counts from 1."""
    return sa.Column(name, _NUMBER, primary_key=True, autoincrement=generated)


def _column(name: str, kind: Any, *constraints: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, *constraints, nullable=False)


# As alembic makes it; its one row is the version.
alembic_version = sa.Table("alembic_version", METADATA, sa.Column("version_num", sa.String(32), primary_key=True))

plans = sa.Table(
    "plans",
    METADATA,
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    _column("hash", sa.Text),
    _column("text", sa.Text),
    _column("epsilon", sa.Double),
    _column("delta", sa.Double),
    _column("currency", sa.Text),
    # Exact fractions: of the currency, and of delta for partition selection.
    _column("amount", sa.Text),
    _column("selection_delta", sa.Text),
    _column("recorded_at_ms", sa.BigInteger),
    _column("active_from_ms", sa.BigInteger),
    _column("stops_from_ms", sa.BigInteger),
    # A JSON list of [name, public key, signature], both hexadecimal.
    _column("approvals", sa.Text),
)

deployment = sa.Table(
    "deployment",
    METADATA,
    # One store holds one deployment (C3): a second foundation meets this key.
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    _column("deployment_id", sa.Text),
    _column("created_at_ms", sa.BigInteger),
    # The first plan: later ones stand in `plans` alone.
    _column("plan_version", sa.BigInteger, sa.ForeignKey(plans.c.version)),
)

epoch = sa.Table(
    "serving",
    METADATA,
    # One row: the epoch in which this state serves, compared with that of the key ring's record (C7).
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    _column("epoch", sa.Text),
)

series_blocks = sa.Table(
    "series_blocks",
    METADATA,
    sa.Column("first", sa.BigInteger, primary_key=True, autoincrement=False),
    _column("size", sa.BigInteger),
    _column("metric", sa.Text),
    _column("signature", sa.Text),
    sa.UniqueConstraint("metric", "signature"),
)

workers = sa.Table(
    "workers",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    _column("beats", sa.BigInteger),
    _column("started_at_ms", sa.BigInteger),
    _column("seen_at_ms", sa.BigInteger),
    _column("retired", sa.Boolean),
    sa.Index("workers_by_retired", "retired"),
    sa.Index("workers_by_seen", "seen_at_ms"),
)

servings = sa.Table(
    "servings",
    METADATA,
    # From a start to a stop of everything that serves; one that was not ended is running, or its end was not seen.
    _number("number"),
    _column("started_at_ms", sa.BigInteger),
    _column("seen_at_ms", sa.BigInteger),
    _column("ended", sa.Boolean),
    sa.Index("servings_by_seen", "ended", "seen_at_ms"),
    sqlite_autoincrement=True,
)

segments = sa.Table(
    "segments",
    METADATA,
    _number("sequence"),
    _column("segment_id", sa.Text),
    _column("worker_id", sa.Text, sa.ForeignKey(workers.c.id)),
    _column("storage_start_ms", sa.BigInteger),
    _column("closed", sa.Boolean),
    _column("frames", sa.BigInteger),
    _column("resolutions", sa.Text),
    sa.UniqueConstraint("segment_id"),
    sa.Index("segments_by_storage_window", "storage_start_ms", "sequence"),
    sqlite_autoincrement=True,
)

windows = sa.Table(
    "windows",
    METADATA,
    sa.Column("resolution", sa.Text, primary_key=True),
    sa.Column("start_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    _column("end_ms", sa.BigInteger),
    _column("state", sa.Text),
    _column("last_segment", sa.BigInteger),
    # Its consent is the fold of the decisions up to this number (P8).
    _column("decisions_through", sa.BigInteger),
    sa.Index("windows_by_state", "state", "end_ms", "resolution"),
)

scrubbed = sa.Table(
    "scrubbed",
    METADATA,
    sa.Column("storage_start_ms", sa.BigInteger, primary_key=True, autoincrement=False),
)

releases = sa.Table(
    "releases",
    METADATA,
    _number("number"),
    _column("plan_version", sa.BigInteger),
    _column("metric", sa.Text),
    _column("view", sa.Text),
    _column("resolution", sa.Text),
    _column("window_start_ms", sa.BigInteger),
    _column("window_end_ms", sa.BigInteger),
    _column("published_at_ms", sa.BigInteger),
    _column("completeness", sa.Double),
    _column("payload", sa.LargeBinary),
    # Noise is drawn once (C4); the deployment is the store itself.
    sa.UniqueConstraint("plan_version", "metric", "view", "resolution", "window_start_ms", name="releases_drawn_once"),
    sa.ForeignKeyConstraint(["resolution", "window_start_ms"], [windows.c.resolution, windows.c.start_ms]),
    sa.Index("releases_in_time", "metric", "view", "resolution", "window_end_ms", "number"),
    sqlite_autoincrement=True,
)

ledger = sa.Table(
    "ledger",
    METADATA,
    # Numbered by hand: the chain has no gaps, which a generated number does not promise.
    _number("sequence", generated=False),
    _column("period_start_ms", sa.BigInteger),
    # What the content spends, again, for sums: see `Spending`.
    _column("series", sa.Text),
    _column("cap", sa.BigInteger),
    _column("amount", sa.Text),
    _column("delta", sa.Text),
    _column("content", sa.Text),
    _column("previous_hash", sa.LargeBinary),
    _column("entry_hash", sa.LargeBinary),
    # Of the window that was charged; releases are compared with their entries whenever they are read.
    _column("window_end_ms", sa.BigInteger),
    sa.Index("ledger_by_series", "series", "window_end_ms"),
    # Covers `spent`, which is asked at every publication.
    sa.Index("ledger_by_period", "period_start_ms", "series", "cap", "amount", "delta"),
)

checkpoints = sa.Table(
    "checkpoints",
    METADATA,
    # The salts that checkpoints of the ledger commit with; for the operator alone (R1).
    sa.Column("sequence", sa.BigInteger, sa.ForeignKey(ledger.c.sequence), primary_key=True, autoincrement=False),
    _column("salt", sa.LargeBinary),
)

decisions = sa.Table(
    "decisions",
    METADATA,
    _number("sequence"),
    _column("subject", sa.LargeBinary),
    _column("purpose", sa.Text),
    _column("given", sa.Boolean),
    _column("received_at_ms", sa.BigInteger),
    _column("text_hash", sa.LargeBinary),
    _column("locale", sa.Text),
    _column("source", sa.Text),
    sa.Index("decisions_by_subject", "subject"),
    sqlite_autoincrement=True,
)

receipts = sa.Table(
    "receipts",
    METADATA,
    # No decision is received before this moment any more: one row, from the first decision or cut-off on (P8).
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    _column("from_ms", sa.BigInteger),
)

erasures = sa.Table(
    "erasures",
    METADATA,
    # Rows that wait for their removal: gone from here once they are gone from the log (R3).
    _number("number"),
    _column("subject", sa.LargeBinary),
    _column("at_ms", sa.BigInteger),
    _column("last_segment", sa.BigInteger),
    sqlite_autoincrement=True,
)

kept_windows = sa.Table(
    "kept_windows",
    METADATA,
    # Encrypted under the period's key, in parts that every database takes.
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("resolution", sa.Text, primary_key=True),
    sa.Column("period_start_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("part", sa.BigInteger, primary_key=True, autoincrement=False),
    _column("payload", sa.LargeBinary),
)


credentials = sa.Table(
    "credentials",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    _column("name", sa.Text),
    _column("role", sa.Text),
    # A JSON list of names.
    _column("purposes", sa.Text),
    _column("secret_hash", sa.LargeBinary),
    _column("created_at_ms", sa.BigInteger),
    sa.Column("expires_at_ms", sa.BigInteger),
    sa.Column("revoked_at_ms", sa.BigInteger),
)

access_log = sa.Table(
    "access_log",
    METADATA,
    # Who asked what, when and for which purposes; append-only, and no address is in it (R2).
    _number("sequence"),
    _column("credential_id", sa.Text, sa.ForeignKey(credentials.c.id)),
    _column("what", sa.Text),
    _column("at_ms", sa.BigInteger),
    _column("purposes", sa.Text),
    _column("refused", sa.Text),
    sa.Index("access_log_by_credential", "credential_id", "sequence"),
    sqlite_autoincrement=True,
)


restores = sa.Table(
    "restores",
    METADATA,
    # Each time that this store was taken up again from a backup (C6).
    _number("number"),
    _column("at_ms", sa.BigInteger),
    _column("decisions_through", sa.BigInteger),
    # The newest ledger entry in the backup, and the newest that the keys had seen published; none where they were new.
    _column("ledger_sequence", sa.BigInteger),
    sa.Column("published_sequence", sa.BigInteger),
    sa.Column("published_hash", sa.LargeBinary),
    sqlite_autoincrement=True,
)


known_keys = sa.Table(
    "known_keys",
    METADATA,
    # Each key that was ever used, told by a fingerprint: one that is missing is not made anew.
    sa.Column("name", sa.Text, primary_key=True),
    _column("fingerprint", sa.LargeBinary),
)


def view_text(view: tuple[str, ...]) -> str:
    """A view as it is stored: a JSON list of its dimensions' names."""
    return json.dumps(list(view), ensure_ascii=False, separators=(",", ":"))


def view_of(text: str) -> tuple[str, ...]:
    """The inverse of `view_text`."""
    return tuple(json.loads(text))
