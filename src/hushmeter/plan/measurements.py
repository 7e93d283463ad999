"""Which measurements a plan makes: the calibration table applied to a plan.

Every statistic is derived from one or more measurements; measurements that several statistics share are made once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from hushmeter.model.measurement import FIXED_POINT, Measurement, MeasurementName
from hushmeter.model.plan import ContributionBounds, Kind, Metric, Plan, Statistic, Weighting
from hushmeter.plan.built_in import CAPPED, SMALL_SHARE

_M = MeasurementName


def derivation(metric: Metric, statistic: Statistic) -> tuple[MeasurementName, ...]:
    """The measurements that a statistic of a metric is derived from, numerator first.

    - counter: units; sum; mean = units' mean total, `(l+u)/2 + S/2N` with S from `unit_mean` and N from `units`.
    - distribution and ratio: mean (or ratio) as above, or with S from `event_sum` and N from `events` where events are
      weighted; events of a ratio are its denominator.
    - sum (or numerator) of these: `N(l+u)/2 + S/2` where `event_sum` or `events` is made for another statistic anyway,
      which at the best division of a zCDP budget is no noisier than `sum` alone; else `sum`, the clamped total itself.
    - variance: as the mean, with `squares`.
    - flag and choice: rate, histogram and top-k from `weights`; quantiles from the bins.
    - events of a flag or choice come from the bins' sum where it is released and weighs events.
    """
    mean, events = _mean_source(metric), _events_source(metric)
    sources: dict[Statistic, tuple[MeasurementName, ...]] = {
        Statistic.UNITS: (_M.UNITS,),
        Statistic.EVENTS: (events,),
        Statistic.DENOMINATOR: (events,),
        Statistic.HISTOGRAM: (_M.WEIGHTS,),
        Statistic.QUANTILES: (_M.WEIGHTS,),
        Statistic.TOP_K: (_M.WEIGHTS,),
        Statistic.RATE: (_M.CAPPED if metric.kind is Kind.BUILT_IN else _M.WEIGHTS,),
        Statistic.CLAMPED: (_M.CLAMPED,),
        Statistic.SUM: _sum_source(metric),
        Statistic.NUMERATOR: _sum_source(metric),
        Statistic.MEAN: mean,
        Statistic.RATIO: mean,
        Statistic.VARIANCE: (_M.SQUARES, *mean),
    }
    return sources[statistic]


def _mean_source(metric: Metric) -> tuple[MeasurementName, ...]:
    if metric.kind is Kind.COUNTER or metric.weighting is Weighting.UNIT:
        return (_M.UNIT_MEAN, _M.UNITS)
    return (_M.EVENT_SUM, _events_source(metric))


def _sum_source(metric: Metric) -> tuple[MeasurementName, ...]:
    """What a sum of values is derived from: the clamped total, unless measurements that give it are made anyway."""
    if metric.kind is Kind.COUNTER:
        return (_M.SUM,)
    events = _events_source(metric)
    counted = events is _M.EVENTS and {Statistic.EVENTS, Statistic.DENOMINATOR}.intersection(metric.statistics)
    averaged = {Statistic.MEAN, Statistic.RATIO, Statistic.VARIANCE}.intersection(metric.statistics)
    if counted or (averaged and metric.weighting is Weighting.EVENT):
        return (_M.EVENT_SUM, events)
    return (_M.SUM,)


def _events_source(metric: Metric) -> MeasurementName:
    """Where the number of events comes from: a flag's or choice's bins if they weigh events, else its own measurement.

    The sum of a distribution's bins would do as well, but has the noise of all of them.
    """
    from_bins = {Statistic.HISTOGRAM, Statistic.RATE, Statistic.QUANTILES, Statistic.TOP_K}
    binned = metric.kind in {Kind.FLAG, Kind.CHOICE}
    if binned and metric.weighting is Weighting.EVENT and from_bins.intersection(metric.statistics):
        return _M.WEIGHTS
    return _M.EVENTS


def names_of(metric: Metric, view: tuple[str, ...]) -> tuple[MeasurementName, ...]:
    """The measurements that a metric's statistics need in a view, each once, in the table's order.

    A view with an open dimension always counts its units: that is how its private partitions are selected.
    """
    needed = {name for statistic in metric.statistics for name in derivation(metric, statistic)}
    if metric.open_dimension(view):
        needed.add(_M.UNITS)
    return tuple(name for name in _M if name in needed)


def columns_of(metric: Metric, name: MeasurementName) -> int:
    """How many columns a measurement's vector has: bins, sides, options, or 1."""
    if name in {_M.CLAMPED, _M.CAPPED}:
        return 2
    return metric.count_components if name is _M.WEIGHTS else 1


