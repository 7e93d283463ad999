"""What others' load decides about a unit: when it is received, within a commit's time, and nothing else (P2, P8, P9)."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from unittest import mock

import grpc
import numpy as np
import pytest

from hushmeter import limits
from hushmeter.api.consent.v1 import consent_pb2 as pb
from hushmeter.api.consent.v1 import consent_pb2_grpc
from hushmeter.clock import ReplayClock
from hushmeter.errors import Failure
from hushmeter.ingest.copies import Copies
from hushmeter.ingest.raw import SentReports
from hushmeter.model.report import ReportBatch
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.plan_change import apply_plan
from hushmeter.service.intake.intake import Intake
from hushmeter.storage.keys.files import DirectoryKeyRing
from hushmeter.storage.log.intake_log import FileIntakeLog
from hushmeter.testing.clock import FakeClock
from tests.plans import plan_text
from tests.service.deployment_by_hand import HOUR_DUE, PLAN, H, opened, reports, sealer_of, sums
from tests.service.harness import submitted
from tests.service.intake_worker import NO, YES, working
from tests.service.running_service import Running, running

HALF_PAST = H + 30 * MINUTE_MS
UNITS = [f"u{number}" for number in range(24)]
"""So many that a hash cannot choose the first copy of each by chance."""
TWO_PURPOSES = plan_text(
    """
  starts:
    kind: counter
    per_unit: {range: [0, 100]}
    statistics: [units, sum]
  opens:
    <<: *common
    purposes: [research]
""",
    asks="model_tuning",
    purposes="model_tuning: Tune models., research: Do research.",
    period="1d",
)
ONE_PURPOSE = (
    TWO_PURPOSES.replace("version: 1", "version: 2").replace(", research: Do research.}", "}").split("  opens:")[0]
)
"""The version that drops the other one."""


def copies(context: Context, ids: Sequence[bytes], value: int, end_ms: int = HALF_PAST) -> SentReports:
    """A copy of one report of each unit."""
    sent = reports(context, UNITS, end_ms, value)
    sent.rows = [(report_id, *row[1:]) for report_id, row in zip(ids, sent.rows, strict=True)]
    return sent


def row(number: int) -> ReportBatch:
    """One report without points, whose id is a number."""
    column, id_, nobody = np.zeros(1, np.int64), np.array([[number, 0]], np.uint64), np.zeros((1, 2), np.uint64)
    none = np.zeros(0, np.int64)
    return ReportBatch(
        nobody, id_, column, column, column, np.zeros(1, np.uint32), np.zeros(2, np.int64), none.astype(np.uint32), none
    )


def counted(context: Context, clock: FakeClock) -> dict[int, int]:
    """What is released of the first hour, at its deadline."""
    clock.set(HOUR_DUE)
    sealer_of(context).run_due()
    return sums(context, "1h")


@contextlib.asynccontextmanager
async def agreed(context: Context, rules: AccessRules | None = None) -> AsyncIterator[Intake]:
    """A worker at which all units have agreed."""
    async with working(context, rules) as worker:
        await asyncio.gather(*(worker.decide(unit.encode(), YES) for unit in [*UNITS, "stranger"]))
        yield worker


@pytest.mark.parametrize("together", [True, False], ids=["in one group", "in two groups of a millisecond"])
def test_load_of_others_does_not_choose_copies(tmp_path: Path, *, together: bool) -> None:
    """Copies that a stranger's message makes wait together count as they came, like those that came apart."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    ids = [os.urandom(16) for _ in UNITS]

    async def send() -> None:
        async with agreed(context) as worker:
            clock.set(HALF_PAST)
            stranger = worker.submit(reports(context, ["stranger"] * 2_000, HALF_PAST, 0))
            first = worker.submit(copies(context, ids, 2))
            if not together:
                await first
            second = worker.submit(copies(context, ids, 100))
            told = await asyncio.gather(stranger, first, second)
            assert [outcome.accepted for outcome in told[1:]] == [len(UNITS)] * 2
            assert len({outcome.received_at_ms for outcome in told}) == 1
            # A third copy, a moment later, is one too.
            clock.advance(1)
            await worker.submit(copies(context, ids, 50))

    asyncio.run(send())
    assert counted(context, clock) == {0: 2 * len(UNITS)}


