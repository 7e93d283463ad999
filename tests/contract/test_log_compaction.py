"""What the intake log in files promises while segments are compacted, erased from and destroyed, and what lies in them."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import stat
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

from hushmeter import limits
from hushmeter.errors import Failure, InvariantError, SegmentLost, StorageFull
from hushmeter.model.key_names import data_key
from hushmeter.model.report import ReportBatch, pairs_of
from hushmeter.storage.log.intake_log import FileIntakeLog
from hushmeter.testing.contracts.report_rows import (
    LATER,
    START,
    closed_segment,
    random_rows,
    read_all,
    reports_in,
    units_in,
)
from hushmeter.testing.disk import FaultyDisk, PowerCut
from hushmeter.testing.memory import MemoryKeyRing
from tests.contract.log_files import DEPLOYMENT, path_of


@pytest.mark.parametrize("eager_removals", [False, True])
def test_compaction_survives_a_power_cut_at_every_step(tmp_path, keys, small_buckets, eager_removals):
    """Cut at any operation or right after, compaction done once more yields every row once, and leaves the runs alone."""
    rows, cut, step = random_rows(30, 1), True, 0
    while cut:
        disk = FaultyDisk()
        disk.eager_removals = eager_removals
        log = FileIntakeLog(tmp_path / str(step), keys, DEPLOYMENT, disk)
        segment = closed_segment(log, rows)
        disk.cut_at_step = disk.steps + step
        try:
            log.compact(START, segment, 1)
        except PowerCut:
            step += 1
        else:
            disk.cut_power()
            cut = False
        disk.restore_power()
        again = FileIntakeLog(log._directory, keys, DEPLOYMENT)
        again.compact(START, segment, 1)
        assert reports_in(read_all(again, [segment])) == reports_in(rows)
        assert [p.suffix for p in (log._directory / str(START)).iterdir()] == [".runs"]
    assert step > 8


def test_compaction_on_a_failing_disk_leaves_the_frames(files, disk, tmp_path):
    """A full disk or an error anywhere in compaction is raised, leaves no half file, and it succeeds later."""
    segment = closed_segment(files, random_rows(5, 1))
    for operation in ("create", "write", "datasync", "rename"):
        disk.fail_next(operation, errno.ENOSPC)
        with pytest.raises(StorageFull, match="compacting segment"):
            files.compact(START, segment, 1)
        assert [p.name for p in path_of(tmp_path, segment).parent.iterdir()] == [f"{segment}.frames"]
    disk.fail_next("remove")
    with pytest.raises(Failure, match="left over"):
        files.compact(START, segment, 1)
    files.compact(START, segment, 1)
    assert [p.name for p in path_of(tmp_path, segment).parent.iterdir()] == [f"{segment}.runs"]
    assert len(read_all(files, [segment])) == 5


@pytest.mark.parametrize("operation", ["create", "write", "rename"])
def test_two_processes_may_compact_one_segment(tmp_path, keys, reopened, operation, monkeypatch):
    """Where another process finishes first, at whatever moment, both succeed and every row is there once."""
    disk = FaultyDisk()
    slow = FileIntakeLog(tmp_path / "log", keys, DEPLOYMENT, disk)
    segment = closed_segment(slow, random_rows(5, 1))
    step = disk._step

    others = ThreadPoolExecutor(1)
    done = []

    def overtaken(name: str) -> None:
        if name == operation:
            monkeypatch.setattr(disk, "_step", step)
            done.append(others.submit(reopened.compact, START, segment, 1))
            # At the rename the other one waits for this one; before, it is let to finish first.
            wait(done, 0.2 if operation == "rename" else None)
        step(name)

    monkeypatch.setattr(disk, "_step", overtaken)
    slow.compact(START, segment, 1)
    done[0].result()
    others.shutdown()
    assert reports_in(read_all(slow, [segment])) == reports_in(random_rows(5, 1))
    assert [p.suffix for p in path_of(tmp_path, segment).parent.iterdir()] == [".runs"]


def test_a_compacted_segment_that_is_damaged_is_lost(files, tmp_path, small_buckets):
    """A changed byte anywhere in the file of runs, or a lost end, is never read as rows."""
    segment = closed_segment(files, random_rows(15, 1))
    files.compact(START, segment, 1)
    path = path_of(tmp_path, segment, "runs")
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(SegmentLost):
            read_all(files, [segment])
    for size in range(0, len(whole), 31):
        path.write_bytes(whole[:size])
        with pytest.raises(SegmentLost):
            files.bucket_bits(START, [segment])
    path.write_bytes(whole)
    assert len(read_all(files, [segment])) == 15


def test_nothing_of_a_unit_lies_in_the_clear(files, tmp_path, keys):
    """No pseudonym, report id, value or token stands in any file, before and after compaction."""
    secret = b"sixteen byte id!"
    ids = pairs_of([secret])
    values = np.frombuffer(b"value of a unit!", np.int64)
    token = b"a token of a unit"
    rows = random_rows(1, 1, tokens=(token,))
    numbers = np.ones(2, np.uint32)
    batch = dataclasses.replace(rows, pseudonyms=ids, report_ids=ids, values=values, token_numbers=numbers)
    segment = closed_segment(files, batch)
    kept = path_of(tmp_path, segment).read_bytes()
    files.compact(START, segment, 1)
    kept += path_of(tmp_path, segment, "runs").read_bytes()
    key = keys.get(data_key(START))
    for plain in (token, secret, secret[:8], secret[7::-1], b"value of", b"a unit!", batch.series.tobytes(), key):
        assert plain not in kept
    assert segment.encode() in kept


def test_files_are_the_owners_alone(files, tmp_path):
    """Files have mode 0600 and directories 0700, before and after compaction."""
    compacted = closed_segment(files, random_rows(1, 1))
    files.compact(START, compacted, 1)
    closed_segment(files, random_rows(1, 2))
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in path_of(tmp_path, compacted).parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "log" / str(START)).stat().st_mode) == 0o700


def test_a_batch_larger_than_a_frame_becomes_several(files, reopened, monkeypatch):
    """An append beyond the frame limit is cut, written at once, counted as frames, and read whole; one within it is not."""
    monkeypatch.setattr(limits, "FRAME_MAX_BYTES", 4_124 + 10 * (68 + 2 * 12))
    segment = files.create(START)
    files.append(START, segment, random_rows(10, 1))
    assert reopened.count_frames(START, segment) == 1
    files.append(START, segment, random_rows(25, 2))
    assert files.close(START, segment) == reopened.count_frames(START, segment) == 4
    reopened.compact(START, segment, 4)
    assert reports_in(read_all(reopened, [segment])) == reports_in(
        ReportBatch.concat([random_rows(10, 1), random_rows(25, 2)])
    )


def test_scrubbing_goes_on_after_a_power_cut_at_any_step(tmp_path, keys):
    """Cut at any operation, `destroy` done once more leaves nothing of the window, and other windows whole."""
    for step in itertools.count():
        disk = FaultyDisk()
        log = FileIntakeLog(tmp_path / str(step), keys, DEPLOYMENT, disk)
        log.compact(START, closed_segment(log, random_rows(2, 1)), 1)
        closed_segment(log, random_rows(2, 2))
        other = closed_segment(log, random_rows(2, 3), start=LATER)
        disk.cut_at_step = disk.steps + step
        try:
            log.destroy(START)
        except PowerCut:
            disk.restore_power()
            again = FileIntakeLog(tmp_path / str(step), keys, DEPLOYMENT)
            again.destroy(START)
            assert again.storage_windows() == (LATER,)
            assert again.count_frames(LATER, other) == 1
        else:
            break
    assert step == 5
    disk.cut_power()
    assert not (tmp_path / str(step) / str(START)).exists()


def test_a_deployment_reads_only_its_own_segments(files, tmp_path, keys):
    """Under another deployment's id a segment is refused, and an id of another form is a defect."""
    segment = closed_segment(files, random_rows(2, 1))
    other = FileIntakeLog(tmp_path / "log", keys, "e" * 32)
    assert other.count_frames(START, segment) == 0
    with pytest.raises(SegmentLost):
        other.compact(START, segment, 1)
    with pytest.raises(InvariantError, match="32 hexadecimal digits"):
        FileIntakeLog(tmp_path / "log", keys, "demo")
    with pytest.raises(InvariantError, match="32 hexadecimal digits"):
        files.count_frames(START, "../" + "a" * 29)


