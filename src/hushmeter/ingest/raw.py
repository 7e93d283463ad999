"""Reports as they arrived: first message by message, then as columns, before anything about them was believed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np

from hushmeter import limits
from hushmeter.errors import ensure
from hushmeter.model.arrays import Int64
from hushmeter.model.report import UInt32, gathered, no_token_numbers, pruned_tokens, token_column

NO_TEXT = b"\xff"
"""Stands for tokens that no plan can allow and that are not kept: it is not UTF-8, so the door refuses it."""
NAMED_BY_NO_POINT = "token holds an entry that no point names; point_token is 1 + the index of the point's token"

Row = tuple[bytes, bytes, int, int, int]
"""Report id, unit id, start and end of the interval, plan version, as sent."""


@dataclass(slots=True)
class SentReports:
    """n reports of one message, decoded; columns are still bytes, so that many messages become columns at once.

    Attributes:
        rows: of each report.
        series, values, numbers: packed columns of each report, little-endian: uint32, int64 and, or empty, uint32 of its
            points' tokens; empty where the report is malformed.
        tables: a report's tokens, where it has any, by index.
        unit_tokens: by index, where a report has one and somebody will read it.
        malformed: index to what is wrong with the bytes of a report.
    """

    rows: list[Row] = field(default_factory=list)
    series: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    numbers: list[bytes] = field(default_factory=list)
    tables: dict[int, list[bytes]] = field(default_factory=dict)
    malformed: dict[int, str] = field(default_factory=dict)
    unit_tokens: dict[int, bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def points(self) -> int:
        """How many points the reports have."""
        return sum(map(len, self.series)) // 4

    @property
    def tokens(self) -> int:
        """How many tokens their tables hold."""
        return sum(map(len, self.tables.values()))


@dataclass(frozen=True, slots=True)
class RawReports:
    """n reports of one message or of several, decoded and not yet judged.

    Attributes:
        report_ids: bytes as sent; not necessarily 16.
        unit_ids: bytes as sent.
        interval_start_ms, interval_end_ms: int64[n].
        plan_versions: int64[n].
        malformed: index to what is wrong with the bytes of a report; points of it that are here mean nothing.
        offsets: int64[n + 1], of each report's points.
        series: uint32[m].
        values: int64[m].
        tokens: the distinct tokens of all reports, not judged; `NO_TEXT` for one that is longer than any plan allows, and
            for one that its report's table does not hold.
        token_numbers: uint32[m], 0 where a point has no token, else 1 + its index in `tokens`; left out, all are 0.
        unit_tokens: by index, as sent; left out where nobody reads them.
    """

    report_ids: Sequence[bytes]
    unit_ids: Sequence[bytes]
    interval_start_ms: Int64
    interval_end_ms: Int64
    plan_versions: Int64
    malformed: dict[int, str]
    offsets: Int64
    series: UInt32
    values: Int64
    tokens: tuple[bytes, ...] = ()
    token_numbers: UInt32 = field(default_factory=no_token_numbers)
    unit_tokens: Mapping[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.report_ids)
        ensure(len(self.unit_ids) == n and len(self.offsets) == n + 1, "columns differ in length")
        ensure(len(self.series) == len(self.values) == int(self.offsets[-1]), "points do not match the offsets")
        object.__setattr__(self, "token_numbers", token_column(self.tokens, self.token_numbers, len(self.series)))

    def __len__(self) -> int:
        return len(self.report_ids)

    def take(self, rows: Int64) -> RawReports:
        """Some of the reports, int64[k] rising indices; what they are numbered by is their place among these."""
        offsets, points = gathered(self.offsets, rows)
        chosen = rows.tolist()
        return RawReports(
            [self.report_ids[i] for i in chosen],
            [self.unit_ids[i] for i in chosen],
            self.interval_start_ms[rows],
            self.interval_end_ms[rows],
            self.plan_versions[rows],
            {place: self.malformed[i] for place, i in enumerate(chosen) if i in self.malformed},
            offsets,
            self.series[points],
            self.values[points],
            self.tokens,
            self.token_numbers[points],
            {place: self.unit_tokens[i] for place, i in enumerate(chosen) if i in self.unit_tokens},
        )

    @classmethod
    def of(cls, messages: Sequence[SentReports]) -> RawReports:
        """The reports of some messages after one another; at least one message."""
        rows = [row for sent in messages for row in sent.rows]
        starts = list(itertools.accumulate((len(sent) for sent in messages), initial=0))
        malformed = {
            start + i: text for sent, start in zip(messages, starts, strict=False) for i, text in sent.malformed.items()
        }
        tables = {
            start + i: table for sent, start in zip(messages, starts, strict=False) for i, table in sent.tables.items()
        }
        unit_tokens = {
            start + i: token for sent, start in zip(messages, starts, strict=False) for i, token in sent.unit_tokens.items()
        }
        series, values, numbers = (
            [column for sent in messages for column in columns(sent)]
            for columns in (attrgetter("series"), attrgetter("values"), attrgetter("numbers"))
        )
        report_ids, unit_ids, begins, ends, versions = zip(*rows, strict=True) if rows else ((), (), (), (), ())
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, series), np.int64, len(rows)) // 4, out=offsets[1:])
        tokens, token_numbers, idle = _one_dictionary(tables, _token_column(numbers, series), np.diff(offsets))
        return cls(
            report_ids,
            unit_ids,
            np.array(begins, np.int64),
            np.array(ends, np.int64),
            np.array(versions, np.int64),
            malformed | dict.fromkeys(idle, NAMED_BY_NO_POINT),
            offsets,
            np.frombuffer(b"".join(series), "<u4").astype(np.uint32, copy=False),
            np.frombuffer(b"".join(values), "<i8").astype(np.int64, copy=False),
            tokens,
            token_numbers,
            unit_tokens,
        )


def _token_column(numbers: Sequence[bytes], series: Sequence[bytes]) -> UInt32:
    """The column of all reports; empty where none has one. Where one report's is absent, its numbers are 0."""
    if not any(numbers):
        return no_token_numbers()
    # A number is as wide as a series.
    runs = [own or bytes(len(beside)) for own, beside in zip(numbers, series, strict=True)]
    return np.frombuffer(b"".join(runs), "<u4").astype(np.uint32, copy=False)


