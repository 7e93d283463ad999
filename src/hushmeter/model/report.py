"""Reports as columns: as they arrive, as the log keeps them, and why some are refused."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from hushmeter.errors import ensure
from hushmeter.model.arrays import Int64, UInt64

UInt16 = npt.NDArray[np.uint16]
UInt32 = npt.NDArray[np.uint32]

_ROW_BYTES = 2 * 16 + 4 * 8 + 4
_POINT_BYTES = 4 + 8
_TOKEN_POINT_BYTES = _POINT_BYTES + 4


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
    BAD_TOKEN = 12
    BAD_UNIT_TOKEN = 13
    RATE_LIMITED = 14


@dataclass(frozen=True, slots=True)
class Rejection:
    """One report that was not accepted.

    Attributes:
        index: of the report in its message.
        reason: from the closed set.
        message: what was wrong, what is allowed, what to do; never a unit id, a token or a value of the report.
        retry_after_ms: when the same report may be sent again; 0 where that would not help.
    """

    index: int
    reason: RejectionReason
    message: str
    retry_after_ms: int = 0


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


def no_token_numbers() -> UInt32:
    """What a column of token numbers is where it is left out; a batch fills it with zeros."""
    return np.zeros(0, np.uint32)


def token_column(tokens: tuple[bytes, ...], numbers: UInt32, points: int) -> UInt32:
    """The token number of each point: as given, or all 0 where there are no tokens and the column is left out.

    Args:
        tokens: the dictionary, distinct: two numbers of one token would be two partitions of one unit.
        numbers: uint32[points], 0 where a point has no token, else 1 + its index in the dictionary; or empty.
        points: how many points there are.

    Returns:
        uint32[points].
    """
    if not tokens and not len(numbers):
        numbers = np.zeros(points, np.uint32)
        numbers.flags.writeable = False
        return numbers
    ensure(numbers.shape == (points,) and numbers.dtype == np.uint32, "token numbers are uint32, one a point")
    ensure(int(numbers.max(initial=0)) <= len(tokens), "a token number is beyond the dictionary")
    ensure(len(set(tokens)) == len(tokens), "the dictionary of tokens repeats one")
    return numbers


def merged_tokens(parts: Sequence[tuple[tuple[bytes, ...], UInt32]]) -> tuple[tuple[bytes, ...], UInt32]:
    """Puts columns of tokens after one another, with one dictionary in the order in which tokens are first seen.

    Args:
        parts: dictionaries and numbers, at least one.
    """
    if not any(tokens for tokens, _ in parts):
        return (), no_token_numbers()
    merged: dict[bytes, int] = {}
    columns = []
    for tokens, numbers in parts:
        renumbered = [merged.setdefault(token, len(merged) + 1) for token in tokens]
        columns.append(np.array([0, *renumbered], np.uint32)[numbers])
    return tuple(merged), np.concatenate(columns)


def pruned_tokens(tokens: tuple[bytes, ...], numbers: UInt32) -> tuple[tuple[bytes, ...], UInt32]:
    """The same column with a dictionary of those tokens alone that a point has, in the same order."""
    if not tokens:
        return tokens, numbers
    used = np.zeros(len(tokens) + 1, np.bool_)
    used[numbers] = True
    used[0] = False
    if used[1:].all():
        return tokens, numbers
    renumbered = np.where(used, np.cumsum(used), 0).astype(np.uint32)
    return tuple(itertools.compress(tokens, used[1:].tolist())), renumbered[numbers]


def sorted_tokens(tokens: tuple[bytes, ...], numbers: UInt32) -> tuple[tuple[bytes, ...], UInt32]:
    """The same column with its dictionary in the order of bytes, whatever order tokens came in."""
    order = sorted(range(len(tokens)), key=tokens.__getitem__)
    renumbered = np.zeros(len(tokens) + 1, np.uint32)
    renumbered[[i + 1 for i in order]] = np.arange(1, len(tokens) + 1, dtype=np.uint32)
    return tuple(tokens[i] for i in order), renumbered[numbers]


TOTALS = 0
"""The plan version of a row of totals, which no report has."""


@dataclass(frozen=True, slots=True)
class ReportBatch:
    """Accepted reports as columns: what the intake log stores, and what is sealed.

    Row i is one report; its points are those from `offsets[i]` to before `offsets[i + 1]`, in every column of points.

    Attributes:
        pseudonyms: uint64[n, 2], the 16 bytes of each unit's pseudonym in the report's period (P3).
        report_ids: uint64[n, 2].
        received_at_ms: int64[n].
        interval_start_ms: int64[n], exclusive.
        interval_end_ms: int64[n], inclusive.
        plan_versions: uint32[n]; `TOTALS` where the points are not the report's own, but totals of several, or none.
        offsets: int64[n + 1], from 0 to m, never decreasing.
        series: uint32[m], series numbers of the catalog.
        values: int64[m], in resolution steps.
        tokens: a dictionary of open dimensions' tokens, UTF-8, distinct, in no order that means anything; it may hold
            tokens that no point has.
        token_numbers: uint32[m], 0 where a point has no token, else 1 + its index in `tokens`; left out, all are 0.
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
    tokens: tuple[bytes, ...] = ()
    token_numbers: UInt32 = field(default_factory=no_token_numbers)

    def __post_init__(self) -> None:
        n = len(self.offsets) - 1
        ensure(n >= 0 and self.offsets[0] == 0, "offsets start at 0")
        ensure(self.pseudonyms.shape == (n, 2) and self.report_ids.shape == (n, 2), "identifiers are uint64[n, 2]")
        columns = (self.received_at_ms, self.interval_start_ms, self.interval_end_ms, self.plan_versions)
        ensure(all(c.shape == (n,) for c in columns), "a column's length is not the number of reports")
        ensure(self.series.shape == self.values.shape == (int(self.offsets[-1]),), "points do not match the offsets")
        ensure(self.series.dtype == np.uint32 and self.values.dtype == np.int64, "series are uint32, values int64")
        object.__setattr__(self, "token_numbers", token_column(self.tokens, self.token_numbers, len(self.series)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def size_bytes(self) -> int:
        """How many bytes the reports take, about: their columns, without the tokens' dictionary."""
        return _ROW_BYTES * len(self) + (_TOKEN_POINT_BYTES if self.tokens else _POINT_BYTES) * len(self.series)

    @property
    def asks_consent_at_ms(self) -> Int64:
        """int64[n], by when each report's unit must have agreed (P8).

        A unit must have agreed by the start of the report's interval, or by its receipt where a client's clock puts the
        interval later. Consent that was first given, or given anew, after a report's receipt does not reach the report.
        """
        return np.minimum(self.interval_start_ms, self.received_at_ms)

    @classmethod
    def empty(cls) -> ReportBatch:
        """No reports."""
        none = np.zeros(0, np.int64)
        ids = np.zeros((0, 2), np.uint64)
        return cls(ids, ids, none, none, none, np.zeros(0, np.uint32), np.zeros(1, np.int64), np.zeros(0, np.uint32), none)

    def take(self, rows: Int64) -> ReportBatch:
        """The reports at some indices, in that order, with the same dictionary of tokens.

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
            self.tokens,
            self.token_numbers[points] if self.tokens else no_token_numbers(),
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
            *merged_tokens([(b.tokens, b.token_numbers) for b in batches]),
        )
