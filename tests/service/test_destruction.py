"""Raw rows and keys die when the last window over them has ended: not before, and whatever went wrong since (P3, P7)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS, Window
from hushmeter.ports import StateStore
from hushmeter.service.context import Context
from hushmeter.testing.clock import FakeClock
from tests.service.by_hand import H, Hand, opened, sealer_of, sums, windows

DAY_DUE = H + DAY_MS + HOUR_MS


class WatchedStore:
    """A state store that lets something happen after one of its calls.

    Args:
        store: the real one.
        after: number of the call, from 0.
        happens: what another process does then.
    """

    def __init__(self, store: StateStore, after: int, happens: Callable[[], object]) -> None:
        self._store, self._after, self._happens = store, after, happens
        self.calls = 0

    def __getattr__(self, name: str) -> object:
        method = getattr(self._store, name)

        def call(*arguments: object) -> object:
            answer = method(*arguments)
            self.calls += 1
            if self.calls == self._after + 1:
                self._happens()
            return answer

        return call


def reported(state_dir: Path) -> tuple[Context, FakeClock]:
    """A deployment whose first day is nearly due, its hours released, and holds one report; its worker has signed off."""
    clock = FakeClock(H + 23 * HOUR_MS)
    context = opened(state_dir, clock)
    hand = Hand(context)
    hand.decide("u")
    clock.advance(30 * MINUTE_MS)
    assert len(hand.send("u", clock.now_ms(), 5).admitted) == 1
    hand.segments.retire()
    clock.set(DAY_DUE - 1)
    sealer_of(context).run_due()
    return context, clock


def test_rows_outlive_a_race_of_two_sealers(tmp_path: Path) -> None:
    """Whenever another sealer begins to close the last window over some rows, this one does not take it for ended."""
    for call in itertools.count():
        context, clock = reported(tmp_path / str(call))
        day = Window("1d", H, H + DAY_MS)
        store = WatchedStore(context.store, call, lambda: context.store.begin_closing(day))  # noqa: B023
        sealer_of(dataclasses.replace(context, store=store)).run_due()  # type: ignore[arg-type]
        if store.calls <= call:
            break
        clock.set(DAY_DUE)
        sealer_of(context).run_due()
        assert windows(context, WindowState.LOST) == []
        assert sums(context, "1d") == {0: 5}
    assert call > 5
