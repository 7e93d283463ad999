"""A key that is gone costs the windows over its hour, by name, and nobody else anything (P1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hushmeter import limits
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.service.config import Config
from hushmeter.service.context import Context
from hushmeter.testing.clock import FakeClock
from tests.service.by_hand import H, Hand, opened, sealer_of, sums, windows


def _destroy(_: Path, context: Context) -> None:
    context.keys.destroy(f"data/{H}")


def _lose(state_dir: Path, _: Context) -> None:
    (Config(state_dir=state_dir).keys / "data" / f"{H}.key").unlink()


@pytest.mark.parametrize("gone", [_destroy, _lose])
def test_a_dead_workers_hour_without_its_key_is_lost_alone(tmp_path: Path, gone: Callable[[Path, Context], None]) -> None:
    """The hour of a worker that died, and its day, end LOST; other windows are released in time."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    sealer = sealer_of(context)
    dead = Hand(context)
    dead.decide("u")
    clock.set(H + 30 * MINUTE_MS)
    assert len(dead.send("u", clock.now_ms()).admitted) == 1
    gone(tmp_path, context)
    sealer.run_due()
    clock.advance(0, monotonic_s=limits.LEASE_S)
    sealer.run_due()
    living = Hand(context)
    clock.set(H + HOUR_MS + 30 * MINUTE_MS)
    assert len(living.send("u", clock.now_ms(), 7).admitted) == 1
    clock.set(H + DAY_MS + HOUR_MS)
    living.segments.tick()
    sealer.run_due()
    assert windows(context, WindowState.LOST) == [("1h", 0), ("1d", 0)]
    assert windows(context, WindowState.CLOSING, WindowState.SEALED) == []
    assert sums(context, "1h") == {1: 7}
