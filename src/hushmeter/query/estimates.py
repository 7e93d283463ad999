"""Statistics of one release, or of several added up, with their noise and intervals (E1-E4).

Everything is one linear map of raw noisy vectors, or a ratio of two such maps. Point estimates of counts, sums and bins
stay as they are, unbiased, also where noise took them below zero; intervals are cut to what is possible. Ratios are
undefined without a positive denominator, so they are clamped into their range.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hushmeter.model.measurement import FIXED_POINT, MeasurementName
from hushmeter.model.plan import Kind, Metric, Statistic, Weighting
from hushmeter.model.release import NoisyVector
from hushmeter.plan.measurements import derivation
from hushmeter.query.intervals import Float, Z, cut, discrete_gaussian_half_width, fieller


@dataclass(frozen=True, slots=True)
class Sums:
    """One measurement, added up over one release or several.

    Attributes:
        values: float64[partitions, columns], exact integers.
        variance: of the noise in each cell.
        half_width: of the 95 % interval of each cell.
    """

    values: Float
    variance: float
    half_width: float

    @classmethod
    def of(cls, vectors: list[NoisyVector]) -> Sums:
        """Adds vectors with independent noise up; at least one."""
        values = np.sum([v.values for v in vectors], axis=0).astype(np.float64)
        variance = math.fsum(v.scale**2 for v in vectors)
        if len(vectors) == 1:
            return cls(values, variance, float(discrete_gaussian_half_width(vectors[0].scale)))
        return cls(values, variance, float(math.ceil(Z * math.sqrt(variance))))


@dataclass(frozen=True, slots=True)
class StatisticEstimates:
    """One statistic of every partition.

    Attributes:
        statistic: which.
        components: names of the columns: bins, options, or one empty name.
        values, noise_std, low, high: float64[partitions, components], in the statistic's unit.
    """

    statistic: Statistic
    components: tuple[str, ...]
    values: Float
    noise_std: Float
    low: Float
    high: Float


def component_labels(metric: Metric) -> tuple[str, ...]:
    """The names of a metric's weights: bins as `(100, 200]` in its unit, sides of a flag, options of a choice."""
    match metric.kind:
        case Kind.DISTRIBUTION:
            edges = [f"{(edge * metric.step).normalize():f}" for edge in metric.edges]
            inner = [f"({a}, {b}]" for a, b in itertools.pairwise(edges)]
            return (f"<= {edges[0]}", *inner, f"> {edges[-1]}") if edges else ()
        case Kind.CHOICE:
            return metric.options
        case _:
            return ("true", "false")


def estimate(
    metric: Metric, resolution: str, sums: Mapping[MeasurementName, Sums], statistic: Statistic
) -> StatisticEstimates:
    """One statistic from the measurements that it is derived from.

    Args:
        metric: whose statistic.
        resolution: whose bounds.
        sums: at least the measurements of `derivation(metric, statistic)`.
        statistic: one that the metric releases.
    """
    if statistic is Statistic.RATE:
        return _rate(metric, sums[MeasurementName.WEIGHTS])
    source = derivation(metric, statistic)
    if statistic is Statistic.MEAN:
        return _mean(metric, resolution, sums[source[0]], sums[source[1]])
    if statistic is Statistic.SUM and metric.kind is Kind.DISTRIBUTION:
        return _event_sum(metric, resolution, sums[source[0]], _counted(sums[source[1]], source[1]))
    if statistic is Statistic.SUM:
        step, bounds = float(metric.step), metric.bounds[resolution]
        lowest = -math.inf if bounds.low < 0 else 0.0
        highest = math.inf if bounds.high > 0 else 0.0
        return _linear(statistic, ("",), _scaled(sums[source[0]], step), lowest, highest)
    if statistic is Statistic.HISTOGRAM:
        weights = _scaled(sums[source[0]], 1 / FIXED_POINT)
        return _linear(statistic, component_labels(metric), weights, 0.0, math.inf)
    return _linear(statistic, ("",), _counted(sums[source[0]], source[0]), 0.0, math.inf)


def _scaled(sums: Sums, factor: float) -> Sums:
    return Sums(sums.values * factor, sums.variance * factor**2, sums.half_width * factor)


