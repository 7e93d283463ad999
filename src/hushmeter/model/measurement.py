"""What is measured for a release: the vector that one unit adds, and how far it can move it.

This is the calibration table of the privacy contract as types. A `Measurement` is one noisy step: sealing computes its
vector, the ledger prices it, the release adds noise to it, and queries derive statistics from one or two of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from hushmeter.errors import ensure

FIXED_POINT = 2**16
"""F of the calibration table: fractions of a unit's weight are counted in steps of 1/F, floored toward zero (P6)."""


class MeasurementName(StrEnum):
    """Which row of the calibration table a measurement is."""

    UNITS = "units"
    EVENTS = "events"
    SUM = "sum"
    UNIT_MEAN = "unit_mean"
    EVENT_SUM = "event_sum"
    WEIGHTS = "weights"
    """Histogram bins, a flag's two sides or a choice's options, in fixed point."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One noisy vector of one metric, view and resolution.

    Attributes:
        metric, view, resolution: whose it is.
        name: which row of the calibration table.
        partitions: rows of the vector.
        columns: columns of the vector: bins, options, or 1.
        l0: partitions that one unit can touch (P4).
        bound: L2 norm of what one unit adds to one partition, an integer (in fixed point where `name` is `weights`).
        weight: its share of the budget, relative to all measurements of a period.
        windows: how many windows of one period release it.
    """

    metric: str
    view: tuple[str, ...]
    resolution: str
    name: MeasurementName
    partitions: int
    columns: int
    l0: int
    bound: int
    weight: Fraction
    windows: int

    def __post_init__(self) -> None:
        ensure(self.partitions >= 1 and self.columns >= 1, "a measurement has cells")
        ensure(1 <= self.l0 <= self.partitions, f"l0 is 1 to {self.partitions}, got {self.l0}")
        ensure(self.bound >= 1 and self.windows >= 1 and self.weight > 0, "bound, windows and weight are positive")

    @property
    def l2_squared(self) -> int:
        """The square of the L2 sensitivity, exact: l0 times bound squared."""
        return self.l0 * self.bound**2

    @property
    def l2_sensitivity(self) -> float:
        """The L2 sensitivity, rounded up: its exact square is at least `l2_squared`."""
        return sqrt_up(self.l2_squared)


def sqrt_up(n: int) -> float:
    """The square root of a positive integer, rounded up: `Fraction(result)**2 >= n`."""
    ensure(n > 0, f"a sensitivity is positive, got the square {n}")
    root = math.sqrt(n)
    while Fraction(root) ** 2 < n:
        root = math.nextafter(root, math.inf)
    return root
