"""Consent decisions, and what is read page by page: releases and ledger. Parts of one transaction each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from hushmeter import limits
from hushmeter.errors import Failure, InvariantError, ReleaseAltered, ensure
from hushmeter.model.consent import ERASURE, Decision
from hushmeter.model.ledger import GENESIS, LedgerEntry, canonical_json
from hushmeter.model.measurement import MeasurementName, series_text
from hushmeter.model.release import Release, ReleaseKey
from hushmeter.model.ring import DecisionMark
from hushmeter.storage.state.release_payload import decode_vectors
from hushmeter.storage.state.schema import (
    checkpoints,
    decisions,
    ledger,
    receipts,
    releases,
    restores,
    view_of,
    view_text,
)

# A grant from before a restore holds for no text: a withdrawal that came after the backup is not known any more (C6).
_VOID_THROUGH = sa.select(sa.func.coalesce(sa.func.max(restores.c.decisions_through), 0)).scalar_subquery()
_DECISION = (
    decisions.c.subject,
    decisions.c.purpose,
    decisions.c.given,
    decisions.c.received_at_ms,
    sa.case((decisions.c.sequence > _VOID_THROUGH, decisions.c.text_hash), else_=sa.literal(b"")),
    decisions.c.locale,
    decisions.c.source,
)

_ENTRY = (ledger.c.sequence, ledger.c.content, ledger.c.previous_hash, ledger.c.entry_hash)


def received_at_of(connection: sa.Connection, now_ms: Callable[[], int]) -> int:
    """The receipt of what is recorded by this transaction, which holds the write lock: never before an earlier one (P8).

    Args:
        connection: inside a writing transaction: receipts, numbers and commits have one order.
        now_ms: the clock, which is asked here; it may have been set back.
    """
    return _not_before(connection, now_ms())


def decisions_before(connection: sa.Connection, cutoff_ms: int) -> int:
    """The number of the newest decision received before a cut-off that has passed; no later one is (P8)."""
    _not_before(connection, cutoff_ms)
    return newest_before(connection, cutoff_ms)


def newest_before(connection: sa.Connection, cutoff_ms: int) -> int:
    """The number of the newest decision that is recorded as received before a moment."""
    d = decisions.c
    newest = sa.select(d.sequence).where(d.received_at_ms < cutoff_ms).order_by(d.sequence.desc()).limit(1)
    return connection.scalar(newest) or 0


def _not_before(connection: sa.Connection, moment_ms: int) -> int:
    """The later of a moment and all that was told here; nothing is received before it any more."""
    from_ms = connection.scalar(sa.select(receipts.c.from_ms))
    if from_ms is None:
        connection.execute(sa.insert(receipts).values(id=1, from_ms=moment_ms))
    elif from_ms < moment_ms:
        connection.execute(sa.update(receipts).values(from_ms=moment_ms))
    return moment_ms if from_ms is None else max(from_ms, moment_ms)


def record_decisions(connection: sa.Connection, taken: Sequence[Decision], received_at_ms: int) -> None:
    """Appends decisions in their order, received at a moment that `receipt_of` told (P8)."""
    rows = [
        {
            "subject": d.subject,
            "purpose": d.purpose,
            "given": d.given,
            "received_at_ms": received_at_ms,
            "text_hash": d.text_hash,
            "locale": d.locale,
            "source": d.source,
        }
        for d in taken
    ]
    if rows:
        connection.execute(sa.insert(decisions), rows)


def decisions_after(connection: sa.Connection, sequence: int, through: int | None) -> tuple[int, tuple[Decision, ...]]:
    """The next decisions after a sequence number, up to another, in order, and the newest one's number."""
    later = sa.select(decisions.c.sequence, *_DECISION).where(decisions.c.sequence > sequence)
    if through is not None:
        later = later.where(decisions.c.sequence <= through)
    rows = connection.execute(later.order_by(decisions.c.sequence).limit(limits.DECISIONS_PER_PAGE)).all()
    newest = rows[-1].sequence if rows else newest_decision(connection) if through is None else through
    return newest, tuple(Decision(*row[1:]) for row in rows)


def decision_mark(connection: sa.Connection, sequence: int | None) -> DecisionMark:
    """A decision's number and digest, of the newest one where none is asked for; number 0 where there is none.

    The digest is over what is recorded of a decision for good, whatever else stands beside it.
    """
    d = decisions.c
    chosen = sa.select(d.sequence, d.subject, d.purpose, d.given, d.received_at_ms).order_by(d.sequence.desc()).limit(1)
    if sequence is not None:
        chosen = chosen.where(d.sequence == sequence)
    row = connection.execute(chosen).one_or_none()
    if row is None:
        return DecisionMark()
    lasting = {
        "subject": row.subject.hex(),
        "purpose": row.purpose,
        "given": row.given,
        "received_at_ms": row.received_at_ms,
    }
    return DecisionMark(row.sequence, hashlib.sha256(canonical_json(lasting).encode()).digest())


def decisions_of(connection: sa.Connection, subject: bytes) -> tuple[Decision, ...]:
    """The decisions of one unit, in order."""
    own = sa.select(*_DECISION).where(decisions.c.subject == subject).order_by(decisions.c.sequence)
    return tuple(Decision(*row) for row in connection.execute(own))


