"""What the intake log in files promises of its frames: which are whole, which were acknowledged, and which are lost."""

from __future__ import annotations

import contextlib
import itertools

import pytest

from hushmeter.errors import Failure, SegmentLost
from hushmeter.model.report import ReportBatch
from hushmeter.storage.log.frames import FramesFile, SegmentName, WriterClaim, chained, empty_frames
from hushmeter.storage.log.intake_log import FileIntakeLog
from hushmeter.testing.contracts.report_rows import START, closed_segment, random_rows, read_all, reports_in
from hushmeter.testing.disk import FaultyDisk, PowerCut
from tests.contract.log_files import DEPLOYMENT, assert_lost, path_of


def test_an_acknowledged_frame_is_one_write_one_sync_and_one_note(files, disk):
    """An append costs one write and one sync, its claim is written once they are done, and nothing else happens."""
    segment = files.create(START)
    before = disk.steps
    files.append(START, segment, random_rows(100, 1))
    for _ in range(2):
        files.acknowledge(START, segment)
    assert disk.done[before:] == ["write", "datasync", "overwrite"]


def test_a_torn_tail_is_dropped_at_every_byte(files, tmp_path, reopened):
    """Wherever the last frame is cut, the frames before it count and are read, and it does not."""
    segment = files.create(START)
    sizes = [files.append(START, segment, random_rows(1, seed, points=1)) for seed in range(3)]
    path = path_of(tmp_path, segment)
    whole = path.read_bytes()
    assert len(whole) == sizes[-1]
    for size in range(sizes[1], sizes[2]):
        path.write_bytes(whole[:size])
        assert reopened.count_frames(START, segment) == 2
    reopened.compact(START, segment, 2)
    assert reports_in(read_all(reopened, [segment])) == reports_in(
        ReportBatch.concat([random_rows(1, 0, points=1), random_rows(1, 1, points=1)])
    )


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 4, b"\0" * 4_096, b"\xff" * 4_096, b"\x40\0\0\0" + b"\0" * 64])
def test_garbage_after_the_last_frame_is_dropped(files, tmp_path, reopened, tail):
    """Zeros, noise, or a frame's length with other bytes behind it, as a crash may leave them, are no frame."""
    segment = closed_segment(files, random_rows(2, 1))
    with path_of(tmp_path, segment).open("ab") as file:
        file.write(tail)
    assert reopened.count_frames(START, segment) == 1


def test_a_damaged_last_frame_that_nobody_acknowledged_is_a_torn_tail(files, tmp_path, reopened):
    """A last frame whose bytes are wrong, and that no claim counts, was never acknowledged."""
    segment = files.create(START)
    files.append(START, segment, random_rows(2, 1))
    files.acknowledge(START, segment)
    files.append(START, segment, random_rows(2, 2))
    path = path_of(tmp_path, segment)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert reopened.count_frames(START, segment) == 1


@pytest.fixture
def left(files):
    """A segment whose owner died after it had acknowledged two frames, with its size up to each."""
    segment = files.create(START)
    sizes = []
    for seed in range(2):
        sizes.append(files.append(START, segment, random_rows(2, seed)))
        files.acknowledge(START, segment)
    return segment, sizes


def test_an_acknowledged_frame_that_is_cut_off_is_a_loss_by_name(left, tmp_path, reopened):
    """Wherever a file is cut in or before a frame that was acknowledged, at borders too, the segment is lost."""
    segment, sizes = left
    path = path_of(tmp_path, segment)
    whole = path.read_bytes()
    for size in (*range(0, sizes[1], 7), *(size - 1 for size in sizes), sizes[0], sizes[0] + 2, sizes[0] + 4):
        path.write_bytes(whole[:size])
        assert_lost(reopened, segment)
    path.write_bytes(whole)
    assert reopened.count_frames(START, segment) == 2


def test_every_flipped_bit_of_an_acknowledged_frame_is_a_loss_by_name(left, tmp_path, reopened):
    """Length, nonce, ciphertext or seal: no damage to what was acknowledged is taken for a tear."""
    segment, sizes = left
    path = path_of(tmp_path, segment)
    whole = path.read_bytes()
    for at in (*range(sizes[0], sizes[0] + 20), *range(sizes[0] + 20, sizes[1], 37), *range(sizes[1] - 16, sizes[1])):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        assert_lost(reopened, segment)


