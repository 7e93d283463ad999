"""Rows become totals once their hour is released; the day says the same as if they had not, whatever comes in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from hushmeter.errors import Failure
from hushmeter.model.report import TOTALS, ReportBatch
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.service.deployment.context import Context
from hushmeter.service.disclosure.retention import RowKind, held
from hushmeter.service.sealer.sealer import Sealer
from hushmeter.service.sealer.totals_rewriting import Compaction
from hushmeter.storage.log.segments import SegmentFiles
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import DAY_DUE, HOUR_DUE, H, Hand, sealer_of, sums, windows
from tests.service.reported_hours import reported

SECOND_HOUR_DUE = HOUR_DUE + HOUR_MS


def second_hour(state_dir: Path) -> tuple[Context, FakeClock, Hand]:
    """A deployment with three reports of one unit and one of another in its second hour."""
    context, clock, hand = reported(state_dir, [("a", 3), ("a", 4), ("a", 5), ("b", 7)], first=1, hours=1)
    hand.segments.retire()
    return context, clock, hand


def rows_of(context: Context) -> ReportBatch:
    """Every row of the second hour; its segments have ended."""
    segments = context.store.segments([H + HOUR_MS])
    for segment in segments:
        context.log.compact(H + HOUR_MS, segment.segment_id, segment.frames)
    return context.log.read(H + HOUR_MS, [s.segment_id for s in segments], 0, 0)


def test_rows_become_totals(tmp_path: Path) -> None:
    """A unit's points are added up when the hour has ended, reports become ids; the day counts what the hour did."""
    context, clock, _ = second_hour(tmp_path)
    clock.set(SECOND_HOUR_DUE - 1)
    sealer_of(context).run_due()
    assert next(iter(held(context))).kind is RowKind.ROWS
    clock.set(SECOND_HOUR_DUE)
    sealer_of(context).run_due()
    rows = rows_of(context)
    assert len(rows) == 4
    assert set(rows.plan_versions.tolist()) == {TOTALS}
    assert sorted(rows.values.tolist()) == [7, 12]
    assert next(iter(held(context))).kind is RowKind.TOTALS
    clock.set(DAY_DUE)
    sealer_of(context).run_due()
    assert sums(context, "1h") == {1: 19}
    assert sums(context, "1d") == {0: 19}
    assert windows(context, WindowState.LOST) == []


def test_what_comes_late_counts_beside_totals(tmp_path: Path) -> None:
    """A late report of the day stays as it came until the day ends, and counts beside totals."""
    context, clock, _ = second_hour(tmp_path)
    clock.set(SECOND_HOUR_DUE)
    sealer = sealer_of(context)
    sealer.run_due()
    send_late(context, clock, sealer, 30)
    rows = rows_of(context)
    assert sorted(rows.values.tolist()) == [7, 12, 30]
    assert sorted(rows.plan_versions.tolist()) == [TOTALS] * 4 + [1]
    assert kept_for(context) == ["1d", ""]
    clock.set(DAY_DUE)
    sealer.run_due()
    assert sums(context, "1d") == {0: 49}


def send_late(context: Context, clock: FakeClock, sealer: Sealer, value: int, report_id: bytes | None = None) -> None:
    """Another worker takes a late report of the second hour, and ends its segment at once; the sealer looks around."""
    late = Hand(context)
    assert len(late.send("a", H + HOUR_MS + 50 * MINUTE_MS, value, report_id).admitted) == 1
    late.segments.retire()
    clock.advance(MINUTE_MS)
    sealer.run_due()


def kept_for(context: Context) -> list[str]:
    """What each segment of the second hour was rewritten for."""
    return [context.log.kept_for(H + HOUR_MS, s.segment_id) for s in context.store.segments([H + HOUR_MS])]


