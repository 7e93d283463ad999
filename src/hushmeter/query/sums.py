"""Measurements added up: values with the noise of a linear map of raw releases (E1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hushmeter.model.arrays import Float64
from hushmeter.model.measurement import FIXED_POINT, MeasurementName
from hushmeter.model.release import NoisyVector
from hushmeter.query.intervals import half_width, z_of

_ROUNDING = 0.5
"""Noise comes in whole steps, so an interval of a linear map of noise reaches half a step beyond z deviations."""


@dataclass(frozen=True, slots=True)
class Sums:
    """One measurement, added up over one release or several, or a linear map of some.

    Attributes:
        values: float64[partitions, columns], exact integers where nothing was scaled.
        variance: of the noise in each cell.
        half_width: of the 95 % interval of each cell.
        z: how many standard deviations an interval of such noise reaches.
        spread: the variance that intervals of linear maps and ratios take; that of the noise, widened for whole steps.
    """

    values: Float64
    variance: float
    half_width: float
    z: float
    spread: float

    @classmethod
    def of(cls, vectors: list[NoisyVector]) -> Sums:
        """Adds vectors with independent noise up; at least one."""
        values = np.sum([v.values for v in vectors], axis=0).astype(np.float64)
        variance = math.fsum(v.variance for v in vectors)
        z = max(z_of(v.mechanism) for v in vectors)
        reach = z * math.sqrt(variance)
        exact = half_width(vectors[0].mechanism, vectors[0].scale) if len(vectors) == 1 else math.ceil(reach)
        return cls(values, variance, float(exact), z, ((reach + _ROUNDING) / z) ** 2)

    @classmethod
    def mapped(cls, values: Float64, variance: float, spread: float, z: float) -> Sums:
        """A linear map of others."""
        return cls(values, variance, z * math.sqrt(spread), z, spread)

    def rows(self, chosen: list[int]) -> Sums:
        """Some of the partitions."""
        return Sums(self.values[chosen], self.variance, self.half_width, self.z, self.spread)

    def scaled(self, factor: float) -> Sums:
        """Every cell times a factor."""
        squared = factor**2
        width = self.half_width * abs(factor)
        return Sums(self.values * factor, self.variance * squared, width, self.z, self.spread * squared)

    def plus(self, factor: float, other: Sums, other_factor: float) -> Sums:
        """`factor` times these plus `other_factor` times others with independent noise."""
        variance = factor**2 * self.variance + other_factor**2 * other.variance
        spread = factor**2 * self.spread + other_factor**2 * other.spread
        return Sums.mapped(factor * self.values + other_factor * other.values, variance, spread, max(self.z, other.z))

    def across(self) -> Sums:
        """All columns added up."""
        columns = self.values.shape[1]
        total = self.values.sum(axis=1, keepdims=True)
        return Sums.mapped(total, self.variance * columns, self.spread * columns, self.z)


def counted(sums: Sums, name: MeasurementName) -> Sums:
    """A measurement in units, events or steps: as it is; weights are added up over their bins."""
    return sums.across().scaled(1 / FIXED_POINT) if name is MeasurementName.WEIGHTS else sums
