"""Windows over real sockets: the end of a period moves no report and loses no window."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hushmeter.clock import ReplayClock
from hushmeter.errors import KeyGone
from hushmeter.ledger.entries import verify_chain
from hushmeter.model.key_names import period_key
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS, WEEK_MS
from hushmeter.patience import await_true
from tests.service.harness import (
    QUICK_PLAN,
    H,
    agree,
    read,
    serving,
    states,
    submitted,
)
from tests.service.running_service import Running

LATER_PLAN = QUICK_PLAN.replace("expires: 2026-03-03", "expires: 2026-03-20")
"""Founded on a Sunday, when the other plan's metric of a short life has expired."""


def monday(service: Running, count: int) -> list[object]:
    """Reports of the last minutes of a week and of the first of the next."""
    return [service.starts("u", H + WEEK_MS, count), service.starts("u", H + WEEK_MS + 5 * MINUTE_MS, 10 * count)]


def test_the_border_of_a_period_is_one_of_windows(tmp_path: Path) -> None:
    """Reports of both sides of a Monday count on their own side, though the later arrive first; the old key then dies."""
    clock = ReplayClock(H + WEEK_MS - DAY_MS)
    with serving(tmp_path / "state", clock=clock, plan=LATER_PLAN) as service:
        agree(service, "u")
        clock.advance_to(H + WEEK_MS + 5 * MINUTE_MS)
        assert submitted(service, monday(service, 1)[::-1]).accepted == 2  # type: ignore[arg-type]
        service.advance(H + WEEK_MS + 10 * MINUTE_MS)
        service.advance(H + WEEK_MS + HOUR_MS)
        assert read(service, "joins", "sum", "1d") == {(6 * 24,): 1}
        await_true(lambda: service.context.keys.periods() == (H + WEEK_MS,))
        with pytest.raises(KeyGone):
            service.context.keys.get(period_key(H))
        service.advance(H + WEEK_MS + DAY_MS + HOUR_MS)
        assert read(service, "joins", "sum", "1h") == {(7 * 24 - 1,): 1, (7 * 24,): 10}
        assert read(service, "joins", "sum", "1d") == {(6 * 24,): 1, (7 * 24,): 10}
        spent = verify_chain(service.context.store.ledger()).by_period
        assert sorted(spent) == [H, H + WEEK_MS]


def test_a_stop_over_the_end_of_a_period_loses_no_window(tmp_path: Path) -> None:
    """Where the last day of a period and its last hour fall due together, after a stop, both are released, none is LOST."""
    state, clock = tmp_path / "state", ReplayClock(H + WEEK_MS - DAY_MS)
    with serving(state, clock=clock, plan=LATER_PLAN) as service:
        agree(service, "u")
        clock.advance_to(H + WEEK_MS - 5 * MINUTE_MS)
        assert submitted(service, [service.starts("u", H + WEEK_MS - 5 * MINUTE_MS, 3)]).accepted == 1
    clock.advance_to(H + WEEK_MS + HOUR_MS)
    with serving(state, clock=clock, plan=LATER_PLAN) as service:
        service.advance(H + WEEK_MS + HOUR_MS)
        assert states(service, WindowState.LOST) == []
        assert read(service, "joins", "sum", "1h") == {(7 * 24 - 1,): 3}
        assert read(service, "joins", "sum", "1d") == {(6 * 24,): 3}


def test_an_hour_that_waits_does_not_lose_its_period_key(tmp_path: Path) -> None:
    """While an hour waits for an operator, the end of its period's last day does not make the hour LOST."""
    clock = ReplayClock(H + WEEK_MS - DAY_MS)
    with serving(tmp_path / "state", clock=clock, plan=LATER_PLAN) as service:
        agree(service, "u")
        clock.advance_to(H + WEEK_MS - 5 * MINUTE_MS)
        assert submitted(service, [service.starts("u", H + WEEK_MS - 5 * MINUTE_MS, 3)]).accepted == 1
        service.advance(H + WEEK_MS - 5 * MINUTE_MS)
        store, broken = service.context.store, threading.Event()
        serving_ms = store.serving_ms
        broken.set()

        def failing(start_ms: int, end_ms: int) -> int:
            if broken.is_set() and end_ms - start_ms == HOUR_MS:
                raise OSError("mend me")
            return serving_ms(start_ms, end_ms)

        # Before the hour is claimed: what is claimed ends before anything else does.
        store.serving_ms = failing  # type: ignore[method-assign]
        clock.advance_to(H + WEEK_MS + HOUR_MS)
        await_true(lambda: ("1d", 6 * 24) in states(service, WindowState.RELEASED))
        broken.clear()
        service.advance(H + WEEK_MS + HOUR_MS)
        assert states(service, WindowState.LOST) == []
        assert read(service, "joins", "sum", "1h") == {(7 * 24 - 1,): 3}
