"""What a batch of reports says, whatever the numbers of its tokens."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hushmeter.model.report import ReportBatch, bytes_of

_Point = tuple[int, int, bytes | None]
SaidReport = tuple[bytes, bytes, int, int, int, int, tuple[_Point, ...]]


def said(batch: ReportBatch) -> list[SaidReport]:
    """What each report of a batch says, with the bytes of its tokens."""
    tokens: Sequence[bytes | None] = (None, *batch.tokens)
    named = [tokens[number] for number in batch.token_numbers.tolist()]
    points = list(zip(batch.series.tolist(), batch.values.tolist(), named, strict=True))
    return list(
        zip(
            bytes_of(batch.pseudonyms),
            bytes_of(batch.report_ids),
            batch.received_at_ms.tolist(),
            batch.interval_start_ms.tolist(),
            batch.interval_end_ms.tolist(),
            batch.plan_versions.tolist(),
            [tuple(points[a:b]) for a, b in itertools.pairwise(batch.offsets.tolist())],
            strict=True,
        )
    )
