"""Rows and steps that the contract suites of the intake log share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
import pytest

from hushmeter import limits
from hushmeter.model.arrays import Int64
from hushmeter.model.report import ReportBatch, bytes_of
from hushmeter.ports import IntakeLog
from hushmeter.testing.batches import said

START: Final = 3_600_000
LATER: Final = 7_200_000


def random_rows(count: int, seed: int, points: int = 2, tokens: tuple[bytes, ...] = ()) -> ReportBatch:
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


def read_all(log: IntakeLog, segments: Sequence[str], start: int = START) -> ReportBatch:
    """Everything in some compacted segments of a window."""
    bits = log.bucket_bits(start, segments)
    return ReportBatch.concat([log.read(start, segments, bucket, bits) for bucket in range(1 << bits)])


def closed_segment(log: IntakeLog, *batches: ReportBatch, start: int = START) -> str:
    """A closed segment of these frames."""
    segment = log.create(start)
    for batch in batches:
        log.append(start, segment, batch)
    assert log.close(start, segment) == len(batches)
    return segment


def units_in(rows: ReportBatch, *numbers: int) -> list[bytes]:
    """The units of some rows, for `erase`."""
    return [bytes_of(rows.pseudonyms)[number] for number in numbers]


def every_second(rows: ReportBatch, segments: Int64) -> tuple[ReportBatch, Int64]:
    """A change that leaves rows with an even last digit of their report id, with other values; it sees whole buckets."""
    assert (np.diff(segments) >= 0).all()
    left = np.flatnonzero(rows.report_ids[:, 1] % 2 == 0)
    return dataclasses.replace(rows, values=rows.values // 2).take(left), left


def cut_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of about ten rows, so that a few rows make several."""
    monkeypatch.setattr(limits, "RUN_BYTES_TARGET", random_rows(10, 1).size_bytes)
