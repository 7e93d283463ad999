"""Reports one by one, in plain Python: what belongs to a window, and which of several duplicates counts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
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


def deduplicated(rows: Iterable[Row], same_report: Callable[[Row], object]) -> list[Row]:
    """P2: one row of those that are the same report, the one with the smallest content hash."""
    kept: dict[object, Row] = {}
    for row in rows:
        key = same_report(row)
        if key not in kept or content_hash(row) < content_hash(kept[key]):
            kept[key] = row
    return list(kept.values())


def mix(x: int) -> int:
    """The SplitMix64 finaliser."""
    x %= WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % WORD
    return x ^ (x >> 31)


def token_mark(token: bytes | None, key: bytes = b"") -> int:
    """8 bytes of BLAKE2b of a token, 0 for none."""
    return 0 if token is None else int.from_bytes(hashlib.blake2b(token, digest_size=8, key=key).digest(), "big")


def content_hash(row: Row) -> int:
    """A function of what the report says alone."""
    total = 0
    for place, (series, value, token) in enumerate(row.points):
        total += mix(mix(series + GOLDEN * (place + 1) + token_mark(token)) ^ (value % WORD))
    return mix(total + mix(row.start_ms) * 3 + mix(row.end_ms) * 5 + mix(row.plan_version) * 7)
