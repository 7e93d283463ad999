"""Reports as the columns that sealing takes, without door and log: for exact values that are computed beside a service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.model.report import ReportBatch, UInt32, pairs_of


def batch_of(reports: Sequence[Report], pseudonyms: Mapping[str, bytes]) -> ReportBatch:
    """The reports as columns, received in time.

    Args:
        reports: as the door takes them.
        pseudonyms: by unit id, 16 bytes each.
    """
    ends = np.array([r.interval_end_ms for r in reports], np.int64)
    offsets = np.cumsum([0, *(len(r.series) for r in reports)])
    return ReportBatch(
        pairs_of([pseudonyms[r.unit_id] for r in reports]),
        pairs_of([r.report_id for r in reports]),
        ends,
        np.array([r.interval_start_ms for r in reports], np.int64),
        ends,
        np.array([r.plan_version for r in reports], np.uint32),
        offsets.astype(np.int64),
        np.array([s for r in reports for s in r.series], np.uint32),
        np.array([v for r in reports for v in r.value], np.int64),
        *_tokens(reports),
    )


def _tokens(reports: Sequence[Report]) -> tuple[tuple[bytes, ...], UInt32]:
    """The reports' tokens as one dictionary and a number for each point."""
    merged: dict[str, int] = {}
    numbers: list[int] = []
    for r in reports:
        own = [0, *(merged.setdefault(token, len(merged) + 1) for token in r.token)]
        numbers.extend(own[i] for i in r.point_token or [0] * len(r.series))
    return tuple(token.encode() for token in merged), np.array(numbers, np.uint32)
