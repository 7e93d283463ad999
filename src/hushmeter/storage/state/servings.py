"""When the service served, in the state store. Each function is a part of one transaction."""

from __future__ import annotations

import sqlalchemy as sa

from hushmeter import limits
from hushmeter.storage.state.schema import servings

_GRACE_MS = int(limits.LEASE_S * 1_000)
_UNSEEN_MS = int(2 * limits.SERVING_MARK_S * 1_000)


def end_left(connection: sa.Connection, now_ms: int) -> None:
    """Ends what was left open: records of a service whose end nobody saw, its machine's included.

    It ends two marks after it was last marked: a mark that came late says nothing.
    """
    unseen = sa.case((servings.c.seen_at_ms + _UNSEEN_MS < now_ms, servings.c.seen_at_ms + _UNSEEN_MS), else_=now_ms)
    left = sa.update(servings).where(servings.c.ended.is_(False))
    connection.execute(left.values(ended=True, seen_at_ms=_not_before(unseen)))


def begin_serving(connection: sa.Connection, now_ms: int) -> int:
    """Records that the service serves from now on, and returns the number of that record; ends what was left open."""
    end_left(connection, now_ms)
    begun = {"started_at_ms": now_ms, "seen_at_ms": now_ms, "ended": False}
    number: int = connection.execute(sa.insert(servings).values(begun).returning(servings.c.number)).scalar_one()
    return number


def mark_serving(connection: sa.Connection, number: int, now_ms: int, *, ends: bool) -> None:
    """Records that a service is still there, or ends; one that has ended stays so."""
    open_one = sa.update(servings).where(servings.c.number == number, servings.c.ended.is_(False))
    connection.execute(open_one.values(seen_at_ms=_not_before(sa.literal(now_ms)), ended=ends))


def serving_ms(connection: sa.Connection, start_ms: int, end_ms: int) -> int:
    """The length of `(start_ms, end_ms]` in which the service served, or had stopped less than a lease before."""
    times = connection.execute(
        sa.select(servings.c.started_at_ms, servings.c.seen_at_ms, servings.c.ended)
        .where(sa.or_(servings.c.ended.is_(False), servings.c.seen_at_ms > start_ms - _GRACE_MS))
        .where(servings.c.started_at_ms < end_ms)
        .order_by(servings.c.started_at_ms)
    )
    covered, reached = 0, start_ms
    for started, seen, ended in times:
        upto = min(seen + _GRACE_MS, end_ms) if ended else end_ms
        covered += max(0, upto - max(started, reached))
        reached = max(reached, upto)
    return covered


def _not_before(moment_ms: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """The later of a moment and when a service was last seen: a clock that was set back shortens no time."""
    return sa.case((servings.c.seen_at_ms < moment_ms, moment_ms), else_=servings.c.seen_at_ms)
