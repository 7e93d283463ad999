"""What every intake log promises, and what the one in files promises of a disk that fails."""

import contextlib
import dataclasses
import errno
import itertools
import stat
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest

from hushmeter import limits
from hushmeter.errors import Failure, InvariantError, KeyGone, KeyUnavailable, SegmentLost, StorageFull
from hushmeter.model.key_names import data_key
from hushmeter.model.report import ReportBatch, bytes_of, pairs_of
from hushmeter.storage.log.frames import FramesFile, SegmentName, WriterClaim, chained, empty_frames
from hushmeter.storage.log.intake_log import FileIntakeLog
from hushmeter.testing.disk import FaultyDisk, PowerCut
from hushmeter.testing.memory import MemoryIntakeLog, MemoryKeyRing
from tests.batches import said

DEPLOYMENT = "d" * 32
START = 3_600_000
LATER = 7_200_000


def rows_of(count: int, seed: int, points: int = 2, tokens: tuple[bytes, ...] = ()) -> ReportBatch:
    """Reports of random units; no two of them are alike, whatever the seed. Each point has any of the tokens, or none."""
    draw = np.random.default_rng(seed)
    moments = draw.integers(0, 2**50, count)
    offsets = np.arange(count + 1, dtype=np.int64) * points
    return ReportBatch(
        draw.integers(0, 2**64, (count, 2), np.uint64),
        draw.integers(0, 2**64, (count, 2), np.uint64),
        moments,
        moments - 5,
        moments - 1,
        draw.integers(0, 2**32, count, np.uint32),
        offsets,
        draw.integers(0, 2**32, count * points, np.uint32),
        draw.integers(-(2**63), 2**63, count * points),
        tokens,
        draw.integers(0, len(tokens) + 1, count * points, np.uint32),
    )


def reports_in(batch: ReportBatch) -> list[tuple[object, ...]]:
    """The reports as plain values, sorted."""
    return sorted(said(batch), key=lambda report: report[:2])


def read_all(log, segments, start: int = START) -> ReportBatch:
    """Everything in some compacted segments of a window."""
    bits = log.bucket_bits(start, segments)
    return ReportBatch.concat([log.read(start, segments, bucket, bits) for bucket in range(1 << bits)])


def written(log, *batches: ReportBatch, start: int = START) -> str:
    """A closed segment of these frames."""
    segment = log.create(start)
    for batch in batches:
        log.append(start, segment, batch)
    assert log.close(start, segment) == len(batches)
    return segment


@pytest.fixture
def keys():
    """A key ring."""
    return MemoryKeyRing()


@pytest.fixture(params=["files", "memory"])
def log(request, tmp_path, keys):
    """A new intake log."""
    return MemoryIntakeLog(keys) if request.param == "memory" else FileIntakeLog(tmp_path / "log", keys, DEPLOYMENT)


@pytest.fixture
def small_buckets(monkeypatch):
    """Runs of about ten rows, so that a few rows make several."""
    monkeypatch.setattr(limits, "RUN_BYTES_TARGET", rows_of(10, 1).size_bytes)


# Every intake log.


def test_tokens_are_read_beside_their_points(log, small_buckets):
    """Tokens of several frames come back with their own points, whatever numbers they had, bucket by bucket."""
    batches = [
        rows_of(15, 1, tokens=(b"1.0", b"2.0")),
        rows_of(15, 2),
        rows_of(15, 3, tokens=(b"", "日本".encode(), b"2.0", b"1.0")),
    ]
    segment = written(log, *batches)
    log.compact(START, segment, 3)
    assert log.bucket_bits(START, [segment]) > 1
    assert reports_in(read_all(log, [segment])) == reports_in(ReportBatch.concat(batches))


def test_a_run_of_tokens_is_read_as_finer_buckets(log, small_buckets):
    """Rows of a coarse segment that is read at a finer grain keep their tokens."""
    coarse, fine = rows_of(5, 1, tokens=(b"a", b"b")), rows_of(30, 2, tokens=(b"b", b"c"))
    segments = [written(log, coarse), written(log, fine)]
    for segment in segments:
        log.compact(START, segment, 1)
    assert reports_in(read_all(log, segments)) == reports_in(ReportBatch.concat([coarse, fine]))


def test_what_is_appended_is_read(log):
    """Every report of every frame comes back once, with all its values."""
    batches = [rows_of(7, 1), ReportBatch.empty(), rows_of(1, 2, points=0), rows_of(20, 3, points=5)]
    segment = written(log, *batches)
    log.compact(START, segment, 4)
    assert reports_in(read_all(log, [segment])) == reports_in(ReportBatch.concat(batches))