def _one_dictionary(
    tables: Mapping[int, Sequence[bytes]], numbers: UInt32, lengths: Int64
) -> tuple[tuple[bytes, ...], UInt32, Sequence[int]]:
    """Turns numbers of each report's own table into numbers of one dictionary.

    Args:
        tables: by report, where it has one.
        numbers: uint32[m], 0 or 1 + an index, which may be beyond the report's table; empty where all are 0.
        lengths: int64[n], how many points each report has.

    Returns:
        The dictionary; uint32[m], numbers of its entries, or empty; the reports whose tables hold entries that no point
        names: nothing may come in that no point says.
    """
    if not len(numbers):
        return (), numbers, list(tables)
    sizes = np.zeros(len(lengths), np.int64)
    sizes[list(tables)] = [len(table) for table in tables.values()]
    # One entry before all tables, which every index beyond a table is taken to.
    entries = [NO_TEXT, *itertools.chain.from_iterable(tables.values())]
    size, start = np.repeat(sizes, lengths), np.repeat(np.cumsum(sizes) - sizes, lengths)
    entry = np.where(numbers <= size, start + numbers, 0)[numbers > 0]
    idle = np.ones(len(entries), np.bool_)
    idle[entry] = False
    merged: dict[bytes, int] = {}
    numbered = [merged.setdefault(e if len(e) <= limits.TOKEN_MAX_BYTES else NO_TEXT, len(merged) + 1) for e in entries]
    found = np.zeros(len(numbers), np.uint32)
    found[numbers > 0] = np.array(numbered, np.uint32)[entry]
    return *pruned_tokens(tuple(merged), found), np.unique(np.repeat(np.arange(len(sizes)), sizes)[idle[1:]]).tolist()
