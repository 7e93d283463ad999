"""A fleet of units with every kind of metric, and its releases many times over: what intervals are judged on."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass

import numpy as np

from hushmeter.model.arrays import Bool, Float64
from hushmeter.model.measurement import MeasurementName, Mechanism
from hushmeter.model.plan import Kind, Metric, Statistic
from hushmeter.model.release import NoisyVector
from hushmeter.plan.measurements import bound_of, derivation
from hushmeter.plan.reading import parse_plan
from hushmeter.query.estimates import StatisticEstimates, estimate
from hushmeter.query.sums import Sums
from hushmeter.sealing.statistics import contribution
from tests.plans import plan_text
from tests.statistical.harness import Int64, discrete_gaussian

AT = "1d"
UNITS = 400
GAUSSIAN_TABLE_MAX = 300.0
"""From this scale on a rounded normal number is the discrete Gaussian, as far as twenty thousand draws could tell."""
PLAN = parse_plan(
    plan_text(
        """
  calls:
    kind: counter
    unit: calls
    views: [[]]
    per_unit: {range: [0, 20]}
    statistics: [units, sum, mean, variance, clamped]
  seen:
    <<: *common
    per_unit: {range: [0, 1]}
  balance:
    <<: *common
    per_unit: {range: [-10, 10]}
  setup: &distribution
    <<: *common
    kind: distribution
    unit: ms
    edges: [50, 100, 150, 200, 300, 400]
    per_unit: {range: [0, 500], max_events: 3, max_windows: {1d: 1}}
    statistics: [units, events, sum, mean, variance, histogram, {quantiles: [0.1, 0.5, 0.9]}, clamped]
  setup_events:
    <<: *distribution
    weighting: event
  dropped: &flag
    <<: *common
    kind: flag
    unit: ''
    per_unit: {max_events: 3}
    statistics: [units, events, rate, clamped]
  dropped_events:
    <<: *flag
    weighting: event
  codec: &choice
    <<: *flag
    kind: choice
    options: [opus, lyra, evs, aac]
    statistics: [units, events, histogram, rate, {top_k: 2}, clamped]
  codec_events:
    <<: *choice
    weighting: event
  stalls: &ratio
    <<: *common
    kind: ratio
    unit: ms/s
    per_unit: {range: [0, 1000], max_denominator: 100}
    statistics: [units, ratio, numerator, denominator, clamped]
  stalls_events:
    <<: *ratio
    weighting: event
