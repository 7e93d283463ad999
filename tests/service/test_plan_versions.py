"""A plan that changes while the service runs: each window has the plan of its own start, each period its budget (C3)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hushmeter.api.report.v1.report_pb2 import RejectionReason
from hushmeter.errors import ConfigError, PlanError, StateConflict
from hushmeter.ledger.entries import verify_budget, verify_chain
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS, WEEK_MS
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.patience import await_true
from hushmeter.service.deployment.plan_change import Applied, apply_plan
from hushmeter.service.deployment.plan_timeline import BEGINNING_MS, END_MS
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.service.plan_versions import changed
from tests.service.running_service import FOUNDED_MS, PLAN, Running, running

H = FOUNDED_MS
B = H + WEEK_MS
"""The border between the first two periods."""
UNIT = "unit-1"
AT_BORDER = dt.datetime.fromtimestamp(B / 1000, dt.UTC).isoformat()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "state", plan=changed(1)) as one:
        yield one


def applied(service: Running, text: str, at: str) -> Applied:
    """Applies a change, and waits until the running service has heard of it."""
    context = service.context
    done = apply_plan(context.store, ExactMechanisms(), text, at, service.clock.now_ms())
    await_true(lambda: context.timeline.recorded()[-1].version == done.version.version)
    # The worker opens its doors at its next tick or report.
    service.clock.advance_to(service.clock.now_ms() + 1)
    return done


def reason(service: Running, *reports: object) -> list[str]:
    answer = service.client.submit(list(reports))  # type: ignore[arg-type]
    return [RejectionReason.Name(r.reason).removeprefix("REJECTION_REASON_") for r in answer.rejections]


def charged(service: Running) -> dict[int, set[int]]:
    """Which versions each period was charged by, by start of the period."""
    found: dict[int, set[int]] = {}
    for entry in service.context.store.ledger():
        fields = entry.fields
        found.setdefault(int(str(fields["period_start_ms"])), set()).add(int(str(fields["plan_version"])))
    return found


def test_each_period_has_the_plan_and_the_budget_of_its_own(service: Running) -> None:
    """Windows of both plans are open at once; each is charged by its own plan, and no period more than its budget."""
    new = changed(privacy__epsilon=2, metrics__starts__per_unit={"range": [0, 7]})
    service.consent(UNIT)
    service.advance(H + DAY_MS)
    done = applied(service, new, AT_BORDER)
    assert (done.version.active_from_ms, done.version.budget.epsilon) == (B, 2.0)
    service.advance(B + 5 * MINUTE_MS)
    before = service.starts(UNIT, B, count=50)
    after = service.starts(UNIT, B + 2 * MINUTE_MS, count=5, plan_version=2)
    old_words = service.starts(UNIT, B + 3 * MINUTE_MS, count=1, plan_version=1)
    too_many = service.starts(UNIT, B + 4 * MINUTE_MS, count=50, plan_version=1)
    assert reason(service, before, after, old_words, too_many) == ["VALUE_OUT_OF_RANGE"]
    assert service.client.plan().version == 2
    service.advance(B + WEEK_MS + 3 * DAY_MS)
    # The border itself belongs to the last window of the old plan.
    assert service.sums("1h") == {167: 50, 168: 6}
    assert service.sums("1d") == {144: 50, 168: 6}
    assert charged(service) == {H: {1}, B: {2}, B + WEEK_MS: {2}}
    summary = verify_chain(service.context.store.ledger())
    first, second = (e.version.budget for e in service.context.timeline.eras)
    verify_budget(summary, first, {B: second})
    assert summary.by_period[H].amount == first.loss.amount, "a whole period costs its whole budget"
    assert summary.by_period[B].amount == second.loss.amount
    assert service.context.plan.version == 2


def test_a_version_is_taken_for_as_long_as_its_windows_are_open(service: Running) -> None:
    service.consent(UNIT)
    service.advance(H + HOUR_MS)
    assert reason(service, service.starts(UNIT, H + HOUR_MS, plan_version=2)) == ["UNKNOWN_PLAN_VERSION"]
    applied(service, changed(privacy__epsilon=2), "next-period")
    service.advance(B + 2 * DAY_MS - 1)
    assert reason(service, service.starts(UNIT, B, plan_version=1)) == []
    service.advance(B + 2 * DAY_MS)
    assert reason(service, service.starts(UNIT, B, plan_version=2)) == ["TOO_LATE"]
    assert reason(service, service.starts(UNIT, B + 2 * DAY_MS, plan_version=1)) == ["UNKNOWN_PLAN_VERSION"]
    assert reason(service, service.starts(UNIT, B + 2 * DAY_MS, plan_version=2)) == []


def test_a_new_metric_starts_at_the_border(service: Running) -> None:
    fresh = yaml.safe_load(PLAN)["metrics"]["starts"]
    service.consent(UNIT)
    service.advance(H + HOUR_MS)
    applied(service, changed(metrics__fresh=fresh), "next-period")
    service.advance(B + 5 * MINUTE_MS)
    description = service.client.plan()
    (series,) = [m.first_series for m in description.metrics if m.name == "fresh"]
    assert [m.first_series for m in description.metrics][:4] == [m.first_series for m in service.plan.metrics]
    early = service.starts(UNIT, B, plan_version=2, series=[series])
    late = service.starts(UNIT, B + MINUTE_MS, plan_version=2, series=[series])
    assert reason(service, early, late) == ["UNKNOWN_SERIES"]
    service.advance(B + 2 * HOUR_MS)
    assert service.sums("1h", metric="fresh") == {168: 1}


def test_a_removed_metric_stops_at_once_and_its_share_stays_unspent(service: Running) -> None:
    service.consent(UNIT, model_tuning=True, research=True)
    service.advance(H + 3 * HOUR_MS)
    crashed = service.plan.metrics[2]
    assert crashed.name == "crashed"
    said = {"series": [crashed.first_series]}
    assert reason(service, service.starts(UNIT, H + 3 * HOUR_MS, **said)) == []
    done = applied(service, changed(metrics__crashed=...), "now")
    assert (done.version.active_from_ms, done.version.stops_from_ms) == (B, H + 3 * HOUR_MS)
    assert reason(service, service.starts(UNIT, H + 3 * HOUR_MS, **said)) == ["EXPIRED_METRIC"]
    service.advance(B + WEEK_MS + 3 * DAY_MS)
    windows = {
        (f["resolution"], int(str(f["window_start_ms"])))
        for f in (e.fields for e in service.context.store.ledger())
        if f["metric"] == "crashed"
    }
    # Windows that had begun by then tell what was collected before.
    assert windows == {("1h", H + n * HOUR_MS) for n in range(-1, 3)} - {("1h", H - HOUR_MS)} | {("1d", H)}
    summary = verify_chain(service.context.store.ledger())
    budget = service.context.timeline.eras[0].version.budget.loss.amount
    assert summary.by_period[H].amount < budget, "the share of what was removed stays unspent"
    assert summary.by_period[B].amount == budget
    analyst = service.analyst.releases("crashed", (), resolution="1h").to_pylist()
    assert {row["plan_version"] for row in analyst} == {1}


def test_a_changed_text_asks_again_from_the_next_window_on(service: Running) -> None:
    service.consent(UNIT)
    service.advance(H + HOUR_MS)
    done = applied(service, changed(purposes__model_tuning="Tune larger models."), "next-window")
    border = H + DAY_MS
    assert done.version.active_from_ms == border
    assert service.client.to_ask(UNIT) == ["research"]
    service.advance(border + 5 * MINUTE_MS)
    assert service.client.to_ask(UNIT) == ["model_tuning", "research"]
    assert reason(service, service.starts(UNIT, border)) == [], "agreed to the text of that time"
    assert reason(service, service.starts(UNIT, border + MINUTE_MS)) == ["NO_CONSENT"]
    service.client.plan()
    service.consent(UNIT)
    service.advance(border + HOUR_MS)
    assert reason(service, service.starts(UNIT, border + HOUR_MS, plan_version=2)) == []
    service.advance(border + 3 * DAY_MS)
    assert service.sums("1h") == {23: 1, 24: 1}
    assert charged(service) == {H: {1, 2}}
    verify_budget(verify_chain(service.context.store.ledger()), service.context.budget)


def test_a_change_that_waits_survives_a_restart(tmp_path: Path) -> None:
    with running(tmp_path / "state", plan=changed(1)) as one:
        one.consent(UNIT)
        one.advance(H + HOUR_MS)
        applied(one, changed(privacy__epsilon=2), "next-period")
        clock = one.clock
    with running(tmp_path / "state", clock=clock, plan=changed(1)) as two:
        assert [(e.version.version, e.from_ms, e.until_ms) for e in two.context.timeline.eras] == [
            (1, BEGINNING_MS, B),
            (2, B, END_MS),
        ]
        two.advance(B - HOUR_MS)
        assert two.client.plan().version == 1
    with running(tmp_path / "state", clock=clock, plan=changed(privacy__epsilon=2)) as three:
        three.advance(B + 5 * MINUTE_MS)
        assert three.client.plan().version == 2
        assert reason(three, three.starts(UNIT, B), three.starts(UNIT, B + MINUTE_MS, plan_version=2)) == []
        three.advance(B + 3 * DAY_MS)
        assert three.sums("1h") == {167: 1, 168: 1}
        assert charged(three) == {H: {1}, B: {2}}


def test_a_later_version_takes_the_place_of_one_that_waits(service: Running) -> None:
    service.advance(H + HOUR_MS)
    applied(service, changed(2, privacy__epsilon=2), "next-period")
    done = applied(service, changed(3, privacy__epsilon=3), "next-period")
    assert done.superseded == (2,)
    assert [c.path for c in done.changes] == ["privacy.epsilon"]
    done = applied(
        service, changed(4, privacy__epsilon=5), (dt.datetime.fromisoformat(AT_BORDER) + dt.timedelta(7)).isoformat()
    )
    assert done.superseded == ()
    assert [e.version.version for e in service.context.timeline.eras] == [1, 3, 4]
    assert [v.version for v in service.context.store.plan_versions()] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        (changed(privacy__epsilon=2), "now", "cannot begin now"),
        (changed(privacy__epsilon=2), "next-window", "border of the protection period only"),
        (changed(privacy__epsilon=2), "2026-03-05", "no such border"),
        (changed(privacy__epsilon=2), "2026-02-23", "past or too near"),
        (changed(privacy__epsilon=2), "soon", "is no moment"),
        (changed(purposes__research="Other."), "2026-03-03T01:00:00Z", "longest windows only"),
        (changed(privacy__unit="account"), "next-period", "for ever"),
        (changed(privacy__period="1d"), "next-period", "for ever"),
        (changed(resolutions={"1d": {"lateness": "48h"}}), "next-period", "for ever"),
        (changed(1), "now", "recorded already"),
        (changed(1, privacy__epsilon=2), "next-period", "needs a higher one"),
    ],
    ids=lambda v: v if len(v) < 40 else None,
)
def test_what_may_not_change_then_is_refused_with_what_to_do(service: Running, text: str, at: str, words: str) -> None:
    service.clock.advance_to(H + HOUR_MS)
    with pytest.raises(ConfigError, match=words):
        apply_plan(service.context.store, ExactMechanisms(), text, at, service.clock.now_ms())
    assert len(service.context.store.plan_versions()) == 1


def test_a_deployment_keeps_its_currency(tmp_path: Path) -> None:
    with running(tmp_path / "state", plan=changed(1)) as service:
        founded = service.context.budget.currency
        other = {"zcdp": "pure", "pure": "zcdp"}[founded.value]
        with pytest.raises(PlanError, match=r"privacy\.currency"):
            apply_plan(service.context.store, OpenDPMechanisms(), changed(privacy__currency=other), "next-period", H)


def test_two_who_change_it_at_once_do_not_undo_each_other(service: Running) -> None:
    done = apply_plan(service.context.store, ExactMechanisms(), changed(privacy__epsilon=2), "next-period", H + 1)
    with pytest.raises(StateConflict, match="recorded meanwhile"):
        service.context.store.add_plan(done.version, 1, ())


def test_queries_answer_for_metrics_and_versions_that_are_gone(service: Running) -> None:
    """Each release is read by the plan that it was made under, also where the metric is gone or has other values since."""
    service.consent(UNIT)
    service.advance(H + HOUR_MS)
    latency = next(m for m in service.plan.metrics if m.name == "latency")
    said = {"series": [latency.first_series + n for n in (1, 3)], "value": [1, 40]}
    assert [*latency.components] == ["le_0", "le_1", "le_2", "sum"]
    assert reason(service, service.starts(UNIT, H + HOUR_MS, **said)) == []
    narrower = {"range": [0, 50], "max_events": 10}
    applied(service, changed(metrics__theme=..., metrics__latency__per_unit=narrower), "next-period")
    service.advance(B + HOUR_MS)
    late = service.starts(UNIT, B + HOUR_MS, plan_version=2, **said)
    assert reason(service, late) == []
    service.advance(B + 3 * DAY_MS)
    rows = service.analyst.releases("latency", (), resolution="1h", statistics=["mean", "units"]).to_pylist()
    told = [(r["plan_version"], r["value"]) for r in rows if r["statistic"] == "mean" and r["value"] != 500]
    assert (1, 40) in told
    assert (2, 40) in told
    named = {m.name for m in service.analyst.metrics().metrics}
    assert "theme" in named
    assert {r["plan_version"] for r in service.analyst.releases("theme", (), resolution="1d").to_pylist()} == {1}
    stated = service.analyst.metrics().plan_versions
    assert [(v.version, v.active_from_ms) for v in stated] == [(1, H), (2, B)]
    with pytest.raises(Exception, match="spans several plan versions"):
        service.analyst.releases("starts", (), resolution="1d", statistics=["sum"], roll_up_time=True)
    border = dt.datetime.fromtimestamp(B / 1000, dt.UTC)
    first = service.analyst.releases("starts", resolution="1d", statistics=["sum"], roll_up_time=True, end=border)
    assert len(first.to_pylist()) == 1
