"""Windows end in the order of the schedule, so that numbers of releases and of ledger entries tell nothing (R1, T3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.service.deployment.context import Context
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import PLAN, H, Hand, opened, sealer_of

TOGETHER = PLAN.replace("{lateness: 10m}", "{lateness: 1h}")
"""A day ends together with its last hour."""


def ended(context: Context) -> list[tuple[str, int]]:
    """Windows as the ledger has them, as (resolution, hours since the foundation), each once."""
    fields = [entry.fields for entry in context.store.ledger()]
    return list(dict.fromkeys((str(f["resolution"]), (int(f["window_start_ms"]) - H) // HOUR_MS) for f in fields))  # type: ignore[call-overload]


@pytest.mark.parametrize("late", [False, True], ids=["none", "one"])
def test_a_late_report_changes_no_order(tmp_path: Path, late: bool) -> None:
    """A day that waits for the segment of one late report is not overtaken by an hour that was due with it."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock, TOGETHER)
    hand, sealer = Hand(context), sealer_of(context)
    hand.decide("u")
    for hour in range(1, 25):
        clock.set(H + hour * HOUR_MS + 30 * MINUTE_MS)
        hand.segments.tick()
        sealer.run_due()
        if late and hour == 20:
            assert len(hand.send("u", H + 13 * HOUR_MS).admitted) == 1
    clock.set(H + DAY_MS + HOUR_MS)
    assert sealer.run_due() == (0 if late else 2)
    hand.segments.tick()
    sealer.run_due()
    assert ended(context) == [*(("1h", hour) for hour in range(23)), ("1d", 0), ("1h", 23)]


def test_windows_end_by_deadline_however_late_the_sealer_is(tmp_path: Path) -> None:
    """A sealer that comes back after a day and a half ends windows in the order in which one that was there would have."""
    orders = []
    for steps in (range(1, 38 * 60, 10), [38 * 60]):
        clock = FakeClock(H)
        context = opened(tmp_path / str(len(orders)), clock)
        sealer = sealer_of(context)
        for minutes in steps:
            clock.set(H + minutes * MINUTE_MS)
            sealer.run_due()
        orders.append(ended(context))
    assert orders[0] == orders[1] == [*(("1h", n) for n in range(24)), ("1d", 0), *(("1h", n) for n in range(24, 37))]