@pytest.mark.parametrize("limited", [False, True], ids=["copies", "rates"])
def test_a_border_of_versions_does_not_reorder(tmp_path: Path, *, limited: bool) -> None:
    """In a group of reports of two versions the first copy counts, and the report that came first is let through."""
    clock, border = FakeClock(H), H + 20 * MINUTE_MS
    plan = PLAN + PLAN.split("metrics:")[1].replace("starts", "ends").replace("Starts", "Ends")
    head, tail = plan.replace("version: 1", "version: 2").split("  ends:")
    context = opened(tmp_path / "state", clock, plan)
    ids = [os.urandom(16) for _ in UNITS]

    async def send() -> None:
        async with agreed(context, AccessRules(unit_reports_per_minute=1) if limited else None) as worker:
            clock.set(border)
            # A metric that ends sooner may begin to do so at any moment.
            sooner = head + "  ends:" + tail.replace("2026-12-31", "2026-10-31")
            apply_plan(context.store, context.mechanisms, sooner, "now", clock.now_ms())
            assert context.timeline.follow()
            assert context.timeline.eras[1].from_ms == border
            clock.set(border + 5 * MINUTE_MS)
            first = copies(context, ids, 2, border + 4 * MINUTE_MS)
            second = copies(context, ids, 100, border - 2 * MINUTE_MS)
            told = await asyncio.gather(worker.submit(first), worker.submit(second))
            assert [outcome.accepted for outcome in told] == [len(UNITS), 0 if limited else len(UNITS)]

    asyncio.run(send())
    assert counted(context, clock) == {0: 2 * len(UNITS)}


def test_a_copy_of_what_was_erased_is_no_second_one(tmp_path: Path) -> None:
    """Whoever is erased, agrees again and sends the report again is counted, also while a worker's time stands."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    report_id = os.urandom(16)

    async def send() -> None:
        async with agreed(context) as worker:
            clock.set(HALF_PAST)
            await worker.submit(reports(context, ["stranger"], HALF_PAST, 0))
            clock.set(HALF_PAST - 20 * MINUTE_MS)
            for _ in range(2):
                # The worker's time is half past until the clock is there again.
                sent = reports(context, [UNITS[0]], HALF_PAST + MINUTE_MS, 7, report_id)
                outcome = await worker.submit(sent)
                assert (outcome.accepted, outcome.received_at_ms) == (1, HALF_PAST)
                if clock.now_ms() == HALF_PAST - 20 * MINUTE_MS:
                    clock.advance(MINUTE_MS)
                    await worker.erase(UNITS[0].encode())
                    await worker.decide(UNITS[0].encode(), YES)

    asyncio.run(send())
    assert counted(context, clock) == {0: 7}


def test_a_time_that_stands_is_remembered_in_bounds() -> None:
    """Of copies in one millisecond so many are known as a group holds, and groups of nothing take no room."""
    known, now = Copies(), 5
    empty = ReportBatch.empty()
    for _ in range(3):
        known.rows(empty, np.zeros(0, np.int64), now)
        known.settle()
    assert len(known._taken) == 0
    batch = ReportBatch.concat([row(number) for number in range(30)])
    with mock.patch.object(limits, "GROUP_COMMIT_REPORTS_MAX", 20):
        for first in range(0, 30, 10):
            taken = known.rows(batch.take(np.arange(first, first + 10)), np.zeros(10, np.int64), now)
            assert len(taken[0]) == 10
            known.settle()
        again = known.rows(batch, np.zeros(30, np.int64), now)
    assert again[0].report_ids[:, 0].tolist() == list(range(10))


def test_a_copy_that_did_not_become_durable_is_not_the_first(tmp_path: Path) -> None:
    """What a failed append leaves is not taken for the report: the copy that is sent again is kept."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    ids = [os.urandom(16) for _ in UNITS]

    async def send() -> None:
        async with agreed(context) as worker:
            clock.set(HALF_PAST)
            with mock.patch.object(FileIntakeLog, "append", side_effect=Failure("the disk is out")), pytest.raises(Failure):
                await worker.submit(copies(context, ids, 2))
            assert (await worker.submit(copies(context, ids, 3))).accepted == len(UNITS)

    asyncio.run(send())
    assert counted(context, clock) == {0: 3 * len(UNITS)}