def test_when_a_segment_was_received_is_told(log, small_buckets):
    """Of an open segment, a closed and a compacted one the receipt of one of its rows is told; of none, of nothing."""
    rows = rows_of(30, 1)
    assert log.receipt_in(START, "a" * 32) is None
    assert log.receipt_in(START, written(log)) is None
    segment = log.create(START)
    assert log.receipt_in(START, segment) is None
    log.append(START, segment, rows)
    told = {log.receipt_in(START, segment)}
    log.close(START, segment)
    told.add(log.receipt_in(START, segment))
    log.compact(START, segment, 1)
    told.add(log.receipt_in(START, segment))
    assert told <= set(rows.received_at_ms.tolist())
    log.erase(START, segment, 1, bytes_of(rows.pseudonyms))
    assert log.receipt_in(START, segment) is None


def erasing(rows: ReportBatch, *numbers: int) -> list[bytes]:
    """The units of some rows, for `erase`."""
    return [bytes_of(rows.pseudonyms)[number] for number in numbers]


def test_erased_units_are_gone_and_others_stay(log, small_buckets):
    """Of every frame exactly the erased units' rows are gone, whatever bucket they were in; all others are as before."""
    batches = [rows_of(30, seed, tokens=(b"a", b"b")) for seed in range(3)]
    # The same unit in every frame, at other times.
    batches[1:] = [dataclasses.replace(b, pseudonyms=batches[0].pseudonyms) for b in batches[1:]]
    segment = written(log, *batches)
    log.erase(START, segment, 3, erasing(batches[0], 4, 20))
    expected = ReportBatch.concat([b.take(np.setdiff1d(np.arange(30), [4, 20])) for b in batches])
    assert reports_in(read_all(log, [segment])) == reports_in(expected)
    assert len(expected) == 84
    log.erase(START, segment, 3, erasing(batches[0], 4))
    log.compact(START, segment, 3)
    assert reports_in(read_all(log, [segment])) == reports_in(expected)


def test_the_rows_of_one_unit(log, small_buckets):
    """All of a unit's rows in a segment are found, and nobody else's: while it is written, closed, compacted, erased."""
    batches = [rows_of(30, seed, tokens=(b"a", b"b")) for seed in range(3)]
    batches[1:] = [dataclasses.replace(b, pseudonyms=batches[0].pseudonyms) for b in batches[1:]]
    unit, nobody = bytes_of(batches[0].pseudonyms)[7], bytes_of(rows_of(1, 9).pseudonyms)[0]
    expected = reports_in(ReportBatch.concat([b.take(np.array([7])) for b in batches]))
    segment, empty = log.create(START), log.create(START)
    assert len(log.rows_of(START, segment, unit)) == 0
    for batch in batches:
        log.append(START, segment, batch)
    for step in (lambda: log.close(START, segment), lambda: log.compact(START, segment, 3), lambda: None):
        assert reports_in(log.rows_of(START, segment, unit)) == expected
        assert len(log.rows_of(START, segment, nobody)) == len(log.rows_of(START, empty, unit)) == 0
        step()
    log.erase(START, segment, 3, [unit])
    assert len(log.rows_of(START, segment, unit)) == 0
    with pytest.raises(SegmentLost):
        log.rows_of(START, "0" * 32, unit)


