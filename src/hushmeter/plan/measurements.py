"""Which measurements a plan makes: the calibration table applied to a plan, and its budget divided among them.

Every statistic is derived from one or two measurements; measurements that two statistics share are made once. Shares are
relative weights: a metric's weight counts once for each of its measurements, views and resolutions, and a measurement's
share is divided evenly among the windows of a period.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from hushmeter.model.measurement import FIXED_POINT, Measurement, MeasurementName
from hushmeter.model.plan import ContributionBounds, Kind, Metric, Plan, Statistic, Weighting

NEEDS_COUNT = (Statistic.MEAN, Statistic.SUM)


def derivation(metric: Metric, statistic: Statistic) -> tuple[MeasurementName, ...]:
    """The measurements that a statistic of a metric is derived from, numerator first.

    - counter: units; sum; mean = units' mean total, `(l+u)/2 + S/2N` with S from `unit_mean` and N from `units`.
    - distribution: mean as above, or with S from `event_sum` and N from `events` where events are weighted; sum
      `N(l+u)/2 + S/2` of events.
    - flag and choice: rate and histogram from `weights`.
    - events come from the bins' sum where an event-weighted histogram is released anyway.
    """
    name = MeasurementName
    if statistic is Statistic.UNITS:
        return (name.UNITS,)
    if statistic is Statistic.EVENTS:
        return (_events_source(metric),)
    if statistic in {Statistic.HISTOGRAM, Statistic.RATE}:
        return (name.WEIGHTS,)
    if metric.kind is Kind.COUNTER:
        return (name.SUM,) if statistic is Statistic.SUM else (name.UNIT_MEAN, name.UNITS)
    if statistic is Statistic.MEAN and metric.weighting is Weighting.UNIT:
        return (name.UNIT_MEAN, name.UNITS)
    return (name.EVENT_SUM, _events_source(metric))


def _events_source(metric: Metric) -> MeasurementName:
    """Where the number of events comes from: the weighted bins if they are released and weigh events, else its own."""
    bins_released = Statistic.HISTOGRAM in metric.statistics or Statistic.RATE in metric.statistics
    if bins_released and metric.weighting is Weighting.EVENT:
        return MeasurementName.WEIGHTS
    return MeasurementName.EVENTS


def names_of(metric: Metric) -> tuple[MeasurementName, ...]:
    """The measurements that a metric's statistics need, each once, in the table's order."""
    needed = {name for statistic in metric.statistics for name in derivation(metric, statistic)}
    return tuple(name for name in MeasurementName if name in needed)


def columns_of(metric: Metric, name: MeasurementName) -> int:
    """How many columns a measurement's vector has: bins, sides, options, or 1."""
    if name is not MeasurementName.WEIGHTS:
        return 1
    match metric.kind:
        case Kind.DISTRIBUTION:
            return len(metric.edges) + 1
        case Kind.CHOICE:
            return len(metric.options)
        case _:
            return 2


def bound_of(metric: Metric, name: MeasurementName, bounds: ContributionBounds) -> int:
    """L2 norm of what one unit adds to one partition, an integer (calibration table).

    Weights: the bins of one unit are non-negative and add up to at most F (or F M), so their L2 norm is at most that.
    """
    match name:
        case MeasurementName.UNITS:
            return 1
        case MeasurementName.EVENTS:
            return bounds.max_events
        case MeasurementName.SUM:
            return max(abs(bounds.low), abs(bounds.high))
        case MeasurementName.UNIT_MEAN:
            return bounds.width
        case MeasurementName.EVENT_SUM:
            return bounds.max_events * bounds.width
        case MeasurementName.WEIGHTS:
            return FIXED_POINT * (bounds.max_events if metric.weighting is Weighting.EVENT else 1)


def measurements_of(plan: Plan) -> Iterator[Measurement]:
    """Every measurement of one period, metric by metric, resolution by resolution, view by view."""
    for metric in plan.metrics:
        for resolution in plan.resolutions:
            if resolution.name in metric.at:
                yield from _at(plan, metric, resolution.name)


def _at(plan: Plan, metric: Metric, resolution: str) -> Iterator[Measurement]:
    windows = plan.resolution(resolution).span.most_in(plan.privacy.period)
    for view in metric.views:
        for name in names_of(metric):
            yield Measurement(
                metric=metric.name,
                view=view,
                resolution=resolution,
                name=name,
                partitions=metric.view_partitions(view),
                columns=columns_of(metric, name),
                l0=metric.l0(view, resolution),
                bound=bound_of(metric, name, metric.bounds[resolution]),
                weight=metric.weight,
                windows=windows,
            )


def rho_shares(plan: Plan, rho: Fraction) -> dict[Measurement, Fraction]:
    """What one window's release of each measurement may cost, so that a whole period costs exactly `rho`.

    Args:
        plan: the plan.
        rho: the period's budget.

    Returns:
        The share of one window, by measurement; `sum(share * measurement.windows) == rho`, exactly.
    """
    measurements = tuple(measurements_of(plan))
    total = sum((m.weight for m in measurements), Fraction(0))
    return {m: rho * m.weight / total / m.windows for m in measurements}
