"""Windows over real sockets: a decision reaches every resolution that is not released, by purpose."""

from __future__ import annotations

from pathlib import Path

from hushmeter.clock import ReplayClock
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from tests.service.harness import (
    ENDED,
    QUICK_PLAN,
    H,
    agree,
    finish,
    read,
    reasons,
    serving,
    submitted,
)


def test_a_withdrawal_reaches_every_resolution_that_is_not_released(tmp_path: Path) -> None:
    """A withdrawal empties hours and days to come; what was released stays; a new grant counts from then on alone."""
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        agree(service, "u", "v")
        for hour in (0, 1):
            service.advance(H + hour * HOUR_MS + 20 * MINUTE_MS)
            reports = [service.starts(unit, H + hour * HOUR_MS + 20 * MINUTE_MS, 10) for unit in ("u", "v")]
            assert submitted(service, reports).accepted == 2
        service.consent("v", tuning=False)
        late = service.starts("v", H + HOUR_MS + 20 * MINUTE_MS)
        assert reasons(submitted(service, [late])) == {0: "NO_CONSENT"}
        service.clock.advance_to(H + HOUR_MS + 30 * MINUTE_MS)
        service.consent("v", tuning=True)
        assert reasons(submitted(service, [late, reports[1]])) == {0: "NO_CONSENT", 1: "NO_CONSENT"}
        service.clock.advance_to(H + HOUR_MS + 40 * MINUTE_MS)
        assert submitted(service, [service.starts("v", H + HOUR_MS + 40 * MINUTE_MS, 3)]).accepted == 1
        service.advance(ENDED)
        assert read(service, "joins", "sum", "1h") == {(0,): 20, (1,): 13}
        assert read(service, "joins", "sum", "1d") == {(0,): 23}


def test_every_purpose_of_a_metric_is_needed(tmp_path: Path) -> None:
    """Withdrawing one of two purposes takes a unit out of the metrics that need it, and leaves it in the others."""
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        agree(service, "u", "v")
        service.consent("w", tuning=True)
        service.clock.advance_to(H + 10 * MINUTE_MS)
        reports = []
        for unit in ("u", "v", "w"):
            recorder = service.client.recorder(unit)
            recorder.count("joins", 1, platform="ios", network="wifi")
            recorder.flag("crashed", True, platform="ios", network="wifi")
            reports.append(finish(recorder, H + 10 * MINUTE_MS))
        assert len(reports[0].series) == 2
        assert len(reports[2].series) == 1, "the recorder leaves out what is not allowed"
        assert submitted(service, reports).accepted == 3
        reports[0].unit_id = "w"
        assert reasons(submitted(service, reports[:1])) == {0: "NO_CONSENT"}
        service.consent("v", research=False)
        service.advance(ENDED)
        for resolution in ("1h", "1d"):
            assert read(service, "joins", "units", resolution) == {(0,): 3}
            assert read(service, "crashed", "units", resolution) == {(0,): 1}


def test_a_unit_that_never_agreed_is_in_no_release(tmp_path: Path) -> None:
    """Without a decision nothing of a unit is stored or released, in any metric, whoever stands beside it."""
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        agree(service, "u")
        service.consent("refuses", tuning=False, research=False)
        service.clock.advance_to(H + 10 * MINUTE_MS)
        reports = [service.starts(unit, H + 10 * MINUTE_MS) for unit in ("never", "refuses", "u")]
        assert reasons(submitted(service, reports)) == {0: "NO_CONSENT", 1: "NO_CONSENT"}
        service.consent("never", tuning=True)
        assert reasons(submitted(service, reports)) == {0: "NO_CONSENT", 1: "NO_CONSENT"}
        service.advance(ENDED)
        assert read(service, "joins", "units", "1h") == {(0,): 1}
        assert read(service, "joins", "sum", "1d") == {(0,): 1}


def test_a_withdrawal_while_stopped_windows_fall_due_is_heeded(tmp_path: Path) -> None:
    """A withdrawal that is the first thing after a restart wins over windows that fell due while nobody served."""
    state, clock = tmp_path / "state", ReplayClock(H)
    with serving(state, clock=clock, plan=QUICK_PLAN) as service:
        agree(service, "u", "v")
        clock.advance_to(H + 10 * MINUTE_MS)
        submitted(service, [service.starts(unit, H + 10 * MINUTE_MS, 5) for unit in ("u", "v")])
    with serving(state, clock=clock, plan=QUICK_PLAN) as service:
        service.consent("v", tuning=False)
    clock.advance_to(ENDED)
    with serving(state, clock=clock, plan=QUICK_PLAN) as service:
        service.advance(ENDED)
        assert read(service, "joins", "sum", "1h") == {(0,): 5}
        assert read(service, "joins", "sum", "1d") == {(0,): 5}
