"""A decision reaches every window whose cut-off comes after its receipt, and no other, whenever that is sealed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.testing.clock import FakeClock
from tests.examples import examples
from tests.service.deployment_by_hand import DAY_DUE, HOUR_DUE, PLAN, H, Hand, opened, sealer_of, sums, windows
from tests.service.interrupted_log import failing, interrupted
from tests.service.reported_hours import due


def test_before_the_cut_off_is_in_time(tmp_path: Path) -> None:
    """A withdrawal of the last millisecond before the deadline is in time, though the sealer comes an hour later."""
    context, clock, hand = due(tmp_path, units=2)
    context.store.record_decisions([hand.decision("u0", given=False)], lambda: HOUR_DUE - 1)
    clock.set(HOUR_DUE + HOUR_MS)
    assert sealer_of(context).run_due() == 2
    assert sums(context, "1h") == {0: 2}


def test_at_the_cut_off_is_too_late(tmp_path: Path) -> None:
    """At the deadline the hour's consent is fixed, whether it is sealed by then or not; the day is still reached."""
    context, clock, hand = due(tmp_path, units=2)
    hand.decide("u0", given=False)
    assert sealer_of(context).run_due() == 1
    assert sums(context, "1h") == {0: 3}
    clock.set(DAY_DUE)
    sealer_of(context).run_due()
    assert sums(context, "1d") == {0: 2}


@pytest.mark.parametrize("leaving", [["u0", "u1"], ["a", "u0", "u1"]])
def test_nobody_moves_others_by_withdrawing(tmp_path: Path, leaving: list[str]) -> None:
    """While a window is sealed, others withdraw, and one without a row before them or not: the release is the same."""
    context, _, hand = due(tmp_path, units=3)
    hand.decide("a")
    assert sealer_of(interrupted(context, lambda: leaving and hand.decide(leaving.pop(0), given=False))).run_due() == 1
    assert sums(context, "1h") == {0: 6}


