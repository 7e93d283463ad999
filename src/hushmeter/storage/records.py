"""Consent decisions, and what is read page by page: releases and ledger. Parts of one transaction each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from hushmeter import limits
from hushmeter.consent.register import ConsentRegister
from hushmeter.errors import ConsentWithdrawn
from hushmeter.model.consent import Decision
from hushmeter.model.ledger import GENESIS, LedgerEntry, LedgerMark
from hushmeter.model.release import Release, ReleaseKey
from hushmeter.model.time import Window
from hushmeter.ports import Restore
from hushmeter.storage.release_payload import decode_vectors
from hushmeter.storage.schema import credentials, decisions, known_keys, ledger, releases, restores, view_of, view_text

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


def record_decisions(connection: sa.Connection, taken: Sequence[Decision]) -> int:
    """Appends decisions in their order and returns the newest sequence number (P8)."""
    rows = [
        {
            "subject": d.subject,
            "purpose": d.purpose,
            "given": d.given,
            "received_at_ms": d.received_at_ms,
            "text_hash": d.text_hash,
            "locale": d.locale,
            "source": d.source,
        }
        for d in taken
    ]
    if rows:
        connection.execute(sa.insert(decisions), rows)
    return _newest_decision(connection)


def decisions_after(connection: sa.Connection, sequence: int) -> tuple[int, tuple[Decision, ...]]:
    """The next decisions after a sequence number, in order, and the newest one's number."""
    later = sa.select(decisions.c.sequence, *_DECISION).where(decisions.c.sequence > sequence)
    rows = connection.execute(later.order_by(decisions.c.sequence).limit(limits.DECISIONS_PER_PAGE)).all()
    newest = rows[-1].sequence if rows else _newest_decision(connection)
    return newest, tuple(Decision(*row[1:]) for row in rows)


def count_decisions(connection: sa.Connection, subject: bytes) -> int:
    """How many decisions of one unit are recorded."""
    found = sa.select(sa.func.count()).select_from(decisions).where(decisions.c.subject == subject)
    return connection.scalar(found) or 0


def record_restore(connection: sa.Connection, made: Restore) -> None:
    """Records that the store was taken up again; earlier grants and credentials do not count from then on (C6, P8)."""
    row = {
        "at_ms": made.at_ms,
        "decisions_through": _newest_decision(connection),
        "ledger_sequence": made.ledger_sequence,
        "published_sequence": None if made.published is None else made.published.sequence,
        "published_hash": None if made.published is None else made.published.entry_hash,
    }
    connection.execute(sa.insert(restores).values(row))
    valid = sa.update(credentials).where(credentials.c.revoked_at_ms.is_(None))
    connection.execute(valid.values(revoked_at_ms=made.at_ms))


def restores_of(connection: sa.Connection, deployment_id: str) -> tuple[Restore, ...]:
    """Every restore, in order."""
    rows = connection.execute(sa.select(restores).order_by(restores.c.number))
    return tuple(
        Restore(
            row.at_ms,
            row.ledger_sequence,
            LedgerMark(deployment_id, row.published_sequence, row.published_hash) if row.published_hash else None,
        )
        for row in rows
    )


def ensure_still_given(connection: sa.Connection, window: Window, consent: ConsentRegister) -> None:
    """No unit of a window has taken consent back since it was sealed with `consent` (P8).

    Args:
        connection: inside the writing transaction that publishes: no decision can come between.
        window: that is published.
        consent: what it was sealed with.

    Raises:
        ConsentWithdrawn: one may have.
    """
    sequence, full = consent.sequence, True
    while full:
        sequence, later = decisions_after(connection, sequence)
        if consent.loses(later, window.end_ms):
            raise ConsentWithdrawn(
                f"consent was withdrawn while window {window} was sealed; it must be sealed again without it"
            )
        full = len(later) == limits.DECISIONS_PER_PAGE


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
    return [(row.number, _release(row)) for row in connection.execute(chosen)]


def ledger_head(connection: sa.Connection) -> tuple[int, bytes]:
    """Sequence and hash of the newest entry; 0 and `GENESIS` where there is none."""
    newest = sa.select(ledger.c.sequence, ledger.c.entry_hash).order_by(ledger.c.sequence.desc()).limit(1)
    sequence, entry_hash = connection.execute(newest).one_or_none() or (0, GENESIS)
    return sequence, entry_hash


def ledger_page(connection: sa.Connection, from_sequence: int, limit: int) -> list[LedgerEntry]:
    """At most so many ledger entries from a number on, in order."""
    fields = (ledger.c.sequence, ledger.c.content, ledger.c.previous_hash, ledger.c.entry_hash)
    chosen = sa.select(*fields).where(ledger.c.sequence >= from_sequence).order_by(ledger.c.sequence).limit(limit)
    return [LedgerEntry(*row) for row in connection.execute(chosen)]


def _newest_decision(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.max(decisions.c.sequence))) or 0


def _release(row: sa.Row[Any]) -> Release:
    key = ReleaseKey(row.plan_version, row.metric, view_of(row.view), row.resolution, row.window_start_ms)
    vectors, keys = decode_vectors(row.payload)
    return Release(key, row.window_end_ms, row.published_at_ms, row.completeness, vectors, keys)


def key_fingerprint(connection: sa.Connection, name: str) -> bytes | None:
    """The fingerprint of a key that has been used."""
    found: bytes | None = connection.scalar(sa.select(known_keys.c.fingerprint).where(known_keys.c.name == name))
    return found


def record_key(connection: sa.Connection, name: str, fingerprint: bytes) -> bytes:
    """Records a key's fingerprint unless there is one, and returns which one is recorded."""
    known = key_fingerprint(connection, name)
    if known is None:
        connection.execute(sa.insert(known_keys).values(name=name, fingerprint=fingerprint))
    return known or fingerprint


def knows_keys(connection: sa.Connection) -> bool:
    """Whether any key has been recorded."""
    return connection.scalar(sa.select(known_keys.c.name).limit(1)) is not None
