"""A start whose clock cannot be right closes nothing before somebody has looked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hushmeter.clock import JUMP_MS
from hushmeter.errors import StateConflict
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS, iso
from hushmeter.service.deployment.clock_check import GAP_MAX_MS, ensure_clock, newest_moment_ms
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import H, Hand, opened, sealer_of, windows

STOPPED = H + 5 * HOUR_MS


def stopped(state_dir: Path) -> FakeClock:
    """A service was stopped in good order."""
    clock = FakeClock(H)
    context = opened(state_dir, clock)
    hand = Hand(context)
    clock.set(STOPPED)
    hand.segments.retire()
    sealer_of(context).run_due()
    context.store.close()
    return clock


@pytest.mark.parametrize("away_ms", [-JUMP_MS, 0, GAP_MAX_MS])
def test_a_clock_that_may_be_right_is_believed(tmp_path: Path, away_ms: int) -> None:
    """A service may have been off for some hours, and a clock may be set back a little."""
    clock = stopped(tmp_path)
    clock.set(STOPPED + away_ms)
    ensure_clock(opened(tmp_path, clock), confirmed=False)


@pytest.mark.parametrize("away_ms", [-DAY_MS, -HOUR_MS, -JUMP_MS - 1, GAP_MAX_MS + 1, DAY_MS, 21 * DAY_MS])
def test_a_clock_that_is_far_away_is_refused(tmp_path: Path, away_ms: int) -> None:
    """The refusal says both times and how to confirm; no window has begun to close."""
    clock = stopped(tmp_path)
    clock.set(STOPPED + away_ms)
    context = opened(tmp_path, clock)
    both = f"{re.escape(iso(STOPPED + away_ms))}.*{re.escape(iso(STOPPED))}.*--clock-is-right"
    with pytest.raises(StateConflict, match=both):
        ensure_clock(context, confirmed=False)
    ensure_clock(context, confirmed=True)
    assert windows(context, WindowState.RELEASED) == [("1h", hour) for hour in range(4)]
    assert windows(context, WindowState.CLOSING, WindowState.FIXED) == []


def test_the_newest_moment_is_that_of_a_window_where_no_worker_was(tmp_path: Path) -> None:
    """A sealer alone closes windows; the deadline of what it closed has passed."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    assert newest_moment_ms(context) == H
    clock.set(H + 30 * HOUR_MS)
    sealer_of(context).run_due()
    assert newest_moment_ms(context) == H + 29 * HOUR_MS + 10 * MINUTE_MS
