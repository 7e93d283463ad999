"""The worker that takes an erasure answers alike for every unit, and no worker takes a row of an erased one (R3)."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from hushmeter import limits
from hushmeter.errors import Failure, RateLimited
from hushmeter.model.stored import Decided
from hushmeter.model.time import MINUTE_MS
from hushmeter.ports import StateStore
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.intake.intake import Intake
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import DAY_DUE, H, Hand, erase, opened, reports, sealer_of, sums
from tests.service.intake_worker import YES, working
from tests.service.reported_hours import count


class CallsOf:
    """A state store whose calls are written down, with all that does not name a unit."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.calls: list[object] = []

    def __getattr__(self, name: str) -> object:
        method = getattr(self._store, name)

        def call(*arguments: object) -> object:
            if name == "record_decisions":
                decisions, _, erased = arguments
                said = [dataclasses.replace(d, subject=bytes(16)) for d in decisions]  # type: ignore[attr-defined]
                self.calls.append((name, said, len(erased)))  # type: ignore[attr-defined]
            else:
                self.calls.append(name)
            return method(*arguments)

        return call


class TestWorkers:
    """The worker that takes an erasure, and others."""

    def test_unknown_units_are_erased_alike(self, tmp_path: Path) -> None:
        """What is written, in how many calls, and what is answered do not tell a known unit from another (R3)."""
        clock = FakeClock(H)
        store = CallsOf(opened(tmp_path, clock).store)
        context = dataclasses.replace(opened(tmp_path, clock), store=store)  # type: ignore[arg-type]

        async def run() -> None:
            async with working(context) as worker:
                await worker.decide(b"known", YES)
                clock.advance(2 * MINUTE_MS)
                assert (await worker.submit(reports(context, ["known"], clock.now_ms()))).accepted == 1
                seen = []
                for unit in (b"known", b"never heard of", b"known"):
                    store.calls.clear()
                    at = await worker.erase(unit)
                    seen.append((at, [c for c in store.calls if isinstance(c, tuple) or c.startswith("erasing")]))
                assert seen[0] == seen[1] == seen[2]
                assert seen[0][0] == clock.now_ms()

        asyncio.run(run())

    def test_every_purpose_is_withdrawn(self, tmp_path: Path) -> None:
        """Nothing is given after an erasure, and that is on record; reports are refused at once."""
        clock = FakeClock(H)
        context = opened(tmp_path, clock)

        async def run() -> None:
            async with working(context) as worker:
                await worker.decide(b"u", YES)
                clock.advance(2 * MINUTE_MS)
                assert (await worker.consent_of(b"u"))["tuning"].given
                await worker.erase(b"u")
                assert not (await worker.consent_of(b"u"))["tuning"].given
                outcome = await worker.submit(reports(context, ["u"], clock.now_ms()))
                assert [r.reason.name for r in outcome.rejections] == ["NO_CONSENT"]
                assert [(d.given, d.source) for d in context.store.decisions_after(0)[1]] == [
                    (True, ""),
                    (False, "erasure"),
                ]

        asyncio.run(run())

    def test_another_worker_hears_of_it_with_the_next_decision(self, tmp_path: Path) -> None:
        """A worker takes nothing of an erased unit; what comes with new consent goes into a segment that stays."""
        clock = FakeClock(H)
        context = opened(tmp_path, clock)
        # The second worker follows nothing by itself, as if it were paused between two ticks.
        other_context = opened(tmp_path, clock, serves=False)
        sealer = sealer_of(context)
        hand = Hand(context)

        async def run() -> None:
            async with working(context) as one, working(other_context) as other:
                await one.decide(b"u", YES)
                clock.advance(2 * MINUTE_MS)
                for worker in (one, other):
                    await worker.consent_of(b"u")
                    assert (await worker.submit(reports(context, ["u"], clock.now_ms()))).accepted == 1
                other._commits.tick = lambda: None  # type: ignore[method-assign]
                await one.erase(b"u")
                outcome = await other.submit(reports(context, ["u"], clock.now_ms()))
                assert [r.reason.name for r in outcome.rejections] == ["NO_CONSENT"]
                clock.advance(1)
                await one.decide(b"u", YES)
                clock.advance(2 * MINUTE_MS)
                again = reports(context, ["u"], clock.now_ms(), 50)
                assert (await other.submit(again)).accepted == 1

        asyncio.run(run())
        sealer.run_due()
        assert count(context, hand, "u") == {0: 1}
        assert context.store.erasures() == ()
        clock.set(DAY_DUE)
        sealer.run_due()
        assert sums(context, "1h") == {0: 50}

    def test_a_new_segment_takes_nothing_of_an_erased_unit(self, tmp_path: Path) -> None:
        """A worker that has not heard of an erasure hears of it before its next segment takes a row."""
        clock = FakeClock(H)
        context = opened(tmp_path, clock)
        hand = Hand(context)

        async def run() -> None:
            async with working(context) as worker:
                await worker.decide(b"u", YES)
                clock.advance(2 * MINUTE_MS)
                await worker.consent_of(b"u")
                worker._commits.tick = lambda: None  # type: ignore[method-assign]
                erase(context, hand, "u")
                outcome = await worker.submit(reports(context, ["u"], clock.now_ms()))
                assert [r.reason.name for r in outcome.rejections] == ["NO_CONSENT"]

        asyncio.run(run())
        assert count(context, hand, "u") == {}

    def test_a_store_that_fails_between(self, tmp_path: Path) -> None:
        """Where the worker cannot learn which segments end, it asks again before anything else: no new row is in danger."""
        clock = FakeClock(H)
        real = opened(tmp_path, clock)
        failing: list[Exception] = []

        class Store:
            def __getattr__(self, name: str) -> object:
                return getattr(real.store, name)

            def decided(self) -> Decided:
                if failing:
                    raise failing.pop()
                return real.store.decided()

        context = dataclasses.replace(real, store=Store())  # type: ignore[arg-type]
        worker, hand = Intake(context, Meters()), Hand(real)
        # From the start: one that is under way would meet the failure in place of the question.
        worker._commits.tick = lambda: None  # type: ignore[method-assign]

        async def run() -> None:
            await worker.start()
            try:
                await worker.decide(b"u", YES)
                clock.advance(2 * MINUTE_MS)
                assert (await worker.submit(reports(context, ["u"], clock.now_ms()))).accepted == 1
                erase(real, hand, "u")
                clock.advance(1)
                hand.decide("u")
                failing.append(Failure("the database is away"))
                with pytest.raises(Failure):
                    await worker.consent_of(b"u")
                assert (await worker.consent_of(b"u"))["tuning"].given
                clock.advance(2 * MINUTE_MS)
                assert (await worker.submit(reports(context, ["u"], clock.now_ms(), 50))).accepted == 1
            finally:
                await worker.stop()

        asyncio.run(run())
        sealer_of(real).run_due()
        assert count(real, hand, "u") == {0: 1}
        assert real.store.erasures() == ()

    def test_too_many(self, tmp_path: Path) -> None:
        """A unit that erases itself again and again is told to wait, and nothing of that is recorded."""
        context = opened(tmp_path / "state", FakeClock(H))

        async def run() -> None:
            async with working(context) as worker:
                for _ in range(limits.ERASING_PER_UNIT_AND_MINUTE):
                    await worker.erase(b"u")
                with pytest.raises(RateLimited, match="erasure was not recorded"):
                    await worker.erase(b"u")
                await worker.erase(b"other")
                assert len(context.store.decisions_after(0)[1]) == limits.ERASING_PER_UNIT_AND_MINUTE + 1

        asyncio.run(run())

    def test_decisions_leave_room_for_it(self, tmp_path: Path) -> None:
        """A unit that has decided too often is erased all the same."""
        context = opened(tmp_path / "state", FakeClock(H))

        async def run() -> None:
            async with working(context) as worker:
                for _ in range(limits.DECIDING_PER_UNIT_AND_MINUTE):
                    await worker.decide(b"u", YES)
                with pytest.raises(RateLimited):
                    await worker.decide(b"u", YES)
                await worker.erase(b"u")
                assert not (await worker.consent_of(b"u"))["tuning"].given

        asyncio.run(run())
