"""A deployment by hand in whose hours two units have reported, and how many of a unit's rows are held."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

from hushmeter.errors import KeyGone, SegmentLost
from hushmeter.ingest.identity import pseudonym_of
from hushmeter.model.key_names import period_key
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS, Span
from hushmeter.service.deployment.context import Context
from hushmeter.testing.clock import FakeClock
from tests.service.by_hand import PLAN, H, Hand, opened

DAY_DUE = H + DAY_MS + HOUR_MS
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


def reported(state_dir: Path, hours: int = 3, plan: str = PLAN) -> tuple[Context, FakeClock, Hand]:
    """A deployment in each of whose first hours two units have reported; it is half past in the last."""
    clock = FakeClock(H)
    context = opened(state_dir, clock, plan)
    hand = Hand(context)
    hand.decide("a", "b")
    for hour in range(hours):
        clock.set(H + hour * HOUR_MS + 30 * MINUTE_MS)
        for unit, value in (("a", 3), ("b", 7)):
            assert len(hand.send(unit, clock.now_ms(), value).admitted) == 1
    return context, clock, hand
