"""What two processes of a deployment, or an erasure and a question, do at one moment (C7, P2, P8, R4)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from unittest import mock

import pytest

from hushmeter.errors import StateConflict
from hushmeter.ingest.raw import SentReports
from hushmeter.model.key_names import data_key, period_key
from hushmeter.model.states import WindowState
from hushmeter.model.time import MINUTE_MS
from hushmeter.service.deployment.clock_check import ensure_clock
from hushmeter.service.deployment.logs import fields_of
from hushmeter.storage.state.store import SqlStateStore
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import HOUR_DUE, H, Hand, capped, erase, opened, reports, sealer_of, sums, windows
from tests.service.intake_worker import YES, working

HALF_PAST = H + 30 * MINUTE_MS
CAPPED = capped("1h: 3, 1d: 1")


def test_a_state_is_opened_while_it_is_published(tmp_path: Path) -> None:
    """A window that is published between a look at the keys and one at the ledger is no copy that was taken back."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    Hand(context).decide("u")
    clock.set(HOUR_DUE)
    sealer, honest, published = sealer_of(context), SqlStateStore.ledger_head, list[bool]()

    def head(store: SqlStateStore, deployment_id: str) -> object:
        if store is not context.store and not published:
            published.append(True)
            for worker_id, beats in context.store.beats().items():
                context.store.declare_dead(worker_id, beats)
            sealer.run_due()
        return honest(store, deployment_id)

    with mock.patch.object(SqlStateStore, "ledger_head", head):
        beside = opened(tmp_path / "state", clock, serves=False)
    assert published
    assert windows(beside, WindowState.RELEASED) == [("1h", 0)]


@pytest.mark.parametrize("stranger", [False, True])
def test_when_rows_are_removed_moves_no_kept_window(tmp_path: Path, *, stranger: bool) -> None:
    """A first copy that an erasure of before the cut-off removes counts nowhere, whether it has gone already or not."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock, CAPPED)
    hand, sealer, report_id = Hand(context), sealer_of(context), os.urandom(16)
    hand.decide("u")
    clock.set(HALF_PAST)
    hand.send("u", HALF_PAST, 1, report_id)
    if stranger:
        erase(context, hand, "stranger")
    clock.advance(10 * MINUTE_MS)
    erase(context, hand, "u")
    clock.advance(1)
    hand.decide("u")
    clock.advance(5 * MINUTE_MS)
    # Its interval begins after the grant; it has the id of what is erased.
    hand.send("u", clock.now_ms(), 1, report_id)
    if stranger:
        hand.segments.tick()
        sealer.run_due()
    clock.set(HOUR_DUE)
    before = hand.held("u").kept
    assert [(k.resolution, k.windows) for k in before] == [("1h", 1)]
    hand.segments.retire()
    sealer.run_due()
    assert windows(context, WindowState.RELEASED) == [("1h", 0)]
    assert hand.held("u").kept == before
    assert sums(context, "1h") == {0: 1}


@pytest.mark.parametrize("stranger", [False, True])
def test_an_erasure_forgets_its_own_copies_alone(tmp_path: Path, *, stranger: bool) -> None:
    """Of copies while the time stands the first counts whatever strangers erase; of those that are erased the next one."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    ids = [os.urandom(16) for _ in range(24)]

    def copies(value: int) -> SentReports:
        sent = reports(context, ["u"] * len(ids), HALF_PAST + MINUTE_MS, value)
        sent.rows = [(report_id, *row[1:]) for report_id, row in zip(ids, sent.rows, strict=True)]
        return sent

    async def send() -> None:
        async with working(context) as worker:
            for unit in (b"u", b"stranger"):
                await worker.decide(unit, YES)
            clock.set(HALF_PAST)
            await worker.submit(copies(1))
            await worker.erase(b"stranger" if stranger else b"u")
            if not stranger:
                # Whoever was declared dead has no segment that could end.
                await worker._in_order(worker._commits.enlist)
                await worker.decide(b"u", YES)
            outcome = await worker.submit(copies(3))
            assert (outcome.accepted, outcome.received_at_ms) == (len(ids), HALF_PAST)

    asyncio.run(send())
    clock.set(HOUR_DUE)
    for worker_id, beats in context.store.beats().items():
        context.store.declare_dead(worker_id, beats)
    sealer_of(context).run_due()
    # One unit's reports are clamped to 100 a window.
    assert sums(context, "1h") == {0: len(ids) if stranger else 3 * len(ids)}


def test_what_only_reads_leaves_keys_to_be_adopted(tmp_path: Path) -> None:
    """A key that a command has used does not make those that a restore found look as if they had never been."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    hand = Hand(context)
    hand.decide("u")
    clock.set(HALF_PAST)
    hand.send("u", HALF_PAST)
    context.keys.get_or_create("signing")
    names = ["deployment", "signing", *(period_key(p) for p in context.keys.periods())]
    names += [data_key(start) for start in context.keys.storage_windows()]
    context.store.close()
    database = tmp_path / "state" / "state.db"
    _forget_fingerprints(database)
    beside = opened(tmp_path / "state", clock, serves=False)
    beside.keys.get_or_create("signing")
    beside.store.close()
    again = opened(tmp_path / "state", clock)
    assert all(again.store.key_fingerprint(name) for name in names)
    assert len(names) == 4


def _forget_fingerprints(database: Path) -> None:
    """As a restore leaves the state."""
    import sqlite3

    connection = sqlite3.connect(database)
    with connection:
        connection.execute("DELETE FROM known_keys")
    connection.close()


def test_a_start_before_a_deadline_that_has_passed_is_refused(tmp_path: Path) -> None:
    """A window has begun to close, so the time is past its deadline, not only past its end."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    clock.set(HOUR_DUE)
    sealer_of(context).run_due()
    clock.set(HOUR_DUE - 5 * MINUTE_MS)
    with pytest.raises(StateConflict, match="the clock is behind"):
        ensure_clock(context, confirmed=False)


def test_a_network_is_no_disk() -> None:
    """The log names the disk where the disk refused, and no remedy where something else did."""
    assert "check the disk" not in str(fields_of(TimeoutError()))
    assert "check the disk" not in str(fields_of(ConnectionResetError(104, "Connection reset by peer")))
    assert "see the system's log" in fields_of(OSError(5, "Input/output error"))["error"]
