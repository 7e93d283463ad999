"""Rows of a unit that asked for it are removed from every file, whatever happens meanwhile, and nobody else's (R3)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from hushmeter import limits
from hushmeter.errors import Failure, KeyGone, RateLimited, SegmentLost
from hushmeter.ingest.identity import pseudonym_of
from hushmeter.model.consent import Decision
from hushmeter.model.key_names import data_key, period_key
from hushmeter.model.states import WindowState
from hushmeter.model.stored import Decided
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS, Span
from hushmeter.ports import StateStore
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.disclosure.retention import RowKind, held
from hushmeter.service.intake.intake import Intake
from hushmeter.service.sealer import erasures as erasing
from hushmeter.service.sealer.erasures import Erasing
from hushmeter.storage.log.segments import SegmentFiles
from hushmeter.testing.clock import FakeClock
from tests.service.by_hand import PLAN, H, Hand, erase, opened, reports, sealer_of, sums, windows
from tests.service.test_withdrawal import failing, interrupted
from tests.service.test_worker import YES, working

DAY_DUE = H + DAY_MS + HOUR_MS
PERIOD = Span.parse("1w")


def count(context: Context, hand: Hand, unit: str) -> dict[int, int]:
    """How many rows of a unit are held, by storage window in hours since the foundation."""
    # Where no report was taken in there is no key yet.
    key, found = context.keys.get_or_create(period_key(PERIOD.window_of(H + 1).start_ms)), Counter[int]()
    for start in context.log.storage_windows():
        for segment in context.store.segments([start]):
            with contextlib.suppress(SegmentLost, KeyGone):
                rows = context.log.rows_of(start, segment.segment_id, pseudonym_of(key, hand.subject(unit)))
                found[(start - H) // HOUR_MS] += len(rows)
    return {hour: rows for hour, rows in found.items() if rows}


def reported(state_dir: Path, hours: int = 3, plan: str = PLAN) -> tuple[Context, FakeClock, Hand]:
    """A deployment in each of whose first hours two units have reported; it is half past in the last."""
    clock = FakeClock(H)
    context = opened(state_dir, clock, plan)
    hand = Hand(context)
    hand.decide("a", "b")
    for hour in range(hours):
        clock.set(H + hour * HOUR_MS + 30 * MINUTE_MS)
        for unit, value in (("a", 3), ("b", 7)):
            assert len(hand.send(unit, clock.now_ms(), value).admitted) == 1
    return context, clock, hand


def test_rows_are_removed_from_every_window(tmp_path: Path) -> None:
    """Of all hours, released or not, rows or totals, the unit's rows are gone at the next turn; the others' all stay."""
    context, clock, hand = reported(tmp_path)
    sealer = sealer_of(context)
    hand.segments.tick()
    sealer.run_due()
    assert windows(context, WindowState.RELEASED) == [("1h", 0), ("1h", 1)]
    assert [h.kind for h in held(context)][:3] == [RowKind.TOTALS, RowKind.TOTALS, RowKind.ROWS]
    assert count(context, hand, "a") == count(context, hand, "b") == {0: 1, 1: 1, 2: 1}
    clock.advance(1)
    erase(context, hand, "a")
    assert [h.count for h in held(context) if h.kind is RowKind.ERASURES] == [1]
    hand.segments.tick()
    sealer.run_due()
    assert count(context, hand, "a") == {}
    assert count(context, hand, "b") == {0: 1, 1: 1, 2: 1}
    assert context.store.erasures() == ()
    assert [h for h in held(context) if h.kind is RowKind.ERASURES] == []
    clock.set(DAY_DUE)
    hand.segments.tick()
    sealer.run_due()
    assert sums(context, "1h") == {0: 10, 1: 10, 2: 7}
    assert sums(context, "1d") == {0: 21}
    assert windows(context, WindowState.LOST) == []


def test_a_segment_that_is_written_is_waited_for(tmp_path: Path) -> None:
    """An erasure is done when the owner of each segment of its time has ended it, and not before; then at once."""
    context, clock, hand = reported(tmp_path, hours=1)
    other = Hand(context)
    other.decide("c")
    assert len(other.send("a", clock.now_ms()).admitted) == 1
    sealer = sealer_of(context)
    clock.advance(1)
    erase(context, hand, "a")
    hand.segments.tick()
    sealer.run_due()
    assert count(context, hand, "a") == {0: 1}
    assert [e.subject for e in context.store.erasures()] == [hand.subject("a")]
    other.segments.end_through(context.store.decided().erasing_through)
    other.segments.tick()
    sealer.run_due()
    assert (count(context, hand, "a"), count(context, hand, "b")) == ({}, {0: 1})
    assert context.store.erasures() == ()


def test_a_dead_workers_rows(tmp_path: Path) -> None:
    """A worker that died takes nothing with it: its segment is fenced, and then rewritten."""
    context, clock, hand = reported(tmp_path, hours=1)
    clock.advance(1)
    erase(context, Hand(context), "a")
    sealer = sealer_of(context)
    sealer.run_due()
    assert count(context, hand, "a") == {0: 1}
    for _ in range(2):
        clock.advance(0, limits.LEASE_S)
        sealer.run_due()
    sealer.run_due()
    assert (count(context, hand, "a"), count(context, hand, "b")) == ({}, {0: 1})
    assert context.store.erasures() == ()


def test_what_is_agreed_to_anew_stays(tmp_path: Path) -> None:
    """A unit that agrees again after it was erased keeps what it reports from then on, and that alone."""
    context, clock, hand = reported(tmp_path, hours=1)
    clock.advance(1)
    erase(context, hand, "a")
    clock.advance(1)
    hand.decide("a")
    hand.segments.tick()
    clock.advance(2 * MINUTE_MS)
    assert len(hand.send("a", clock.now_ms(), 50).admitted) == 1
    hand.segments.retire()
    sealer = sealer_of(context)
    sealer.run_due()
    assert count(context, hand, "a") == {0: 1}
    assert context.store.erasures() == ()
    clock.set(DAY_DUE)
    sealer.run_due()
    assert sums(context, "1h") == {0: 57}


def test_while_its_window_is_sealed(tmp_path: Path) -> None:
    """An erasure that comes while a window is sealed is too late for it: its rows go once that has ended."""
    context, clock, hand = reported(tmp_path, hours=1)
    clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    hand.segments.retire()
    once = [lambda: erase(context, hand, "a")]
    sealer_of(interrupted(context, lambda: once and once.pop()())).run_due()
    assert sums(context, "1h") == {0: 10}
    assert (count(context, hand, "a"), context.store.erasures()) == ({}, ())


@pytest.mark.parametrize("units", [1, 20])
def test_rows_of_a_window_that_waits_stay(tmp_path: Path, units: int) -> None:
    """However many are erased between a window's cut-off and its release, it is released as of its cut-off."""
    context, clock, hand = reported(tmp_path, hours=2)
    others = [f"o{n}" for n in range(units)]
    hand.decide(*others)
    clock.advance(2 * MINUTE_MS)
    for unit in others:
        assert len(hand.send(unit, clock.now_ms(), 1).admitted) == 1
    hand.segments.retire()
    Hand(context)
    erase(context, hand, *others[: units // 2])
    before = len(context.store.erasures())
    clock.set(H + 2 * HOUR_MS + 10 * MINUTE_MS)
    stuck = sealer_of(interrupted(context, failing(True, True)))
    for unit in others[units // 2 :]:
        erase(context, hand, unit)
        clock.advance(0, erasing.ERASURES_PAUSE_S)
        stuck.run_due()
    stuck.run_due()
    stuck.run_due()
    assert windows(context, WindowState.FIXED) == []
    assert before == units // 2
    assert sums(context, "1h") == {0: 10, 1: 10 + units - units // 2}
    clock.advance(0, erasing.ERASURES_PAUSE_S)
    stuck.run_due()
    assert context.store.erasures() == ()
    assert count(context, hand, others[-1]) == {}


def test_an_erasure_of_before_the_cut_off_waits_for_nothing(tmp_path: Path) -> None:
    """While a window waits, what was asked for before its cut-off is removed, and what was asked for later stays."""
    context, clock, hand = reported(tmp_path, hours=1)
    erase(context, hand, "a")
    hand.segments.retire()
    clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    stuck = sealer_of(interrupted(context, failing(True, True, True)))
    erase(context, hand, "b")
    stuck.run_due()
    assert (count(context, hand, "a"), count(context, hand, "b")) == ({}, {0: 1})
    assert [e.subject for e in context.store.erasures()] == [hand.subject("b")]
    clock.advance(0, erasing.ERASURES_PAUSE_S)
    sealer_of(context).run_due()
    assert sums(context, "1h") == {0: 7}
    assert (count(context, hand, "b"), context.store.erasures()) == ({}, ())


@pytest.mark.parametrize("removed", [False, True])
def test_a_report_of_the_future_needs_the_consent_of_its_receipt(tmp_path: Path, *, removed: bool) -> None:
    """Consent that is given anew does not reach a report of before, also where its interval begins later; erased or not."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    hand = Hand(context)
    hand.decide("u")
    clock.set(H + 30 * MINUTE_MS)
    assert len(hand.send("u", clock.now_ms() + 3 * MINUTE_MS, 5).admitted) == 1
    clock.advance(MINUTE_MS)
    erase(context, hand, "u")
    clock.advance(MINUTE_MS // 2)
    hand.decide("u")
    hand.segments.tick()
    if removed:
        sealer_of(context).run_due()
        assert (count(context, hand, "u"), context.store.erasures()) == ({}, ())
    else:
        context.store.end_erasures(2**40)
        assert count(context, hand, "u") == {0: 1}
    clock.set(DAY_DUE)
    sealer_of(context).run_due()
    assert (sums(context, "1h"), sums(context, "1d")) == ({}, {})


def test_kept_windows_outlive_an_erasure(tmp_path: Path) -> None:
    """Who is erased and comes back is counted in no more windows of the period than anybody else (P7)."""
    plan = PLAN.replace("range: [0, 100]", "range: [0, 100], max_windows: {1h: 1}")
    context, clock, hand = reported(tmp_path, hours=1, plan=plan)
    clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    hand.segments.tick()
    sealer = sealer_of(context)
    sealer.run_due()
    (kept,) = hand.held("a").kept
    assert (kept.metric, kept.resolution, kept.windows) == ("starts", "1h", 1)
    erase(context, hand, "a")
    clock.advance(1)
    hand.decide("a")
    hand.segments.tick()
    sealer.run_due()
    clock.advance(10 * MINUTE_MS)
    assert len(hand.send("a", clock.now_ms(), 50).admitted) == 1
    assert len(hand.send("b", clock.now_ms(), 60).admitted) == 1
    clock.set(H + 2 * HOUR_MS + 10 * MINUTE_MS)
    hand.segments.tick()
    sealer.run_due()
    assert sums(context, "1h") == {0: 10}
    assert hand.held("a").kept == (kept,)


def test_a_sealer_that_is_killed_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write of an erasure is the last before the sealer dies, the next one finishes; nothing else is lost."""
    context, clock, hand = reported(tmp_path)
    clock.advance(1)
    hand.segments.retire()
    sealer_of(context).run_due()
    erase(context, hand, "a")
    sync, steps = SegmentFiles.sync, 0

    class Killed(BaseException):
        pass

    def dying(self: SegmentFiles, *arguments: object) -> None:
        nonlocal steps
        steps += 1
        if steps <= 3:
            raise Killed
        sync(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(SegmentFiles, "sync", dying)
    for _ in range(3):
        with pytest.raises(Killed):
            Erasing(context, Meters()).run()
        assert len(context.store.erasures()) == 1
    Erasing(context, Meters()).run()
    assert context.store.erasures() == ()
    assert (count(context, hand, "a"), count(context, hand, "b")) == ({}, {0: 1, 1: 1, 2: 1})


def test_what_cannot_be_removed_stops_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the disk refuses is tried again; meanwhile all others are rewritten, and what waits is told."""
    context, clock, hand = reported(tmp_path)
    hand.segments.retire()
    sealer_of(context).run_due()
    clock.advance(1)
    erase(context, hand, "a")
    put, meters = SegmentFiles.put, Meters()
    refused = [True]

    def full(self: SegmentFiles, segment: object, temporary: Path) -> None:
        if refused and segment.storage_start_ms == H + HOUR_MS:  # type: ignore[attr-defined]
            temporary.unlink()
            raise Failure("the disk is out")
        put(self, segment, temporary)  # type: ignore[arg-type]

    monkeypatch.setattr(SegmentFiles, "put", full)
    waiting = Erasing(context, meters)
    waiting.run()
    assert (count(context, hand, "a"), count(context, hand, "b")) == ({1: 1}, {0: 1, 1: 1, 2: 1})
    assert len(context.store.erasures()) == 1
    assert meters.failures.labels("erase")._value.get() == 1
    refused.clear()
    waiting.run()
    assert (count(context, hand, "a"), context.store.erasures()) == ({}, ())


def test_lost_segments_end_with_their_window(tmp_path: Path) -> None:
    """A file that cannot be read keeps an erasure open, and operators told, until it is destroyed."""
    context, clock, hand = reported(tmp_path, hours=1)
    hand.segments.retire()
    (file,) = (tmp_path / "log" / str(H)).iterdir()
    file.write_bytes(b"damaged")
    clock.advance(1)
    erase(context, hand, "a")
    sealer = sealer_of(context)
    sealer.run_due()
    assert len(context.store.erasures()) == 1
    clock.set(DAY_DUE)
    sealer.run_due()
    clock.advance(0, erasing.ERASURES_PAUSE_S)
    sealer.run_due()
    assert context.log.storage_windows() == ()
    assert context.store.erasures() == ()


def test_late_erasures_are_told(tmp_path: Path) -> None:
    """One that has waited for longer than a window of the finest resolution is an operator's business."""
    context, clock, hand = reported(tmp_path, hours=1)
    meters = Meters()
    work = Erasing(context, meters)
    clock.advance(1)
    erase(context, hand, "a")
    for late in (0, 1):
        clock.advance(late, erasing.ERASURES_PAUSE_S)
        work.run()
        assert meters.failures.labels("erase")._value.get() == late
        clock.advance(HOUR_MS if not late else 0, 0)


def test_windows_have_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Erasing stops after a while, and goes on where it was; what comes meanwhile waits for the next batch."""
    context, clock, hand = reported(tmp_path, hours=4)
    hand.segments.retire()
    sealer_of(context).run_due()
    clock.advance(1)
    erase(context, hand, "a")
    honest, done = context.log.erase, []

    def slow(start: int, segment: str, frames: int, units: list[bytes]) -> None:
        clock.advance(0, 0.6)
        done.append((start - H) // HOUR_MS)
        honest(start, segment, frames, units)

    monkeypatch.setattr(context.log, "erase", slow)
    work = Erasing(context, Meters())
    work.run()
    assert done == [0, 1]
    erase(context, hand, "b")
    work.run()
    assert done == [0, 1, 2, 3]
    work.run()
    assert (count(context, hand, "a"), count(context, hand, "b")) == ({}, {0: 1, 1: 1, 2: 1, 3: 1})
    clock.advance(0, erasing.ERASURES_PAUSE_S)
    for _ in range(3):
        work.run()
    assert (count(context, hand, "b"), context.store.erasures()) == ({}, ())
    assert done == [0, 1, 2, 3] * 2


def test_no_file_holds_the_unit(tmp_path: Path) -> None:
    """Nothing in the log leads to the unit, also with all keys: every frame and run is opened and searched."""
    context, clock, hand = reported(tmp_path)
    sealer = sealer_of(context)
    hand.segments.tick()
    sealer.run_due()
    clock.advance(1)
    erase(context, hand, "a")
    hand.segments.tick()
    sealer.run_due()
    names = {u: pseudonym_of(context.keys.get(period_key(H)), hand.subject(u)) for u in ("a", "b")}
    found = []
    for start in context.log.storage_windows():
        paths = sorted((tmp_path / "log" / str(start)).iterdir())
        assert [path.suffix for path in paths] == [".runs"] * len(paths)
        for segment in context.store.segments([start]):
            rows = context.log.read(start, [segment.segment_id], 0, 0)
            found += [high.to_bytes(8, "big") + low.to_bytes(8, "big") for high, low in rows.pseudonyms.tolist()]
    assert set(found) == {names["b"]}
    assert len(found) == 3


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
        shown = context.plan.purposes[0].text_hash

        async def run() -> None:
            async with working(context) as worker:
                grant = Decision(bytes(16), "tuning", given=True, received_at_ms=0, text_hash=shown)
                for _ in range(limits.DECIDING_PER_UNIT_AND_MINUTE):
                    await worker.decide(b"u", [grant])
                with pytest.raises(RateLimited):
                    await worker.decide(b"u", [grant])
                await worker.erase(b"u")
                assert not (await worker.consent_of(b"u"))["tuning"].given

        asyncio.run(run())


@pytest.mark.parametrize("broken", [SegmentLost("the file is damaged"), None])
def test_holdings_leave_out_what_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: SegmentLost | None
) -> None:
    """What is held on a unit is told as far as it can be read; a window whose key is gone holds nothing any more."""
    context, clock, hand = reported(tmp_path)
    if broken is None:
        context.keys.destroy(data_key(H + HOUR_MS))
    else:
        honest: Callable[..., object] = context.log.rows_of

        def damaged(start: int, *arguments: object) -> object:
            if start == H + HOUR_MS:
                raise broken
            return honest(start, *arguments)

        monkeypatch.setattr(context.log, "rows_of", damaged)
    assert count(context, hand, "a") == {0: 1, 2: 1}
    found = hand.held("a")
    assert [r.points for r in found.rows] == [{"starts": 1}] * 2
    assert [r.dies_ms for r in found.rows] == [DAY_DUE] * 2
    assert (found.decisions, found.erasure) == (1, None)
    assert hand.held("nobody").rows == ()
    clock.set(DAY_DUE)
    hand.segments.tick()