def test_one_id_of_two_units_or_hours_is_as_many_reports(tmp_path: Path) -> None:
    """Only copies of one unit's report in one storage window are dropped at the door."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    one = os.urandom(16)

    async def send() -> None:
        async with agreed(context) as worker:
            clock.set(H + HOUR_MS + 5 * MINUTE_MS)
            sent = [
                reports(context, UNITS[:2], H + 40 * MINUTE_MS, 3, one),
                reports(context, UNITS[:2], H + HOUR_MS + 4 * MINUTE_MS, 5, one),
            ]
            await asyncio.gather(*map(worker.submit, sent))

    asyncio.run(send())
    clock.set(HOUR_DUE + HOUR_MS)
    sealer_of(context).run_due()
    assert sums(context, "1h") == {0: 6, 1: 10}


@pytest.mark.parametrize("together", [True, False], ids=["in one group", "one after another"])
def test_load_of_others_does_not_order_decisions(tmp_path: Path, *, together: bool) -> None:
    """A withdrawal and then a grant that a stranger's message makes wait together bind in the order in which they came."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)

    async def decide() -> list[tuple[bool, bool]]:
        async with agreed(context) as worker:
            clock.set(HALF_PAST)
            stranger = worker.submit(reports(context, ["stranger"] * 2_000, HALF_PAST, 0))
            calls = []
            for unit in UNITS:
                for steps in (NO, YES):
                    # Each call comes to its turn in the order in which it was made.
                    calls.append(asyncio.create_task(worker.decide(unit.encode(), steps)))
                    await asyncio.sleep(0)
                    if not together:
                        await calls[-1]
            await asyncio.gather(stranger, *calls)
            given = [(await worker.consent_of(unit.encode()))["tuning"].given for unit in UNITS]
            undone = [asyncio.create_task(worker.decide(unit.encode(), NO)) for unit in UNITS]
            await asyncio.gather(*undone)
            after = [(await worker.consent_of(unit.encode()))["tuning"].given for unit in UNITS]
            return list(zip(given, after, strict=True))

    assert asyncio.run(decide()) == [(True, False)] * len(UNITS)


def test_a_purpose_that_the_plan_dropped_can_be_withdrawn(tmp_path: Path) -> None:
    """The day of the version before waits for its cut-off still: whoever withdraws in time is not in it (P8)."""
    with running(tmp_path / "state", plan=TWO_PURPOSES) as service:
        for unit in ("a", "b"):
            service.client.set_consent(unit, {"model_tuning": True, "research": True})
        service.clock.advance_to(H + DAY_MS - 30 * MINUTE_MS)
        opens = next(m for m in service.plan.metrics if m.name == "opens").first_series
        for unit in ("a", "b"):
            sent = service.starts(unit, service.clock.now_ms(), 7, series=[opens])
            assert submitted(service, [sent]).accepted == 1
        context = service.context
        apply_plan(context.store, context.mechanisms, ONE_PURPOSE, "next-period", service.clock.now_ms())
        context.timeline.follow()
        service.advance(H + DAY_MS + 5 * HOUR_MS)
        # What a unit allows of it is told as long as that matters, and may be taken back, but not given.
        assert service.client.consent("a")["research"]
        with pytest.raises(grpc.RpcError, match="is not in the plan"):
            service.client.set_consent("a", {"research": True})
        service.client.set_consent("a", {"research": False})
        assert "research" not in service.client.consent("a")
        assert service.client.consent("b")["research"]
        service.advance(H + 3 * DAY_MS + MINUTE_MS)
        assert service.sums("1d", metric="opens") == {0: 7}
        assert "research" not in service.client.consent("b")


def told(service: Running, unit: str) -> dict[str, tuple[bool, bool]]:
    """Whether a unit allows each purpose that it is told of, and is to be asked."""
    with grpc.insecure_channel(service.target) as channel:
        answer = consent_pb2_grpc.ConsentServiceStub(channel).GetConsent(pb.GetConsentRequest(unit_id=unit))
    return {state.purpose: (state.given, state.ask_again) for state in answer.states}