def test_stray_files_are_no_windows(files, tmp_path):
    """Anything else in the log's directory is left out and left alone."""
    files.create(START)
    (tmp_path / "log" / "lost+found").mkdir()
    (tmp_path / "log" / "12").touch()
    assert files.storage_windows() == (START,)


def test_readers_follow_an_erasure(tmp_path, keys, small_buckets):
    """Another process that has read a segment before it was rewritten reads what is there now, not where it was."""
    log, other = (FileIntakeLog(tmp_path / "log", keys, DEPLOYMENT) for _ in range(2))
    rows = random_rows(40, 1)
    segment = closed_segment(log, rows)
    log.compact(START, segment, 1)
    assert len(read_all(other, [segment])) == 40
    log.erase(START, segment, 1, units_in(rows, 0, 1, 2))
    assert reports_in(read_all(other, [segment])) == reports_in(rows.take(np.arange(3, 40)))


def test_a_late_compaction_brings_nobody_back(tmp_path, keys, small_buckets):
    """A process that began to compact a segment before a unit was erased from it does not put the unit's rows back."""
    rows, written = random_rows(40, 1), []
    log, late = (FileIntakeLog(tmp_path / "log", keys, DEPLOYMENT) for _ in range(2))
    segment = closed_segment(log, rows)
    honest = late._files.written

    def overtaken(name, parts):
        written.append(honest(name, parts))
        log.erase(START, segment, 1, units_in(rows, 5))
        return written[0]

    late._files.written = overtaken
    late.compact(START, segment, 1)
    assert len(written) == 1
    assert len(read_all(late, [segment])) == 39
    assert [path.suffix for path in (tmp_path / "log" / str(START)).iterdir()] == [".runs"]