""",
        expires="2026-06-30",
        category="performance",
        resolutions="1d: {lateness: 2h}",
        period="1d",
        delta="1e-6",
        expected_units=UNITS,
    ),
    dt.date(2026, 3, 2),
)
"""Every metric has one public partition, and bounds that some units exceed."""


def totals_of(metric: Metric, units: int = UNITS, seed: int = 3) -> Int64:
    """Each unit's totals: a few events each, unevenly spread over bins, sides or options.

    Args:
        metric: of `PLAN`.
        units: how many.
        seed: of the generator.

    Returns:
        int64[units, components].
    """
    rng = np.random.default_rng(seed)
    if metric.kind is Kind.BUILT_IN:
        return np.zeros((units, 0), np.int64)
    if metric.kind is Kind.COUNTER:
        low, high = metric.bounds[AT].low, metric.bounds[AT].high
        return rng.integers(low - 1, high + 2, (units, 1)) // rng.integers(1, 4, (units, 1))
    if metric.kind is Kind.RATIO:
        seconds = rng.integers(1, 130, units)
        return np.column_stack((seconds, seconds * rng.integers(0, 60, units) // 10))
    if metric.kind is Kind.DISTRIBUTION:
        return _observed(metric, units, rng)
    weights = 1.0 / np.arange(1, metric.count_components + 1)
    return np.stack([rng.multinomial(n, weights / weights.sum()) for n in rng.integers(1, 5, units)]).astype(np.int64)


def _observed(metric: Metric, units: int, rng: np.random.Generator) -> Int64:
    """One to four skewed values a unit, some beyond the range, as bins, sum and sum of squares."""
    counts = rng.integers(1, 5, units)
    values = np.minimum(rng.gamma(2.0, 80.0, (units, 4)).astype(np.int64) + 1, 600)
    values = np.where(np.arange(4) < counts[:, None], values, 0)
    which = np.searchsorted(metric.edges, values, side="left")
    there = values > 0
    bins = [((which == b) & there).sum(axis=1) for b in range(metric.count_components)]
    return np.column_stack((*bins, values.sum(axis=1), (values**2).sum(axis=1)))


def drawn(mechanism: Mechanism, scale: float, shape: tuple[int, ...], rng: np.random.Generator) -> Int64:
    """Noise of a mechanism that repeats with the generator, much faster than the real one; int64[shape]."""
    if mechanism.laplace:
        # Two geometric variables differ by a discrete Laplace one.
        p = -math.expm1(-1 / scale)
        return rng.geometric(p, shape) - rng.geometric(p, shape)
    if scale >= GAUSSIAN_TABLE_MAX:
        return np.rint(rng.normal(0, scale, shape)).astype(np.int64)
    table = discrete_gaussian(scale)
    return table.first + np.searchsorted(np.cumsum(table.probabilities)[:-1], rng.random(shape), side="right")


@dataclass(frozen=True)
class Told:
    """One statistic of one fleet, told many times.

    Attributes:
        truth: of the bounded values, float64[1, components].
        runs: float64[runs, components] each.
    """

    truth: Float64
    runs: StatisticEstimates

    def held(self) -> Bool:
        """Whether each interval holds the truth, bool[runs, components]."""
        rounding = 1e-9 * (1 + np.abs(self.truth))
        return (self.runs.low <= self.truth + rounding) & (self.truth - rounding <= self.runs.high)

    def covered(self) -> Float64:
        """The share of runs whose interval holds the truth, float64[components]."""
        return self.held().mean(axis=0)


def exact_sums(metric: Metric, statistic: Statistic, totals: Int64) -> dict[MeasurementName, Int64]:
    """The vectors that a statistic is derived from, before noise; int64[columns] each.

    What the service counts by itself is counted from rows: a twentieth of the units had used up their windows.
    """
    if metric.kind is Kind.BUILT_IN:
        counts = [len(totals) // 20, len(totals) - len(totals) // 20]
        return {derivation(metric, statistic)[0]: np.array(counts if statistic is Statistic.RATE else [len(totals)])}
    dropped, bounds = np.zeros(len(totals), bool), metric.bounds[AT]
    return {name: contribution(name, metric, bounds, totals, dropped).sum(axis=0) for name in derivation(metric, statistic)}


def without_noise(metric: Metric, statistic: Statistic, vectors: dict[MeasurementName, Int64]) -> Float64:
    """The statistic of exact vectors; float64[1, components]."""
    sums = {name: Sums(vector[None, :].astype(np.float64), 1e-12, 0.0, 2.0, 1e-12) for name, vector in vectors.items()}
    return estimate(metric, AT, sums, statistic).values


def told(
    metric: Metric,
    statistic: Statistic,
    totals: Int64,
    *,
    mechanism: Mechanism,
    noise: float,
    runs: int,
    windows: int = 1,
    seed: int = 11,
) -> Told:
    """Releases a statistic many times.

    Args:
        metric: of `PLAN`.
        statistic: one of its.
        totals: of one window; each of several windows has the same.
        mechanism: that adds the noise.
        noise: scale of the noise of a number of units; of other vectors times what one unit can add.
        runs: how many times.
        windows: how many are added up.
        seed: of the generator.
    """
    rng = np.random.default_rng(seed)
    exact = exact_sums(metric, statistic, totals)
    sums = {}
    for name, vector in exact.items():
        scale = noise * bound_of(metric, name, metric.bounds[AT])
        noisy = (vector + drawn(mechanism, scale, (runs, len(vector)), rng) for _ in range(windows))
        sums[name] = Sums.of([NoisyVector(values, mechanism, scale, 1.0) for values in noisy])
    truth = without_noise(metric, statistic, {name: windows * vector for name, vector in exact.items()})
    return Told(truth, estimate(metric, AT, sums, statistic))
