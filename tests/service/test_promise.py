"""Sentences of docs/privacy/promise.md and threat-model.md that are about a limit of the promise, and no other test's."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from hushmeter.access.roles import Role
from hushmeter.errors import Failure, KeyUnavailable
from hushmeter.model.consent import ERASURE
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS, WEEK_MS
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.context import Context
from hushmeter.service.sealer import erasures as erasing
from hushmeter.storage.keys.ring_record import RecordFile
from hushmeter.storage.log.intake_log import FileIntakeLog
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import HOUR_DUE, PLAN, H, Hand, capped, erase, opened, sealer_of, sums, windows
from tests.service.guarded_service import guarded, standing

CAPPED = capped("1h: 3")
HALF_PAST = H + 30 * MINUTE_MS


def reported(state_dir: Path, *units: str, plan: str = PLAN) -> tuple[Context, FakeClock, Hand]:
    """Two units have agreed; some of them have reported, and it is half past."""
    clock = FakeClock(H)
    context = opened(state_dir, clock, plan)
    hand = Hand(context)
    hand.decide("a", "b")
    clock.set(HALF_PAST)
    for unit in units:
        assert len(hand.send(unit, HALF_PAST, 7).admitted) == 1
    return context, clock, hand


@pytest.mark.parametrize("erased", [False, True])
def test_a_window_waits_for_an_erasure_of_before_its_cut_off(tmp_path: Path, *, erased: bool) -> None:
    """Where the disk refuses to remove the unit's rows the window is not released; once it takes them it is, without it."""
    context, clock, hand = reported(tmp_path, "a", "b")
    if erased:
        erase(context, hand, "a")
    hand.segments.retire()
    clock.set(HOUR_DUE)
    sealer = sealer_of(context)
    with mock.patch.object(FileIntakeLog, "erase", side_effect=Failure("the disk is out")):
        sealer.run_due()
    assert windows(context, WindowState.FIXED) == ([("1h", 0)] if erased else [])
    clock.advance(0, erasing.ERASURES_PAUSE_S)
    sealer.run_due()
    assert windows(context, WindowState.FIXED, WindowState.LOST) == []
    assert sums(context, "1h") == {0: 7 if erased else 14}


@pytest.mark.parametrize("alone", [False, True])
def test_a_lost_key_costs_the_windows_that_held_rows(tmp_path: Path, *, alone: bool) -> None:
    """A window without its key is LOST where somebody had reported in it, and released where nobody had."""
    context, clock, hand = reported(tmp_path / "state", *(["a"] if alone else []))
    hand.segments.retire()
    for key in (tmp_path / "state-keys").glob("data/*.key"):
        key.unlink()
    clock.set(HOUR_DUE)
    sealer_of(context).run_due()
    assert windows(context, WindowState.LOST if alone else WindowState.RELEASED) == [("1h", 0)]


def test_a_withdrawal_alone_removes_no_row(tmp_path: Path) -> None:
    """Rows of a unit that has withdrawn are told, and count nowhere; they die with their windows."""
    context, clock, hand = reported(tmp_path, "a")
    hand.decide("a", given=False)
    hand.segments.retire()
    for now_ms in (HALF_PAST, HOUR_DUE):
        clock.set(now_ms)
        sealer_of(context).run_due()
        assert [(r.reports, r.points) for r in hand.held("a").rows] == [(1, {})]
    clock.set(H + DAY_MS + HOUR_MS)
    sealer_of(context).run_due()
    assert hand.held("a").rows == ()
    assert (sums(context, "1h"), sums(context, "1d")) == ({}, {})
    assert context.log.storage_windows() == ()


def test_a_unit_sees_in_how_many_windows_it_was_kept(tmp_path: Path) -> None:
    """It is told a number, which rises with the publication of each window that keeps it."""
    context, clock, hand = reported(tmp_path, "a", plan=CAPPED)
    sealer, told = sealer_of(context), []
    for hour in range(1, 4):
        clock.set(H + hour * HOUR_MS + 10 * MINUTE_MS)
        hand.segments.tick()
        sealer.run_due()
        told.append([kept.windows for kept in hand.held("a").kept])
        if hour == 2:
            assert len(hand.send("a", clock.now_ms(), 1).admitted) == 1
    assert told == [[1], [1], [2]]


def test_how_many_units_were_kept_shows_in_the_database(tmp_path: Path) -> None:
    """A blob of kept windows has a length that is a function of their number, and the same bytes where nobody new was."""
    context, clock, hand = reported(tmp_path, "a", "b", plan=CAPPED)
    hand.segments.retire()
    blobs = []
    for hour in range(1, 3):
        clock.set(H + hour * HOUR_MS + 10 * MINUTE_MS)
        sealer_of(context).run_due()
        blobs.append(context.store.kept_windows("starts", "1h", H) or b"")
    tag, head, words = 16, 4, -(-WEEK_MS // HOUR_MS // 64)
    assert len(blobs[0]) == tag + head + 2 * 8 * (2 + words)
    assert blobs[0] == blobs[1]


def test_who_asked_for_an_erasure_stays_in_the_database(tmp_path: Path) -> None:
    """Once its rows are gone no erasure waits, and its decisions still say that there was one."""
    context, clock, hand = reported(tmp_path, "a")
    erase(context, hand, "a")
    hand.segments.retire()
    clock.set(HOUR_DUE)
    sealer_of(context).run_due()
    assert context.store.erasures() == ()
    sources = [d.source for d in context.store.decisions_after(0)[1] if d.subject == hand.subject("a")]
    assert sources == ["", ERASURE]


@pytest.mark.parametrize("own", [0, 7])
def test_without_unit_tokens_a_limit_tells_how_much_a_unit_sent(tmp_path: Path, own: int) -> None:
    """Whoever sends in a unit's name until it is refused learns how many reports the unit sent in that minute."""
    rules = AccessRules(credentials_required=True, unit_reports_per_minute=20)
    with guarded(tmp_path / "state", rules, elapsed_s=standing) as service:
        ingest, consent = service.credential(Role.INGEST), service.credential(Role.CONSENT)
        service.decide(consent, "u")
        service.clock.advance_to(HALF_PAST)
        if own:
            assert service.submit(ingest, *(service.report("u") for _ in range(own))).accepted == own
        assert service.submit(ingest, *(service.report("u") for _ in range(25))).accepted == 20 - own


def test_no_report_is_acknowledged_where_the_record_cannot_be_read(tmp_path: Path) -> None:
    """Where nobody can tell which state serves, nothing is acknowledged; once it can be read reports are taken (C7)."""
    _, _, hand = reported(tmp_path, "a")
    unread = mock.patch.object(RecordFile, "read", side_effect=KeyUnavailable("the record cannot be read"))
    with unread, pytest.raises(KeyUnavailable):
        hand.send("b", HALF_PAST, 7)
    assert len(hand.send("b", HALF_PAST, 7).admitted) == 1
