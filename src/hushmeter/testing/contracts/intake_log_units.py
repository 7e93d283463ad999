"""What every `IntakeLog` promises of the rows of units: in which bucket they are read, and that they can be removed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hushmeter.errors import InvariantError, SegmentLost
from hushmeter.model.report import ReportBatch, bytes_of
from hushmeter.ports import IntakeLog
from hushmeter.testing.contracts.report_rows import (
    START,
    closed_segment,
    cut_small,
    every_second,
    random_rows,
    read_all,
    reports_in,
    units_in,
)


class UnitsContract:
    """Buckets part the units, and of one unit all rows are found, erased or rewritten."""

    @pytest.fixture
    def small_buckets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Runs of about ten rows, so that a few rows make several."""
        cut_small(monkeypatch)

    def test_tokens_are_read_beside_their_points(self, log: IntakeLog, small_buckets: None) -> None:
        """Tokens of several frames come back with their own points, whatever numbers they had, bucket by bucket."""
        batches = [
            random_rows(15, 1, tokens=(b"1.0", b"2.0")),
            random_rows(15, 2),
            random_rows(15, 3, tokens=(b"", "日本".encode(), b"2.0", b"1.0")),
        ]
        segment = closed_segment(log, *batches)
        log.compact(START, segment, 3)
        assert log.bucket_bits(START, [segment]) > 1
        assert reports_in(read_all(log, [segment])) == reports_in(ReportBatch.concat(batches))

    def test_a_run_of_tokens_is_read_as_finer_buckets(self, log: IntakeLog, small_buckets: None) -> None:
        """Rows of a coarse segment that is read at a finer grain keep their tokens."""
        coarse, fine = random_rows(5, 1, tokens=(b"a", b"b")), random_rows(30, 2, tokens=(b"b", b"c"))
        segments = [closed_segment(log, coarse), closed_segment(log, fine)]
        for segment in segments:
            log.compact(START, segment, 1)
        assert reports_in(read_all(log, segments)) == reports_in(ReportBatch.concat([coarse, fine]))

    def test_when_a_segment_was_received_is_told(self, log: IntakeLog, small_buckets: None) -> None:
        """Of an open segment, a closed and a compacted one the receipt of one of its rows is told; of none, of nothing."""
        rows = random_rows(30, 1)
        assert log.receipt_in(START, "a" * 32) is None
        assert log.receipt_in(START, closed_segment(log)) is None
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

    def test_erased_units_are_gone_and_others_stay(self, log: IntakeLog, small_buckets: None) -> None:
        """Of every frame exactly the erased units' rows are gone, in whatever bucket they were; others are as before."""
        batches = [random_rows(30, seed, tokens=(b"a", b"b")) for seed in range(3)]
        # The same unit in every frame, at other times.
        batches[1:] = [dataclasses.replace(b, pseudonyms=batches[0].pseudonyms) for b in batches[1:]]
        segment = closed_segment(log, *batches)
        log.erase(START, segment, 3, units_in(batches[0], 4, 20))
        expected = ReportBatch.concat([b.take(np.setdiff1d(np.arange(30), [4, 20])) for b in batches])
        assert reports_in(read_all(log, [segment])) == reports_in(expected)
        assert len(expected) == 84
        log.erase(START, segment, 3, units_in(batches[0], 4))
        log.compact(START, segment, 3)
        assert reports_in(read_all(log, [segment])) == reports_in(expected)

    def test_the_rows_of_one_unit(self, log: IntakeLog, small_buckets: None) -> None:
        """A unit's rows in a segment are all found, and nobody else's: while it is written, closed, compacted, erased."""
        batches = [random_rows(30, seed, tokens=(b"a", b"b")) for seed in range(3)]
        batches[1:] = [dataclasses.replace(b, pseudonyms=batches[0].pseudonyms) for b in batches[1:]]
        unit, nobody = bytes_of(batches[0].pseudonyms)[7], bytes_of(random_rows(1, 9).pseudonyms)[0]
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

    def test_rewritten_rows_are_read(self, log: IntakeLog, small_buckets: None) -> None:
        """Of every segment the change decides what stays; it is asked once, and what was changed for is told."""
        batches = [random_rows(30, 1, tokens=(b"a",)), random_rows(20, 2), random_rows(1, 3)]
        names = [closed_segment(log, batches[0], batches[1]), closed_segment(log, batches[2]), closed_segment(log)]
        frames = dict(zip(names, (2, 1, 0), strict=True))
        log.rewrite(START, frames, every_second, "1d")
        everything = ReportBatch.concat(batches)
        expected, _ = every_second(everything, np.zeros(51, np.int64))
        assert reports_in(read_all(log, names[:2])) == reports_in(expected)
        assert [log.kept_for(START, name) for name in names] == ["1d", "1d", ""]
        log.rewrite(START, frames, every_second, "1d")
        assert reports_in(read_all(log, names[:2])) == reports_in(expected)
        log.erase(START, names[0], 2, units_in(expected, 0))
        assert log.kept_for(START, names[0]) == "1d"
        log.rewrite(START, frames, every_second, "1w")
        assert len(read_all(log, names[:2])) == len(expected) - 1

    def test_units_that_are_not_there_are_erased(self, log: IntakeLog, small_buckets: None) -> None:
        """Erasing a unit that a segment never held, all of its rows, or of an empty segment, does no harm."""
        rows = random_rows(25, 1)
        segment, alone, empty = closed_segment(log, rows), closed_segment(log, random_rows(1, 2)), closed_segment(log)
        log.erase(START, segment, 1, units_in(random_rows(9, 7), *range(9)))
        assert reports_in(read_all(log, [segment])) == reports_in(rows)
        log.erase(START, alone, 1, units_in(random_rows(1, 2), 0))
        log.erase(START, empty, 0, units_in(rows, 0))
        assert len(read_all(log, [alone, empty])) == 0

    @pytest.mark.parametrize("finer", range(4))
    def test_buckets_part_the_units(self, log: IntakeLog, small_buckets: None, finer: int) -> None:
        """Buckets of any grain from the segments' own on hold every row once, where its pseudonym's top bits say."""
        large, small = random_rows(70, 1), random_rows(9, 2)
        segments = [closed_segment(log, large), closed_segment(log, small)]
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
    def test_runs_are_read_together_as_coarser_buckets(self, log: IntakeLog, small_buckets: None, bits: int) -> None:
        """With fewer bits than a segment was cut by, each bucket has the rows of all its runs."""
        batch = random_rows(70, 1)
        segment = closed_segment(log, batch)
        log.compact(START, segment, 1)
        assert log.bucket_bits(START, [segment]) == 3
        buckets = [log.read(START, [segment], bucket, bits) for bucket in range(1 << bits)]
        assert reports_in(ReportBatch.concat(buckets)) == reports_in(batch)
        for number, bucket in enumerate(buckets):
            assert all(int(high) >> 64 - bits == number for high in bucket.pseudonyms[:, 0])

    def test_a_bucket_must_be_one_of_them(self, log: IntakeLog, small_buckets: None) -> None:
        """Reading a bucket that does not exist is a defect."""
        segment = closed_segment(log, random_rows(40, 1))
        log.compact(START, segment, 1)
        for bucket, bits in [(2, 1), (4, 2), (-1, 2)]:
            with pytest.raises(InvariantError):
                log.read(START, [segment], bucket, bits)
