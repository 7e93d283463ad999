"""What one unit does changes nothing for others, where two parts of the service meet (P1, P9, R1, R4)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hushmeter.access.rates import UnitRates
from hushmeter.model.consent import Decision
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS, WEEK_MS
from hushmeter.service.deployment import restoring
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.plan_change import apply_plan
from hushmeter.storage.state.store import SqlStateStore
from hushmeter.testing.clock import FakeClock
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.service import deployment_with_backup
from tests.service.deployment_by_hand import PLAN, H, Hand, erase, opened, reports, sealer_of, sums
from tests.service.intake_worker import YES, working

NO = [Decision(bytes(16), "tuning", given=False, received_at_ms=0)]


@pytest.mark.parametrize("stranger", [False, True])
def test_when_rows_are_removed_decides_no_copies(tmp_path: Path, *, stranger: bool) -> None:
    """A report that is sent again after its unit's erasure counts as its new copy says, whoever else asks for one."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    hand, sealer, same = Hand(context), sealer_of(context), bytes(range(16))
    hand.decide("u")
    clock.set(H + 50 * MINUTE_MS)
    assert len(hand.send("u", clock.now_ms(), 3, same).admitted) == 1
    clock.set(H + HOUR_MS)
    if stranger:
        erase(context, hand, "nobody has heard of me")
    hand.segments.tick()
    # From now on erasures that come wait for ten seconds, so that they are done together.
    sealer.run_due()
    clock.advance(MINUTE_MS, 1.0)
    erase(context, hand, "u")
    clock.advance(1)
    hand.decide("u")
    clock.set(H + HOUR_MS + 5 * MINUTE_MS)
    hand.segments.tick()
    assert len(hand.send("u", H + HOUR_MS + 4 * MINUTE_MS, 50, same).admitted) == 1
    clock.set(H + 2 * HOUR_MS + 10 * MINUTE_MS)
    hand.segments.tick()
    sealer.run_due()
    assert sums(context, "1h") == {1: 50}
    hand.segments.retire()
    clock.set(H + DAY_MS + HOUR_MS)
    sealer.run_due()
    assert sums(context, "1d") == {0: 50}


def test_an_erasure_of_before_is_carried_out_before_a_window_is_read(tmp_path: Path) -> None:
    """However recently others' rows were removed, no row of before an erasure is there when its window is sealed."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock, PLAN.replace("{lateness: 10m}", "{lateness: 0m}"))
    hand, sealer, same = Hand(context), sealer_of(context), bytes(range(16))
    hand.decide("u", "other")
    clock.set(H + 50 * MINUTE_MS)
    assert len(hand.send("u", clock.now_ms(), 3, same).admitted) == 1
    assert len(hand.send("other", clock.now_ms(), 1).admitted) == 1
    erase(context, hand, "other")
    hand.segments.tick()
    sealer.run_due()
    erase(context, hand, "u")
    clock.advance(1)
    hand.decide("u")
    clock.advance(2 * MINUTE_MS)
    hand.segments.tick()
    assert len(hand.send("u", clock.now_ms(), 50, same).admitted) == 1
    clock.set(H + HOUR_MS)
    hand.segments.tick()
    sealer.run_due()
    assert sums(context, "1h") == {0: 50}


@pytest.mark.parametrize("stranger", [False, True])
def test_rates_of_two_versions_are_settled_together(tmp_path: Path, *, stranger: bool) -> None:
    """A unit that used up its rate at one version's door is refused, also where another reports at another version's."""
    border, rules = H + WEEK_MS, AccessRules(unit_reports_per_minute=1)

    async def outcome() -> list[str]:
        clock = FakeClock(H)
        context = opened(tmp_path, clock)
        async with working(context, rules) as worker:
            for unit in (b"x", b"s"):
                await worker.decide(unit, YES)
            clock.set(H + DAY_MS)
            changed = PLAN.replace("version: 1", "version: 2").replace("[0, 100]", "[0, 99]")
            apply_plan(context.store, ExactMechanisms(), changed, "next-period", clock.now_ms())
            context.timeline.follow()
            clock.set(border + 5 * MINUTE_MS)
            first = [reports(context, ["x"], border - 5 * MINUTE_MS)]
            if stranger:
                first.append(reports(context, ["s"], border + 4 * MINUTE_MS))
            told = await worker._in_order(lambda: worker._commits.answers(first))
            assert not isinstance(told[0], Exception)
            assert told[0].accepted == 1
            (again,) = await worker._in_order(
                lambda: worker._commits.answers([reports(context, ["x"], border - 4 * MINUTE_MS)])
            )
            assert not isinstance(again, Exception)
            return [r.reason.name for r in again.rejections]

    assert asyncio.run(outcome()) == ["RATE_LIMITED"]


def test_what_was_judged_and_not_settled_is_forgotten() -> None:
    """Units judged for one group count in its room and its rates, and nothing of it counts in the next group."""
    rates = UnitRates(1, tracked=2)
    judged = rates.judge([b"a", b"a", b"b", b"c"], 0.0)
    assert (judged.over, judged.crowded) == ([1], [3])
    judged = rates.judge([b"b", b"c", b"a"], 0.0)
    assert (judged.over, judged.crowded) == ([], [2])


@pytest.mark.parametrize("stranger", [False, True])
def test_a_clock_that_is_set_back_a_little(tmp_path: Path, *, stranger: bool) -> None:
    """What a unit's decisions come to does not depend on whether another decided just before the clock was set back."""

    async def accepted() -> int:
        clock = FakeClock(H)
        context = opened(tmp_path, clock)
        async with working(context) as worker:
            await worker.decide(b"u", YES)
            clock.set(H + 20 * MINUTE_MS)
            # The worker has noticed the time.
            await worker._in_order(worker._commits.tick)
            if stranger:
                await worker.decide(b"stranger", NO)
            clock.set(clock.now_ms() - 40_000)
            await worker.decide(b"u", NO)
            clock.advance(20_000)
            await worker.decide(b"u", YES)
            clock.advance(20 * MINUTE_MS)
            return (await worker.submit(reports(context, ["u"], clock.now_ms()))).accepted

    assert asyncio.run(accepted()) == 1


