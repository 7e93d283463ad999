"""What was spent: budgets, losses, charges and ledger entries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from hushmeter.errors import ensure
from hushmeter.model.measurement import Measurement

GENESIS = bytes(32)
"""The previous hash of the first entry."""


@dataclass(frozen=True, slots=True)
class PrivacyBudget:
    """What one unit's whole record of one period may cost.

    Attributes:
        epsilon, delta: as the plan states them.
        rho: the zCDP parameter that implies them, rounded down.
    """

    epsilon: float
    delta: float
    rho: Fraction

    def __post_init__(self) -> None:
        ensure(self.epsilon > 0 and 0 < self.delta < 1 and self.rho > 0, "a budget is positive")


@dataclass(frozen=True, slots=True)
class MeasurementCharge:
    """The price of one measurement of one window.

    Attributes:
        rho: what is charged, exact; the mechanism's own privacy map must not exceed it.
        scale: of the discrete Gaussian.
    """

    measurement: Measurement
    rho: Fraction
    scale: float

    def __post_init__(self) -> None:
        ensure(self.rho > 0 and 0 < self.scale < float("inf"), "a charge has a positive rho and a finite scale")


@dataclass(frozen=True, slots=True)
class Charge:
    """The price of everything that one window releases.

    Attributes:
        resolution, window_start_ms, window_end_ms: the window.
        period_start_ms: the start of the protection period that it spends from.
        items: one a measurement.
    """

    resolution: str
    window_start_ms: int
    window_end_ms: int
    period_start_ms: int
    items: tuple[MeasurementCharge, ...]

    @property
    def rho(self) -> Fraction:
        """What the whole window costs one unit (zCDP composes by addition)."""
        return sum((item.rho for item in self.items), Fraction(0))


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One charge to the privacy budget, in a hash chain (C2).

    Attributes:
        sequence: from 1, without gaps.
        content: canonical JSON of the fields that `entry_content` lists.
        previous_hash: 32 bytes, `GENESIS` for the first.
        entry_hash: SHA-256 of previous_hash followed by content.
    """

    sequence: int
    content: str
    previous_hash: bytes
    entry_hash: bytes

    @property
    def fields(self) -> Mapping[str, object]:
        """The content as a mapping."""
        fields: dict[str, object] = json.loads(self.content)
        return fields

    @classmethod
    def following(cls, sequence: int, previous_hash: bytes, content: str) -> LedgerEntry:
        """The entry that comes after the one with `previous_hash`."""
        return cls(sequence, content, previous_hash, chain_hash(previous_hash, content))


def chain_hash(previous_hash: bytes, content: str) -> bytes:
    """SHA-256 of the previous hash followed by the UTF-8 content."""
    return hashlib.sha256(previous_hash + content.encode()).digest()


def canonical_json(fields: Mapping[str, object]) -> str:
    """JSON with sorted keys and no spaces: the same mapping is always the same text."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