def every_second(rows: ReportBatch, segments) -> tuple[ReportBatch, np.ndarray]:
    """A change that leaves rows with an even last digit of their report id, with other values; it sees whole buckets."""
    assert (np.diff(segments) >= 0).all()
    left = np.flatnonzero(rows.report_ids[:, 1] % 2 == 0)
    return dataclasses.replace(rows, values=rows.values // 2).take(left), left


def test_rewritten_rows_are_read(log, small_buckets):
    """Of every segment the change decides what stays; it is asked once, and what was changed for is told."""
    batches = [rows_of(30, 1, tokens=(b"a",)), rows_of(20, 2), rows_of(1, 3)]
    names = [written(log, batches[0], batches[1]), written(log, batches[2]), written(log)]
    frames = dict(zip(names, (2, 1, 0), strict=True))
    log.rewrite(START, frames, every_second, "1d")
    everything = ReportBatch.concat(batches)
    expected, _ = every_second(everything, np.zeros(51, np.int64))
    assert reports_in(read_all(log, names[:2])) == reports_in(expected)
    assert [log.kept_for(START, name) for name in names] == ["1d", "1d", ""]
    log.rewrite(START, frames, every_second, "1d")
    assert reports_in(read_all(log, names[:2])) == reports_in(expected)
    log.erase(START, names[0], 2, erasing(expected, 0))
    assert log.kept_for(START, names[0]) == "1d"
    log.rewrite(START, frames, every_second, "1w")
    assert len(read_all(log, names[:2])) == len(expected) - 1


def test_units_that_are_not_there_are_erased(log, small_buckets):
    """Erasing a unit that a segment never held, all of its rows, or of an empty segment, does no harm."""
    rows = rows_of(25, 1)
    segment, alone, empty = written(log, rows), written(log, rows_of(1, 2)), written(log)
    log.erase(START, segment, 1, erasing(rows_of(9, 7), *range(9)))
    assert reports_in(read_all(log, [segment])) == reports_in(rows)
    log.erase(START, alone, 1, erasing(rows_of(1, 2), 0))
    log.erase(START, empty, 0, erasing(rows, 0))
    assert len(read_all(log, [alone, empty])) == 0


def test_a_segment_grows_with_every_frame(log):
    """`append` returns a size that rises by at least the values it was given."""
    segment = log.create(START)
    sizes = [log.append(START, segment, rows_of(10, seed)) for seed in range(3)]
    assert all(b - a >= 10 * 2 * 12 for a, b in itertools.pairwise([0, *sizes]))


def test_segments_of_one_window_are_read_together(log):
    """Rows of several segments come together, and those of other segments and windows stay out."""
    first, second, third = (written(log, rows_of(5, seed)) for seed in (1, 2, 3))
    other = written(log, rows_of(5, 4), start=LATER)
    for segment in (first, second, third):
        log.compact(START, segment, 1)
    log.compact(LATER, other, 1)
    both = ReportBatch.concat([rows_of(5, 1), rows_of(5, 3)])
    assert reports_in(read_all(log, [first, third])) == reports_in(both)
    assert reports_in(read_all(log, [other], LATER)) == reports_in(rows_of(5, 4))


def test_no_segments_are_no_rows(log):
    """A window without segments has one empty bucket."""
    assert log.bucket_bits(START, []) == 0
    assert len(log.read(START, [], 0, 0)) == 0


@pytest.mark.parametrize("finer", range(4))
def test_buckets_part_the_units(log, small_buckets, finer):
    """The buckets of any grain from the segments' own on hold every row once, each where its pseudonym's top bits say."""
    large, small = rows_of(70, 1), rows_of(9, 2)
    segments = [written(log, large), written(log, small)]
    for segment in segments:
        log.compact(START, segment, 1)
    assert log.bucket_bits(START, segments) == 3
    assert log.bucket_bits(START, segments[1:]) == 0
    bits = 3 + finer
    buckets = [log.read(START, segments, bucket, bits) for bucket in range(1 << bits)]
    assert reports_in(ReportBatch.concat(buckets)) == reports_in(ReportBatch.concat([large, small]))
    for number, bucket in enumerate(buckets):
        assert all(int(high) >> (64 - bits) == number for high in bucket.pseudonyms[:, 0])


@pytest.mark.parametrize("bits", range(3))
def test_runs_are_read_together_as_coarser_buckets(log, small_buckets, bits):
    """With fewer bits than a segment was cut by, each bucket has the rows of all its runs."""
    batch = rows_of(70, 1)
    segment = written(log, batch)
    log.compact(START, segment, 1)
    assert log.bucket_bits(START, [segment]) == 3
    buckets = [log.read(START, [segment], bucket, bits) for bucket in range(1 << bits)]
    assert reports_in(ReportBatch.concat(buckets)) == reports_in(batch)
    for number, bucket in enumerate(buckets):
        assert all(int(high) >> 64 - bits == number for high in bucket.pseudonyms[:, 0])


def test_a_bucket_must_be_one_of_them(log, small_buckets):
    """Reading a bucket that does not exist is a defect."""
    segment = written(log, rows_of(40, 1))
    log.compact(START, segment, 1)
    for bucket, bits in [(2, 1), (4, 2), (-1, 2)]:
        with pytest.raises(InvariantError):
            log.read(START, [segment], bucket, bits)


def test_rows_keep_the_order_of_their_arrival(log):
    """Within a bucket, rows stand as they were appended."""
    batches = [rows_of(5, seed) for seed in range(3)]
    segment = written(log, *batches)
    log.compact(START, segment, 3)
    read = log.read(START, [segment], 0, 0)
    np.testing.assert_array_equal(read.report_ids, ReportBatch.concat(batches).report_ids)


def test_compacting_twice_changes_nothing(log):
    """The second call does nothing, and the rows are still there once."""
    segment = written(log, rows_of(5, 1), rows_of(5, 2))
    for _ in range(2):
        log.compact(START, segment, 2)
    assert len(read_all(log, [segment])) == 10


def test_a_dead_owners_frames_are_counted(log):
    """Frames of a segment that was never closed are counted, and compacting by that number reads them all."""
    segment = log.create(START)
    assert log.count_frames(START, segment) == 0
    for seed in range(3):
        log.append(START, segment, rows_of(4, seed))
    assert log.count_frames(START, segment) == 3
    log.compact(START, segment, 3)
    assert len(read_all(log, [segment])) == 12


def test_frames_that_come_after_the_fence_are_not_read(log):
    """What a fenced owner appends after its frames were counted is never read."""
    segment = log.create(START)
    log.append(START, segment, rows_of(4, 1))
    frames = log.count_frames(START, segment)
    log.append(START, segment, rows_of(4, 2))
    log.compact(START, segment, frames)
    assert reports_in(read_all(log, [segment])) == reports_in(rows_of(4, 1))


def test_more_acknowledged_than_closed_is_a_loss_by_name(log):
    """Where the state store says fewer frames than were acknowledged, the segment is lost; one more was never promised."""
    short, longer = log.create(START), log.create(START)
    for segment in (short, longer):
        log.append(START, segment, rows_of(2, 1))
        log.append(START, segment, rows_of(2, 2))
        log.acknowledge(START, segment)
    log.append(START, longer, rows_of(2, 3))
    with pytest.raises(SegmentLost, match=r"2 .*were acknowledged, but 1 were closed"):
        log.compact(START, short, 1)
    log.compact(START, longer, 2)
    assert len(read_all(log, [longer])) == 4
    with pytest.raises(InvariantError, match="not open for writing"):
        log.acknowledge(START, "a" * 32)


def test_an_empty_segment_is_no_rows(log):
    """A segment without frames is compacted and read as nothing."""
    segment = written(log)
    assert log.count_frames(START, segment) == 0
    log.compact(START, segment, 0)
    assert len(read_all(log, [segment])) == 0


def test_the_size_of_segments_is_that_of_their_rows(log):
    """More rows take more, compacted or not; a segment that is missing takes nothing."""
    segments = [written(log, rows_of(count, 1)) for count in (0, 100, 200)]
    none, some, more = (log.size_bytes(START, [segment]) for segment in segments)
    assert rows_of(100, 1).size_bytes / 2 < some - none < 2 * rows_of(100, 1).size_bytes
    assert 1.5 * (some - none) < more - none < 3 * (some - none)
    assert log.size_bytes(START, [*segments, "a" * 32]) == none + some + more
    log.compact(START, segments[1], 1)
    assert some / 2 < log.size_bytes(START, segments[1:2]) < 2 * some


@pytest.mark.parametrize("frames", [0, 1])
def test_a_missing_segment_is_lost(log, keys, frames):
    """A registered segment whose file is gone is lost, even where it is said to hold nothing."""
    keys.get_or_create(data_key(START))
    missing = "a" * 32
    assert log.count_frames(START, missing) == 0
    with pytest.raises(SegmentLost):
        log.compact(START, missing, frames)
    with pytest.raises(SegmentLost):
        log.read(START, [missing], 0, 0)
    with pytest.raises(SegmentLost):
        log.bucket_bits(START, [missing])


def test_a_segment_shorter_than_it_was_closed_is_lost(log):
    """Fewer frames than the state store knows of are a loss, before and after compaction."""
    segment = written(log, rows_of(5, 1))
    with pytest.raises(SegmentLost, match="but 2 were closed"):
        log.compact(START, segment, 2)
    log.compact(START, segment, 1)
    with pytest.raises(SegmentLost, match="but 2 were closed"):
        log.compact(START, segment, 2)


def test_without_its_key_a_window_is_neither_written_nor_read(log, keys):
    """Once the key is destroyed, no call yields or takes a row, before and after compaction."""
    compacted, closed = written(log, rows_of(5, 1)), written(log, rows_of(5, 2))
    log.compact(START, compacted, 1)
    keys.destroy(data_key(START))
    fresh = log.create(START)
    for call in (
        lambda: log.append(START, fresh, rows_of(1, 3)),
        lambda: log.compact(START, closed, 1),
        lambda: log.read(START, [compacted], 0, 0),
        lambda: log.bucket_bits(START, [compacted]),
    ):
        with pytest.raises(KeyUnavailable, match="destroyed"):
            call()


def test_a_dead_owners_segment_is_lost_with_its_key(log, keys):
    """What held rows still counts frames once the key is gone, and is told to be lost; what held none counts none."""
    left, empty = log.create(START), log.create(START)
    log.append(START, left, rows_of(2, 1))
    keys.destroy(data_key(START))
    frames = log.count_frames(START, left)
    assert frames > 0
    assert log.count_frames(START, empty) == 0
    with pytest.raises(KeyGone, match="destroyed"):
        log.compact(START, left, frames)


def test_only_an_open_segment_takes_rows(log):
    """A closed or unknown segment cannot be appended to or closed."""
    segment = written(log, rows_of(1, 1))
    for name in (segment, "a" * 32):
        with pytest.raises(InvariantError, match="not open for writing"):
            log.append(START, name, rows_of(1, 2))
        with pytest.raises(InvariantError, match="not open for writing"):
            log.close(START, name)


def test_reading_before_compaction_is_a_defect(log):
    """A segment that is there but not compacted is not called lost."""
    segment = written(log, rows_of(1, 1))
    with pytest.raises(InvariantError, match="before it is compacted"):
        log.read(START, [segment], 0, 0)


def test_windows_are_listed_while_they_hold_files(log):
    """A window is listed from its first segment until it is destroyed, in time order; a discarded segment is none."""
    assert log.storage_windows() == ()
    kept, discarded = log.create(LATER), log.create(START)
    early = log.create(-START)
    log.discard(START, discarded)
    assert log.storage_windows() == (-START, LATER)
    log.append(LATER, kept, rows_of(1, 1))
    log.destroy(-START)
    assert log.storage_windows() == (LATER,)
    assert log.count_frames(LATER, kept) == 1
    assert log.count_frames(-START, early) == 0


def test_a_destroyed_window_is_gone(log):
    """No segment of it is found again; destroying it once more, or one that never was, does nothing."""
    segment = written(log, rows_of(3, 1))
    log.compact(START, segment, 1)
    for start in (START, START, LATER):
        log.destroy(start)
    assert log.storage_windows() == ()
    with pytest.raises(SegmentLost):
        log.compact(START, segment, 1)


# The intake log in files.


@pytest.fixture
def disk():
    """A disk that can fail."""
    return FaultyDisk()


@pytest.fixture
def files(tmp_path, keys, disk):
    """An intake log on that disk."""
    return FileIntakeLog(tmp_path / "log", keys, DEPLOYMENT, disk)


@pytest.fixture
def reopened(tmp_path, keys):
    """The same files, as another process on a sound disk sees them."""
    return FileIntakeLog(tmp_path / "log", keys, DEPLOYMENT)


def path_of(tmp_path: Path, segment: str, suffix: str = "frames") -> Path:
    """Where a segment's file lies."""
    return tmp_path / "log" / str(START) / f"{segment}.{suffix}"


def test_an_acknowledged_frame_is_one_write_one_sync_and_one_note(files, disk):
    """An append costs one write and one sync, its claim is written once they are done, and nothing else happens."""
    segment = files.create(START)
    before = disk.steps
    files.append(START, segment, rows_of(100, 1))
    for _ in range(2):
        files.acknowledge(START, segment)
    assert disk.done[before:] == ["write", "datasync", "overwrite"]


def test_a_torn_tail_is_dropped_at_every_byte(files, tmp_path, reopened):
    """Wherever the last frame is cut, the frames before it count and are read, and it does not."""
    segment = files.create(START)
    sizes = [files.append(START, segment, rows_of(1, seed, points=1)) for seed in range(3)]
    path = path_of(tmp_path, segment)
    whole = path.read_bytes()
    assert len(whole) == sizes[-1]
    for size in range(sizes[1], sizes[2]):
        path.write_bytes(whole[:size])
        assert reopened.count_frames(START, segment) == 2
    reopened.compact(START, segment, 2)
    assert reports_in(read_all(reopened, [segment])) == reports_in(
        ReportBatch.concat([rows_of(1, 0, points=1), rows_of(1, 1, points=1)])
    )


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 4, b"\0" * 4_096, b"\xff" * 4_096, b"\x40\0\0\0" + b"\0" * 64])
def test_garbage_after_the_last_frame_is_dropped(files, tmp_path, reopened, tail):
    """Zeros, noise, or a frame's length with other bytes behind it, as a crash may leave them, are no frame."""
    segment = written(files, rows_of(2, 1))
    with path_of(tmp_path, segment).open("ab") as file:
        file.write(tail)
    assert reopened.count_frames(START, segment) == 1