def bound_of(metric: Metric, name: MeasurementName, bounds: ContributionBounds) -> int:
    """L1 and L2 norm of what one unit adds to one partition, an integer (calibration table).

    Weights: the bins of one unit are non-negative and add up to at most F (or F M), so both norms are at most that.
    Clamped and capped: one of the two columns is 1, the other 0.
    """
    width, most = bounds.width, bounds.max_events
    per_unit = metric.kind is Kind.COUNTER or metric.weighting is Weighting.UNIT
    bound = {
        _M.UNITS: 1,
        _M.EVENTS: most,
        _M.SUM: max(abs(bounds.low), abs(bounds.high)) * (1 if metric.kind is Kind.COUNTER else most),
        _M.UNIT_MEAN: width * unit_mean_steps(metric),
        _M.EVENT_SUM: most * width,
        _M.WEIGHTS: FIXED_POINT * (1 if per_unit else most),
        _M.SQUARES: width**2 * (1 if per_unit else most),
        _M.CLAMPED: 1,
        _M.CAPPED: 1,
    }
    return bound[name]


def unit_mean_steps(metric: Metric) -> int:
    """Into how many parts one step is cut where a unit's own mean is floored: a ratio's steps are too coarse for it."""
    return FIXED_POINT if metric.kind is Kind.RATIO else 1


def measurements_of(plan: Plan) -> Iterator[Measurement]:
    """Every measurement of one period, metric by metric, resolution by resolution, view by view."""
    for metric in plan.measured:
        for resolution in plan.resolutions:
            if resolution.name in metric.at:
                yield from _at(plan, metric, resolution.name)


def _at(plan: Plan, metric: Metric, resolution: str) -> Iterator[Measurement]:
    bounds = metric.bounds[resolution]
    most = plan.resolution(resolution).span.most_in(plan.privacy.period)
    windows = min(bounds.max_windows or most, most)
    for view in metric.views:
        for name in names_of(metric, view):
            small = name in {_M.CLAMPED, _M.CAPPED} and metric.name != CAPPED
            l0, together = _reach(metric, view, resolution, name)
            yield Measurement(
                metric=metric.name,
                view=view,
                resolution=resolution,
                name=name,
                partitions=metric.view_partitions(view),
                columns=columns_of(metric, name),
                l0=l0,
                bound=bound_of(metric, name, bounds),
                weight=metric.weight * (SMALL_SHARE if small else 1),
                windows=windows,
                selects=name is _M.UNITS and metric.open_dimension(view) is not None,
                together=together,
            )


def is_additive(metric: Metric, name: MeasurementName) -> bool:
    """Whether a measurement of several partitions together is the sum of theirs, exactly on bounded values (E2).

    Sums and counts of events are additive. Units, and what gives each unit the weight 1, are additive only where a unit is
    in one partition.
    """
    if name in {_M.EVENTS, _M.SUM, _M.EVENT_SUM}:
        return True
    if name in {_M.WEIGHTS, _M.SQUARES} and metric.weighting is Weighting.EVENT:
        return True
    return all(b.max_partitions == 1 for b in metric.bounds.values())


def _reach(metric: Metric, view: tuple[str, ...], resolution: str, name: MeasurementName) -> tuple[int, int]:
    """How many partitions one unit can touch, and how many rows of one unit can fall into one partition of the view.

    The rows that a unit keeps share its unit-scoped values (P4), so that they differ in the other dimensions.
    """
    l0 = metric.l0(view, resolution)
    if not (metric.shared_bounding and is_additive(metric, name)):
        return l0, 1
    everything = tuple(d.name for d in metric.dimensions)
    rows = metric.l0(everything, resolution)
    folded = math.prod(d.size for d in metric.dimensions if d.name not in view and not d.per_unit)
    return rows, min(rows, folded)
