"""A window that waits can be given up by its operator: it is charged, never released, and nothing else suffers."""

from __future__ import annotations

from pathlib import Path

import pytest

from hushmeter.cli.app import run
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.testing.clock import FakeClock
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