def count_decisions(connection: sa.Connection, subject: bytes) -> int:
    """How many decisions of one unit are recorded."""
    found = sa.select(sa.func.count()).select_from(decisions).where(decisions.c.subject == subject)
    return connection.scalar(found) or 0


def erased_at_ms(connection: sa.Connection, subject: bytes) -> int | None:
    """When the newest erasure of one unit was received; its withdrawals stay when its rows are gone."""
    own = sa.select(sa.func.max(decisions.c.received_at_ms)).where(decisions.c.subject == subject)
    at_ms: int | None = connection.scalar(own.where(decisions.c.source == ERASURE))
    return at_ms


def releases_page(
    connection: sa.Connection,
    metric: str,
    view: tuple[str, ...],
    resolution: str,
    *,
    after: tuple[int, int],
    to_ms: int,
    limit: int,
) -> list[tuple[int, Release]]:
    """The next releases of windows that end by `to_ms`, in time order.

    Args:
        connection: in any transaction.
        metric: whose releases.
        view: likewise.
        resolution: likewise.
        after: (window end, number) of the last one that was read.
        to_ms: the last window end.
        limit: how many at most.
    """
    end, number = after
    r = releases.c
    chosen = (
        sa.select(releases)
        .where(r.metric == metric, r.view == view_text(view), r.resolution == resolution, r.window_end_ms <= to_ms)
        .where(r.window_end_ms >= end, sa.or_(r.window_end_ms > end, r.number > number))
        .order_by(r.window_end_ms, r.number)
        .limit(limit)
    )
    return [(row.number, release_of(row)) for row in connection.execute(chosen)]


def releases_after(connection: sa.Connection, number: int, limit: int) -> list[tuple[int, Release | ReleaseAltered]]:
    """At most so many releases after a number, in order; in the place of what cannot be a release, why."""
    chosen = sa.select(releases).where(releases.c.number > number).order_by(releases.c.number).limit(limit)
    found: list[tuple[int, Release | ReleaseAltered]] = []
    for row in connection.execute(chosen):
        try:
            found.append((row.number, release_of(row)))
        except ReleaseAltered as error:
            found.append((row.number, error))
    return found


def charged(
    connection: sa.Connection, metric: str, view: tuple[str, ...], resolution: str, from_ms: int, to_ms: int
) -> list[LedgerEntry]:
    """The ledger entries of windows that end in `[from_ms, to_ms]`, in order."""
    series = [series_text(metric, view, resolution, name) for name in MeasurementName]
    of = ledger.c
    chosen = sa.select(*_ENTRY).where(of.series.in_(series), of.window_end_ms >= from_ms, of.window_end_ms <= to_ms)
    return [LedgerEntry(*row) for row in connection.execute(chosen.order_by(of.sequence))]


def checkpoint_salts(connection: sa.Connection) -> dict[int, bytes]:
    """The salts of the ledger's checkpoints, by number."""
    return {row.sequence: row.salt for row in connection.execute(sa.select(checkpoints))}


def ledger_head(connection: sa.Connection) -> tuple[int, bytes]:
    """Sequence and hash of the newest entry; 0 and `GENESIS` where there is none."""
    newest = sa.select(ledger.c.sequence, ledger.c.entry_hash).order_by(ledger.c.sequence.desc()).limit(1)
    sequence, entry_hash = connection.execute(newest).one_or_none() or (0, GENESIS)
    return sequence, entry_hash


def ledger_page(connection: sa.Connection, from_sequence: int, limit: int) -> list[LedgerEntry]:
    """At most so many ledger entries from a number on, in order."""
    chosen = sa.select(*_ENTRY).where(ledger.c.sequence >= from_sequence).order_by(ledger.c.sequence).limit(limit)
    return [LedgerEntry(*row) for row in connection.execute(chosen)]


def newest_decision(connection: sa.Connection) -> int:
    """The number of the newest decision; 0 where there is none."""
    return connection.scalar(sa.select(sa.func.max(decisions.c.sequence))) or 0


def release_of(row: Any) -> Release:
    """The inverse of what `windows.rows_of` makes of a release.

    Args:
        row: has the table's columns as attributes.

    Raises:
        ReleaseAltered: it cannot have been stored so.
    """
    try:
        key = ReleaseKey(row.plan_version, row.metric, view_of(row.view), row.resolution, row.window_start_ms)
        # A column of SQLite takes values of any type.
        texts, numbers = (key.metric, key.resolution, *key.view), (key.plan_version, key.window_start_ms, row.window_end_ms)
        ensure(all(isinstance(t, str) for t in texts) and all(isinstance(n, int) for n in numbers), "columns have types")
        vectors, keys = decode_vectors(row.payload)
        return Release(key, row.window_end_ms, row.published_at_ms, row.completeness, vectors, keys)
    except (Failure, InvariantError, TypeError, ValueError):
        text = f"release {row.number} of {row.metric} at {row.resolution} cannot be read: it was altered in the database"
        raise ReleaseAltered(text) from None