def test_a_damaged_last_frame_that_nobody_acknowledged_is_a_torn_tail(files, tmp_path, reopened):
    """A last frame whose bytes are wrong, and that no claim counts, was never acknowledged."""
    segment = files.create(START)
    files.append(START, segment, rows_of(2, 1))
    files.acknowledge(START, segment)
    files.append(START, segment, rows_of(2, 2))
    path = path_of(tmp_path, segment)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert reopened.count_frames(START, segment) == 1


@pytest.fixture
def left(files):
    """A segment whose owner died after it had acknowledged two frames, with its size up to each."""
    segment = files.create(START)
    sizes = []
    for seed in range(2):
        sizes.append(files.append(START, segment, rows_of(2, seed)))
        files.acknowledge(START, segment)
    return segment, sizes


def assert_lost(log, segment: str) -> None:
    """Whatever a sealer counts of a dead owner's segment, it then finds the segment lost, and says which."""
    frames = log.count_frames(START, segment)
    with pytest.raises(SegmentLost, match=f"{START}/{segment}"):
        log.compact(START, segment, frames)


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
    size = files.append(START, segment, rows_of(2, 0))
    path = path_of(tmp_path, segment)
    files.append(START, segment, rows_of(2, 1))
    first = path.read_bytes()[size:]
    writer = files._writing[START, segment]
    writer._size, writer._torn = size, True
    writer._written = WriterClaim(
        1, chained(bytes(16), FramesFile.of(writer._segment, memoryview(path.read_bytes())).frames[:1])
    )
    files.append(START, segment, rows_of(2, 2))
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
                log.append(START, segment, rows_of(2, acknowledged))
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
    size = files.append(START, segment, rows_of(2, 0))
    files.append(START, segment, rows_of(2, 1))
    files.acknowledge(START, segment)
    with path_of(tmp_path, segment).open("r+b") as file:
        file.truncate(size)
    assert_lost(reopened, segment)


