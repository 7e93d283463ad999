"""A rehearsed service has settled when no window waits any more; who waits for what never comes is told what waits."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from hushmeter.errors import WaitedInVain
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, MINUTE_MS, Window
from hushmeter.patience import await_true, comes_true
from hushmeter.plan.reading import parse_plan
from hushmeter.rehearsal.demo.run import demo_plan
from hushmeter.rehearsal.service import is_settled, unsettled
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import HOUR_DUE, opened, sealer_of
from tests.service.harness import states
from tests.service.running_service import FOUNDED_MS, running

H = FOUNDED_MS


def test_a_year_in_a_moment(tmp_path: Path) -> None:
    """What was decided and sent is released once the clock was moved; a long list is sent in messages of 250."""
    with running(tmp_path) as service:
        service.decide(["a", "b"], {"model_tuning": True})
        service.clock.advance_to(H + 30 * MINUTE_MS)
        reports = [service.starts("ab"[i % 2], H + 30 * MINUTE_MS) for i in range(251)]
        assert [answer.accepted for answer in service.send(reports)] == [250, 1]
        service.settled()
        assert states(service, WindowState.RELEASED) == []
        service.advance(HOUR_DUE)
        assert states(service, WindowState.RELEASED) == [("1h", 0)]
        assert service.sums("1h") == {0: 200.0}


def test_what_it_is_to_have_settled(tmp_path: Path) -> None:
    """Every window whose deadline has passed has ended; one that has begun to and not ended is named."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    window = Window("1h", H, H + HOUR_MS)
    clock.advance(HOUR_DUE - 1 - H)
    assert is_settled(context)
    clock.advance(1)
    assert not is_settled(context)
    assert "none has begun" in unsettled(context)
    context.store.begin_closing(window, HOUR_DUE)
    assert not is_settled(context)
    assert f"{window} CLOSING" in unsettled(context)
    sealer_of(context).run_due()
    assert is_settled(context)
    context.store.close()


def test_waiting() -> None:
    """Whoever waits is answered as soon as it is so, asks at least once, and is told in words what did not come."""
    asked = iter([False, False, True])
    assert comes_true(lambda: next(asked))
    assert comes_true(lambda: True, patience_s=0)
    assert not comes_true(lambda: False, patience_s=0)
    with pytest.raises(WaitedInVain, match="in vain"):
        await_true(lambda: False, patience_s=0)


def test_the_demo_has_its_plan() -> None:
    """The plan lies beside the demo, in the package, and is one that a service is founded with."""
    assert parse_plan(demo_plan(), dt.date(2013, 1, 1)).metrics
