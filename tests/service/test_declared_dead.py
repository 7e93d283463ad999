"""A worker that was declared dead starts over under another name: its callers are answered, and each row counts once."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from hushmeter import limits
from hushmeter.errors import Failure, LeaseLost, StateConflict
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.deployment.plan_timeline import Timeline
from hushmeter.service.intake.commits import LEASE_RETRIES_MAX
from hushmeter.service.intake.intake import Intake
from hushmeter.service.intake.queue import Outcome
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import H, Hand, opened, reports, sealer_of, sums
from tests.service.intake_worker import YES, working

HALF = H + 30 * MINUTE_MS
HOUR_DUE = H + HOUR_MS + 10 * MINUTE_MS
DAY_DUE = H + 25 * HOUR_MS


class OtherStore:
    """The state store with other methods; each is given the real one of its name before its arguments."""

    def __init__(self, context: Context, **methods: Callable[..., object]) -> None:
        self._store, self._methods = context.store, methods

    def __getattr__(self, name: str) -> object:
        real = getattr(self._store, name)
        if name not in self._methods:
            return real
        return lambda *arguments: self._methods[name](real, *arguments)


def with_store(context: Context, **methods: Callable[..., object]) -> Context:
    """The deployment, with other methods of its state store."""
    return dataclasses.replace(context, store=OtherStore(context, **methods))  # type: ignore[arg-type]


def bury(context: Context) -> None:
    """Declares every worker dead that is not known to be."""
    for worker, beats in context.store.beats().items():
        assert context.store.declare_dead(worker, beats)


def segments(state_dir: Path) -> int:
    """How many segments lie on the disk."""
    return len(list(state_dir.rglob("*.frames")))


def unticked(worker: Intake) -> None:
    """Lets the worker do nothing by time alone."""
    worker._commits.tick = lambda: None  # type: ignore[method-assign]


@pytest.mark.parametrize("finds_out", ["at a commit", "at a tick"])
def test_it_starts_over_and_no_row_is_lost_or_counts_twice(tmp_path: Path, finds_out: str) -> None:
    """What was acknowledged before and after counts, and what was sent in between is acknowledged, all of it once."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)

    async def run() -> None:
        async with working(context) as worker:
            unticked(worker)
            await worker.decide(b"u", YES)
            clock.set(HALF)
            assert (await worker.submit(reports(context, ["u"], HALF, 1))).accepted == 1
            (before,) = context.store.beats()
            bury(context)
            clock.advance(0, monotonic_s=limits.LEASE_S)
            if finds_out == "at a tick":
                await worker._in_order(lambda: type(worker._commits).tick(worker._commits))
                assert len(context.store.beats()) == 1
            assert (await worker.submit(reports(context, ["u"], HALF, 10))).accepted == 1
            (after,) = context.store.beats()
            assert after != before

    asyncio.run(run())
    clock.set(HOUR_DUE)
    sealer_of(context).run_due()
    assert sums(context, "1h") == {0: 11}


def test_a_worker_that_is_declared_dead_again_and_again_refuses(tmp_path: Path) -> None:
    """After so many names the callers hear of it, and nothing of what they sent is counted."""
    clock = FakeClock(H)
    real = opened(tmp_path, clock)
    names: list[str] = []

    def stillborn(start: Callable[..., None], worker: str, now_ms: int) -> None:
        start(worker, now_ms)
        names.append(worker)
        if len(names) > 1:
            bury(real)

    context = with_store(real, start_worker=stillborn)

    async def run() -> object:
        async with working(context) as worker:
            unticked(worker)
            await worker.decide(b"u", YES)
            clock.set(HALF)
            bury(real)
            (answer,) = await asyncio.gather(worker.submit(reports(context, ["u"], HALF)), return_exceptions=True)
            return answer

    answer = asyncio.run(run())
    assert isinstance(answer, LeaseLost)
    assert "again and again" in str(answer)
    assert len(names) == 1 + LEASE_RETRIES_MAX
    clock.set(HOUR_DUE)
    sealer_of(real).run_due()
    assert sums(real, "1h") == {}


