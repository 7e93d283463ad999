"""Whatever happens to what was acknowledged, a window is released with all of it or ends LOST, and the log says why."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO, Any
from unittest import mock

import pytest
from structlog.testing import capture_logs

from hushmeter import limits
from hushmeter.errors import StorageFull
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.logs import fields_of
from hushmeter.storage.disk import failure_of
from hushmeter.storage.log.frames import SegmentName, empty_frames
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import PLAN, H, Hand, capped, opened, sealer_of, sums, windows

REPORTS = 3
Damage = Callable[[Path], object]


def flipped(at: Callable[[bytes, int], int]) -> Damage:
    """One bit is flipped, at a place that the file's content and the length of its beginning decide."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[at(bytes(content), len(empty_frames(SegmentName("d" * 32, H, "a" * 32))))] ^= 1
        path.write_bytes(content)

    return damage


def cut(to: Callable[[bytes, int], int]) -> Damage:
    """The file ends early."""

    def damage(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: to(content, len(empty_frames(SegmentName("d" * 32, H, "a" * 32))))])

    return damage


def last_frame(content: bytes, first: int) -> int:
    """Where the length of the last frame stands."""
    at = first
    while (following := at + 4 + int.from_bytes(content[at : at + 4], "little")) < len(content):
        at = following
    return at


FRAMES: dict[str, Damage] = {
    "a bit of the last frame": flipped(lambda content, _: len(content) - 40),
    "a bit of its seal": flipped(lambda content, _: len(content) - 1),
    "its length": flipped(last_frame),
    "the top of its length": flipped(lambda content, first: last_frame(content, first) + 3),
    "a cut in the last frame": cut(lambda content, _: len(content) - 40),
    "a cut behind its length": cut(lambda content, first: last_frame(content, first) + 4),
    "a cut at the border": cut(last_frame),
    "a cut behind the claim": cut(lambda _, first: first),
    "a cut in the claim": cut(lambda _, first: first - 60),
    "nothing left": cut(lambda *_: 0),
    "a bit of the first frame": flipped(lambda _, first: first + 30),
    "the length of the first frame": flipped(lambda _, first: first + 1),
    "the header line": flipped(lambda *_: 12),
    "the file": Path.unlink,
}
RUNS: dict[str, Damage] = {
    "the header line": flipped(lambda *_: 12),
    "a run": flipped(lambda content, _: content.index(b"\n") + 40),
    "the footer": flipped(lambda content, _: len(content) - 30),
    "the footer's length": flipped(lambda content, _: len(content) - 4),
    "the top of the footer's length": flipped(lambda content, _: len(content) - 1),
    "a cut in the footer": cut(lambda content, _: len(content) - 30),
    "a cut in a run": cut(lambda content, _: content.index(b"\n") + 40),
    "nothing left": cut(lambda *_: 0),
    "the file": Path.unlink,
}


class Deployment:
    """An hour with a few reports, each acknowledged by itself, and an hour after it that nobody damages."""

    def __init__(self, state_dir: Path, plan: str = PLAN) -> None:
        self.state_dir, self.clock = state_dir, FakeClock(H)
        self.context: Context = opened(state_dir, self.clock, plan)
        self.hand = Hand(self.context)
        self.hand.decide("u")
        self.clock.set(H + 30 * MINUTE_MS)
        for _ in range(REPORTS):
            self.hand.send("u", self.clock.now_ms())

    def file(self, suffix: str) -> Path:
        """The one file of the damaged hour."""
        (found,) = (self.state_dir / "log" / str(H)).glob(f"*.{suffix}")
        return found

    def end(self) -> list[dict[str, Any]]:
        """The worker dies as it is, another one serves the hour that follows, and the day passes; returns the log."""
        sealer, living = sealer_of(self.context), Hand(self.context)
        with capture_logs() as logs:
            sealer.run_due()
            self.clock.advance(0, monotonic_s=limits.LEASE_S)
            living.segments.beat()
            sealer.run_due()
            self.clock.set(H + HOUR_MS + 30 * MINUTE_MS)
            living.send("u", self.clock.now_ms(), 7)
            self.clock.set(H + DAY_MS + HOUR_MS)
            living.segments.tick()
            sealer.run_due()
        return [dict(line) for line in logs]

    def assert_lost(self, logs: list[dict[str, Any]], *, hour: bool = True) -> None:
        """The windows over the damaged hour are LOST for a reason that names its segment, and the next hour is released."""
        lost = [("1h", 0), ("1d", 0)] if hour else [("1d", 0)]
        assert windows(self.context, WindowState.LOST) == lost
        assert windows(self.context, WindowState.CLOSING, WindowState.FIXED) == []
        causes = [line for line in logs if line["event"] == "a window is lost"]
        assert len(causes) == len(lost)
        for line in causes:
            assert line["cause"] == "SegmentLost"
            assert f"segment {H}/" in line["error"]
        assert sums(self.context, "1h") == ({1: 7} if hour else {0: REPORTS, 1: 7})
        assert sums(self.context, "1d") == {}

    def edit(self, statement: str) -> None:
        """Somebody changes the database."""
        with closing(sqlite3.connect(self.state_dir / "state.db")) as database, database:
            database.execute(statement)


