"""A deployment by hand in some of whose hours units have reported, and how many of a unit's rows are held."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hushmeter.errors import KeyGone, SegmentLost
from hushmeter.ingest.identity import pseudonym_of
from hushmeter.model.key_names import period_key
from hushmeter.model.time import HOUR_MS, MINUTE_MS, Span
from hushmeter.service.deployment.context import Context
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import HOUR_DUE, PLAN, H, Hand, opened

PERIOD = Span.parse("1w")


def count(context: Context, hand: Hand, unit: str) -> dict[int, int]:
    """How many rows of a unit are held, by storage window in hours since the foundation."""
    # Where no report was taken in there is no key yet.
    key, found = context.keys.get_or_create(period_key(PERIOD.window_of(H + 1).start_ms)), Counter[int]()
    for start in context.log.storage_windows():
        for segment in context.store.segments([start]):
            with contextlib.suppress(SegmentLost, KeyGone):
                rows = context.log.rows_of(start, segment.segment_id, pseudonym_of(key, hand.subject(unit)))
                found[(start - H) // HOUR_MS] += len(rows)
    return {hour: rows for hour, rows in found.items() if rows}


def reported(
    state_dir: Path,
    values: Sequence[tuple[str, int]] = (("a", 3), ("b", 7)),
    *,
    first: int = 0,
    hours: int = 3,
    plan: str = PLAN,
) -> tuple[Context, FakeClock, Hand]:
    """A deployment in some of whose hours units have reported.

    Args:
        state_dir: of the deployment.
        values: units, which agree when the first of the hours begins, and what each reports at half past.
        first: of the hours, since the foundation.
        hours: how many; it is half past in the last.
        plan: of the deployment.
    """
    clock = FakeClock(H + first * HOUR_MS)
    context = opened(state_dir, clock, plan)
    hand = Hand(context)
    hand.decide(*dict(values))
    for hour in range(first, first + hours):
        clock.set(H + hour * HOUR_MS + 30 * MINUTE_MS)
        for unit, value in values:
            assert len(hand.send(unit, clock.now_ms(), value).admitted) == 1
    return context, clock, hand


def due(state_dir: Path, units: int, hours: int = 1) -> tuple[Context, FakeClock, Hand]:
    """A deployment in whose first hours so many units have reported their number, from 1; the last of them is due."""
    context, clock, hand = reported(state_dir, [(f"u{n}", n + 1) for n in range(units)], hours=hours)
    clock.set(HOUR_DUE + (hours - 1) * HOUR_MS)
    hand.segments.tick()
    return context, clock, hand
