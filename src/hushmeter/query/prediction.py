"""What a plan's releases will be like, before anything is collected: the same maps as for real ones, on a typical fleet.

A typical fleet sends half of what bounds allow. Its units are spread evenly over the partitions, and their values evenly
over the range. Predictions depend on the plan and its prices alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hushmeter.model.ledger import MeasurementCharge, PrivacyBudget
from hushmeter.model.measurement import FIXED_POINT, MeasurementName
from hushmeter.model.plan import Kind, Metric, Plan, Statistic, Weighting
from hushmeter.model.release import NoisyVector
from hushmeter.plan.expected_error import USEFUL_ERROR, expected_units
from hushmeter.plan.hidden_partitions import hidden_share
from hushmeter.plan.measurements import derivation
from hushmeter.query.estimates import estimate
from hushmeter.query.sums import Sums

_CLAMPED = 0.05
"""Share of units that bounding alters, of a typical fleet."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one statistic of one metric, view and resolution will be like.

    Attributes:
        metric, view, resolution, statistic: which.
        unit: of `noise_std`; empty for counts and shares.
        mechanism: of the noise in the first measurement that it is derived from.
        scale: of that noise, in the measurement's own steps.
        threshold: smallest noisy count of units that is released; None where all partitions are public.
        units: expected in one partition.
        noise_std: standard deviation of the noise in one number.
        relative_error: `noise_std` as a share of the typical value.
        smallest_partition: units at which the relative error is `USEFUL_ERROR`.
        share: of the period's budget that its measurements take; shared ones count for each statistic.
        hidden_share: of units in private partitions that are expected to stay hidden.
        advice: what would halve the error.
    """

    metric: str
    view: tuple[str, ...]
    resolution: str
    statistic: str
    unit: str
    mechanism: str
    scale: float
    threshold: int | None
    units: float
    noise_std: float
    relative_error: float
    smallest_partition: int
    share: float
    hidden_share: float
    advice: str

    @property
    def warning(self) -> str:
        """What is wrong with it, in words; empty where nothing is."""
        if self.relative_error > 1:
            return f"the expected error is {self.relative_error:.1f} times the value itself"
        if self.hidden_share > 0.5:
            return f"{self.hidden_share:.0%} of units are expected to be in partitions that stay hidden"
        return ""


def predict(plan: Plan, budget: PrivacyBudget, items: Iterable[MeasurementCharge]) -> tuple[Prediction, ...]:
    """Predicts every statistic of every release.

    Args:
        plan: the plan, with `expected_units` as they are to be assumed.
        budget: of one period.
        items: the prices of all measurements.
    """
    by_view: defaultdict[tuple[str, tuple[str, ...], str], dict[MeasurementName, MeasurementCharge]] = defaultdict(dict)
    for item in items:
        m = item.measurement
        by_view[m.metric, m.view, m.resolution][m.name] = item
    return tuple(
        _predict(plan, budget, statistic, charges)
        for (name, _, _), charges in by_view.items()
        for statistic in plan.metric(name).statistics
    )


def _predict(
    plan: Plan, budget: PrivacyBudget, statistic: Statistic, charges: dict[MeasurementName, MeasurementCharge]
) -> Prediction:
    names = derivation(plan.metric(next(iter(charges.values())).measurement.metric), statistic)
    used = [charges[name] for name in names]
    first = used[0].measurement
    metric = plan.metric(first.metric)
    units = expected_units(plan, first)
    sums = {c.measurement.name: _typical(metric, c, units) for c in used}
    told = estimate(metric, first.resolution, sums, statistic)
    std = float(np.max(told.noise_std))
    relative = std / _typical_size(metric, first.resolution, statistic, float(np.max(np.abs(told.values))))
    selecting = [c for c in charges.values() if c.measurement.selects]
    share = math.fsum(float(c.loss.amount * c.measurement.windows / budget.loss.amount) for c in used)
    return Prediction(
        metric=metric.name,
        view=first.view,
        resolution=first.resolution,
        statistic=statistic.value,
        unit=_unit(metric, statistic),
        mechanism=used[0].mechanism.value,
        scale=used[0].scale,
        threshold=selecting[0].threshold if selecting else None,
        units=units,
        noise_std=std,
        relative_error=relative,
        smallest_partition=max(1, math.ceil(units * relative / USEFUL_ERROR)),
        share=share,
        hidden_share=hidden_share(plan, selecting[0]) if selecting else 0.0,
        advice=_advice(metric, used[0], statistic),
    )


def _typical(metric: Metric, charge: MeasurementCharge, units: float) -> Sums:
    """What a typical partition's vector would be, with the noise that it would have."""
    m = charge.measurement
    bounds = metric.bounds[m.resolution]
    events = 1 if metric.kind is Kind.COUNTER else bounds.max_events / 2
    weight = events if metric.weighting is Weighting.EVENT else 1
    each: dict[MeasurementName, float | list[float]] = {
        MeasurementName.UNITS: 1,
        MeasurementName.EVENTS: m.bound / 2,
        MeasurementName.SUM: events * (bounds.low + bounds.high) / 2 or m.bound / 2,
        MeasurementName.UNIT_MEAN: 0,
        MeasurementName.EVENT_SUM: 0,
        # Values spread evenly over the range have the mean square R^2 / 3 of 2x - l - u.
        MeasurementName.SQUARES: -(bounds.width**2) * weight / 3,
        MeasurementName.WEIGHTS: FIXED_POINT * weight / m.columns,
        MeasurementName.CLAMPED: [_CLAMPED, 1 - _CLAMPED],
        MeasurementName.CAPPED: [0.5, 0.5],
    }
    values = np.rint(np.broadcast_to(np.asarray(each[m.name]) * units, (1, m.columns))).astype(np.int64)
    threshold = charge.threshold
    noisy = NoisyVector(values, charge.mechanism, charge.scale, float(charge.loss.amount), threshold=threshold)
    return Sums.of([noisy])