def test_what_cannot_be_noted_is_not_acknowledged(files, disk, reopened):
    """Where the claim cannot be written that is said, and the next append claims both."""
    segment = files.create(START)
    files.append(START, segment, rows_of(2, 0))
    disk.fail_next("overwrite")
    with pytest.raises(Failure, match="noting what is acknowledged"):
        files.acknowledge(START, segment)
    files.append(START, segment, rows_of(2, 1))
    files.acknowledge(START, segment)
    assert reopened.count_frames(START, segment) == 2
    with pytest.raises(SegmentLost, match="2 frames were acknowledged, but 1 were closed"):
        reopened.compact(START, segment, 1)


def test_a_segment_of_before_is_read_without_a_claim(files, tmp_path, reopened):
    """A file that an earlier hushmeter made has frames behind its header line, and a torn tail is dropped as then."""
    segment = files.create(START)
    sizes = [files.append(START, segment, rows_of(2, seed)) for seed in range(2)]
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
    sizes = [files.append(START, segment, rows_of(2, seed)) for seed in range(3)]
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
    sizes = [files.append(START, segment, rows_of(2, seed)) for seed in range(2)]
    path = path_of(tmp_path, segment)
    content = path.read_bytes()
    header = sizes[0] - (sizes[1] - sizes[0])
    path.write_bytes(content[:header] + content[sizes[0] :] + content[header : sizes[0]])
    assert reopened.count_frames(START, segment) == 0
    with pytest.raises(SegmentLost):
        reopened.compact(START, segment, 2)