def test_either_copy_of_the_claim_will_do(left, tmp_path, reopened):
    """With one copy damaged the other still says what was acknowledged; with both, nothing proves that all is there."""
    segment, sizes = left
    path = path_of(tmp_path, segment)
    whole = path.read_bytes()
    size = len(empty_frames(SegmentName(DEPLOYMENT, START, segment)))
    copies = [size - 1, size - 1 - (size - whole.index(b"\n") - 1) // 2]
    for at in copies:
        damaged = bytearray(whole)
        damaged[at] ^= 4
        path.write_bytes(damaged)
        assert reopened.count_frames(START, segment) == 2
        path.write_bytes(damaged[: sizes[0]])
        assert_lost(reopened, segment)
    damaged[copies[0]] ^= 4
    path.write_bytes(damaged)
    assert_lost(reopened, segment)
    path.write_bytes(whole)
    reopened.compact(START, segment, 2)


def test_a_frame_that_is_cut_off_and_written_anew_is_not_the_one_acknowledged(files, tmp_path, keys, reopened):
    """A frame of an append that failed does not pass for the one that took its number and was acknowledged."""
    segment = files.create(START)
    size = files.append(START, segment, random_rows(2, 0))
    path = path_of(tmp_path, segment)
    files.append(START, segment, random_rows(2, 1))
    first = path.read_bytes()[size:]
    writer = files._writing[START, segment]
    writer._size, writer._torn = size, True
    writer._written = WriterClaim(
        1, chained(bytes(16), FramesFile.of(writer._segment, memoryview(path.read_bytes())).frames[:1])
    )
    files.append(START, segment, random_rows(2, 2))
    files.acknowledge(START, segment)
    assert reopened.count_frames(START, segment) == 2
    path.write_bytes(path.read_bytes()[:size] + first)
    assert_lost(reopened, segment)


def test_a_claim_never_outlives_the_frames_that_it_counts(tmp_path, keys):
    """Cut at any operation of two acknowledged appends, whatever of the unsynced bytes stays, nothing is lost.

    A claim is written once its frames are durable.
    """
    for step, keep_bytes in itertools.product(range(6), (0, 10, 10_000)):
        disk = FaultyDisk()
        log = FileIntakeLog(tmp_path / f"{step}-{keep_bytes}", keys, DEPLOYMENT, disk)
        segment, acknowledged = log.create(START), 0
        disk.cut_at_step = disk.steps + step
        with contextlib.suppress(PowerCut):
            for acknowledged in range(9):
                log.append(START, segment, random_rows(2, acknowledged))
                log.acknowledge(START, segment)
        disk.cut_power(keep_bytes)
        disk.restore_power()
        again = FileIntakeLog(log._directory, keys, DEPLOYMENT)
        frames = again.count_frames(START, segment)
        assert frames >= acknowledged == step // 3
        again.compact(START, segment, frames)
        assert len(read_all(again, [segment])) == 2 * frames


def test_a_sync_that_lied_is_a_loss_by_name(files, disk, tmp_path, reopened):
    """Frames that the disk said were durable and forgot at a power cut are missed, where the claim reached it."""
    segment = files.create(START)
    size = files.append(START, segment, random_rows(2, 0))
    files.append(START, segment, random_rows(2, 1))
    files.acknowledge(START, segment)
    with path_of(tmp_path, segment).open("r+b") as file:
        file.truncate(size)
    assert_lost(reopened, segment)


def test_what_cannot_be_noted_is_not_acknowledged(files, disk, reopened):
    """Where the claim cannot be written that is said, and the next append claims both."""
    segment = files.create(START)
    files.append(START, segment, random_rows(2, 0))
    disk.fail_next("overwrite")
    with pytest.raises(Failure, match="noting what is acknowledged"):
        files.acknowledge(START, segment)
    files.append(START, segment, random_rows(2, 1))
    files.acknowledge(START, segment)
    assert reopened.count_frames(START, segment) == 2
    with pytest.raises(SegmentLost, match="2 frames were acknowledged, but 1 were closed"):
        reopened.compact(START, segment, 1)


def test_a_segment_of_before_is_read_without_a_claim(files, tmp_path, reopened):
    """A file that an earlier hushmeter made has frames behind its header line, and a torn tail is dropped as then."""
    segment = files.create(START)
    sizes = [files.append(START, segment, random_rows(2, seed)) for seed in range(2)]
    path, name = path_of(tmp_path, segment), SegmentName(DEPLOYMENT, START, segment)
    frames = path.read_bytes()[len(empty_frames(name)) :]
    path.write_bytes(name.header("frames") + frames[:-1])
    assert reopened.count_frames(START, segment) == 1
    path.write_bytes(name.header("frames") + frames)
    assert reopened.count_frames(START, segment) == 2
    reopened.compact(START, segment, 2)
    assert len(read_all(reopened, [segment])) == 4
    assert sizes[0] < sizes[1]


def test_damage_before_the_last_frame_is_a_loss_by_name(files, tmp_path, reopened):
    """Damage in a frame with whole ones behind it was acknowledged: the segment is lost, and no row vanishes in silence."""
    segment = files.create(START)
    sizes = [files.append(START, segment, random_rows(2, seed)) for seed in range(3)]
    path = path_of(tmp_path, segment)
    content = bytearray(path.read_bytes())
    content[sizes[0] + 20] ^= 1
    path.write_bytes(content)
    assert reopened.count_frames(START, segment) == 3
    with pytest.raises(SegmentLost, match="frame 1 is damaged"):
        reopened.compact(START, segment, 3)


def test_frames_cannot_change_places(files, tmp_path, reopened):
    """Two frames of equal length that are swapped are refused."""
    segment = files.create(START)
    sizes = [files.append(START, segment, random_rows(2, seed)) for seed in range(2)]
    path = path_of(tmp_path, segment)
    content = path.read_bytes()
    header = sizes[0] - (sizes[1] - sizes[0])
    path.write_bytes(content[:header] + content[sizes[0] :] + content[header : sizes[0]])
    assert reopened.count_frames(START, segment) == 0
    with pytest.raises(SegmentLost):
        reopened.compact(START, segment, 2)


def test_a_file_under_another_name_is_refused(files, tmp_path, reopened):
    """A segment's file that takes another segment's place counts nothing and is lost."""
    first, second = closed_segment(files, random_rows(2, 1)), closed_segment(files, random_rows(2, 2))
    path_of(tmp_path, first).replace(path_of(tmp_path, second))
    assert reopened.count_frames(START, second) == 0
    with pytest.raises(SegmentLost, match="does not begin as it should"):
        reopened.compact(START, second, 1)
