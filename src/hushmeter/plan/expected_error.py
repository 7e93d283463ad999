"""What a plan is expected to lose in accuracy: the relative error of each statistic, from the noise it is made of.

A statistic is to first order a linear map of its measurements, so the square of its expected relative error is a weighted
sum of the variances of their noise. The weights follow from a typical fleet: `expected_units` spread evenly over the
partitions, each sending half of what it may, values half way between the middle of the range and its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hushmeter.model.measurement import FIXED_POINT, Measurement, MeasurementName
from hushmeter.model.plan import Metric, Plan, Statistic
from hushmeter.plan.measurements import derivation, unit_mean_steps

USEFUL_ERROR = 0.1
"""A number counts as useful where its standard error is at most this share of the value."""

_M = MeasurementName
_TYPICAL = 0.5
"""What a unit typically contributes, as a share of what it may."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One statistic of one metric, view and resolution, as `auto` weights see it.

    Attributes:
        weight: how much its error counts.
        parts: by measurement, how far noise of one step moves the statistic, as a share of its typical size.
    """

    weight: float
    parts: tuple[tuple[Measurement, float], ...]


def goals(plan: Plan, measurements: Iterable[Measurement]) -> Iterator[Goal]:
    """Every statistic that a plan releases, and the counts that select private partitions.

    Args:
        plan: the plan.
        measurements: all of it.
    """
    views: dict[tuple[str, tuple[str, ...], str], dict[MeasurementName, Measurement]] = {}
    for m in measurements:
        views.setdefault((m.metric, m.view, m.resolution), {})[m.name] = m
    metrics = {metric.name: metric for metric in plan.measured}
    for (name, _, resolution), made in views.items():
        metric = metrics[name]
        units = expected_units(plan, next(iter(made.values())))
        asked = dict.fromkeys(metric.statistics)
        if any(m.selects for m in made.values()):
            asked[Statistic.UNITS] = None
        for statistic in asked:
            parts = _parts(metric, resolution, statistic, made, units)
            weight = min(made[part].weight for part in parts)
            yield Goal(float(weight), tuple((made[part], size) for part, size in parts.items()))


def expected_units(plan: Plan, m: Measurement) -> float:
    """How many units the plan's author expects in one partition and window: all of them, spread evenly."""
    if m.metric in {b.name for b in plan.built_in}:
        return float(plan.privacy.expected_units)
    opened = plan.metric(m.metric).open_dimension(m.view)
    tokens = opened.open.expected if opened is not None and opened.open is not None else 1
    return plan.privacy.expected_units / (m.partitions * tokens)


def _parts(
    metric: Metric, resolution: str, statistic: Statistic, made: Mapping[MeasurementName, Measurement], units: float
) -> dict[MeasurementName, float]:
    names = derivation(metric, statistic)
    match statistic:
        case Statistic.MEAN | Statistic.RATIO:
            return _mean(metric, resolution, names, made, units)
        case Statistic.VARIANCE:
            return _variance(metric, resolution, names, made, units)
        case Statistic.SUM | Statistic.NUMERATOR if len(names) > 1:
            bounds = metric.bounds[resolution]
            size = units * bounds.max_events * max(abs(bounds.low), abs(bounds.high)) * _TYPICAL
            return {names[0]: 0.5 / size, names[1]: abs(bounds.low + bounds.high) / 2 * _in_ones(names[1], made) / size}
        case Statistic.EVENTS | Statistic.DENOMINATOR:
            return {names[0]: _in_ones(names[0], made) / _how_many(names[0], made, units)}
        case _:
            return {names[0]: _of_one_unit(statistic, made[names[0]]) / units}


def _of_one_unit(statistic: Statistic, m: Measurement) -> float:
    """Noise of one step, as a share of what one typical unit adds to a cell."""
    if m.name in {_M.UNITS, _M.CLAMPED, _M.CAPPED}:
        return 1.0
    # A quantile has the error of a cumulative count, which is of half the bins on average. A bin has its own error.
    cells: float = (m.columns / 2) ** 0.5 if statistic is Statistic.QUANTILES else m.columns
    return cells / (m.bound * _TYPICAL)


def _mean(
    metric: Metric,
    resolution: str,
    names: tuple[MeasurementName, ...],
    made: Mapping[MeasurementName, Measurement],
    units: float,
) -> dict[MeasurementName, float]:
    """(l + u) / 2 + S / 2N: noise of S / 2 - nu N, over N."""
    bounds = metric.bounds[resolution]
    offset = bounds.width / 2 * _TYPICAL
    steps = unit_mean_steps(metric) if names[0] is _M.UNIT_MEAN else 1
    size = max(abs(bounds.low + bounds.high) / 2, offset) * _how_many(names[1], made, units)
    return {names[0]: 0.5 / steps / size, names[1]: offset * _in_ones(names[1], made) / size}


def _variance(
    metric: Metric,
    resolution: str,
    names: tuple[MeasurementName, ...],
    made: Mapping[MeasurementName, Measurement],
    units: float,
) -> dict[MeasurementName, float]:
    """Noise of V/8 - 2 nu B + (R^2/8 + nu^2 - v) N, over N (see `hushmeter.query.ratios.variance`), B = S / 2."""
    width = float(metric.bounds[resolution].width)
    offset, value = width / 2 * _TYPICAL, width**2 / 12
    steps = unit_mean_steps(metric) if names[1] is _M.UNIT_MEAN else 1
    size = value * _how_many(names[2], made, units)
    own = abs(width**2 / 8 + offset**2 - value) * _in_ones(names[2], made)
    return {names[0]: 0.125 / size, names[1]: offset / steps / size, names[2]: own / size}


def _in_ones(name: MeasurementName, made: Mapping[MeasurementName, Measurement]) -> float:
    """Noise of one step, in a number of units or events: that of all bins together where it is their sum."""
    return made[name].columns ** 0.5 / FIXED_POINT if name is _M.WEIGHTS else 1.0


def _how_many(name: MeasurementName, made: Mapping[MeasurementName, Measurement], units: float) -> float:
    """The typical number of units or events, in ones."""
    if name is _M.UNITS:
        return units
    return units * _TYPICAL * made[name].bound / (FIXED_POINT if name is _M.WEIGHTS else 1)