def test_a_file_under_another_name_is_refused(files, tmp_path, reopened):
    """A segment's file that takes another segment's place counts nothing and is lost."""
    first, second = written(files, rows_of(2, 1)), written(files, rows_of(2, 2))
    path_of(tmp_path, first).replace(path_of(tmp_path, second))
    assert reopened.count_frames(START, second) == 0
    with pytest.raises(SegmentLost, match="does not begin as it should"):
        reopened.compact(START, second, 1)


def test_a_full_disk_leaves_the_segment_as_before(files, disk, reopened):
    """Wherever in a frame the room ends, it is refused, the earlier frames are whole, and a later append succeeds."""
    segment = files.create(START)
    size = files.append(START, segment, rows_of(2, 0))
    for room in (0, 1, 4, 15, 16, 100):
        disk.room_bytes = room
        with pytest.raises(StorageFull, match="no room is left"):
            files.append(START, segment, rows_of(2, 1))
        assert disk.room_bytes == room
        assert reopened.count_frames(START, segment) == 1
    disk.room_bytes = None
    assert files.append(START, segment, rows_of(2, 2)) > size
    assert files.close(START, segment) == 2
    reopened.compact(START, segment, 2)
    both = ReportBatch.concat([rows_of(2, 0), rows_of(2, 2)])
    assert reports_in(read_all(reopened, [segment])) == reports_in(both)


