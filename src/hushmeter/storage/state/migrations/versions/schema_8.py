"""Consent by schedule, salted commitments behind a checkpoint; text that clients chose beside decisions is overwritten."""

from __future__ import annotations

import secrets
from typing import Final

import sqlalchemy as sa
from alembic import op

from hushmeter.ledger.checkpoint import releases_commitment
from hushmeter.ledger.entries import checkpoint_after
from hushmeter.model.ledger import LedgerEntry
from hushmeter.model.release import SALT_BYTES

revision: Final = "8"
down_revision: Final = None


def upgrade() -> None:
    """Takes the step."""
    connection = op.get_bind()
    _add_checkpoint(connection)
    _servings_of_workers(connection)
    _consent_by_schedule(connection)
    _add_serving(connection)
    _add_known_keys(connection)


def _add_checkpoint(connection: sa.Connection) -> None:
    """Entries of before salts get a checkpoint after them, from which on the ledger is public (R1).

    It removes nothing. A ledger that does not hold is refused: a checkpoint would stand for it from then on.
    """
    connection.execute(sa.text("ALTER TABLE ledger ADD COLUMN window_end_ms BIGINT NOT NULL DEFAULT 0"))
    connection.execute(sa.text("UPDATE ledger SET window_end_ms = json_extract(content, '$.window_end_ms')"))
    connection.execute(sa.text("CREATE INDEX ledger_by_series ON ledger (series, window_end_ms)"))
    connection.execute(
        sa.text(
            "CREATE TABLE checkpoints (sequence BIGINT NOT NULL, salt BLOB NOT NULL, PRIMARY KEY (sequence), "
            "FOREIGN KEY(sequence) REFERENCES ledger (sequence))"
        )
    )
    salt = secrets.token_bytes(SALT_BYTES)
    rows = connection.execute(sa.text("SELECT sequence, content, previous_hash, entry_hash FROM ledger ORDER BY sequence"))
    told = connection.execute(sa.text("SELECT number, published_at_ms, completeness FROM releases ORDER BY number"))
    deployment = connection.scalar(sa.text("SELECT deployment_id FROM deployment"))
    entries = (LedgerEntry(*row) for row in rows)
    added = checkpoint_after(str(deployment), entries, salt, releases_commitment(salt, (tuple(row) for row in told)))
    if added is None:
        return
    connection.execute(
        sa.text(
            "INSERT INTO ledger (sequence, period_start_ms, series, cap, amount, delta, content, previous_hash, "
            "entry_hash, window_end_ms) VALUES (:sequence, -1, '', 1, '0', '0', :content, :previous_hash, :entry_hash, -1)"
        ),
        {
            "sequence": added.sequence,
            "content": added.content,
            "previous_hash": added.previous_hash,
            "entry_hash": added.entry_hash,
        },
    )
    connection.execute(
        sa.text("INSERT INTO checkpoints (sequence, salt) VALUES (:sequence, :salt)"),
        {"sequence": added.sequence, "salt": salt},
    )


def _servings_of_workers(connection: sa.Connection) -> None:
    """Adds `servings`: the service served while one of its workers did; removes nothing."""
    connection.exec_driver_sql(
        "CREATE TABLE servings (number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, started_at_ms BIGINT NOT NULL, "
        "seen_at_ms BIGINT NOT NULL, ended BOOLEAN NOT NULL)"
    )
    connection.exec_driver_sql("CREATE INDEX servings_by_seen ON servings (ended, seen_at_ms)")
    connection.exec_driver_sql(
        "INSERT INTO servings (started_at_ms, seen_at_ms, ended) "
        "SELECT started_at_ms, seen_at_ms, 1 FROM workers ORDER BY started_at_ms"
    )


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


def _add_serving(connection: sa.Connection) -> None:
    """The epoch in which a state serves; it removes nothing."""
    connection.execute(
        sa.text("CREATE TABLE serving (id INTEGER NOT NULL CHECK (id = 1), epoch TEXT NOT NULL, PRIMARY KEY (id))")
    )


def _add_known_keys(connection: sa.Connection) -> None:
    """Makes room for keys' fingerprints; whoever opens the key ring next fills them in."""
    name = sa.Column("name", sa.Text, primary_key=True)
    sa.Table("known_keys", sa.MetaData(), name, sa.Column("fingerprint", sa.LargeBinary, nullable=False)).create(connection)