@pytest.mark.parametrize("damage", FRAMES.values(), ids=FRAMES.keys())
@pytest.mark.parametrize("closed", [False, True], ids=["killed", "closed"])
def test_a_damaged_segment_is_lost_by_name(tmp_path: Path, damage: Damage, closed: bool) -> None:
    """Whatever is damaged of a segment, its worker killed or not: no window is released without what was acknowledged."""
    there = Deployment(tmp_path)
    path = there.file("frames")
    if closed:
        there.hand.segments.close(H)
    damage(path)
    there.assert_lost(there.end())


@pytest.mark.parametrize("damage", RUNS.values(), ids=RUNS.keys())
def test_a_damaged_compacted_segment_is_lost_by_name(tmp_path: Path, damage: Damage) -> None:
    """What is damaged once the hour is released costs the day, which says why."""
    there = Deployment(tmp_path)
    there.clock.set(H + HOUR_MS + 15 * MINUTE_MS)
    there.hand.segments.tick()
    sealer_of(there.context).run_due()
    damage(there.file("runs"))
    there.assert_lost(there.end(), hour=False)


def test_a_killed_workers_segment_is_released_in_full(tmp_path: Path) -> None:
    """What was acknowledged counts without any damage, and so does it with a torn frame behind it."""
    there = Deployment(tmp_path)
    with there.file("frames").open("ab") as file:
        file.write(b"\x90\x01\0\0" + os.urandom(200))
    there.end()
    assert sums(there.context, "1h") == {0: REPORTS, 1: 7}
    assert sums(there.context, "1d") == {0: REPORTS + 7}


