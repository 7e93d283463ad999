"""Ledger entries in a chain, made by hand."""

from __future__ import annotations

from collections.abc import Iterable

from hushmeter.model.ledger import GENESIS, LedgerEntry, canonical_json


def chained(contents: Iterable[str], first: int = 1, previous: bytes = GENESIS) -> list[LedgerEntry]:
    """Entries with these contents, each after the one before it."""
    entries = []
    for number, content in enumerate(contents, first):
        entries.append(LedgerEntry.following(number, previous, content))
        previous = entries[-1].entry_hash
    return entries


def content_with(**changed: object) -> str:
    """The content of an entry that spends one hundredth for one window of the first day of 1970, with other fields."""
    fields: dict[str, object] = {
        "plan_version": 3,
        "metric": "calls",
        "view": ["platform"],
        "measurement": "units",
        "resolution": "1d",
        "window_start_ms": 0,
        "window_end_ms": 86_400_000,
        "period_start_ms": 0,
        "mechanism": "discrete_gaussian",
        "currency": "zcdp",
        "cap": 7,
        "scale": 3.0,
        "threshold": None,
        "loss": "1/100",
        "delta": "0/1",
        "mapped_loss": 0.01,
        "mapped_delta": 0.0,
    }
    return canonical_json(fields | changed)