def test_processes_that_erase_at_once(tmp_path, keys, small_buckets):
    """Of units that several processes erase from one segment at the same time none comes back."""
    rows = random_rows(60, 1)
    logs = [FileIntakeLog(tmp_path / "log", keys, DEPLOYMENT) for _ in range(4)]
    segment = closed_segment(logs[0], rows)
    logs[0].compact(START, segment, 1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: logs[n % 4].erase(START, segment, 1, units_in(rows, n)), range(20)))
    assert reports_in(read_all(logs[0], [segment])) == reports_in(rows.take(np.arange(20, 60)))


@pytest.mark.parametrize("eager", [False, True])
def test_power_cuts_while_erasing(tmp_path, small_buckets, eager):
    """Whenever the power is cut, others' rows are all there, and erasing again removes the unit for good."""
    rows = random_rows(30, 1)
    for step in itertools.count():
        keys, disk = MemoryKeyRing(), FaultyDisk()
        disk.eager_removals = eager
        directory = tmp_path / str(step)
        directory.mkdir()
        log = FileIntakeLog(directory / "log", keys, DEPLOYMENT, disk)
        segment = closed_segment(log, rows)
        disk.cut_at_step = disk.steps + step
        try:
            log.erase(START, segment, 1, units_in(rows, 7))
        except PowerCut:
            done = False
        else:
            done = True
        if done:
            disk.cut_power()
        disk.restore_power()
        again = FileIntakeLog(directory / "log", keys, DEPLOYMENT, disk)
        if not done:
            again.compact(START, segment, 1)
            assert len(read_all(again, [segment])) in (29, 30)
            again.erase(START, segment, 1, units_in(rows, 7))
        assert reports_in(read_all(again, [segment])) == reports_in(rows.take(np.delete(np.arange(30), 7)))
        if done:
            break
    assert step > 5