def test_an_attempt_that_fails_changes_nothing(tmp_path: Path) -> None:
    """A window whose sealing fails is sealed again as it was, also by another process, whatever was decided meanwhile."""
    context, clock, hand = due(tmp_path, units=3)
    assert sealer_of(interrupted(context, failing(True))).run_due() == 0
    clock.advance(HOUR_MS // 2)
    hand.decide("u0", given=False)
    assert sealer_of(interrupted(context, failing(True))).run_due() == 0
    hand.decide("u2", given=False)
    assert sealer_of(context).run_due() == 1
    assert sums(context, "1h") == {0: 6}


@pytest.mark.parametrize("late", [False, True])
def test_a_sealing_that_takes_long(tmp_path: Path, late: bool) -> None:
    """One unit's large window keeps the sealer from the next; who withdraws meanwhile is in it as if it had not."""
    context, clock, hand = due(tmp_path, units=3)
    clock.set(H + HOUR_MS + 30 * MINUTE_MS)
    for number in range(3):
        assert len(hand.send(f"u{number}", clock.now_ms(), number + 1).admitted) == 1
    happened = []

    def meanwhile() -> None:
        if late and not happened:
            happened.append(1)
            clock.set(HOUR_DUE + HOUR_MS + MINUTE_MS)
            hand.decide("u0", "u1", given=False)

    sealer = sealer_of(interrupted(context, meanwhile))
    assert sealer.run_due() == 1
    clock.set(HOUR_DUE + HOUR_MS)
    hand.segments.tick()
    if not late:
        assert sealer.run_due() == 1
        clock.set(HOUR_DUE + HOUR_MS + MINUTE_MS)
        hand.decide("u0", "u1", given=False)
    sealer.run_due()
    assert sums(context, "1h") == {0: 6, 1: 6}


def test_a_clock_that_is_set_back(tmp_path: Path) -> None:
    """What is decided once a window has closed is received at its cut-off at the earliest, whatever the clock says."""
    context, clock, hand = due(tmp_path, units=2)
    sealer = sealer_of(interrupted(context, failing(True)))
    assert sealer.run_due() == 0
    clock.set(H + 40 * MINUTE_MS)
    context.store.record_decisions([hand.decision("u0", given=False)], clock.now_ms)
    assert context.store.decisions_after(0)[1][-1].received_at_ms == HOUR_DUE
    clock.set(HOUR_DUE + 1)
    assert sealer.run_due() == 1
    assert sums(context, "1h") == {0: 3}


def test_clocks_minutes_apart(tmp_path: Path) -> None:
    """A clock that is behind follows the one that is ahead: of two withdrawals the later is received no earlier."""
    context, _, hand = due(tmp_path, units=2)
    ahead, behind = HOUR_DUE + 3 * MINUTE_MS, HOUR_DUE - 3 * MINUTE_MS
    no = [hand.decision(f"u{n}", given=False) for n in range(2)]
    assert context.store.record_decisions(no[:1], lambda: behind) == behind
    assert context.store.record_decisions(no[1:], lambda: ahead) == ahead
    assert context.store.record_decisions(no[:1], lambda: behind) == ahead
    assert sealer_of(context).run_due() == 1
    assert sums(context, "1h") == {0: 2}


def test_totals_are_made_with_the_consent_of_the_window_that_ended(tmp_path: Path) -> None:
    """While a day waits whose cut-off has passed, its rows become totals; who withdraws then is in the day all the same."""
    context, clock, hand = due(tmp_path, units=2)
    clock.set(DAY_DUE)
    stuck = sealer_of(interrupted(context, failing(True, True, True, True)))
    stuck.run_due()
    assert ("1d", 0) in windows(context, WindowState.FIXED)
    hand.decide("u0", given=False)
    stuck.run_due()
    sealer_of(context).run_due()
    assert sums(context, "1d") == {0: 3}


def test_rows_become_totals_with_the_consent_of_before(tmp_path: Path) -> None:
    """Rows that are added up late are added up with the hour's consent, not with that of now; late rows stay rows (P2)."""
    context, clock, hand = due(tmp_path, units=2)
    sealer = sealer_of(context)
    run, seen = sealer._compaction.run, list[int]()
    sealer._compaction.run = lambda **_: None  # type: ignore[assignment, method-assign]
    assert sealer.run_due() == 1
    (start,) = context.log.storage_windows()
    assert len(hand.send("u0", H + 31 * MINUTE_MS, 40).admitted) == 1
    hand.segments.end_through(10**6)
    hand.segments.tick()
    follow = sealer._consent.through
    sealer._consent.through = lambda era, number, after: (seen.append(number), follow(era, number, after))[1]  # type: ignore[func-returns-value, method-assign]
    hand.decide("u0", given=False)
    run(now=True)
    assert sorted(context.log.kept_for(start, s.segment_id) for s in context.store.segments([start])) == ["", "1d"]
    assert seen == [1 + 1]
    clock.set(DAY_DUE)
    sealer.run_due()
    assert sums(context, "1d") == {0: 2}


_MINUTES = st.integers(0, 200)


@examples(25)
@given(
    st.lists(st.tuples(_MINUTES, st.integers(0, 3), st.booleans()), max_size=8),
    st.lists(st.tuples(_MINUTES, st.booleans()), max_size=6),
)
def test_the_schedule_of_sealing_changes_nothing(
    decided: Sequence[tuple[int, int, bool]], attempts: Sequence[tuple[int, bool]]
) -> None:
    """Whenever the sealer comes, and whichever attempts fail, each window holds what its cut-off says."""
    at_deadlines = [(minutes, False) for minutes in (70, 130, 190)]
    assert released(decided, attempts) == released(decided, at_deadlines)


def released(decided: Sequence[tuple[int, int, bool]], attempts: Sequence[tuple[int, bool]]) -> list[dict[int, int]]:
    """What three hours and the four around them release, of four units that decide at some minutes, sealed at others."""
    with tempfile.TemporaryDirectory() as directory:
        clock = FakeClock(H)
        context = opened(Path(directory), clock, PLAN.replace("1d:", "4h:"))
        hand = Hand(context)
        units = [f"u{n}" for n in range(4)]
        hand.decide(*units)
        events: dict[int, list[Callable[[], object]]] = {}
        for hour in range(3):
            for number, unit in enumerate(units):
                value = 4**number
                minute = 30 + 60 * hour
                events.setdefault(minute, []).append(lambda unit=unit, value=value: hand.send(unit, clock.now_ms(), value))
        for minute, unit_number, allows in decided:
            events.setdefault(minute, []).append(lambda n=unit_number, allows=allows: hand.decide(units[n], given=allows))
        for minute, fails in attempts:
            sealer = sealer_of(interrupted(context, failing(fails)))
            events.setdefault(minute, []).append(sealer.run_due)
        for minute in sorted(events):
            clock.set(H + minute * MINUTE_MS)
            hand.segments.tick()
            for happens in events[minute]:
                happens()
        clock.set(H + 5 * HOUR_MS)
        hand.segments.tick()
        sealer_of(context).run_due()
        found = [sums(context, "1h"), sums(context, "4h")]
        assert ("4h", 0) in windows(context, WindowState.RELEASED)
        context.store.close()
    return found
