"""Raw rows and keys die when the last window over them has ended: not before, and whatever went wrong since (P3, P7)."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hushmeter.errors import Failure
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS, WEEK_MS, Window
from hushmeter.patience import await_true
from hushmeter.service.deployment.context import Context
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import DAY_DUE, H, Hand, WatchedStore, capped, opened, sealer_of, sums, windows
from tests.service.reported_hours import reported

CAPPED = capped("1h: 24")
"""With kept windows to forget."""


def nearly_due(state_dir: Path) -> tuple[Context, FakeClock]:
    """A deployment whose first day is nearly due, its hours released, and holds one report; its worker has signed off."""
    context, clock, hand = reported(state_dir, [("u", 5)], first=23, hours=1)
    hand.segments.retire()
    clock.set(DAY_DUE - 1)
    sealer_of(context).run_due()
    return context, clock


def test_rows_outlive_a_race_of_two_sealers(tmp_path: Path) -> None:
    """Whenever another sealer begins to close the last window over some rows, this one does not take it for ended."""
    for call in itertools.count():
        context, clock = nearly_due(tmp_path / str(call))
        day = Window("1d", H, H + DAY_MS)
        store = WatchedStore(context.store, call, lambda: context.store.begin_closing(day, context.deadline_ms(day)))  # noqa: B023
        sealer_of(dataclasses.replace(context, store=store)).run_due()  # type: ignore[arg-type]
        if store.calls <= call:
            break
        clock.set(DAY_DUE)
        sealer_of(context).run_due()
        assert windows(context, WindowState.LOST) == []
        assert sums(context, "1d") == {0: 5}
    assert call > 5


class FailingOnce:
    """Ports whose calls that destroy are counted together; one of them fails.

    Args:
        context: the real ones.
        call: number of the call that fails, from 0.
    """

    def __init__(self, context: Context, call: int) -> None:
        self._left = call
        self.failed = False
        ports = {name: _Failing(getattr(context, name), self._count) for name in ("store", "keys", "log")}
        self.context = dataclasses.replace(context, **ports)  # type: ignore[arg-type]

    def _count(self) -> None:
        self._left -= 1
        if self._left == -1:
            self.failed = True
            raise Failure("the disk refused")


class _Failing:
    def __init__(self, port: object, count: Callable[[], None]) -> None:
        self._port, self._count = port, count

    def __getattr__(self, name: str) -> object:
        if name in {"destroy", "forget_kept_windows", "mark_scrubbed"}:
            self._count()
        return getattr(self._port, name)


@pytest.mark.parametrize("restarted", [False, True])
def test_one_failure_leaves_nothing_behind(tmp_path: Path, restarted: bool) -> None:
    """After a stop over the end of a period, whichever step of destruction fails once, all of it is done in the end."""
    for call in itertools.count():
        clock = FakeClock(H + 6 * DAY_MS)
        context = opened(tmp_path / str(call), clock, CAPPED)
        hand = Hand(context)
        hand.decide("u")
        clock.advance(30 * MINUTE_MS)
        assert len(hand.send("u", clock.now_ms(), 5).admitted) == 1
        hand.segments.retire()
        clock.set(H + 7 * DAY_MS + 10 * MINUTE_MS)
        sealer_of(context).run_due()
        assert context.store.kept_windows("starts", "1d", H) is None
        assert context.store.kept_windows("starts", "1h", H) is not None
        assert context.keys.periods() == (H,)
        clock.set(H + 7 * DAY_MS + 2 * HOUR_MS)
        failing = FailingOnce(context, call)
        sealer = sealer_of(failing.context)
        sealer.run_due()
        (sealer_of(context) if restarted else sealer).run_due()
        assert sums(context, "1d") == {6 * 24: 5}
        assert context.store.kept_windows("starts", "1h", H) is None
        assert context.keys.periods() == (H + WEEK_MS,)
        assert context.log.storage_windows() == ()
        if not failing.failed:
            break
    assert call == 5


def test_a_sealer_survives_a_failure_at_its_start(tmp_path: Path) -> None:
    """Whichever of its first calls of the store fails, a sealer's thread goes on and finishes what was left to do."""
    context, clock = nearly_due(tmp_path)
    clock.set(DAY_DUE)

    def refuse() -> None:
        raise Failure("the disk refused")

    for call in range(4):
        store = WatchedStore(context.store, call, refuse)
        sealer = sealer_of(dataclasses.replace(context, store=store))  # type: ignore[arg-type]
        thread = threading.Thread(target=sealer.run)
        thread.start()
        try:
            await_true(lambda: store.calls > 20)  # noqa: B023
        finally:
            sealer.stop()
            thread.join()
    assert sums(context, "1d") == {0: 5}
    assert context.log.storage_windows() == ()
