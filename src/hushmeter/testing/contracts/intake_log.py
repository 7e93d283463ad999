"""What every `IntakeLog` promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hushmeter.errors import InvariantError, KeyGone, KeyUnavailable, SegmentLost
from hushmeter.model.key_names import data_key
from hushmeter.model.report import ReportBatch
from hushmeter.ports import IntakeLog, KeyRing
from hushmeter.testing.contracts.intake_log_units import UnitsContract
from hushmeter.testing.contracts.report_rows import LATER, START, closed_segment, random_rows, read_all, reports_in


class IntakeLogContract(UnitsContract):
    """What is appended is read once, whole, by whoever has the key."""

    def test_what_is_appended_is_read(self, log: IntakeLog) -> None:
        """Every report of every frame comes back once, with all its values."""
        batches = [random_rows(7, 1), ReportBatch.empty(), random_rows(1, 2, points=0), random_rows(20, 3, points=5)]
        segment = closed_segment(log, *batches)
        log.compact(START, segment, 4)
        assert reports_in(read_all(log, [segment])) == reports_in(ReportBatch.concat(batches))

    def test_a_segment_grows_with_every_frame(self, log: IntakeLog) -> None:
        """`append` returns a size that rises by at least the values it was given."""
        segment = log.create(START)
        sizes = [log.append(START, segment, random_rows(10, seed)) for seed in range(3)]
        assert all(b - a >= 10 * 2 * 12 for a, b in itertools.pairwise([0, *sizes]))

    def test_segments_of_one_window_are_read_together(self, log: IntakeLog) -> None:
        """Rows of several segments come together, and those of other segments and windows stay out."""
        first, second, third = (closed_segment(log, random_rows(5, seed)) for seed in (1, 2, 3))
        other = closed_segment(log, random_rows(5, 4), start=LATER)
        for segment in (first, second, third):
            log.compact(START, segment, 1)
        log.compact(LATER, other, 1)
        both = ReportBatch.concat([random_rows(5, 1), random_rows(5, 3)])
        assert reports_in(read_all(log, [first, third])) == reports_in(both)
        assert reports_in(read_all(log, [other], LATER)) == reports_in(random_rows(5, 4))

    def test_no_segments_are_no_rows(self, log: IntakeLog) -> None:
        """A window without segments has one empty bucket."""
        assert log.bucket_bits(START, []) == 0
        assert len(log.read(START, [], 0, 0)) == 0

    def test_rows_keep_the_order_of_their_arrival(self, log: IntakeLog) -> None:
        """Within a bucket, rows stand as they were appended."""
        batches = [random_rows(5, seed) for seed in range(3)]
        segment = closed_segment(log, *batches)
        log.compact(START, segment, 3)
        read = log.read(START, [segment], 0, 0)
        np.testing.assert_array_equal(read.report_ids, ReportBatch.concat(batches).report_ids)

    def test_compacting_twice_changes_nothing(self, log: IntakeLog) -> None:
        """The second call does nothing, and the rows are still there once."""
        segment = closed_segment(log, random_rows(5, 1), random_rows(5, 2))
        for _ in range(2):
            log.compact(START, segment, 2)
        assert len(read_all(log, [segment])) == 10

    def test_a_dead_owners_frames_are_counted(self, log: IntakeLog) -> None:
        """Frames of a segment that was never closed are counted, and compacting by that number reads them all."""
        segment = log.create(START)
        assert log.count_frames(START, segment) == 0
        for seed in range(3):
            log.append(START, segment, random_rows(4, seed))
        assert log.count_frames(START, segment) == 3
        log.compact(START, segment, 3)
        assert len(read_all(log, [segment])) == 12

    def test_frames_that_come_after_the_fence_are_not_read(self, log: IntakeLog) -> None:
        """What a fenced owner appends after its frames were counted is never read."""
        segment = log.create(START)
        log.append(START, segment, random_rows(4, 1))
        frames = log.count_frames(START, segment)
        log.append(START, segment, random_rows(4, 2))
        log.compact(START, segment, frames)
        assert reports_in(read_all(log, [segment])) == reports_in(random_rows(4, 1))

    def test_more_acknowledged_than_closed_is_a_loss_by_name(self, log: IntakeLog) -> None:
        """Where the state store says fewer frames than were acknowledged, the segment is lost; one more is no promise."""
        short, longer = log.create(START), log.create(START)
        for segment in (short, longer):
            log.append(START, segment, random_rows(2, 1))
            log.append(START, segment, random_rows(2, 2))
            log.acknowledge(START, segment)
        log.append(START, longer, random_rows(2, 3))
        with pytest.raises(SegmentLost, match=r"2 .*were acknowledged, but 1 were closed"):
            log.compact(START, short, 1)
        log.compact(START, longer, 2)
        assert len(read_all(log, [longer])) == 4
        with pytest.raises(InvariantError, match="not open for writing"):
            log.acknowledge(START, "a" * 32)

    def test_an_empty_segment_is_no_rows(self, log: IntakeLog) -> None:
        """A segment without frames is compacted and read as nothing."""
        segment = closed_segment(log)
        assert log.count_frames(START, segment) == 0
        log.compact(START, segment, 0)
        assert len(read_all(log, [segment])) == 0

    def test_the_size_of_segments_is_that_of_their_rows(self, log: IntakeLog) -> None:
        """More rows take more, compacted or not; a segment that is missing takes nothing."""
        segments = [closed_segment(log, random_rows(count, 1)) for count in (0, 100, 200)]
        none, some, more = (log.size_bytes(START, [segment]) for segment in segments)
        assert random_rows(100, 1).size_bytes / 2 < some - none < 2 * random_rows(100, 1).size_bytes
        assert 1.5 * (some - none) < more - none < 3 * (some - none)
        assert log.size_bytes(START, [*segments, "a" * 32]) == none + some + more
        log.compact(START, segments[1], 1)
        assert some / 2 < log.size_bytes(START, segments[1:2]) < 2 * some

    @pytest.mark.parametrize("frames", [0, 1])
    def test_a_missing_segment_is_lost(self, log: IntakeLog, keys: KeyRing, frames: int) -> None:
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

    def test_a_segment_shorter_than_it_was_closed_is_lost(self, log: IntakeLog) -> None:
        """Fewer frames than the state store knows of are a loss, before and after compaction."""
        segment = closed_segment(log, random_rows(5, 1))
        with pytest.raises(SegmentLost, match="but 2 were closed"):
            log.compact(START, segment, 2)
        log.compact(START, segment, 1)
        with pytest.raises(SegmentLost, match="but 2 were closed"):
            log.compact(START, segment, 2)

    def test_without_its_key_a_window_is_neither_written_nor_read(self, log: IntakeLog, keys: KeyRing) -> None:
        """Once the key is destroyed, no call yields or takes a row, before and after compaction."""
        compacted, closed = closed_segment(log, random_rows(5, 1)), closed_segment(log, random_rows(5, 2))
        log.compact(START, compacted, 1)
        keys.destroy(data_key(START))
        fresh = log.create(START)
        for call in (
            lambda: log.append(START, fresh, random_rows(1, 3)),
            lambda: log.compact(START, closed, 1),
            lambda: log.read(START, [compacted], 0, 0),
            lambda: log.bucket_bits(START, [compacted]),
        ):
            with pytest.raises(KeyUnavailable, match="destroyed"):
                call()

    def test_a_dead_owners_segment_is_lost_with_its_key(self, log: IntakeLog, keys: KeyRing) -> None:
        """What held rows still counts frames once the key is gone, and is told to be lost; what held none counts none."""
        left, empty = log.create(START), log.create(START)
        log.append(START, left, random_rows(2, 1))
        keys.destroy(data_key(START))
        frames = log.count_frames(START, left)
        assert frames > 0
        assert log.count_frames(START, empty) == 0
        with pytest.raises(KeyGone, match="destroyed"):
            log.compact(START, left, frames)

    def test_only_an_open_segment_takes_rows(self, log: IntakeLog) -> None:
        """A closed or unknown segment cannot be appended to or closed."""
        segment = closed_segment(log, random_rows(1, 1))
        for name in (segment, "a" * 32):
            with pytest.raises(InvariantError, match="not open for writing"):
                log.append(START, name, random_rows(1, 2))
            with pytest.raises(InvariantError, match="not open for writing"):
                log.close(START, name)

    def test_reading_before_compaction_is_a_defect(self, log: IntakeLog) -> None:
        """A segment that is there but not compacted is not called lost."""
        segment = closed_segment(log, random_rows(1, 1))
        with pytest.raises(InvariantError, match="before it is compacted"):
            log.read(START, [segment], 0, 0)

    def test_windows_are_listed_while_they_hold_files(self, log: IntakeLog) -> None:
        """A window is listed from its first segment until it is destroyed, in time order; a discarded segment is none."""
        assert log.storage_windows() == ()
        kept, discarded = log.create(LATER), log.create(START)
        early = log.create(-START)
        log.discard(START, discarded)
        assert log.storage_windows() == (-START, LATER)
        log.append(LATER, kept, random_rows(1, 1))
        log.destroy(-START)
        assert log.storage_windows() == (LATER,)
        assert log.count_frames(LATER, kept) == 1
        assert log.count_frames(-START, early) == 0

    def test_a_destroyed_window_is_gone(self, log: IntakeLog) -> None:
        """No segment of it is found again; destroying it once more, or one that never was, does nothing."""
        segment = closed_segment(log, random_rows(3, 1))
        log.compact(START, segment, 1)
        for start in (START, START, LATER):
            log.destroy(start)
        assert log.storage_windows() == ()
        with pytest.raises(SegmentLost):
            log.compact(START, segment, 1)
