"""Means, variances and shares: ratios of linear maps of noisy vectors, with Fieller intervals (E1, E4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hushmeter.model.arrays import Float64
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.plan import ContributionBounds, Metric, Statistic
from hushmeter.plan.measurements import derivation, unit_mean_steps
from hushmeter.query.intervals import fieller
from hushmeter.query.sums import Sums

Estimated = tuple[Float64, Float64, Float64, Float64]
"""Values, standard deviations, lower and upper ends of 95 % intervals; float64[partitions, columns] each."""


@dataclass(frozen=True, slots=True)
class MeanInputs:
    """What a mean is made of.

    Attributes:
        metric: whose mean.
        bounds: at the resolution.
        centered: S, twice the sum of centered values.
        count: N, units or events.
    """

    metric: Metric
    bounds: ContributionBounds
    centered: Sums
    count: Sums

    @property
    def offsets(self) -> Sums:
        """The sum of the values' distances from the middle of the range, in steps."""
        own = derivation(self.metric, Statistic.MEAN)[0] is MeasurementName.UNIT_MEAN
        return self.centered.scaled(0.5 / (unit_mean_steps(self.metric) if own else 1))


def mean(inputs: MeanInputs) -> Estimated:
    """(l + u) / 2 + S / 2N, clamped, with a Fieller interval; in steps."""
    bounds = inputs.bounds
    half = bounds.width / 2
    middle = (bounds.low + bounds.high) / 2
    value, std, low, high = _ratio(inputs.offsets, inputs.count, (-half, half), 0.0)
    return middle + value, std, middle + low, middle + high


def variance(inputs: MeanInputs, squares: Sums) -> Estimated:
    """The mean of squares less the square of the mean, clamped; in squared steps.

    With V the centered squares, B the offsets' sum, N the count, R the range and nu = B / N: the numerator
    `A = V/8 + N R^2/8 - B^2/N`, over N. For a variance v, `A - v N` has to first order the noise of
    `V/8 - 2 nu B + (R^2/8 + nu^2 - v) N`, which makes Fieller's quadratic in v. The second-order term is the square of the
    noise of nu; it can only push the estimate down, so it widens the upper end.

    Args:
        inputs: of the mean.
        squares: V.
    """
    v, b, n = squares, inputs.offsets, inputs.count
    eighth = inputs.bounds.width**2 / 8
    admissible = (0.0, inputs.bounds.width**2 / 4)
    positive = n.values > 0
    safe = np.where(positive, n.values, 1.0)
    nu = np.clip(np.where(positive, b.values / safe, 0.0), -inputs.bounds.width / 2, inputs.bounds.width / 2)
    numerator = v.values / 8 + n.values * eighth - nu * b.values
    constant = eighth + nu**2
    z = max(v.z, b.z, n.z)
    value = np.clip(np.where(positive, numerator / safe, admissible[1] / 2), *admissible)
    noise = v.variance / 64 + 4 * nu**2 * b.variance + (constant - value) ** 2 * n.variance
    # The terms of a small variance are large ones: rounding may take it below 0.
    std = np.sqrt(np.maximum(noise, 0.0)) / np.where(positive, n.values, np.sqrt(n.variance))
    var_n = v.spread / 64 + 4 * nu**2 * b.spread + constant**2 * n.spread
    low, high = fieller(numerator, n.values, var_n, n.spread, constant * n.spread, admissible, z)
    second = z**2 * (b.spread + nu**2 * n.spread) / safe**2
    high = np.clip(np.where(positive, high + second, high), *admissible)
    return value, std, np.minimum(low, value), np.maximum(high, value)


def share_of_total(weights: Sums, *, of_each: bool) -> Estimated:
    """The share of the first column, or of each, in the sum of all; numerator and denominator share noise."""
    columns = weights.values.shape[1]
    total = weights.across()
    shown = weights.values if of_each else weights.values[:, :1]
    numerator = Sums.mapped(shown, weights.variance, weights.spread, weights.z)
    wide = Sums.mapped(np.broadcast_to(total.values, shown.shape), total.variance, total.spread, weights.z)
    return _ratio(numerator, wide, (0.0, 1.0), 1 / columns, part=True)


def _ratio(
    numerator: Sums, denominator: Sums, admissible: tuple[float, float], undefined: float, *, part: bool = False
) -> Estimated:
    """Clamped ratio, its linearised noise, its Fieller interval.

    Args:
        numerator: S.
        denominator: N, of the same shape.
        admissible: smallest and largest possible ratio.
        undefined: the ratio to return where N is not positive.
        part: whether S is a part of N, so that all of its noise is in N too; else they are independent.
    """
    s, n = numerator.values, denominator.values
    positive = n > 0
    safe = np.where(positive, n, 1.0)
    ratio = np.clip(np.where(positive, s / safe, undefined), *admissible)
    shared = numerator.variance if part else 0.0
    noise = numerator.variance - 2 * ratio * shared + ratio**2 * denominator.variance
    # The terms of a small variance are large ones: rounding may take it below 0.
    std = np.sqrt(np.maximum(noise, 0.0)) / np.where(positive, n, np.sqrt(denominator.variance))
    z = max(numerator.z, denominator.z)
    cov = numerator.spread if part else 0.0
    low, high = fieller(s, n, numerator.spread, denominator.spread, cov, admissible, z)
    return ratio, std, np.minimum(low, ratio), np.maximum(high, ratio)