@pytest.mark.parametrize("compacts", [True, False])
@pytest.mark.parametrize("withdraws", [False, True])
def test_a_late_copy_counts_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compacts: bool, withdraws: bool
) -> None:
    """Whether or not rows have become totals in between, the first copy counts, or nothing where it may not (P2, P8).

    The late copy is of a moment after consent was given again.
    """
    if not compacts:
        monkeypatch.setattr(Compaction, "run", lambda *_, **__: None)
    context, clock, _ = second_hour(tmp_path)
    hand, mine = Hand(context), b"the same report."
    assert len(hand.send("a", clock.now_ms(), 1, mine).admitted) == 1
    hand.segments.retire()
    if withdraws:
        clock.advance(1)
        hand.decide("a", given=False)
        clock.advance(1)
        hand.decide("a")
    clock.set(SECOND_HOUR_DUE)
    sealer = sealer_of(context)
    sealer.run_due()
    send_late(context, clock, sealer, 50, mine)
    clock.set(DAY_DUE)
    sealer.run_due()
    assert sums(context, "1d") == {0: 7 if withdraws else 20}


def test_withdrawals_reach_totals(tmp_path: Path) -> None:
    """A unit that withdraws after its rows were added up is not in the day, also where it agrees again."""
    context, clock, hand = second_hour(tmp_path)
    clock.set(SECOND_HOUR_DUE)
    sealer_of(context).run_due()
    hand.decide("a", given=False)
    clock.advance(MINUTE_MS)
    hand.decide("a")
    clock.set(DAY_DUE)
    sealer_of(context).run_due()
    assert sums(context, "1d") == {0: 7}


def test_a_withdrawn_unit_leaves_ids(tmp_path: Path) -> None:
    """What a unit does not allow any more is gone for good when its hour is added up; ids and receipts stay (P2)."""
    context, clock, hand = second_hour(tmp_path)
    before = rows_of(context)
    clock.advance(1)
    hand.decide("a", given=False)
    clock.set(SECOND_HOUR_DUE)
    sealer_of(context).run_due()
    rows = rows_of(context)
    assert rows.values.tolist() == [7]
    assert ids_and_receipts(rows) == ids_and_receipts(before)


def ids_and_receipts(rows: ReportBatch) -> list[tuple[list[int], int]]:
    """The id and the receipt of each row, in order."""
    return sorted(zip(rows.report_ids.tolist(), rows.received_at_ms.tolist(), strict=True))


def test_a_disk_that_refuses_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rows cannot be rewritten they stay as they were, windows go on, and it is tried again."""
    context, clock, _ = second_hour(tmp_path)

    def refusing(*_: object) -> None:
        raise Failure("the disk is out")

    clock.set(SECOND_HOUR_DUE)
    sealer = sealer_of(context)
    with monkeypatch.context() as patch:
        patch.setattr(Compaction, "run", lambda *_, **__: None)
        sealer.run_due()
    with monkeypatch.context() as patch:
        patch.setattr(SegmentFiles, "put", refusing)
        sealer.run_due()
    assert (kept_for(context), sorted(rows_of(context).values.tolist())) == ([""], [3, 4, 5, 7])
    send_late(context, clock, sealer, 30)
    assert sorted(rows_of(context).values.tolist()) == [7, 12, 30]
    clock.set(DAY_DUE)
    sealer.run_due()
    assert sums(context, "1d") == {0: 49}


def test_lost_rows_are_told_once(tmp_path: Path) -> None:
    """A segment that is missing makes the windows that wait LOST in their time, and stops nothing before."""
    context, clock, _ = second_hour(tmp_path)
    clock.set(SECOND_HOUR_DUE)
    sealer_of(context).run_due()
    (file,) = (tmp_path / "log" / str(H + HOUR_MS)).iterdir()
    file.write_bytes(b"damaged")
    sealer = sealer_of(context)
    send_late(context, clock, sealer, 30)
    clock.set(DAY_DUE)
    sealer.run_due()
    assert windows(context, WindowState.LOST) == [("1d", 0)]
