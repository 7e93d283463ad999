"""Statistics of one release, or of several added up, with their noise and intervals (E1-E4).

Every statistic is a linear map of raw noisy vectors, or a ratio of two such maps. Estimates of counts, sums and bins are
unbiased: they stay as they are where noise took them below zero. Intervals are cut to what is possible. Ratios are
undefined without a positive denominator, so they are clamped into their range.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hushmeter.model.arrays import Float64, Int64
from hushmeter.model.measurement import FIXED_POINT, MeasurementName
from hushmeter.model.plan import ContributionBounds, Kind, Metric, Statistic
from hushmeter.plan.measurements import derivation
from hushmeter.query.intervals import cut
from hushmeter.query.quantiles import quantiles
from hushmeter.query.ratios import MeanInputs, mean, share_of_total, variance
from hushmeter.query.sums import Sums, counted

MeasurementSums = Mapping[MeasurementName, Sums]


@dataclass(frozen=True, slots=True)
class StatisticEstimates:
    """One statistic of every partition.

    Attributes:
        statistic: which.
        components: names of the columns: bins, options, quantiles, or one empty name.
        values, noise_std, low, high: float64[partitions, components], in the statistic's unit.
        ranked: int64[partitions, k], the columns to show, in that order; None for all of them.
    """

    statistic: Statistic
    components: tuple[str, ...]
    values: Float64
    noise_std: Float64
    low: Float64
    high: Float64
    ranked: Int64 | None = None


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


def estimate(metric: Metric, resolution: str, sums: MeasurementSums, statistic: Statistic) -> StatisticEstimates:
    """One statistic from the measurements that it is derived from.

    Args:
        metric: the statistic's metric.
        resolution: the one that the releases are of; its bounds apply.
        sums: at least the measurements of `derivation(metric, statistic)`.
        statistic: one that the metric releases.
    """
    names = derivation(metric, statistic)
    return _MAPS[statistic](_Question(metric, metric.bounds[resolution], statistic, names, [sums[n] for n in names]))


@dataclass(frozen=True, slots=True)
class _Question:
    """A statistic, and the measurements that it is derived from."""

    metric: Metric
    bounds: ContributionBounds
    statistic: Statistic
    names: tuple[MeasurementName, ...]
    sums: list[Sums]

    @property
    def step(self) -> float:
        return float(self.metric.step)

    def events(self) -> Sums:
        """The last measurement, as a number of units or events."""
        return counted(self.sums[-1], self.names[-1])


def _linear(asked: _Question, sums: Sums, lowest: float = 0.0, highest: float = math.inf) -> StatisticEstimates:
    columns = sums.values.shape[1]
    labels = component_labels(asked.metric) if columns > 1 else ("",)
    low, high = cut(sums.values - sums.half_width, sums.values + sums.half_width, lowest, highest)
    std = np.full(sums.values.shape, math.sqrt(sums.variance))
    return StatisticEstimates(asked.statistic, labels, sums.values, std, low, high)


def _count(asked: _Question) -> StatisticEstimates:
    return _linear(asked, asked.events())


def _histogram(asked: _Question) -> StatisticEstimates:
    return _linear(asked, asked.sums[0].scaled(1 / FIXED_POINT))


def _top_k(asked: _Question) -> StatisticEstimates:
    """The histogram's largest options; chosen by their noisy weights, so each is marked as selected (E4)."""
    h = _histogram(asked)
    ranked = np.argsort(-h.values, axis=1, kind="stable")[:, : asked.metric.top_k]
    return StatisticEstimates(Statistic.TOP_K, h.components, h.values, h.noise_std, h.low, h.high, ranked)


def _sum(asked: _Question) -> StatisticEstimates:
    """The sum, in the metric's unit: of a counter, of its clamped totals; of events, N (l + u) / 2 + S / 2."""
    total, bounds = asked.sums[0], asked.bounds
    if len(asked.sums) > 1:
        total = asked.events().plus((bounds.low + bounds.high) / 2, total, 0.5)
    lowest = -math.inf if bounds.low < 0 else 0.0
    highest = math.inf if bounds.high > 0 else 0.0
    return _linear(asked, total.scaled(asked.step), lowest, highest)


def _mean(asked: _Question) -> StatisticEstimates:
    inputs = MeanInputs(asked.metric, asked.bounds, asked.sums[0], asked.events())
    return _ratio(asked, mean(inputs), asked.step)


def _variance(asked: _Question) -> StatisticEstimates:
    inputs = MeanInputs(asked.metric, asked.bounds, asked.sums[1], asked.events())
    return _ratio(asked, variance(inputs, asked.sums[0]), asked.step**2)


def _share(asked: _Question) -> StatisticEstimates:
    """The share of the first column, or of each option, in the total."""
    of_each = asked.metric.kind is Kind.CHOICE and asked.statistic is Statistic.RATE
    labels = component_labels(asked.metric) if of_each else ("",)
    return _ratio(asked, share_of_total(asked.sums[0], of_each=of_each), 1.0, labels)


def _ratio(
    asked: _Question, found: tuple[Float64, Float64, Float64, Float64], factor: float, labels: tuple[str, ...] = ("",)
) -> StatisticEstimates:
    value, std, low, high = (array * factor for array in found)
    return StatisticEstimates(asked.statistic, labels, value, std, low, high)


def _quantiles(asked: _Question) -> StatisticEstimates:
    weights, metric, bounds = asked.sums[0], asked.metric, asked.bounds
    at = [float(q) for q in metric.quantiles]
    borders = (bounds.low, *metric.edges, bounds.high)
    found = quantiles(weights.values, weights.variance, borders, at, weights.z)
    return _ratio(asked, found, asked.step, tuple(f"{q.normalize():f}" for q in metric.quantiles))


_MAPS: dict[Statistic, Callable[[_Question], StatisticEstimates]] = {
    Statistic.UNITS: _count,
    Statistic.EVENTS: _count,
    Statistic.DENOMINATOR: _count,
    Statistic.HISTOGRAM: _histogram,
    Statistic.TOP_K: _top_k,
    Statistic.QUANTILES: _quantiles,
    Statistic.SUM: _sum,
    Statistic.NUMERATOR: _sum,
    Statistic.MEAN: _mean,
    Statistic.RATIO: _mean,
    Statistic.VARIANCE: _variance,
    Statistic.RATE: _share,
    Statistic.CLAMPED: _share,
}
