"""Reports as they arrived: columns, before anything about them was believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.report import UInt32
from hushmeter.model.time import Int64


@dataclass(frozen=True, slots=True)
class RawReports:
    """n reports of one message or of several, decoded and not yet judged.

    Attributes:
        report_ids: bytes as sent; not necessarily 16.
        unit_ids: bytes as sent.
        interval_start_ms, interval_end_ms: int64[n].
        plan_versions: int64[n].
        malformed: index to what is wrong with the bytes of a report; such a report has no points here.
        offsets: int64[n + 1], of each report's points.
        series: uint32[m].
        values: int64[m].
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

    def __post_init__(self) -> None:
        n = len(self.report_ids)
        ensure(len(self.unit_ids) == n and len(self.offsets) == n + 1, "columns differ in length")
        ensure(len(self.series) == len(self.values) == int(self.offsets[-1]), "points do not match the offsets")

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
        )
