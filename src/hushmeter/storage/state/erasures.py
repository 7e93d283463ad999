"""Erasures that are not done, in the state store. Each function is a part of one transaction."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from hushmeter.model.stored import Erasure
from hushmeter.storage.state.schema import erasures
from hushmeter.storage.state.workers import newest_segment


def record_erasures(connection: sa.Connection, erased: Collection[bytes], at_ms: int) -> None:
    """Records that rows of some subjects are to be removed from every segment that is registered now (R3)."""
    if not erased:
        return
    last_segment = newest_segment(connection)
    rows = [{"subject": s, "at_ms": at_ms, "last_segment": last_segment} for s in erased]
    connection.execute(sa.insert(erasures), rows)


def pending(connection: sa.Connection) -> tuple[Erasure, ...]:
    """Erasures that are not done, in order; their last segments never fall."""
    e = erasures.c
    rows = connection.execute(sa.select(e.number, e.subject, e.at_ms, e.last_segment).order_by(e.number))
    return tuple(Erasure(*row) for row in rows)


def end_erasures(connection: sa.Connection, through: int) -> None:
    """Forgets erasures up to a number."""
    connection.execute(sa.delete(erasures).where(erasures.c.number <= through))
