"""One worker without sockets: what it keeps in memory, and what one caller's trouble means to the others."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest

from hushmeter import limits
from hushmeter.errors import KeyGone, Overloaded
from hushmeter.model.consent import Decision
from hushmeter.model.key_names import data_key, period_key
from hushmeter.model.time import HOUR_MS, MINUTE_MS, WEEK_MS
from hushmeter.patience import PATIENCE_S
from hushmeter.ports import KeyRing, StateStore
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.intake.commits import Commits
from hushmeter.service.intake.doors import Doors
from hushmeter.service.intake.intake import Intake
from hushmeter.service.intake.open_segments import OpenSegments
from hushmeter.service.intake.period_keys import PeriodKeys
from hushmeter.service.intake.queue import IntakeQueue, Outcome
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import H, opened, reports
from tests.service.intake_worker import YES, working


async def reached(worker: Intake, condition: Callable[[], bool]) -> bool:
    """Whether something comes true within so many turns of the worker's thread."""
    for _ in range(1_000):
        if condition():
            return True
        await worker.consent_of(b"nobody")
    return False


class TellingRing:
    """A key ring that knows which of the period keys that it gave out somebody still holds."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self.held: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._keys, name)

    def get_or_create(self, name: str) -> bytes:
        held = self.held

        class Key(bytes):
            def __del__(self) -> None:
                held.remove(name)

        held.append(name)
        return Key(self._keys.get_or_create(name))


def test_period_keys_leave_memory_when_their_period_takes_no_report(tmp_path: Path) -> None:
    """A worker holds a period's key until the last deadline of its windows, and nowhere a moment longer (P3)."""
    clock = FakeClock(H)
    keys = TellingRing(opened(tmp_path, clock).keys)
    context = dataclasses.replace(opened(tmp_path, clock), keys=keys)  # type: ignore[arg-type]
    first, second = period_key(H), period_key(H + WEEK_MS)

    async def run() -> None:
        async with working(context) as worker:
            await worker.decide(b"u", YES)
            for now in (H + 30 * MINUTE_MS, H + WEEK_MS + 30 * MINUTE_MS):
                clock.set(now)
                assert (await worker.submit(reports(context, ["u"], now))).accepted == 1
            assert keys.held.count(first) == keys.held.count(second) == 1
            clock.set(H + WEEK_MS + HOUR_MS - 1)
            late = reports(context, ["u"], H + WEEK_MS - HOUR_MS)
            assert (await worker.submit(late)).accepted == 1
            assert keys.held.count(first) == 1
            clock.set(H + WEEK_MS + HOUR_MS)
            assert await reached(worker, lambda: first not in keys.held)
            assert keys.held.count(second) == 1
            assert (await worker.submit(late)).accepted == 0

    asyncio.run(run())


