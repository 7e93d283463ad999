"""Decisions of units and erasures that are not done, in the state store: `ConsentStore`.

This file alone writes the tables `decisions`, `receipts` and `erasures`; for transactions that span files see `store`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Final

import sqlalchemy as sa

from hushmeter import limits
from hushmeter.model.consent import ERASURE, Decision
from hushmeter.model.ledger import canonical_json
from hushmeter.model.ring import DecisionMark
from hushmeter.model.stored import Decided, Erasure
from hushmeter.storage.state import schema
from hushmeter.storage.state.database import OnDatabase
from hushmeter.storage.state.schema import decisions, erasures, receipts, restores
from hushmeter.storage.state.workers import newest_segment

# A grant from before a restore holds for no text: a withdrawal that came after the backup is not known any more (C6).
_VOID_THROUGH: Final = sa.select(sa.func.coalesce(sa.func.max(restores.c.decisions_through), 0)).scalar_subquery()
_DECISION: Final = (
    decisions.c.subject,
    decisions.c.purpose,
    decisions.c.given,
    decisions.c.received_at_ms,
    sa.case((decisions.c.sequence > _VOID_THROUGH, decisions.c.text_hash), else_=sa.literal(b"")),
    decisions.c.locale,
    decisions.c.source,
)
_DECIDED: Final = sa.select(
    sa.select(sa.func.coalesce(sa.func.max(decisions.c.sequence), 0)).scalar_subquery(),
    sa.select(sa.func.coalesce(sa.func.max(erasures.c.last_segment), 0)).scalar_subquery(),
)
"""One statement, so that both numbers are of one moment."""


class SqlConsent(OnDatabase):
    """What units have decided, and whose rows are to be removed."""

    def record_decisions(
        self, decisions: Sequence[Decision], now_ms: Callable[[], int], erased: Collection[bytes] = ()
    ) -> int:
        """See `ConsentStore`; the clock, which may have been set back, is asked under the lock: receipts rise (P8)."""
        with self._database.write() as connection:
            received_at_ms = _not_before(connection, now_ms())
            if erased:
                last_segment = newest_segment(connection)
                waiting = [{"subject": s, "at_ms": received_at_ms, "last_segment": last_segment} for s in erased]
                connection.execute(sa.insert(erasures), waiting)
            rows = [_row(decision, received_at_ms) for decision in decisions]
            if rows:
                connection.execute(sa.insert(schema.decisions), rows)
            return received_at_ms

    def decided(self) -> Decided:
        """See `ConsentStore`."""
        return Decided(*self._database.peek(_DECIDED))

    def decisions_after(self, sequence: int, through: int | None = None) -> tuple[int, tuple[Decision, ...]]:
        """See `ConsentStore`."""
        later = sa.select(decisions.c.sequence, *_DECISION).where(decisions.c.sequence > sequence)
        if through is not None:
            later = later.where(decisions.c.sequence <= through)
        with self._database.read() as connection:
            rows = connection.execute(later.order_by(decisions.c.sequence).limit(limits.DECISIONS_PER_PAGE)).all()
            newest = rows[-1].sequence if rows else newest_decision(connection) if through is None else through
            return newest, tuple(Decision(*row[1:]) for row in rows)

    def decision_mark(self, sequence: int | None = None) -> DecisionMark:
        """See `ConsentStore`; the digest is over what is recorded of a decision for good, and nothing beside it."""
        d = decisions.c
        chosen = sa.select(d.sequence, d.subject, d.purpose, d.given, d.received_at_ms).order_by(d.sequence.desc()).limit(1)
        if sequence is not None:
            chosen = chosen.where(d.sequence == sequence)
        with self._database.read() as connection:
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

    def decided_before(self, cutoff_ms: int) -> int:
        """See `ConsentStore`."""
        with self._database.read() as connection:
            return _newest_before(connection, cutoff_ms)

    def decisions_of(self, subject: bytes) -> tuple[Decision, ...]:
        """See `ConsentStore`."""
        own = sa.select(*_DECISION).where(decisions.c.subject == subject).order_by(decisions.c.sequence)
        with self._database.read() as connection:
            return tuple(Decision(*row) for row in connection.execute(own))

    def count_decisions(self, subject: bytes) -> int:
        """See `ConsentStore`."""
        found = sa.select(sa.func.count()).select_from(decisions).where(decisions.c.subject == subject)
        with self._database.read() as connection:
            return connection.scalar(found) or 0

    def erased_at_ms(self, subject: bytes) -> int | None:
        """See `ConsentStore`; withdrawals by an erasure stay when the rows are gone."""
        own = sa.select(sa.func.max(decisions.c.received_at_ms)).where(decisions.c.subject == subject)
        with self._database.read() as connection:
            at_ms: int | None = connection.scalar(own.where(decisions.c.source == ERASURE))
            return at_ms

    def erasures(self) -> tuple[Erasure, ...]:
        """See `ConsentStore`; their last segments never fall."""
        e = erasures.c
        with self._database.read() as connection:
            rows = connection.execute(sa.select(e.number, e.subject, e.at_ms, e.last_segment).order_by(e.number))
            return tuple(Erasure(*row) for row in rows)

    def end_erasures(self, through: int) -> None:
        """See `ConsentStore`."""
        with self._database.write() as connection:
            connection.execute(sa.delete(erasures).where(erasures.c.number <= through))


def decisions_before(connection: sa.Connection, cutoff_ms: int) -> int:
    """The number of the newest decision received before a cut-off that has passed; no later one is (P8).

    It is a part of a writing transaction of `windows`.
    """
    _not_before(connection, cutoff_ms)
    return _newest_before(connection, cutoff_ms)


def newest_decision(connection: sa.Connection) -> int:
    """The number of the newest decision, 0 where there is none, as a part of a transaction of `plans` too."""
    return connection.scalar(sa.select(sa.func.max(decisions.c.sequence))) or 0


def _newest_before(connection: sa.Connection, cutoff_ms: int) -> int:
    d = decisions.c
    newest = sa.select(d.sequence).where(d.received_at_ms < cutoff_ms).order_by(d.sequence.desc()).limit(1)
    return connection.scalar(newest) or 0


def _not_before(connection: sa.Connection, moment_ms: int) -> int:
    """The later of a moment and every moment that was given here before; nothing is received before it any more.

    Args:
        connection: inside a writing transaction: receipts, numbers and commits have one order.
        moment_ms: a receipt, or a cut-off.
    """
    from_ms = connection.scalar(sa.select(receipts.c.from_ms))
    if from_ms is None:
        connection.execute(sa.insert(receipts).values(id=1, from_ms=moment_ms))
    elif from_ms < moment_ms:
        connection.execute(sa.update(receipts).values(from_ms=moment_ms))
    return moment_ms if from_ms is None else max(from_ms, moment_ms)


def _row(decision: Decision, received_at_ms: int) -> dict[str, object]:
    return {
        "subject": decision.subject,
        "purpose": decision.purpose,
        "given": decision.given,
        "received_at_ms": received_at_ms,
        "text_hash": decision.text_hash,
        "locale": decision.locale,
        "source": decision.source,
    }
