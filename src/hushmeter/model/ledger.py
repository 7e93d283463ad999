"""What was spent: budgets, losses, charges and ledger entries."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from hushmeter.errors import ensure
from hushmeter.model.measurement import Currency, Measurement, Mechanism, float_down

GENESIS = bytes(32)
"""The previous hash of the first entry, and of a checkpoint."""
_PRICE_MAX: Final = 10**100
_FRACTION = re.compile(r"[0-9]{1,4000}(/[0-9]{1,4000})?")


@dataclass(frozen=True, slots=True)
class PrivacyLoss:
    """What something costs one unit, exact; losses add up.

    Attributes:
        amount: zCDP's rho, or epsilon, in the plan's currency.
        delta: of partition selection alone; the conversion of rho has a delta of its own (C5).
    """

    amount: Fraction = Fraction(0)
    delta: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        ensure(self.amount >= 0 and 0 <= self.delta < 1, f"a loss is never negative, got {self.amount}, {self.delta}")

    def __add__(self, other: PrivacyLoss) -> PrivacyLoss:
        return PrivacyLoss(self.amount + other.amount, self.delta + other.delta)

    def times(self, n: int) -> PrivacyLoss:
        """The loss of n things that cost this."""
        return PrivacyLoss(self.amount * n, self.delta * n)

    def within(self, other: PrivacyLoss) -> bool:
        """Whether it exceeds another neither in amount nor in delta."""
        return self.amount <= other.amount and self.delta <= other.delta

    def at_least(self, other: PrivacyLoss) -> PrivacyLoss:
        """The larger amount and the larger delta of both."""
        return PrivacyLoss(max(self.amount, other.amount), max(self.delta, other.delta))


@dataclass(frozen=True, slots=True)
class PrivacyBudget:
    """What one unit's whole record of one period may cost.

    Attributes:
        epsilon, delta: as the plan states them, or the nearest floats below.
        currency: how losses add up (C1).
        loss: what may be spent; its amount, at `conversion_delta`, implies epsilon, and its delta is what private
            partitions may spend (C5).
    """

    epsilon: float
    delta: float
    currency: Currency
    loss: PrivacyLoss

    def __post_init__(self) -> None:
        ensure(self.epsilon > 0 and 0 < self.delta < 1 and self.loss.amount > 0, "a budget is positive")
        ensure(self.loss.delta <= Fraction(self.delta), "partition selection cannot spend more than delta")

    @property
    def conversion_delta(self) -> float:
        """The delta that is left for the conversion of rho to epsilon, rounded down."""
        return float_down(Fraction(self.delta) - self.loss.delta)


@dataclass(frozen=True, slots=True)
class MeasurementCharge:
    """The price of one measurement of one window.

    Attributes:
        mechanism: how noise is added.
        sensitivity: in the mechanism's norm, rounded up.
        loss: what is charged, exact; the mechanism's own privacy map must not exceed it.
        scale: of the noise, in the vector's steps: sigma of a Gaussian, b of a Laplace.
        threshold: noisy counts below it stay hidden; None where the mechanism does not select.
    """

    measurement: Measurement
    mechanism: Mechanism
    sensitivity: float
    loss: PrivacyLoss
    scale: float
    threshold: int | None = None

    def __post_init__(self) -> None:
        ensure(self.loss.amount > 0 and 0 < self.scale < math.inf, "a charge has a positive loss and a finite scale")
        ensure(self.mechanism.selects == (self.threshold is not None), "a threshold belongs to selection, and to it alone")
        ensure(self.mechanism.selects == (self.loss.delta > 0), "delta is spent by selection, and by it alone")


@dataclass(frozen=True, slots=True)
class Charge:
    """The price of everything that one window releases.

    Attributes:
        resolution, window_start_ms, window_end_ms: the window.
        period_start_ms: the start of the protection period that it spends from.
        currency: of the losses.
        items: one a measurement.
    """

    resolution: str
    window_start_ms: int
    window_end_ms: int
    period_start_ms: int
    currency: Currency
    items: tuple[MeasurementCharge, ...]

    def without(self, metrics: Collection[str]) -> Charge:
        """The price of the other metrics."""
        return replace(self, items=tuple(i for i in self.items if i.measurement.metric not in metrics))


@dataclass(frozen=True, slots=True)
class Spending:
    """Charges of one series of releases in one period that cost the same.

    Attributes:
        series: see `Measurement.series`.
        cap: in how many windows of the period one unit can be (P7).
        loss: of one window.
        count: of how many windows.
    """

    series: str
    cap: int
    loss: PrivacyLoss
    count: int = 1


@dataclass(frozen=True, slots=True)
class DraftEntry:
    """What is to be written to the ledger: the content of an entry, and what it spends."""

    content: str
    spending: Spending


@dataclass(frozen=True, slots=True)
class LedgerMark:
    """How far a deployment's ledger had come: what its keys have seen published (C6).

    Attributes:
        deployment_id: whose ledger.
        sequence: of its newest entry; 0 where there was none.
        entry_hash: of that entry; `GENESIS` where there was none.
    """

    deployment_id: str
    sequence: int
    entry_hash: bytes


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One charge to the privacy budget, in a hash chain (C2).

    Attributes:
        sequence: from 1, without gaps.
        content: canonical JSON; of a charge as `hushmeter.ledger.entries` writes it, of a checkpoint as
            `hushmeter.ledger.checkpoint` does.
        previous_hash: 32 bytes, `GENESIS` for the first and for a checkpoint.
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


def fraction_text(number: Fraction) -> str:
    """A fraction as entries write it, exactly."""
    return f"{number.numerator}/{number.denominator}"


def fraction_of(text: object) -> Fraction:
    """The inverse of `fraction_text`.

    Raises:
        ValueError: anything else, so that no exponent makes a billion digits; or a number above 10^100, which no price is:
            so many of them as there may be entries add up to what a float can show.
    """
    if not isinstance(text, str) or _FRACTION.fullmatch(text) is None:
        raise ValueError
    found = Fraction(text)
    if found > _PRICE_MAX:
        raise ValueError
    return found