@pytest.mark.parametrize(("error", "kind"), [(errno.EDQUOT, StorageFull), (errno.EIO, Failure)])
@pytest.mark.parametrize("operation", ["write", "datasync"])
def test_a_failed_append_is_refused_by_what_failed(files, disk, reopened, operation, error, kind):
    """A used-up quota may be tried again, another error is a failure; either way the next append counts from before."""
    segment = files.create(START)
    files.append(START, segment, rows_of(2, 0))
    disk.fail_next(operation, error)
    with pytest.raises(Failure) as failure:
        files.append(START, segment, rows_of(2, 1))
    assert type(failure.value) is kind
    files.append(START, segment, rows_of(2, 2))
    assert files.close(START, segment) == reopened.count_frames(START, segment) == 2


def test_a_torn_write_that_cannot_be_cut_off_is_cut_off_later(files, disk, reopened):
    """When truncating fails too, the next append truncates first; until it can, it writes nothing behind the tear."""
    segment = files.create(START)
    files.append(START, segment, rows_of(2, 0))
    disk.room_bytes = 50
    disk.fail_next("truncate", times=2)
    with pytest.raises(StorageFull):
        files.append(START, segment, rows_of(2, 1))
    disk.room_bytes = None
    disk.fail_next("truncate")
    with pytest.raises(Failure, match="Input/output error"):
        files.append(START, segment, rows_of(2, 1))
    files.append(START, segment, rows_of(2, 2))
    assert files.close(START, segment) == 2
    reopened.compact(START, segment, 2)
    assert len(read_all(reopened, [segment])) == 4


def test_a_segment_closed_with_a_tear_is_read_without_it(files, disk, reopened):
    """Where a torn write could never be cut off, closing counts whole frames only, and they are read."""
    segment = files.create(START)
    files.append(START, segment, rows_of(2, 0))
    disk.room_bytes = 50
    disk.fail_next("truncate", times=2)
    with pytest.raises(StorageFull):
        files.append(START, segment, rows_of(2, 1))
    assert files.close(START, segment) == 1
    reopened.compact(START, segment, 1)
    assert reports_in(read_all(reopened, [segment])) == reports_in(rows_of(2, 0))


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
    assert reopened.count_frames(START, written(reopened, rows_of(1, 1))) == 1


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
    files.append(START, segment, rows_of(2, 0))
    files.append(START, segment, rows_of(2, 1))
    disk.fail_next("datasync")
    disk.fail_next("truncate")
    with pytest.raises(Failure):
        files.append(START, segment, rows_of(2, 2))
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
    files.append(START, segment, rows_of(2, 0))
    disk.cut_at_step = disk.steps + step
    with pytest.raises(PowerCut):
        files.append(START, segment, rows_of(2, 1))
    disk.restore_power()
    assert reopened.count_frames(START, segment) == 1


@pytest.mark.parametrize("eager_removals", [False, True])
def test_compaction_survives_a_power_cut_at_every_step(tmp_path, keys, small_buckets, eager_removals):
    """Cut at any operation or right after, compaction done once more yields every row once, and leaves the runs alone."""
    rows, cut, step = rows_of(30, 1), True, 0
    while cut:
        disk = FaultyDisk()
        disk.eager_removals = eager_removals
        log = FileIntakeLog(tmp_path / str(step), keys, DEPLOYMENT, disk)
        segment = written(log, rows)
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
    segment = written(files, rows_of(5, 1))
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
    segment = written(slow, rows_of(5, 1))
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
    assert reports_in(read_all(slow, [segment])) == reports_in(rows_of(5, 1))
    assert [p.suffix for p in path_of(tmp_path, segment).parent.iterdir()] == [".runs"]


def test_a_compacted_segment_that_is_damaged_is_lost(files, tmp_path, small_buckets):
    """A changed byte anywhere in the file of runs, or a lost end, is never read as rows."""
    segment = written(files, rows_of(15, 1))
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
    rows = rows_of(1, 1, tokens=(token,))
    numbers = np.ones(2, np.uint32)
    batch = dataclasses.replace(rows, pseudonyms=ids, report_ids=ids, values=values, token_numbers=numbers)
    segment = written(files, batch)
    kept = path_of(tmp_path, segment).read_bytes()
    files.compact(START, segment, 1)
    kept += path_of(tmp_path, segment, "runs").read_bytes()
    key = keys.get(data_key(START))
    for plain in (token, secret, secret[:8], secret[7::-1], b"value of", b"a unit!", batch.series.tobytes(), key):
        assert plain not in kept
    assert segment.encode() in kept