def test_receipts_of_a_worker_never_fall(tmp_path: Path) -> None:
    """However its clock is set, a worker stamps nothing earlier than it has before."""
    clock = FakeClock(H)
    segments = Hand(opened(tmp_path, clock)).segments
    told = []
    for moment in (0, 50_000, 20_000, 20_001, 60_000, -HOUR_MS, 59_999, 60_001):
        clock.set(H + moment)
        told += [segments.seen_ms(), segments.now_ms()]
        segments.tick()
    assert told == sorted(told)
    assert [at - H for at in told[1::2]] == [0, 50_000, 50_000, 50_000, 60_000, 60_000, 60_000, 60_001]


@pytest.mark.parametrize("reporting", [False, True])
def test_windows_lost_ahead_of_time_move_no_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, reporting: bool
) -> None:
    """After a restore that lost a period before its end, one unit's report there leaves the worker's time as it is."""
    for name in ("HOURLY", "WEEKLY"):
        later = getattr(deployment_with_backup, name).replace("{lateness: 1h}", "{lateness: 48h}")
        monkeypatch.setattr(deployment_with_backup, name, later)
    machine, period = deployment_with_backup.left_behind(tmp_path)
    config = Config(state_dir=tmp_path / "restored", keys_dir=machine.keys)
    restoring.restore(machine.backup, config, machine.clock, ExactMechanisms())
    store = SqlStateStore.existing(config.state_dir)
    machine.plan = None
    apply_plan(store, ExactMechanisms(), deployment_with_backup.HOURLY, "next-period", machine.clock.now_ms())
    store.close()
    context, clock = machine.open(config.state_dir), machine.clock

    async def accepted() -> int:
        async with working(context) as worker:
            for unit in (b"a", b"u"):
                await worker.decide(unit, YES)
            clock.advance(2 * MINUTE_MS)
            if reporting:
                assert (await worker.submit(reports(context, ["a"], clock.now_ms()))).accepted == 0
            clock.set(period + WEEK_MS + 5 * MINUTE_MS)
            return (await worker.submit(reports(context, ["u"], clock.now_ms()))).accepted

    assert asyncio.run(accepted()) == 1


def test_an_outage_counts_as_one_before_a_worker_is_up(tmp_path: Path) -> None:
    """What a crash left open is ended before anything is sealed: completeness is the same however late a worker starts."""
    context = opened(tmp_path, FakeClock(H))
    number = context.store.begin_serving(H)
    context.store.mark_serving(number, H + 10 * MINUTE_MS)
    assert context.store.serving_ms(H, H + HOUR_MS) == HOUR_MS
    context.store.end_servings_left(H + 4 * HOUR_MS)
    before = [context.store.serving_ms(H + n * HOUR_MS, H + (n + 1) * HOUR_MS) for n in range(4)]
    context.store.begin_serving(H + 4 * HOUR_MS)
    assert before == [context.store.serving_ms(H + n * HOUR_MS, H + (n + 1) * HOUR_MS) for n in range(4)]
    assert before[0] < HOUR_MS / 2
    assert before[1:] == [0, 0, 0]