def _counted(sums: Sums, name: MeasurementName) -> Sums:
    """Numbers of units or events: as they are, or as the sum of bins with independent noise."""
    if name is not MeasurementName.WEIGHTS:
        return sums
    columns = sums.values.shape[1]
    variance = sums.variance * columns
    half_width = float(math.ceil(Z * math.sqrt(variance)))
    total = Sums(sums.values.sum(axis=1, keepdims=True), variance, half_width)
    return _scaled(total, 1 / FIXED_POINT)


def _linear(
    statistic: Statistic, components: tuple[str, ...], sums: Sums, lowest: float, highest: float
) -> StatisticEstimates:
    low, high = cut(sums.values - sums.half_width, sums.values + sums.half_width, lowest, highest)
    std = np.full(sums.values.shape, math.sqrt(sums.variance))
    return StatisticEstimates(statistic, components, sums.values, std, low, high)


def _event_sum(metric: Metric, resolution: str, centered: Sums, events: Sums) -> StatisticEstimates:
    """N (l + u) / 2 + S / 2, in the metric's unit."""
    bounds, step = metric.bounds[resolution], float(metric.step)
    middle = (bounds.low + bounds.high) / 2
    values = step * (events.values * middle + centered.values / 2)
    variance = step**2 * (events.variance * middle**2 + centered.variance / 4)
    sums = Sums(values, variance, Z * math.sqrt(variance))
    lowest = -math.inf if bounds.low < 0 else 0.0
    highest = math.inf if bounds.high > 0 else 0.0
    return _linear(Statistic.SUM, ("",), sums, lowest, highest)


def _mean(metric: Metric, resolution: str, centered: Sums, counted: Sums) -> StatisticEstimates:
    """(l + u) / 2 + S / 2N, clamped, with a Fieller interval; in the metric's unit."""
    bounds, step = metric.bounds[resolution], float(metric.step)
    per_event = metric.kind is Kind.DISTRIBUTION and metric.weighting is Weighting.EVENT
    name = derivation(metric, Statistic.MEAN)[1]
    n = _counted(counted, name) if per_event else counted
    half = bounds.width / 2
    ratio, std, low, high = _ratio(_scaled(centered, 0.5), n, 0.0, (-half, half), 0.0)
    middle = (bounds.low + bounds.high) / 2
    return StatisticEstimates(
        Statistic.MEAN, ("",), step * (middle + ratio), step * std, step * (middle + low), step * (middle + high)
    )


def _rate(metric: Metric, weights: Sums) -> StatisticEstimates:
    """The share of true, or of each option, in the total weight; numerator and denominator share noise."""
    columns = weights.values.shape[1]
    total = Sums(weights.values.sum(axis=1, keepdims=True), weights.variance * columns, 0.0)
    names = component_labels(metric) if metric.kind is Kind.CHOICE else ("",)
    shown = weights if metric.kind is Kind.CHOICE else Sums(weights.values[:, :1], weights.variance, 0.0)
    wide = Sums(np.broadcast_to(total.values, shown.values.shape), total.variance, 0.0)
    ratio, std, low, high = _ratio(shown, wide, weights.variance, (0.0, 1.0), 1 / columns)
    return StatisticEstimates(Statistic.RATE, names, ratio, std, low, high)


def _ratio(
    numerator: Sums, denominator: Sums, cov: float, admissible: tuple[float, float], undefined: float
) -> tuple[Float, Float, Float, Float]:
    """Clamped ratio, its linearised noise, its Fieller interval; `undefined` where the denominator is not positive."""
    s, n = numerator.values, denominator.values
    positive = n > 0
    safe = np.where(positive, n, 1.0)
    ratio = np.clip(np.where(positive, s / safe, undefined), *admissible)
    variance = numerator.variance - 2 * ratio * cov + ratio**2 * denominator.variance
    std = np.sqrt(np.maximum(variance, 0.0)) / np.where(positive, n, math.sqrt(denominator.variance))
    low, high = fieller(s, n, numerator.variance, denominator.variance, cov, admissible)
    return ratio, std, np.minimum(low, ratio), np.maximum(high, ratio)
