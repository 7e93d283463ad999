"""A deployment by hand with a window that is due, and what happens or fails while its rows are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from hushmeter.errors import Failure
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.ports import IntakeLog
from hushmeter.service.deployment.context import Context
from hushmeter.testing.clock import FakeClock
from tests.service.by_hand import H, Hand, opened

DEADLINE = H + HOUR_MS + 10 * MINUTE_MS
DAY_DUE = H + DAY_MS + HOUR_MS


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


def reported(state_dir: Path, units: int, hours: int = 1) -> tuple[Context, FakeClock, Hand]:
    """A deployment in whose first hours so many units have reported their number; the last of them is due."""
    clock = FakeClock(H)
    context = opened(state_dir, clock)
    hand = Hand(context)
    names = [f"u{n}" for n in range(units)]
    hand.decide(*names)
    for hour in range(hours):
        clock.set(H + hour * HOUR_MS + 30 * MINUTE_MS)
        for number, unit in enumerate(names):
            assert len(hand.send(unit, clock.now_ms(), number + 1).admitted) == 1
    clock.set(DEADLINE + (hours - 1) * HOUR_MS)
    hand.segments.tick()
    return context, clock, hand


def interrupted(context: Context, happens: Callable[[], object]) -> Context:
    """The deployment, with something that happens whenever rows are read."""
    return dataclasses.replace(context, log=InterruptedLog(context.log, happens))  # type: ignore[arg-type]


def failing(*times: bool) -> Callable[[], None]:
    """What fails at some of its first calls."""
    left = list(times)

    def fail() -> None:
        if left and left.pop(0):
            raise Failure("the disk is away")

    return fail
