"""A window that waits can be given up by its operator: it is charged, never released, and nothing else suffers."""

from __future__ import annotations

from pathlib import Path

import pytest

from hushmeter.cli.app import run
from hushmeter.errors import StateConflict
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.service.sealer.giving_up import give_up
from hushmeter.testing.clock import FakeClock
from tests.service.claim_steps import (
    AFTER_CLAIM,
    AFTER_DRAWN,
    Dead,
    DueDeployment,
    Steps,
    ensure_one_noise,
    ensure_sound,
    kill,
    watched,
)
from tests.service.deployment_by_hand import DAY_DUE, H, Hand, opened, sealer_of, sums, windows
from tests.service.interrupted_log import failing, interrupted
from tests.service.reported_hours import due


def test_a_window_that_waits_is_given_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The next of its resolution alone; it is charged in full, and the day over it is released with its rows."""
    context, clock, hand = due(tmp_path, units=2, hours=2)
    sealer_of(interrupted(context, failing(*[True] * 4))).run_due()
    assert windows(context, WindowState.FIXED) == [("1h", 0)]
    where = ["--state-dir", str(tmp_path)]
    assert run(["window", "lose", "1h", "2026-03-02T01:00:00Z", *where]) == 2
    assert "that ends next starts at 2026-03-02T00:00:00Z" in capsys.readouterr().err
    assert run(["window", "lose", "1d", "2026-03-02", *where]) == 2
    assert "no window of 1d waits" in capsys.readouterr().err
    assert run(["window", "lose", "1h", "2026-03-02T00:00:00Z", *where]) == 0
    assert "LOST: charged in full" in capsys.readouterr().out
    assert windows(context, WindowState.LOST) == [("1h", 0)]
    charged = [e.fields for e in context.store.ledger() if e.fields["window_end_ms"] == H + HOUR_MS]
    assert {f["mechanism"] for f in charged} == {"lost"}
    sealer = sealer_of(context)
    sealer.run_due()
    assert sums(context, "1h") == {1: 3}
    hand.segments.retire()
    clock.set(DAY_DUE)
    sealer.run_due()
    assert sums(context, "1d") == {0: 6}
    assert run(["window", "lose", "1h", "2026-03-02T00:00:00Z", *where]) == 2


def test_a_window_whose_rows_are_not_fixed_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While a segment over it is open nobody can give it up: what was acknowledged is still on its way."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    hand = Hand(context)
    hand.decide("u")
    clock.set(H + 30 * MINUTE_MS)
    assert len(hand.send("u", clock.now_ms()).admitted) == 1
    clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    sealer_of(context).run_due()
    assert windows(context, WindowState.CLOSING) == [("1h", 0)]
    assert run(["window", "lose", "1h", "2026-03-02T00:00:00Z", "--state-dir", str(tmp_path)]) == 2
    assert "still open" in capsys.readouterr().err
    hand.segments.tick()
    sealer_of(context).run_due()
    assert windows(context, WindowState.RELEASED) == [("1h", 0)]


def test_a_window_whose_noise_was_drawn_ends_as_that_says(tmp_path: Path) -> None:
    """Whoever gives it up is told that it has ended: somebody may have seen what was drawn, so it is published (C7)."""
    machine = DueDeployment.founded(tmp_path)
    with pytest.raises(Dead):
        sealer_of(watched(machine.context, Steps(kill, AFTER_DRAWN))).run_due()
    again = machine.open("state")
    with pytest.raises(StateConflict, match=r"noise was drawn for window .* already"):
        give_up(again, "1h", H)
    assert windows(again, WindowState.RELEASED) == [("1h", 0)]
    ensure_one_noise(machine, again)


def test_a_window_is_not_given_up_while_another_is_being_released(tmp_path: Path) -> None:
    """The claim of the other window comes first; once that has ended, the window can be given up."""
    machine = DueDeployment.founded(tmp_path)
    sealer_of(machine.context).run_due()
    waiting = interrupted(machine.context, failing(*[True] * 9))
    machine.clock.set(DAY_DUE)
    sealer_of(waiting).run_due()
    assert windows(waiting, WindowState.FIXED) == [("1d", 0)]
    machine.clock.advance(10 * MINUTE_MS)
    with pytest.raises(Dead):
        sealer_of(watched(waiting, Steps(kill, AFTER_CLAIM))).run_due()
    again = machine.open("state")
    with pytest.raises(StateConflict, match="window 1h 2026-03-03T00:00:00Z is being released; try again"):
        give_up(again, "1d", H)
    assert windows(again, WindowState.LOST) == []
    sealer_of(interrupted(again, failing(*[True] * 9))).run_due()
    assert give_up(again, "1d", H).resolution == "1d"
    assert windows(again, WindowState.LOST) == [("1d", 0), ("1h", 24)]
    ensure_sound(again)
