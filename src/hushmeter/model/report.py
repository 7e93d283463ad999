"""Reports as columns: as they arrive, as the log keeps them, and why some are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from hushmeter.errors import ensure
from hushmeter.model.time import Int64

UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]


class RejectionReason(IntEnum):
    """Why one report was not accepted; the numbers are those of `hushmeter.api.report.v1.RejectionReason`."""

    MALFORMED = 1
    BAD_UNIT_ID = 2
    BAD_INTERVAL = 3
    IN_FUTURE = 4
    TOO_LATE = 5
    UNKNOWN_PLAN_VERSION = 6
    UNKNOWN_SERIES = 7
    VALUE_OUT_OF_RANGE = 8
    TOO_LARGE = 9
    NO_CONSENT = 10
    EXPIRED_METRIC = 11


@dataclass(frozen=True, slots=True)
class Rejection:
    """One report that was not accepted.

    Attributes:
        index: of the report in its message.
        reason: from the closed set.
        message: what was wrong, what is allowed, what to do; never a unit id, a token or a value of the report.
    """

    index: int
    reason: RejectionReason
    message: str


def pairs_of(blobs: Sequence[bytes]) -> UInt64:
    """Reads 16-byte strings as uint64[n, 2], big-endian so that numeric order is byte order; read-only."""
    joined = b"".join(blobs)
    ensure(len(joined) == 16 * len(blobs), "every identifier is 16 bytes")
    pairs = np.frombuffer(joined, ">u8").reshape(len(blobs), 2).astype(np.uint64)
    pairs.flags.writeable = False
    return pairs


def bytes_of(pairs: UInt64) -> list[bytes]:
    """The inverse of `pairs_of`."""
    joined = pairs.astype(">u8").tobytes()
    return [joined[i : i + 16] for i in range(0, len(joined), 16)]


def gathered(offsets: Int64, rows: Int64) -> tuple[Int64, Int64]:
    """Where the points of some rows are, and where they go.

    Args:
        offsets: int64[n + 1], of each row's points.
        rows: int64[k], indices of rows.

    Returns:
        int64[k + 1], the offsets of the chosen rows after one another; int64[m], the indices of their points.
    """
    lengths = np.diff(offsets)[rows]
    chosen = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=chosen[1:])
    return chosen, np.repeat(offsets[rows] - chosen[:-1], lengths) + np.arange(chosen[-1])


@dataclass(frozen=True, slots=True)
class ReportBatch:
    """Accepted reports as columns: what the intake log stores, and what is sealed.

    Row i is one report; its points are `series[offsets[i]:offsets[i+1]]` and `values[...]` likewise.

    Attributes:
        pseudonyms: uint64[n, 2], the 16 bytes of each unit's pseudonym in the report's period (P3).
        report_ids: uint64[n, 2].
        received_at_ms: int64[n].
        interval_start_ms: int64[n], exclusive.
        interval_end_ms: int64[n], inclusive.
        plan_versions: uint32[n].
        offsets: int64[n + 1], from 0 to m, never decreasing.
        series: uint32[m], series numbers of the catalog.
        values: int64[m], in resolution steps.
    """

    pseudonyms: UInt64
    report_ids: UInt64
    received_at_ms: Int64
    interval_start_ms: Int64
    interval_end_ms: Int64
    plan_versions: UInt32
    offsets: Int64
    series: UInt32
    values: Int64

    def __post_init__(self) -> None:
        n = len(self.offsets) - 1
        ensure(n >= 0 and self.offsets[0] == 0, "offsets start at 0")
        ensure(self.pseudonyms.shape == (n, 2) and self.report_ids.shape == (n, 2), "identifiers are uint64[n, 2]")
        columns = (self.received_at_ms, self.interval_start_ms, self.interval_end_ms, self.plan_versions)
        ensure(all(c.shape == (n,) for c in columns), "a column's length is not the number of reports")
        ensure(self.series.shape == self.values.shape == (int(self.offsets[-1]),), "points do not match the offsets")
        ensure(self.series.dtype == np.uint32 and self.values.dtype == np.int64, "series are uint32, values int64")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def empty(cls) -> ReportBatch:
        """No reports."""
        none = np.zeros(0, np.int64)
        ids = np.zeros((0, 2), np.uint64)
        return cls(ids, ids, none, none, none, np.zeros(0, np.uint32), np.zeros(1, np.int64), np.zeros(0, np.uint32), none)

    def take(self, rows: Int64) -> ReportBatch:
        """The reports at some indices, in that order.

        Args:
            rows: int64[k], indices into this batch.
        """
        offsets, points = gathered(self.offsets, rows)
        return ReportBatch(
            self.pseudonyms[rows],
            self.report_ids[rows],
            self.received_at_ms[rows],
            self.interval_start_ms[rows],
            self.interval_end_ms[rows],
            self.plan_versions[rows],
            offsets,
            self.series[points],
            self.values[points],
        )

    @classmethod
    def concat(cls, batches: Sequence[ReportBatch]) -> ReportBatch:
        """Several batches after one another."""
        if not batches:
            return cls.empty()
        if len(batches) == 1:
            return batches[0]
        starts = np.cumsum([0, *(int(b.offsets[-1]) for b in batches)])
        tails = [b.offsets[1:] + start for b, start in zip(batches, starts[:-1], strict=True)]
        return cls(
            np.concatenate([b.pseudonyms for b in batches]),
            np.concatenate([b.report_ids for b in batches]),
            np.concatenate([b.received_at_ms for b in batches]),
            np.concatenate([b.interval_start_ms for b in batches]),
            np.concatenate([b.interval_end_ms for b in batches]),
            np.concatenate([b.plan_versions for b in batches]),
            np.concatenate([np.zeros(1, np.int64), *tails]),
            np.concatenate([b.series for b in batches]),
            np.concatenate([b.values for b in batches]),
        )
