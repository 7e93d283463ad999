"""The published completeness of a window says whether the service was there, and nothing about reports or clocks (R1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hushmeter import limits
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.service.context import Context
from hushmeter.testing.clock import FakeClock
from tests.service.by_hand import PLAN, H, Hand, opened, sealer_of

AT_ONCE = PLAN.replace("{lateness: 10m}", "{lateness: 0m}")


def completeness(context: Context, hour: int) -> float:
    """Of the release of an hour since the foundation."""
    start = H + hour * HOUR_MS
    ((_, release),) = context.store.releases("starts", (), "1h", start, start + HOUR_MS)
    return release.completeness


@pytest.mark.parametrize("sends", [False, True], ids=["none", "one"])
def test_one_report_changes_nothing(tmp_path: Path, sends: bool) -> None:
    """A window that had to wait for one unit's segment, while its worker went on beating, is as complete as without it."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock, AT_ONCE)
    hand, sealer = Hand(context), sealer_of(context)
    hand.decide("u")
    clock.advance(HOUR_MS - 5_000)
    while clock.now_ms() < H + HOUR_MS - 500:
        hand.segments.tick()
        clock.advance(500)
    if sends:
        hand.send("u", clock.now_ms())
    clock.advance(500)
    assert sealer.run_due() == (0 if sends else 1)
    clock.advance(2_500)
    hand.segments.tick()
    sealer.run_due()
    assert completeness(context, 0) == 1.0


@pytest.mark.parametrize(
    ("stops_ms", "expected"),
    [
        (HOUR_MS - int(limits.LEASE_S * 1_000), 1.0),
        (HOUR_MS - int(limits.LEASE_S * 1_000) - 1, 0.99),
        (30 * MINUTE_MS, 0.5),
        (30 * MINUTE_MS - int(limits.LEASE_S * 1_000) - 1, 0.49),
        (1, 0.0),
    ],
)
def test_a_worker_that_dies_counts_for_one_lease_more(tmp_path: Path, stops_ms: int, expected: float) -> None:
    """A dead worker served until its last beat and a lease; the share is rounded down to whole hundredths."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    hand = Hand(context)
    clock.set(H + stops_ms)
    hand.segments.beat()
    clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    assert sealer_of(context).run_due() == 1
    assert completeness(context, 0) == expected


def test_a_quick_restart_is_not_told(tmp_path: Path) -> None:
    """Workers that follow each other within a lease serve without a gap."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    first = Hand(context)
    clock.set(H + 20 * MINUTE_MS)
    first.segments.retire()
    clock.advance(int(limits.LEASE_S * 1_000))
    second = Hand(context)
    clock.set(H + HOUR_MS)
    second.segments.beat()
    clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    assert sealer_of(context).run_due() == 1
    assert completeness(context, 0) == 1.0