def test_a_worker_that_cannot_sign_off_ends_all_the_same(tmp_path: Path) -> None:
    """Where the store fails at the end, the worker stops in good order, and the sealer ends it a lease later."""
    clock = FakeClock(H)
    real = opened(tmp_path, clock)

    def fail(*_: object) -> None:
        raise Failure("the disk is away")

    context = with_store(real, retire_worker=fail)

    async def run() -> None:
        async with working(context) as worker:
            await worker.decide(b"u", YES)
            clock.set(HALF)
            assert (await worker.submit(reports(context, ["u"], HALF, 3))).accepted == 1

    asyncio.run(run())
    sealer = sealer_of(real)
    sealer.run_due()
    assert len(real.store.beats()) == 1
    clock.set(HOUR_DUE)
    clock.advance(0, monotonic_s=limits.LEASE_S)
    sealer.run_due()
    assert real.store.beats() == {}
    sealer.run_due()
    assert sums(real, "1h") == {0: 3}


def test_a_version_that_cannot_be_followed_costs_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that may not follow the plan's newest version says so to its operator, and goes on beating."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)

    def refuse(_: Timeline) -> None:
        raise StateConflict("nobody has approved it")

    meters = Meters()

    async def run() -> None:
        worker = Intake(context, meters)
        unticked(worker)
        await worker.start()
        monkeypatch.setattr(Timeline, "follow", refuse)
        (before,) = context.store.beats().values()
        clock.advance(0, monotonic_s=limits.BEAT_S)
        await worker._in_order(lambda: type(worker._commits).tick(worker._commits))
        (after,) = context.store.beats().values()
        assert after == before + 1
        await worker.stop()

    asyncio.run(run())
    assert meters.failures.labels("plan")._value.get() == 1


def test_a_worker_whose_clock_is_slow_learns_that_an_hour_is_over(tmp_path: Path) -> None:
    """By its own clock a report comes in time for the hour; the hour has begun to close, so it counts in the day alone."""
    fast, slow = FakeClock(H), FakeClock(H)
    context = opened(tmp_path, fast)
    sealer = sealer_of(context)
    behind = opened(tmp_path, slow, serves=False)

    async def run() -> Outcome:
        async with working(behind) as worker:
            unticked(worker)
            await worker.decide(b"u", YES)
            slow.set(HALF)
            fast.set(HOUR_DUE)
            sealer.run_due()
            outcome = await worker.submit(reports(behind, ["u"], HALF, 7))
            assert worker.now_ms() == HOUR_DUE
            return outcome

    outcome = asyncio.run(run())
    assert (outcome.accepted, outcome.missed) == (1, {"1h": [0]})
    fast.set(DAY_DUE)
    sealer.run_due()
    assert (sums(context, "1h"), sums(context, "1d")) == ({}, {0: 7})


def test_a_worker_whose_clock_is_slow_learns_that_every_window_is_over(tmp_path: Path) -> None:
    """Where the rows of the hour are destroyed, the report is rejected as too late, and no segment is left behind."""
    fast, slow = FakeClock(H), FakeClock(H)
    context = opened(tmp_path, fast)
    other, behind = Hand(context), opened(tmp_path, slow, serves=False)

    async def run() -> Outcome:
        async with working(behind) as worker:
            unticked(worker)
            await worker.decide(b"u", YES)
            for clock in (slow, fast):
                clock.set(HALF)
            assert len(other.send("u", HALF).admitted) == segments(tmp_path) == 1
            other.segments.retire()
            fast.set(DAY_DUE)
            sealer_of(context).run_due()
            assert segments(tmp_path) == 0
            outcome = await worker.submit(reports(behind, ["u"], HALF))
            assert worker.now_ms() >= DAY_DUE
            return outcome

    outcome = asyncio.run(run())
    assert outcome.accepted == 0
    assert [r.reason.name for r in outcome.rejections] == ["TOO_LATE"]
    assert segments(tmp_path) == 0


def test_a_window_that_is_over_gets_no_segment(tmp_path: Path) -> None:
    """Once all deadlines over a storage window have passed, none is registered for it."""
    clock = FakeClock(H)
    hand = Hand(opened(tmp_path, clock))
    clock.set(DAY_DUE - 1)
    hand.segments.open(H)
    assert hand.segments.takes(H, clock.now_ms())
    clock.set(DAY_DUE)
    hand.segments.open(H)
    assert not hand.segments.takes(H, clock.now_ms())


def test_a_full_segment_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that has reached its size takes no more rows; the next report goes to another, and both count."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    hand = Hand(context)
    hand.decide("u")
    clock.set(HALF)
    monkeypatch.setattr(limits, "SEGMENT_MAX_BYTES", 1)
    for value in (1, 2):
        hand.send("u", HALF, value)
        assert segments(tmp_path) == value
    hand.segments.retire()
    clock.set(HOUR_DUE)
    sealer_of(context).run_due()
    assert sums(context, "1h") == {0: 3}