def test_files_are_the_owners_alone(files, tmp_path):
    """Files have mode 0600 and directories 0700, before and after compaction."""
    compacted = written(files, rows_of(1, 1))
    files.compact(START, compacted, 1)
    written(files, rows_of(1, 2))
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in path_of(tmp_path, compacted).parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "log" / str(START)).stat().st_mode) == 0o700


def test_a_batch_larger_than_a_frame_becomes_several(files, reopened, monkeypatch):
    """An append beyond the frame limit is cut, written at once, counted as frames, and read whole; one within it is not."""
    monkeypatch.setattr(limits, "FRAME_MAX_BYTES", 4_124 + 10 * (68 + 2 * 12))
    segment = files.create(START)
    files.append(START, segment, rows_of(10, 1))
    assert reopened.count_frames(START, segment) == 1
    files.append(START, segment, rows_of(25, 2))
    assert files.close(START, segment) == reopened.count_frames(START, segment) == 4
    reopened.compact(START, segment, 4)
    assert reports_in(read_all(reopened, [segment])) == reports_in(ReportBatch.concat([rows_of(10, 1), rows_of(25, 2)]))


def test_scrubbing_goes_on_after_a_power_cut_at_any_step(tmp_path, keys):
    """Cut at any operation, `destroy` done once more leaves nothing of the window, and other windows whole."""
    for step in itertools.count():
        disk = FaultyDisk()
        log = FileIntakeLog(tmp_path / str(step), keys, DEPLOYMENT, disk)
        log.compact(START, written(log, rows_of(2, 1)), 1)
        written(log, rows_of(2, 2))
        other = written(log, rows_of(2, 3), start=LATER)
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
    segment = written(files, rows_of(2, 1))
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
    rows = rows_of(40, 1)
    segment = written(log, rows)
    log.compact(START, segment, 1)
    assert len(read_all(other, [segment])) == 40
    log.erase(START, segment, 1, erasing(rows, 0, 1, 2))
    assert reports_in(read_all(other, [segment])) == reports_in(rows.take(np.arange(3, 40)))


def test_a_late_compaction_brings_nobody_back(tmp_path, keys, small_buckets):
    """A process that began to compact a segment before a unit was erased from it does not put the unit's rows back."""
    rows, held = rows_of(40, 1), []
    log, late = (FileIntakeLog(tmp_path / "log", keys, DEPLOYMENT) for _ in range(2))
    segment = written(log, rows)
    honest = late._files.written

    def overtaken(name, parts):
        held.append(honest(name, parts))
        log.erase(START, segment, 1, erasing(rows, 5))
        return held[0]

    late._files.written = overtaken
    late.compact(START, segment, 1)
    assert len(held) == 1
    assert len(read_all(late, [segment])) == 39
    assert [path.suffix for path in (tmp_path / "log" / str(START)).iterdir()] == [".runs"]


def test_processes_that_erase_at_once(tmp_path, keys, small_buckets):
    """Of units that several processes erase from one segment at the same time none comes back."""
    rows = rows_of(60, 1)
    logs = [FileIntakeLog(tmp_path / "log", keys, DEPLOYMENT) for _ in range(4)]
    segment = written(logs[0], rows)
    logs[0].compact(START, segment, 1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: logs[n % 4].erase(START, segment, 1, erasing(rows, n)), range(20)))
    assert reports_in(read_all(logs[0], [segment])) == reports_in(rows.take(np.arange(20, 60)))


@pytest.mark.parametrize("eager", [False, True])
def test_power_cuts_while_erasing(tmp_path, small_buckets, eager):
    """Whenever the power is cut, others' rows are all there, and erasing again removes the unit for good."""
    rows = rows_of(30, 1)
    for step in itertools.count():
        keys, disk = MemoryKeyRing(), FaultyDisk()
        disk.eager_removals = eager
        directory = tmp_path / str(step)
        directory.mkdir()
        log = FileIntakeLog(directory / "log", keys, DEPLOYMENT, disk)
        segment = written(log, rows)
        disk.cut_at_step = disk.steps + step
        try:
            log.erase(START, segment, 1, erasing(rows, 7))
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
            again.erase(START, segment, 1, erasing(rows, 7))
        assert reports_in(read_all(again, [segment])) == reports_in(rows.take(np.delete(np.arange(30), 7)))
        if done:
            break
    assert step > 5
