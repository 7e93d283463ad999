"""A metric stops being taken at its date, to the millisecond; what was taken before is released as it would have been."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.sdk import Recorder
from tests.service.harness import H, agree, finish, reasons, serving, states, submitted
from tests.service.running_service import Running

EXPIRES = H + 2 * DAY_MS
"""`short_lived` expires after 3 March."""


def report(service: Running, end_ms: int, *metrics: str):
    """A report of one of each metric, of the minute before a moment, as a client that does not know of expiry sends it."""
    plan = type(service.plan)()
    plan.CopyFrom(service.plan)
    for metric in plan.metrics:
        metric.ClearField("expires_ms")
    recorder = Recorder(plan, "u", ["tuning", "research"])
    for metric in metrics:
        recorder.count(metric, 1, platform="ios", network="wifi")
    return finish(recorder, end_ms)


def judged(service: Running, end_ms: int, *metrics: str) -> dict[int, str]:
    """Why such a report is refused; validation and the door agree."""
    sent = [report(service, end_ms, *metrics)]
    would = reasons(service.client.validate(sent))
    assert would == reasons(submitted(service, sent))
    return would


def test_to_the_millisecond(tmp_path: Path) -> None:
    """The running service takes a metric in its last millisecond, and not in the next; its other metrics go on."""
    with serving(tmp_path) as service:
        agree(service, "u")
        service.clock.advance_to(EXPIRES - HOUR_MS)
        assert {m.name: m.expires_ms for m in service.plan.metrics}["short_lived"] == EXPIRES
        service.clock.advance_to(EXPIRES - 1)
        assert judged(service, EXPIRES - 1, "short_lived") == {}
        assert judged(service, EXPIRES, "short_lived") == {}
        assert judged(service, EXPIRES + 1, "short_lived") == {0: "EXPIRED_METRIC"}, "no release would hold it"
        assert judged(service, EXPIRES + 1, "joins") == {}
        service.clock.advance_to(EXPIRES)
        assert judged(service, EXPIRES - MINUTE_MS, "short_lived") == {0: "EXPIRED_METRIC"}
        assert judged(service, EXPIRES - MINUTE_MS, "joins", "short_lived") == {0: "EXPIRED_METRIC"}
        assert judged(service, EXPIRES - MINUTE_MS, "joins") == {}
        (rejection,) = submitted(service, [report(service, EXPIRES, "short_lived")]).rejections
        assert "stop sending it" in rejection.message
        assert rejection.retry_after_ms == 0


def test_a_clock_that_goes_back_brings_nothing_back(tmp_path: Path) -> None:
    """Once the service has seen the date pass, a metric stays expired, whatever the clock says then."""
    with serving(tmp_path) as service:
        agree(service, "u")
        service.clock.advance_to(EXPIRES)
        assert judged(service, EXPIRES - 1, "short_lived") == {0: "EXPIRED_METRIC"}
        service.clock._now_ms = EXPIRES - HOUR_MS
        assert judged(service, EXPIRES - HOUR_MS, "short_lived") == {0: "EXPIRED_METRIC"}


def test_what_was_taken_is_released(tmp_path: Path) -> None:
    """Windows that began before the date are released with what they hold; later ones neither hold nor cost it."""
    with serving(tmp_path) as service:
        agree(service, "u")
        service.advance(EXPIRES - HOUR_MS)
        service.clock.advance_to(EXPIRES - 1)
        assert judged(service, EXPIRES - 1, "short_lived", "joins") == {}
        service.advance(EXPIRES + 3 * HOUR_MS)
        last = (EXPIRES - H) // HOUR_MS - 1
        assert service.sums("1h", metric="short_lived") == {last: 1}
        told = service.analyst.releases("short_lived", resolution="1h").to_pylist()
        assert max(row["window_end"].timestamp() * 1000 for row in told) == EXPIRES
        spent = {(w["resolution"], w["window_start"]) for w in told}
        assert len(spent) == last + 1
        assert ("1h", last + 2) in states(service, WindowState.RELEASED)
        charged = [json.loads(e.content) for e in service.analyst.ledger()]
        assert max(c["window_start_ms"] for c in charged if c["metric"] == "short_lived") == EXPIRES - HOUR_MS
        assert max(c["window_start_ms"] for c in charged if c["metric"] == "joins") > EXPIRES


def test_clients_leave_out_what_has_expired(tmp_path: Path) -> None:
    """A client that holds a plan with an expired metric goes on reporting the others, tokens included."""
    with serving(tmp_path) as service:
        agree(service, "u")
        recorder = Recorder(service.plan, "u", ["tuning"])
        for metric in ("short_lived", "joins"):
            recorder.count(metric, 1, platform="ios", network="wifi")
        service.clock.advance_to(EXPIRES + HOUR_MS)
        assert reasons(submitted(service, [finish(recorder, EXPIRES + HOUR_MS)])) == {}
        recorder.count("short_lived", 1, platform="ios", network="wifi")
        assert recorder.report(EXPIRES + HOUR_MS, EXPIRES + HOUR_MS + MINUTE_MS) is None


@pytest.mark.parametrize("end", [EXPIRES - 1, EXPIRES])
def test_until_the_date_nothing_is_left_out(tmp_path: Path, end: int) -> None:
    """A report that ends with the last day still holds the metric."""
    with serving(tmp_path) as service:
        recorder = Recorder(service.plan, "u", ["tuning"])
        recorder.count("short_lived", 1, platform="ios", network="wifi")
        assert len(finish(recorder, end).series) == 1