@pytest.mark.parametrize("of_loop", [True, False], ids=["event loop", "commit thread"])
def test_the_class_of_a_method_says_its_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, of_loop: bool) -> None:
    """Methods of the intake and its queue run on the event loop; those of what commits, judges and writes on one other."""
    classes = (Intake, IntakeQueue) if of_loop else (Commits, Doors, PeriodKeys, OpenSegments)
    callers: dict[str, set[int]] = {}

    def watched(name: str, method: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            callers.setdefault(name, set()).add(threading.get_ident())
            return method(*arguments)

        return call

    clock = FakeClock(H)
    context = opened(tmp_path, clock)

    async def run() -> None:
        async with working(context, AccessRules(unit_reports_per_minute=9)) as worker:
            await worker.decide(b"u", YES)
            clock.advance(2 * MINUTE_MS)
            sent = reports(context, ["u"], clock.now_ms())
            await asyncio.gather(worker.validate(sent), worker.submit(sent))
            await asyncio.gather(worker.consent_of(b"u"), worker.allowed_by(b"u"), worker.erase(b"u"))
            assert await reached(worker, lambda: "tick" in callers or of_loop)
            assert worker.subject(b"u")

    for one in classes:
        for name, method in vars(one).items():
            if callable(method) and name not in ("__init__", "seen_ms"):
                monkeypatch.setattr(one, name, watched(name, method))
    asyncio.run(run())
    here = {threading.get_ident()}
    assert len(set.union(*callers.values())) == 1
    assert (set.union(*callers.values()) == here) is of_loop
    assert {"submit", "put"} <= callers.keys() if of_loop else {"answers", "admit", "key", "append"} <= callers.keys()


class StallingStore:
    """A state store that records decisions when it is let, and fails at the second attempt in a way that nobody foresaw."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._attempts = 0
        self.asked, self.may_go_on = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def record_decisions(self, decisions: Sequence[Decision], now_ms: Callable[[], int], erased: Collection[bytes]) -> int:
        self.asked.set()
        assert self.may_go_on.wait(PATIENCE_S)
        self._attempts += 1
        if self._attempts == 2:
            raise ValueError("a defect")
        return self._store.record_decisions(decisions, now_ms, erased)


def test_a_defect_while_decisions_are_recorded_stops_nobody_else(tmp_path: Path) -> None:
    """All callers whose decisions were recorded together hear of the defect; earlier and later ones are answered."""
    context = opened(tmp_path, FakeClock(H))
    store = StallingStore(context.store)
    context = dataclasses.replace(context, store=store)  # type: ignore[arg-type]
    answers: list[object] = []

    async def run() -> None:
        async with working(context) as worker:
            first = asyncio.create_task(worker.decide(b"first", YES))
            await asyncio.to_thread(store.asked.wait, PATIENCE_S)
            together = [asyncio.create_task(worker.decide(b"%d" % n, YES)) for n in range(3)]
            await asyncio.sleep(0)
            store.may_go_on.set()
            answers.append(await first)
            answers.extend(await asyncio.gather(*together, return_exceptions=True))
            answers.append(await worker.decide(b"last", YES))

    # A worker whose event loop is blocked must fail this test, and not stop the suite.
    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert [type(answer) for answer in answers] == [tuple, ValueError, ValueError, ValueError, tuple]


def test_an_hour_without_its_key_refuses_its_own_messages_alone(tmp_path: Path) -> None:
    """Of messages that are committed together, those for an hour whose key is gone are refused, and the others taken."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)

    async def run() -> list[object]:
        async with working(context) as worker:
            await worker.decide(b"u", YES)
            clock.set(H + 30 * MINUTE_MS)
            assert (await worker.submit(reports(context, ["u"], clock.now_ms()))).accepted == 1
            context.keys.destroy(data_key(H))
            clock.set(H + 90 * MINUTE_MS)
            ends = [H + 90 * MINUTE_MS, H + 20 * MINUTE_MS, H + 80 * MINUTE_MS]
            messages = [reports(context, ["u"], end) for end in ends]
            return await asyncio.gather(*(worker.submit(m) for m in messages), return_exceptions=True)

    before, gone, after = asyncio.run(run())
    assert isinstance(before, Outcome)
    assert isinstance(gone, KeyGone)
    assert isinstance(after, Outcome)
    assert before.accepted == after.accepted == 1


def test_a_refusal_to_judge_tells_nothing_of_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many reports of others wait to be judged, whoever is refused reads the same words (R4)."""
    context = opened(tmp_path, FakeClock(H))
    monkeypatch.setattr(limits, "QUEUED_REPORTS_MAX", 10)

    async def run() -> set[str]:
        texts = set()
        async with working(context) as worker:
            for waiting in (1, 7):
                many, more = (reports(context, ["u"] * n, H) for n in (waiting, 10))
                judged, refused = await asyncio.gather(worker.validate(many), worker.validate(more), return_exceptions=True)
                assert isinstance(judged, Outcome)
                assert isinstance(refused, Overloaded)
                texts.add(str(refused))
        return texts

    assert len(asyncio.run(run())) == 1


@pytest.mark.parametrize("a_decides", [False, True])
def test_a_withdrawal_binds_at_every_worker(tmp_path: Path, a_decides: bool) -> None:
    """Once it is answered, no worker takes a report against it: without a tick, whatever others decide in between."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)

    async def run() -> None:
        async with working(context) as one, working(context) as two:
            one._commits.tick = lambda: None  # type: ignore[method-assign]
            await one.decide(b"b", YES)
            clock.advance(2 * MINUTE_MS)
            assert (await one.submit(reports(context, ["b"], clock.now_ms()))).accepted == 1
            await two.decide(b"b", [dataclasses.replace(YES[0], given=False)])
            if a_decides:
                await one.decide(b"a", YES)
            outcome = await one.submit(reports(context, ["b"], clock.now_ms()))
            assert [r.reason.name for r in outcome.rejections] == ["NO_CONSENT"]
            assert (await one.validate(reports(context, ["b"], clock.now_ms()))).accepted == 0
            clock.advance(1)
            await two.decide(b"b", YES)
            clock.advance(2 * MINUTE_MS)
            assert (await one.submit(reports(context, ["b"], clock.now_ms()))).accepted == 1

    asyncio.run(run())


def test_decisions_that_wait_are_recorded_before_reports(tmp_path: Path) -> None:
    """A report that came after a withdrawal never overtakes it, though both wait for the same thread."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)

    async def run() -> None:
        async with working(context) as worker:
            await worker.decide(b"b", YES)
            clock.advance(2 * MINUTE_MS)
            worker._deciding.add(b"b", [dataclasses.replace(YES[0], given=False)])
            (outcome,) = await worker._in_order(lambda: worker._commits.answers([reports(context, ["b"], clock.now_ms())]))
            assert isinstance(outcome, Outcome)
            assert outcome.accepted == 0

    asyncio.run(run())


def test_reports_are_judged_by_one_look_at_the_store(tmp_path: Path) -> None:
    """Of a group that needs no new segment, the store is asked once how far units have decided, and read no further."""
    clock = FakeClock(H)
    real = opened(tmp_path, clock)
    calls: list[str] = []

    class Store:
        def __getattr__(self, name: str) -> object:
            calls.append(name)
            return getattr(real.store, name)

    context = dataclasses.replace(real, store=Store())  # type: ignore[arg-type]

    async def run() -> None:
        async with working(context) as worker:
            worker._commits.tick = lambda: None  # type: ignore[method-assign]
            await worker.decide(b"b", YES)
            clock.advance(2 * MINUTE_MS)
            assert (await worker.submit(reports(context, ["b"], clock.now_ms()))).accepted == 1
            calls.clear()
            assert (await worker.submit(reports(context, ["b"], clock.now_ms()))).accepted == 1
            assert calls == ["decided"]

    asyncio.run(run())
