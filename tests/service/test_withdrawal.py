"""A withdrawal that was answered is in no later publication, however far the sealing of a window has come."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from hushmeter import limits
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.ports import IntakeLog
from hushmeter.service.context import Context
from hushmeter.testing.clock import FakeClock
from tests.service.by_hand import H, Hand, opened, sealer_of, sums

DEADLINE = H + HOUR_MS + 10 * MINUTE_MS


class InterruptedLog:
    """A log that lets something happen whenever the sealer has just read rows."""

    def __init__(self, log: IntakeLog, happens: Callable[[], object]) -> None:
        self._log, self._happens = log, happens

    def __getattr__(self, name: str) -> object:
        if name != "read":
            return getattr(self._log, name)

        def read(*arguments: object) -> object:
            rows = self._log.read(*arguments)  # type: ignore[arg-type]
            self._happens()
            return rows

        return read


def reported(state_dir: Path, units: int) -> tuple[Context, FakeClock, Hand]:
    """A deployment in whose first hour so many units have reported their number; the hour is due."""
    clock = FakeClock(H)
    context = opened(state_dir, clock)
    hand = Hand(context)
    names = [f"u{n}" for n in range(units)]
    hand.decide(*names)
    clock.set(H + 30 * MINUTE_MS)
    for number, unit in enumerate(names):
        assert len(hand.send(unit, clock.now_ms(), number + 1).admitted) == 1
    clock.set(DEADLINE)
    hand.segments.tick()
    return context, clock, hand


def interrupted(context: Context, happens: Callable[[], object]) -> Context:
    """The deployment, with something that happens whenever rows are read."""
    return dataclasses.replace(context, log=InterruptedLog(context.log, happens))  # type: ignore[arg-type]


@pytest.mark.parametrize("times", [1, limits.SEALINGS_MAX - 1])
def test_a_withdrawal_while_its_window_is_sealed_is_in_time(tmp_path: Path, times: int) -> None:
    """Units that withdraw between sealing and publication, one after another, are not in the release; the others are."""
    context, _, hand = reported(tmp_path, units=times + 1)
    leaving = [f"u{n}" for n in range(times)]
    sealer = sealer_of(interrupted(context, lambda: leaving and hand.decide(leaving.pop(), given=False)))
    assert sealer.run_due() == 1
    assert sums(context, "1h") == {0: times + 1}


def test_withdrawals_without_end_hold_no_window_up(tmp_path: Path) -> None:
    """The last sealing that a window is given is published without those who had left before it began."""
    times = limits.SEALINGS_MAX
    context, _, hand = reported(tmp_path, units=times + 1)
    leaving = [f"u{n}" for n in range(times)]
    sealer = sealer_of(interrupted(context, lambda: leaving and hand.decide(leaving.pop(), given=False)))
    assert sealer.run_due() == 1
    assert sums(context, "1h") == {0: 1 + times + 1}


def test_one_unit_cannot_hold_a_window_up(tmp_path: Path) -> None:
    """Withdrawing again and again, or without ever having agreed, costs a window one sealing more at most."""
    context, clock, hand = reported(tmp_path, units=2)
    sealings = []

    def waver() -> None:
        sealings.append(1)
        clock.advance(1)
        for given in (False, True, False):
            hand.decide("u0", "never", given=given)

    assert sealer_of(interrupted(context, waver)).run_due() == 1
    assert sums(context, "1h") == {0: 2}
    assert len(sealings) == 2
