"""Consent is given to a text: when the text changes, earlier grants count neither at the door nor at sealing (P8)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import tempfile
from pathlib import Path

import grpc
import hypothesis.strategies as st
import pytest
from hypothesis import given

from hushmeter.api.consent.v1 import consent_pb2 as pb
from hushmeter.api.consent.v1 import consent_pb2_grpc
from hushmeter.ingest.identity import subject_of
from hushmeter.model.consent import Decision
from hushmeter.model.stored import PlanVersion
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.plan.catalog import assign_blocks
from hushmeter.plan.reading import parse_plan
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.plan_timeline import Timeline
from hushmeter.testing.clock import FakeClock
from tests.examples import examples
from tests.service.deployment_by_hand import PLAN as STEPS
from tests.service.deployment_by_hand import H, Hand, opened, sealer_of, sums
from tests.service.harness import PLAN, finish, reasons, serving, submitted
from tests.service.running_service import Running

UNIT = "device-1"


def changed(context: Context, text: str, now: str, old: str) -> Context:
    """The deployment under a version of its plan that says something else."""
    assert old in text
    changed_text = text.replace("version: 1", "version: 2").replace(old, now)
    plan = parse_plan(changed_text, dt.date(2026, 3, 2))
    version = PlanVersion(2, plan.plan_hash, changed_text, context.budget, 0, 0, 0)
    blocks = assign_blocks(plan, context.store.series_blocks())
    timeline = Timeline(lambda after: (version,)[: after < 2], lambda: blocks, context.mechanisms)
    return dataclasses.replace(context, timeline=timeline)


def under(later: Context) -> dict[str, object]:
    """What a service needs of another version of the plan."""
    return {"timeline": later.timeline}


def states(service: Running, unit: str = UNIT) -> dict[str, tuple[bool, bool, int]]:
    """Whether each purpose is given, whether it should be asked, and why."""
    with grpc.insecure_channel(service.target) as channel:
        answer = consent_pb2_grpc.ConsentServiceStub(channel).GetConsent(pb.GetConsentRequest(unit_id=unit))
    return {s.purpose: (s.given, s.ask_again, s.ask_reason) for s in answer.states}


def test_a_changed_text_asks_again(tmp_path: Path) -> None:
    """Consent to an old text is not consent to the new one: the door refuses, and says what to ask; a new grant binds."""
    with serving(tmp_path) as service:
        assert states(service)["tuning"] == (False, True, pb.ASK_REASON_NEVER_DECIDED)
        service.consent(UNIT, tuning=True, research=False)
        assert states(service) == {
            "tuning": (True, False, pb.ASK_REASON_UNSPECIFIED),
            "research": (False, False, pb.ASK_REASON_UNSPECIFIED),
        }
        assert service.client.to_ask(UNIT) == []
        old = service.plan
        later = changed(service.context, PLAN, "Tune and sell models., ads: Show ads.", "Tune models.")
    with serving(tmp_path, parts=under(later)) as service:
        assert states(service) == {
            "tuning": (False, True, pb.ASK_REASON_TEXT_CHANGED),
            "ads": (False, True, pb.ASK_REASON_NEVER_DECIDED),
            "research": (False, False, pb.ASK_REASON_UNSPECIFIED),
        }
        assert service.client.to_ask(UNIT) == ["tuning", "ads"]
        with pytest.raises(grpc.RpcError) as caught:
            service.client.set_consent(UNIT, {"tuning": True}, shown=old)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "show it and ask again" in caught.value.details()
        assert service.client.set_consent(UNIT, {"tuning": True})["tuning"]


def test_the_door_refuses_consent_to_an_old_text(tmp_path: Path) -> None:
    """Reports of a unit that agreed to an older text are refused as if it had never agreed."""
    with serving(tmp_path) as service:
        service.consent(UNIT, tuning=True)
        later = changed(service.context, PLAN, "Tune more models.", "Tune models.")
    with serving(tmp_path, parts=under(later)) as service:
        now = H + 30 * MINUTE_MS
        service.clock.advance_to(now)
        recorder = service.client.recorder(UNIT)
        recorder.count("joins", 1, platform="ios", network="wifi")
        assert recorder.report(now - MINUTE_MS, now) is None
        recorder = type(recorder)(service.plan, UNIT, ["tuning", "research"])
        recorder.count("joins", 1, platform="ios", network="wifi")
        assert reasons(submitted(service, [finish(recorder, now)])) == {0: "NO_CONSENT"}


@pytest.mark.parametrize(("text", "released"), [("Tune models.", {0: 3}), ("Tune more models.", {})])
def test_sealing_leaves_consent_to_an_old_text_out(tmp_path: Path, text: str, released: dict[int, int]) -> None:
    """Rows that came in under an older text are in no release that is sealed under the new one."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    hand = Hand(context)
    hand.decide("stays", "agrees again")
    clock.set(H + 30 * MINUTE_MS)
    for number, unit in enumerate(("stays", "agrees again")):
        assert len(hand.send(unit, clock.now_ms(), number + 1).admitted) == 1
    clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    hand.segments.tick()
    later = changed(context, STEPS, text, "Tune models.")
    shown = later.plan.purposes[0].text_hash
    agreed = [Decision(hand.subject("agrees again"), "tuning", True, 0, shown)]
    context.store.record_decisions(agreed, lambda: H + 31 * MINUTE_MS)
    assert sealer_of(later).run_due() == 1
    assert sums(context, "1h") == released


