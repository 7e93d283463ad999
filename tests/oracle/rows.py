"""Reports one by one, in plain Python: what belongs to a window, and which of several duplicates counts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from hushmeter.model.report import ReportBatch
from hushmeter.model.time import Window

WORD = 2**64
GOLDEN = 0x9E3779B97F4A7C15
Unit = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """One report; its points are (series, value, token)."""

    unit: Unit
    report_id: Unit
    received_at_ms: int
    start_ms: int
    end_ms: int
    plan_version: int
    points: tuple[tuple[int, int, bytes | None], ...]


def rows_of(batch: ReportBatch) -> Iterator[Row]:
    """The reports of a batch, one by one."""
    tokens = [None, *batch.tokens]
    for i in range(len(batch)):
        points = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
        named = [tokens[number] for number in batch.token_numbers[points].tolist()]
        yield Row(
            (int(batch.pseudonyms[i, 0]), int(batch.pseudonyms[i, 1])),
            (int(batch.report_ids[i, 0]), int(batch.report_ids[i, 1])),
            int(batch.received_at_ms[i]),
            int(batch.interval_start_ms[i]),
            int(batch.interval_end_ms[i]),
            int(batch.plan_versions[i]),
            tuple(zip(batch.series[points].tolist(), batch.values[points].tolist(), named, strict=True)),
        )


def belongs(row: Row, window: Window, deadline_ms: int) -> bool:
    """T2: the interval ends in the window, is no longer than it, and arrived before the deadline."""
    return (
        window.start_ms < row.end_ms <= window.end_ms
        and row.end_ms - row.start_ms <= window.end_ms - window.start_ms
        and row.received_at_ms < deadline_ms
    )


def by_unit_window_and_id(row: Row, storage_window: int) -> object:
    """P2: what duplicates have in common."""
    return row.unit, storage_window, row.report_id


def received_first(row: Row, key: bytes) -> tuple[int, bytes]:
    """P2: of duplicates the least of these counts."""
    return row.received_at_ms, content_digest(row, key)


def content_digest(row: Row, key: bytes) -> bytes:
    """16 bytes of keyed BLAKE2b of what a report says: big-endian numbers after one another, points by column."""
    signed = [row.start_ms, row.end_ms]
    said = b"".join(half.to_bytes(8, "big") for half in row.report_id)
    said += b"".join(moment.to_bytes(8, "big", signed=True) for moment in signed)
    said += row.plan_version.to_bytes(4, "big") + len(row.points).to_bytes(8, "big")
    said += b"".join(series.to_bytes(4, "big") for series, _, _ in row.points)
    said += b"".join(value.to_bytes(8, "big", signed=True) for _, value, _ in row.points)
    for _, _, token in row.points:
        length = -1 if token is None else len(token)
        said += length.to_bytes(8, "big", signed=True) + (token or b"")
    return hashlib.blake2b(said, key=key, digest_size=16).digest()


def mix(x: int) -> int:
    """The SplitMix64 finaliser."""
    x %= WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % WORD
    return x ^ (x >> 31)


def token_mark(token: bytes | None, key: bytes) -> int:
    """8 bytes of BLAKE2b of a token, 0 for none."""
    return 0 if token is None else int.from_bytes(hashlib.blake2b(token, digest_size=8, key=key).digest(), "big")