def followed(service: Running, plan: str, at: str) -> None:
    """Has a version recorded, and waits until the worker knows it."""
    context = service.context
    apply_plan(context.store, context.mechanisms, plan, at, service.clock.now_ms())
    context.timeline.follow()


def test_what_a_later_version_will_ask_changes_no_answer(tmp_path: Path) -> None:
    """A version that is planned neither makes a grant of before count, nor hides what windows of before still ask."""
    other = TWO_PURPOSES.replace("version: 1", "version: 2").replace("Do research.", "Do other research.")
    with running(tmp_path / "one", plan=TWO_PURPOSES) as service:
        service.client.set_consent("a", {"model_tuning": True, "research": True})
        service.clock.advance_to(H + HOUR_MS)
        followed(service, other, "next-window")
        service.advance(H + 4 * DAY_MS + 5 * HOUR_MS)
        before = told(service, "a")
        assert before == {"model_tuning": (True, False), "research": (False, True)}
        followed(service, TWO_PURPOSES.replace("version: 1", "version: 3"), "next-window")
        assert told(service, "a") == before
    with running(tmp_path / "two", plan=TWO_PURPOSES) as service:
        service.client.set_consent("a", {"model_tuning": True, "research": True})
        service.clock.advance_to(H + DAY_MS - 30 * MINUTE_MS)
        followed(service, ONE_PURPOSE, "next-period")
        service.advance(H + DAY_MS + 5 * HOUR_MS)
        before = told(service, "a")
        assert before == {"model_tuning": (True, False), "research": (True, False)}
        followed(service, other.replace("version: 2", "version: 3"), "next-period")
        assert told(service, "a") == before


def test_withdrawing_what_the_plan_dropped_is_limited_like_all_else(tmp_path: Path) -> None:
    """A unit that decides too often has its first withdrawal recorded, and not what changes nothing."""
    with running(tmp_path / "state", plan=TWO_PURPOSES, clock=ReplayClock(H, elapsed_s=lambda: 0.0)) as service:
        service.client.set_consent("a", {"research": True})
        service.clock.advance_to(H + DAY_MS - 30 * MINUTE_MS)
        followed(service, ONE_PURPOSE, "next-period")
        service.advance(H + DAY_MS + 5 * HOUR_MS)
        for _ in range(limits.DECIDING_PER_UNIT_AND_MINUTE - 1):
            service.client.set_consent("a", {"model_tuning": False})
        for _ in range(5):
            service.client.set_consent("a", {"research": False})
        recorded = [d.purpose for d in service.context.store.decisions_after(0)[1]]
        assert recorded.count("research") == 2
        assert "research" not in told(service, "a")


def test_what_was_recorded_counts_though_its_answer_failed(tmp_path: Path) -> None:
    """Callers are told that a part may be recorded, and a unit's decisions count against its rate."""
    # No second passes, so that nothing flows back into the bucket.
    standing = ReplayClock(H, elapsed_s=lambda: 0.0)
    with running(tmp_path / "state", clock=standing) as service, grpc.insecure_channel(service.target) as channel:
        stub, purpose = consent_pb2_grpc.ConsentServiceStub(channel), service.context.plan.purposes[0]
        given = [pb.Decision(purpose=purpose.name, given=True, text_hash=purpose.text_hash)]
        asked, told = pb.SetConsentRequest(unit_id="u", decisions=given), list[grpc.RpcError]()
        with mock.patch.object(DirectoryKeyRing, "swap", side_effect=Failure("the ring is out")):
            for _ in range(limits.DECIDING_PER_UNIT_AND_MINUTE + 5):
                with pytest.raises(grpc.RpcError) as refused:
                    stub.SetConsent(asked)
                told.append(refused.value)
        assert {error.code() for error in told} == {grpc.StatusCode.UNAVAILABLE}
        assert "may have recorded a part of it; send the same again later" in told[0].details()
        assert len(service.context.store.decisions_after(0)[1]) == limits.DECIDING_PER_UNIT_AND_MINUTE
        assert service.client.consent("u")["model_tuning"]
