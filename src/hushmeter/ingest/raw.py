"""Reports as they arrived: columns, before anything about them was believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.report import UInt32, merged_tokens, no_token_numbers, token_column
from hushmeter.model.time import Int64

NO_TEXT = b"\xff"
"""Stands for tokens that no plan can allow and that are not kept: it is not UTF-8, so the door refuses it."""


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

    def __post_init__(self) -> None:
        n = len(self.report_ids)
        ensure(len(self.unit_ids) == n and len(self.offsets) == n + 1, "columns differ in length")
        ensure(len(self.series) == len(self.values) == int(self.offsets[-1]), "points do not match the offsets")
        object.__setattr__(self, "token_numbers", token_column(self.tokens, self.token_numbers, len(self.series)))

    def __len__(self) -> int:
        return len(self.report_ids)

    @classmethod
    def concat(cls, parts: Sequence[RawReports]) -> RawReports:
        """Several messages' reports after one another; at least one."""
        if len(parts) == 1:
            return parts[0]
        rows = np.cumsum([0, *(len(p) for p in parts)])
        points = np.cumsum([0, *(int(p.offsets[-1]) for p in parts)])
        tails = [p.offsets[1:] + start for p, start in zip(parts, points[:-1], strict=True)]
        return cls(
            [i for p in parts for i in p.report_ids],
            [i for p in parts for i in p.unit_ids],
            np.concatenate([p.interval_start_ms for p in parts]),
            np.concatenate([p.interval_end_ms for p in parts]),
            np.concatenate([p.plan_versions for p in parts]),
            {int(row) + i: text for p, row in zip(parts, rows[:-1], strict=True) for i, text in p.malformed.items()},
            np.concatenate([np.zeros(1, np.int64), *tails]),
            np.concatenate([p.series for p in parts]),
            np.concatenate([p.values for p in parts]),
            *merged_tokens([(p.tokens, p.token_numbers) for p in parts]),
        )
