"""What is measured for a release: the vector that one unit adds, and how far it can move it.

These types are the calibration table of the privacy contract. A `Measurement` is one noisy step: sealing computes its
vector, the ledger prices it, the release adds noise to it, and queries derive statistics from one measurement or several.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from hushmeter.errors import ensure

FIXED_POINT = 2**16
"""F of the calibration table: fractions of a unit's weight are counted in steps of 1/F, floored toward zero (P6)."""


class Currency(StrEnum):
    """How the losses of one period add up (C1)."""

    ZCDP = "zcdp"
    """Gaussian noise; zCDP's rho adds up, and is converted to (epsilon, delta) once, at the end."""
    PURE = "pure"
    """Laplace noise; epsilon adds up."""


class Mechanism(StrEnum):
    """How noise is added."""

    DISCRETE_GAUSSIAN = "discrete_gaussian"
    DISCRETE_LAPLACE = "discrete_laplace"
    GAUSSIAN_THRESHOLD = "gaussian_threshold"
    """Noisy counts of private partitions, those above a threshold alone."""
    LAPLACE_THRESHOLD = "laplace_threshold"

    @property
    def laplace(self) -> bool:
        """Whether the noise is Laplace noise."""
        return self in {Mechanism.DISCRETE_LAPLACE, Mechanism.LAPLACE_THRESHOLD}

    @property
    def selects(self) -> bool:
        """Whether it releases the partitions above a threshold alone."""
        return self in {Mechanism.GAUSSIAN_THRESHOLD, Mechanism.LAPLACE_THRESHOLD}

    def variance(self, scale: float) -> float:
        """The variance of its noise, or a little more.

        References:
            C. Canonne, G. Kamath, T. Steinke (2020), Corollary 9: the discrete Gaussian's is at most sigma^2.
            S. Inusah, T. Kozubowski: A Discrete Analogue of the Laplace Distribution (2006), equation 2.10.
        """
        if not self.laplace:
            return scale**2
        p = math.exp(-1 / scale)
        return 2 * p / (1 - p) ** 2


class MeasurementName(StrEnum):
    """Which row of the calibration table a measurement is."""

    UNITS = "units"
    EVENTS = "events"
    SUM = "sum"
    UNIT_MEAN = "unit_mean"
    EVENT_SUM = "event_sum"
    WEIGHTS = "weights"
    """Histogram bins, a flag's two sides or a choice's options, in fixed point."""
    SQUARES = "squares"
    """Centered squares, for variances."""
    CLAMPED = "clamped"
    """Units that bounding altered, and units that it did not."""
    CAPPED = "capped"
    """Units whose window was not kept, and units whose window was (P7)."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One noisy vector of one metric, view and resolution.

    Attributes:
        metric, view, resolution: whose it is.
        name: which row of the calibration table.
        partitions: rows of the vector; of an open view its public partitions, each of which holds private ones.
        columns: columns of the vector: bins, options, or 1.
        l0: partitions that one unit can touch (P4); of a view that shares its bounding, rows that one unit can keep.
        bound: L2 and L1 norm of what one unit adds to one partition, an integer (in fixed point where `name` is
            `weights`).
        weight: its share of the budget, relative to all measurements of a period.
        windows: in how many windows of one period one unit can be; at most as many as release it (P7).
        selects: whether it selects the private partitions of its view: the noisy count is `units`.
        together: how many of the l0 may fall into one partition; more than 1 only where views share their bounding.
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
    selects: bool = False
    together: int = 1

    def __post_init__(self) -> None:
        ensure(self.partitions >= 1 and self.columns >= 1, "a measurement has cells")
        ensure(
            self.l0 >= 1 and 1 <= self.together <= self.l0, f"l0 and together are positive, got {self.l0}, {self.together}"
        )
        ensure(self.bound >= 1 and self.windows >= 1 and self.weight > 0, "bound, windows and weight are positive")
        ensure(not self.selects or (self.bound == self.together == self.columns == 1), "selection counts units, one a key")

    @property
    def l1(self) -> int:
        """The L1 sensitivity, exact: l0 times bound."""
        return self.l0 * self.bound

    @property
    def l2_squared(self) -> int:
        """The square of the L2 sensitivity, exact: l0 times bound squared, or more where rows fall together.

        The norm of l0 rows that fall into partitions, at most `together` into one, is largest where they fill as few
        partitions as possible (the square is convex).
        """
        whole, rest = divmod(self.l0, self.together)
        return (whole * self.together**2 + rest**2) * self.bound**2

    def sensitivity(self, currency: Currency) -> float:
        """The sensitivity in the norm of a currency's noise, rounded up: L2 for zCDP, L1 for pure."""
        if currency is Currency.PURE:
            return float_up(self.l1)
        return sqrt_up(self.l2_squared)

    def mechanism(self, currency: Currency) -> Mechanism:
        """How noise is added to it."""
        if currency is Currency.PURE:
            return Mechanism.LAPLACE_THRESHOLD if self.selects else Mechanism.DISCRETE_LAPLACE
        return Mechanism.GAUSSIAN_THRESHOLD if self.selects else Mechanism.DISCRETE_GAUSSIAN

    def series(self) -> str:
        """A name for this measurement's windows, among all measurements of a plan."""
        return series_text(self.metric, self.view, self.resolution, self.name)


def series_text(metric: str, view: tuple[str, ...], resolution: str, name: MeasurementName) -> str:
    """See `Measurement.series`."""
    return "/".join((metric, ",".join(view), resolution, name.value))


def sqrt_up(n: int) -> float:
    """The square root of a positive integer, rounded up: `Fraction(result)**2 >= n`."""
    ensure(n > 0, f"a sensitivity is positive, got the square {n}")
    root = math.sqrt(n)
    while Fraction(root) ** 2 < n:
        root = math.nextafter(root, math.inf)
    return root


def float_up(n: int | Fraction) -> float:
    """A number as a float, rounded up."""
    near = float(n)
    return near if Fraction(near) >= n else math.nextafter(near, math.inf)


def float_down(n: int | Fraction) -> float:
    """A number as a float, rounded down."""
    near = float(n)
    return near if Fraction(near) <= n else math.nextafter(near, -math.inf)