def _typical_size(metric: Metric, resolution: str, statistic: Statistic, value: float) -> float:
    """What an error is compared with: the value; of means, quantiles and ratios at least a quarter of the range."""
    if statistic in {Statistic.MEAN, Statistic.QUANTILES, Statistic.RATIO}:
        return max(value, metric.bounds[resolution].width * float(metric.step) / 4)
    return value or 1.0


def _unit(metric: Metric, statistic: Statistic) -> str:
    if statistic is Statistic.VARIANCE:
        return f"{metric.unit}^2" if metric.unit else ""
    in_units = {Statistic.MEAN, Statistic.SUM, Statistic.QUANTILES, Statistic.RATIO, Statistic.NUMERATOR}
    return metric.unit if statistic in in_units else ""


def _advice(metric: Metric, charge: MeasurementCharge, statistic: Statistic) -> str:
    """One change that would halve the error.

    Noise grows with the bound, and relative errors fall with units. Gaussian noise grows with the root of l0 / budget, and
    Laplace noise with l0 / budget itself.
    """
    if metric.kind is Kind.BUILT_IN:
        return "twice the units"
    m, factor = charge.measurement, 2 if charge.mechanism.laplace else 4
    otherwise = f"or weight x {factor}"
    if m.l0 >= factor:
        return f"max_partitions {m.l0 // factor} instead of {m.l0}, {otherwise}"
    bounds = metric.bounds[m.resolution]
    by_range = {Statistic.SUM, Statistic.MEAN, Statistic.VARIANCE, Statistic.RATIO, Statistic.NUMERATOR}
    if statistic in by_range and bounds.width > 1:
        return f"half the range, {otherwise}"
    if bounds.max_events >= 2 and statistic in {Statistic.EVENTS, Statistic.DENOMINATOR}:
        limit = "max_denominator" if metric.kind is Kind.RATIO else "max_events"
        return f"{limit} {bounds.max_events // 2} instead of {bounds.max_events}, {otherwise}"
    if m.view:
        return f"a dimension less, {otherwise}"
    return f"twice the units, {otherwise}"
