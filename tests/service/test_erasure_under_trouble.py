"""Rows of an erased unit go, whatever happens or fails meanwhile: open segments, kills, disks, lost files (R3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hushmeter import limits
from hushmeter.errors import Failure, SegmentLost
from hushmeter.model.key_names import data_key
from hushmeter.model.time import HOUR_MS
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.sealer import erasures as erasing
from hushmeter.service.sealer.erasures import Erasing
from hushmeter.storage.log.segments import SegmentFiles
from tests.service.deployment_by_hand import DAY_DUE, H, Hand, erase, sealer_of
from tests.service.reported_hours import count, reported


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
