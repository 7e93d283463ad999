"""The machine's clock: a jump ahead is believed late, everything else at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from hushmeter.clock import BELIEVED_S, JUMP_MS, Anchor, ReplayClock, SystemClock
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.opening import open_context
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.service.deployment_by_hand import PLAN, H, Hand, sealer_of, sums, windows


class Machine:
    """A wall clock that can be set, and the time that really elapses."""

    def __init__(self, now_ms: int) -> None:
        self.wall_ms, self.elapsed_s = now_ms, 5.0
        self.clock = SystemClock(lambda: self.wall_ms * 1_000_000 + 999, lambda: self.elapsed_s)

    def pass_ms(self, ms: int) -> None:
        self.wall_ms += ms
        self.elapsed_s += ms / 1_000


def test_it_flows() -> None:
    """However long nobody asks, time that has elapsed is believed; so are small steps, and those back."""
    machine = Machine(H)
    for step in (0, 1, 999, 40 * DAY_MS):
        machine.pass_ms(step)
        assert machine.clock.now_ms() == machine.wall_ms
    for correction in (JUMP_MS, -JUMP_MS, -DAY_MS):
        machine.wall_ms += correction
        assert machine.clock.now_ms() == machine.wall_ms


def test_a_jump_ahead_is_believed_once_it_has_held() -> None:
    """Until then time goes on as it elapses, to the millisecond, however often it is asked for."""
    machine = Machine(H)
    machine.wall_ms += 3 * DAY_MS
    with structlog.testing.capture_logs() as logs:
        for second in range(int(BELIEVED_S)):
            for part in (0.4, 0.5, 0.1):
                assert machine.clock.now_ms() == H + round(1_000 * (machine.elapsed_s - 5))
                machine.elapsed_s += part
            machine.wall_ms += 1_000
            assert machine.wall_ms == H + 3 * DAY_MS + 1_000 * (second + 1)
        assert machine.clock.now_ms() == machine.wall_ms
    assert [(line["log_level"], line.get("ahead_s")) for line in logs] == [("error", 3 * 86_400), ("warning", None)]
    machine.pass_ms(1)
    assert machine.clock.now_ms() == machine.wall_ms


def test_a_process_begins_with_what_its_parent_believes() -> None:
    """One that starts while the wall clock is ahead believes that at the same moment as its parent, and no sooner."""
    machine = Machine(H)
    early, begun = machine.clock.anchor(), machine.elapsed_s
    assert early == Anchor(H, begun)
    machine.wall_ms += DAY_MS
    children = []
    for anchor in (early, machine.clock.anchor()):
        machine.pass_ms(1_000)
        children.append(SystemClock(lambda: machine.wall_ms * 1_000_000, lambda: machine.elapsed_s, anchor))
        assert children[-1].now_ms() == machine.wall_ms - DAY_MS
    later = machine.clock.anchor()
    assert later.ahead_since_s == begun
    children.append(SystemClock(lambda: machine.wall_ms * 1_000_000, lambda: machine.elapsed_s, later))
    machine.pass_ms(int(1_000 * BELIEVED_S) - 2_001)
    for clock in (machine.clock, children[1], children[2]):
        assert clock.now_ms() == machine.wall_ms - DAY_MS
    machine.pass_ms(1)
    for clock in (machine.clock, children[1], children[2]):
        assert clock.now_ms() == machine.wall_ms
    assert machine.clock.anchor() == Anchor(machine.wall_ms, machine.elapsed_s)


def test_a_clock_that_is_set_right_again() -> None:
    """Nothing is left of a jump that was taken back; another one has to hold as long again."""
    machine = Machine(H)
    for _ in range(3):
        machine.wall_ms += DAY_MS
        machine.clock.now_ms()
        machine.pass_ms(int(1_000 * BELIEVED_S) - 1)
        assert machine.clock.now_ms() == machine.wall_ms - DAY_MS
        machine.wall_ms -= DAY_MS
        machine.pass_ms(1)
        assert machine.clock.now_ms() == machine.wall_ms


def test_windows_stay_open(tmp_path: Path) -> None:
    """A clock that is set ahead by days and back again costs no window, and no report."""
    machine = Machine(H)
    context = open_context(Config(state_dir=tmp_path), machine.clock, ExactMechanisms(), PLAN)
    hand, sealer = Hand(context), sealer_of(context)
    hand.decide("a")
    machine.pass_ms(10 * MINUTE_MS)
    machine.wall_ms += 3 * DAY_MS
    sealer.run_due()
    hand.segments.tick()
    assert windows(context, *WindowState) == []
    machine.pass_ms(5 * MINUTE_MS)
    assert len(hand.send("a", H + 14 * MINUTE_MS).admitted) == 1
    machine.wall_ms -= 3 * DAY_MS
    machine.pass_ms(HOUR_MS)
    hand.segments.tick()
    sealer.run_due()
    assert sums(context, "1h") == {0: 1}
    machine.wall_ms += 3 * DAY_MS
    machine.clock.now_ms()
    machine.pass_ms(int(1_000 * BELIEVED_S))
    hand.segments.tick()
    sealer.run_due()
    assert ("1d", 2) in [(name, hours // 24) for name, hours in windows(context, WindowState.RELEASED)]


@pytest.mark.parametrize("clock", [SystemClock(), ReplayClock(H)])
def test_a_real_clock(clock: SystemClock | ReplayClock) -> None:
    """Both clocks of production go on, and call nobody without a reason."""
    called: list[int] = []
    clock.on_jump(lambda: called.append(1))
    first, began = clock.now_ms(), clock.monotonic_s()
    assert clock.now_ms() >= first
    assert clock.monotonic_s() >= began
    assert called == []
