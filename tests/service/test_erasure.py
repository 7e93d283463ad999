"""Rows of a unit that asked for it are removed from every file, and nobody else's; earlier cut-offs are heeded (R3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hushmeter.ingest.identity import pseudonym_of
from hushmeter.model.key_names import period_key
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.service.disclosure.retention import RowKind, held
from hushmeter.service.sealer import erasures as erasing
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import DAY_DUE, H, Hand, capped, erase, opened, sealer_of, sums, windows
from tests.service.interrupted_log import failing, interrupted
from tests.service.reported_hours import count, reported


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
    plan = capped("1h: 1")
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
