"""What the intake log in files promises of a disk that is full, fails, or loses power while rows are appended."""

from __future__ import annotations

import errno

import pytest

from hushmeter.errors import Failure, StorageFull
from hushmeter.model.report import ReportBatch
from hushmeter.testing.contracts.report_rows import START, closed_segment, random_rows, read_all, reports_in
from hushmeter.testing.disk import PowerCut


def test_a_full_disk_leaves_the_segment_as_before(files, disk, reopened):
    """Wherever in a frame the room ends, it is refused, the earlier frames are whole, and a later append succeeds."""
    segment = files.create(START)
    size = files.append(START, segment, random_rows(2, 0))
    for room in (0, 1, 4, 15, 16, 100):
        disk.room_bytes = room
        with pytest.raises(StorageFull, match="no room is left"):
            files.append(START, segment, random_rows(2, 1))
        assert disk.room_bytes == room
        assert reopened.count_frames(START, segment) == 1
    disk.room_bytes = None
    assert files.append(START, segment, random_rows(2, 2)) > size
    assert files.close(START, segment) == 2
    reopened.compact(START, segment, 2)
    both = ReportBatch.concat([random_rows(2, 0), random_rows(2, 2)])
    assert reports_in(read_all(reopened, [segment])) == reports_in(both)


@pytest.mark.parametrize(("error", "kind"), [(errno.EDQUOT, StorageFull), (errno.EIO, Failure)])
@pytest.mark.parametrize("operation", ["write", "datasync"])
def test_a_failed_append_is_refused_by_what_failed(files, disk, reopened, operation, error, kind):
    """A used-up quota may be tried again, another error is a failure; either way the next append counts from before."""
    segment = files.create(START)
    files.append(START, segment, random_rows(2, 0))
    disk.fail_next(operation, error)
    with pytest.raises(Failure) as failure:
        files.append(START, segment, random_rows(2, 1))
    assert type(failure.value) is kind
    files.append(START, segment, random_rows(2, 2))
    assert files.close(START, segment) == reopened.count_frames(START, segment) == 2


def torn(files, disk):
    """A segment of one frame, behind which a write was torn and could not be cut off; the disk is still full."""
    segment = files.create(START)
    files.append(START, segment, random_rows(2, 0))
    disk.room_bytes = 50
    disk.fail_next("truncate", times=2)
    with pytest.raises(StorageFull):
        files.append(START, segment, random_rows(2, 1))
    return segment


def test_a_torn_write_that_cannot_be_cut_off_is_cut_off_later(files, disk, reopened):
    """When truncating fails too, the next append truncates first; until it can, it writes nothing behind the tear."""
    segment = torn(files, disk)
    disk.room_bytes = None
    disk.fail_next("truncate")
    with pytest.raises(Failure, match="Input/output error"):
        files.append(START, segment, random_rows(2, 1))
    files.append(START, segment, random_rows(2, 2))
    assert files.close(START, segment) == 2
    reopened.compact(START, segment, 2)
    assert len(read_all(reopened, [segment])) == 4


def test_a_segment_closed_with_a_tear_is_read_without_it(files, disk, reopened):
    """Where a torn write could never be cut off, closing counts whole frames only, and they are read."""
    segment = torn(files, disk)
    assert files.close(START, segment) == 1
    reopened.compact(START, segment, 1)
    assert reports_in(read_all(reopened, [segment])) == reports_in(random_rows(2, 0))


@pytest.mark.parametrize("operation", ["make_directory", "create", "write", "datasync", "sync_directory"])
def test_a_segment_that_cannot_be_made_leaves_nothing(files, disk, operation):
    """A refused `create` raises, leaves no file, and can be tried again."""
    disk.fail_next(operation, errno.ENOSPC)
    with pytest.raises(StorageFull, match="making segment"):
        files.create(START)
    assert files.storage_windows() == ()
    assert files.count_frames(START, files.create(START)) == 0


@pytest.mark.parametrize("step", range(7))
def test_a_power_cut_while_a_segment_is_made_harms_nothing(files, disk, reopened, step):
    """Whatever is left of a half-made segment, the windows can be listed, and the next segment works."""
    disk.cut_at_step = step
    with pytest.raises(PowerCut):
        files.create(START)
    disk.restore_power()
    assert set(reopened.storage_windows()) <= {START}
    assert reopened.count_frames(START, closed_segment(reopened, random_rows(1, 1))) == 1


def test_a_new_segment_survives_a_power_cut(files, disk, reopened):
    """Once `create` has returned, the segment is there under its name, empty."""
    segment = files.create(START)
    disk.cut_power()
    disk.restore_power()
    reopened.compact(START, segment, 0)
    assert len(read_all(reopened, [segment])) == 0


@pytest.mark.parametrize("keep_bytes", [0, 1, 30, 10_000])
def test_acknowledged_frames_survive_a_power_cut(files, disk, reopened, keep_bytes):
    """Every frame that `append` returned for is read after a power cut that tears the next one anywhere."""
    segment = files.create(START)
    files.append(START, segment, random_rows(2, 0))
    files.append(START, segment, random_rows(2, 1))
    disk.fail_next("datasync")
    disk.fail_next("truncate")
    with pytest.raises(Failure):
        files.append(START, segment, random_rows(2, 2))
    disk.cut_power(keep_bytes)
    disk.restore_power()
    frames = reopened.count_frames(START, segment)
    assert frames == (3 if keep_bytes == 10_000 else 2)
    reopened.compact(START, segment, frames)
    assert len(read_all(reopened, [segment])) == 2 * frames


@pytest.mark.parametrize("step", range(2))
def test_a_power_cut_while_appending_tears_only_that_frame(files, disk, reopened, step):
    """A cut in the write or before the sync leaves the earlier frames and nothing of this one."""
    segment = files.create(START)
    files.append(START, segment, random_rows(2, 0))
    disk.cut_at_step = disk.steps + step
    with pytest.raises(PowerCut):
        files.append(START, segment, random_rows(2, 1))
    disk.restore_power()
    assert reopened.count_frames(START, segment) == 1