DELETED = f"DELETE FROM segments WHERE storage_start_ms = {H}"  # noqa: S608
EDITS = {
    "a registration": DELETED,
    "all frames": f"UPDATE segments SET frames = 0, closed = 1 WHERE storage_start_ms = {H}",  # noqa: S608
    "a frame": f"UPDATE segments SET frames = {REPORTS - 1}, closed = 1 WHERE storage_start_ms = {H}",  # noqa: S608
    "one frame more": f"UPDATE segments SET frames = {REPORTS + 1}, closed = 1 WHERE storage_start_ms = {H}",  # noqa: S608
    "where it belongs": f"UPDATE segments SET storage_start_ms = {H - HOUR_MS} WHERE storage_start_ms = {H}",  # noqa: S608
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
@pytest.mark.parametrize("closed", [False, True], ids=["killed", "closed"])
def test_what_the_database_forgets_the_files_know(tmp_path: Path, edit: str, closed: bool) -> None:
    """Where the state store has lost a segment, or some of its frames, its windows end LOST, by name."""
    there = Deployment(tmp_path)
    if closed:
        there.hand.segments.close(H)
    there.edit(edit)
    there.assert_lost(there.end())


LEFT_OUT = {
    "its hours": "UPDATE segments SET resolutions = '1d'",
    "its days": "UPDATE segments SET resolutions = '1h'",
    "all that it is in": "UPDATE segments SET resolutions = ''",
}


@pytest.mark.parametrize("edit", LEFT_OUT.values(), ids=LEFT_OUT.keys())
@pytest.mark.parametrize("closed", [False, True], ids=["killed", "closed"])
def test_in_which_windows_a_segment_is_its_rows_know(tmp_path: Path, edit: str, closed: bool) -> None:
    """Where the state store leaves a segment out of a window that its rows belong to, that one ends LOST by name (P1)."""
    there = Deployment(tmp_path)
    if closed:
        there.hand.segments.close(H)
    there.edit(edit)
    logs = there.end()
    lost = [("1h", 0)] if "= '1h'" not in edit else []
    lost += [("1d", 0)] if "= '1d'" not in edit else []
    assert windows(there.context, WindowState.LOST) == lost
    causes = [str(line["error"]) for line in logs if line["event"] == "a window is lost"]
    assert all("the state store says that it is not one of its segments" in cause for cause in causes)
    assert len(causes) == len(lost)


@pytest.mark.parametrize("resolution", ["1h", "1d"])
def test_up_to_which_segment_a_window_goes_its_rows_know(tmp_path: Path, resolution: str) -> None:
    """Where a window's record leaves out the segments that were registered before its deadline it ends LOST (P1)."""
    there = Deployment(tmp_path)
    there.hand.segments.close(H)
    sealer, due_ms = sealer_of(there.context), {"1h": H + 70 * MINUTE_MS, "1d": H + DAY_MS + HOUR_MS}[resolution]
    there.clock.set(due_ms - 1)
    sealer.run_due()
    there.clock.set(due_ms)
    sealer._close_due()
    there.edit(f"UPDATE windows SET last_segment = 0 WHERE resolution = '{resolution}' AND start_ms = {H}")  # noqa: S608
    sealer.run_due()
    assert windows(there.context, WindowState.LOST) == [(resolution, 0)]


def test_late_reports_cost_no_window(tmp_path: Path) -> None:
    """Segments that hold what came after an hour's deadline are rightly left out of it, however late the hour is sealed."""
    there = Deployment(tmp_path)
    there.clock.set(H + HOUR_MS + 15 * MINUTE_MS)
    there.hand.segments.tick()
    assert len(there.hand.send("u", H + 50 * MINUTE_MS, 30).admitted) == 1
    there.hand.segments.close(H)
    sealer_of(there.context).run_due()
    there.clock.set(H + DAY_MS + HOUR_MS)
    sealer_of(there.context).run_due()
    assert windows(there.context, WindowState.LOST) == []
    assert (sums(there.context, "1h"), sums(there.context, "1d")) == ({0: REPORTS}, {0: REPORTS + 30})


def test_decisions_that_a_window_forgets_lose_it(tmp_path: Path) -> None:
    """A window whose record says that a withdrawal from before its deadline came later is not released without it (P8)."""
    there = Deployment(tmp_path)
    there.hand.segments.close(H)
    there.hand.decide("u", given=False)
    sealer = sealer_of(there.context)
    there.clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    sealer._close_due()
    there.edit("UPDATE windows SET decisions_through = 1")
    with capture_logs() as logs:
        sealer.run_due()
    assert windows(there.context, WindowState.LOST) == [("1h", 0)]
    assert [line["cause"] for line in logs if line["event"] == "a window is lost"] == ["ConsentUnknown"]


def test_kept_windows_that_are_missing_close_their_metric(tmp_path: Path) -> None:
    """Where the sets of a period are gone nobody knows who was kept, so the metric rests, and its cap holds (P7)."""
    plan = capped("1h: 1")
    there = Deployment(tmp_path, plan)
    there.clock.set(H + HOUR_MS + 15 * MINUTE_MS)
    there.hand.segments.tick()
    sealer_of(there.context).run_due()
    assert sums(there.context, "1h") == {0: REPORTS}
    there.edit("DELETE FROM kept_windows")
    there.hand.send("u", there.clock.now_ms(), 50)
    there.clock.set(H + 2 * HOUR_MS + 15 * MINUTE_MS)
    there.hand.segments.tick()
    with capture_logs() as logs:
        sealer_of(there.context).run_due()
    assert sums(there.context, "1h") == {0: REPORTS}
    assert [line["metrics"] for line in logs if "kept windows are missing" in line["event"]] == [["starts"]]


@pytest.mark.parametrize("edit", [DELETED, EDITS["a frame"]], ids=["a registration", "a frame"])
def test_what_the_database_forgets_later_the_day_knows(tmp_path: Path, edit: str) -> None:
    """The same between the hour's release and the day's."""
    there = Deployment(tmp_path)
    there.clock.set(H + HOUR_MS + 15 * MINUTE_MS)
    there.hand.segments.tick()
    sealer_of(there.context).run_due()
    there.edit(edit)
    there.assert_lost(there.end(), hour=False)


def test_a_segment_that_was_made_and_never_registered_harms_nobody(tmp_path: Path) -> None:
    """A worker that dies between making a segment and registering it leaves a file without rows: nothing was promised."""
    there = Deployment(tmp_path)
    there.context.log.create(H)
    there.end()
    assert windows(there.context, WindowState.LOST) == []
    assert sums(there.context, "1h") == {0: REPORTS, 1: 7}


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EROFS, "read-only"),
        (errno.EIO, "the disk cannot be read or written"),
        (errno.EMFILE, "no descriptor is left"),
        (errno.ENFILE, "no descriptor is left"),
        (errno.EACCES, "its owner"),
    ],
)
def test_what_the_system_refuses_is_told_as_what_it_is(tmp_path: Path, number: int, said: str) -> None:
    """Each kind of failure is named, with what to do about it; none of them is taken for a full disk."""
    there = Deployment(tmp_path)
    failure = failure_of(OSError(number, os.strerror(number)), "writing")
    assert said in str(failure)
    assert not isinstance(failure, StorageFull)
    # Also where nobody expected it.
    assert said in fields_of(OSError(number, os.strerror(number), "a file that nobody may name"))["error"]
    sealer = sealer_of(there.context)
    there.clock.set(H + HOUR_MS + 15 * MINUTE_MS)
    there.hand.segments.tick()
    opens = Path.open

    def refusing(path: Path, *how: Any, **also: Any) -> IO[Any]:
        if "log" in path.parts:
            raise OSError(number, os.strerror(number))
        return opens(path, *how, **also)

    with capture_logs() as logs, mock.patch.object(Path, "open", autospec=True, side_effect=refusing):
        sealer.run_due()
    assert any(said in str(line.get("error")) for line in logs)
    assert windows(there.context, WindowState.LOST) == []
    sealer.run_due()
    assert sums(there.context, "1h") == {0: REPORTS}