def test_grants_without_a_hash_do_not_bind(tmp_path: Path) -> None:
    """A grant that was recorded without the hash of a text counts for no text; the unit is asked again."""
    with serving(tmp_path) as service:
        keys, store = service.context.keys, service.context.store
        subject = subject_of(keys.get("deployment"), UNIT.encode())
        store.record_decisions([Decision(subject, "tuning", True, H)], lambda: H)
        assert states(service)["tuning"] == (False, True, pb.ASK_REASON_TEXT_CHANGED)


def test_withdrawals_need_no_text(tmp_path: Path) -> None:
    """A unit can always withdraw, without a hash, and is not asked again whatever becomes of the text."""
    with serving(tmp_path) as service:
        service.consent(UNIT, tuning=True, research=True)
        service.client.set_consent(UNIT, {"tuning": False})
        assert states(service)["tuning"] == (False, False, pb.ASK_REASON_UNSPECIFIED)
        later = changed(service.context, PLAN, "Tune more models.", "Tune models.")
    with serving(tmp_path, parts=under(later)) as service:
        assert states(service)["tuning"] == (False, False, pb.ASK_REASON_UNSPECIFIED)


def test_clocks_that_go_back_bring_no_consent_to_what_was_before(tmp_path: Path) -> None:
    """A grant after a withdrawal binds from the withdrawal's receipt on at the earliest, however workers' clocks differ."""
    clock = FakeClock(H + HOUR_MS)
    context = opened(tmp_path, clock)
    ahead = Hand(context)
    ahead.decide("u")
    ahead.decide("u", given=False)
    clock.set(H + 30 * MINUTE_MS)
    behind = Hand(context)
    behind.decide("u")
    assert len(behind.send("u", clock.now_ms()).admitted) == 0
    clock.set(H + HOUR_MS + 2 * MINUTE_MS)
    assert len(behind.send("u", H + HOUR_MS).admitted) == 0
    assert len(behind.send("u", clock.now_ms()).admitted) == 1


@pytest.mark.parametrize(
    ("minutes", "hour", "day"),
    [(0, 0, 0), (70, 0, 0), (71, 1, 0), (130, 1, 0), (24 * 60 + 60, 24, 0), (24 * 60 + 61, 24, 1)],
)
def test_a_decision_is_told_what_it_reaches(tmp_path: Path, minutes: int, hour: int, day: int) -> None:
    """The first window whose deadline comes after the receipt, if by a millisecond: also the day over a closed hour."""
    context = opened(tmp_path, FakeClock(H))
    reached = context.reached(H + minutes * MINUTE_MS - 1)
    assert [(w.resolution, w.start_ms) for w in reached] == [("1h", H + hour * HOUR_MS), ("1d", H + day * 24 * HOUR_MS)]
    for window in reached:
        assert context.deadline_ms(window) > H + minutes * MINUTE_MS - 1


@examples(30)
@given(st.integers(-10, 200), st.integers(1, 120), st.integers(1, 120), st.integers(0, 5))
def test_what_is_reached_across_a_change(minutes: int, before: int, after: int, border: int) -> None:
    """Where a lateness changes, the window that is told and all later ones are reached, and the one before is not."""
    with tempfile.TemporaryDirectory() as directory:
        text = STEPS.replace("1d: {lateness: 1h}", "1d: {lateness: 20h}").replace("lateness: 10m", f"lateness: {before}m")
        context = opened(Path(directory), FakeClock(H), text)
        later = text.replace("version: 1", "version: 2").replace(f"1h: {{lateness: {before}m", f"1h: {{lateness: {after}m")
        plan = parse_plan(later, dt.date(2026, 3, 2))
        at = H + border * HOUR_MS
        version = PlanVersion(2, plan.plan_hash, later, context.budget, 0, at, at)
        first = context.store.plan_versions()[0]
        timeline = Timeline(
            lambda known: tuple(v for v in (first, version) if v.version > known),
            context.store.series_blocks,
            context.mechanisms,
        )
        changed_context = dataclasses.replace(context, timeline=timeline)
        receipt = H + minutes * MINUTE_MS
        hour, _ = changed_context.reached(receipt)
        hours = [hour.__class__("1h", start, start + HOUR_MS) for start in range(H, H + 12 * HOUR_MS, HOUR_MS)]
        passed = [w for w in hours if changed_context.deadline_ms(w) <= receipt]
        assert hour == hours[hours.index(passed[-1]) + 1 if passed else 0]
        context.store.close()


def test_clients_are_told_what_a_decision_reaches(tmp_path: Path) -> None:
    """The answer names receipt and windows; it is the same for every unit."""
    with serving(tmp_path) as service:
        service.clock.advance_to(H + 71 * MINUTE_MS)
        answers = [service.client.set_consent(unit, {"tuning": given}) for unit, given in (("a", True), ("b", False))]
        for answer in answers:
            assert answer.received_at_ms == H + 71 * MINUTE_MS
            assert [(w.resolution, w.window_start_ms, w.window_end_ms) for w in answer.reaches] == [
                ("1h", H + HOUR_MS, H + 2 * HOUR_MS),
                ("1d", H, H + 24 * HOUR_MS),
            ]
