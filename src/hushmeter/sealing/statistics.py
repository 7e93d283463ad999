"""What one unit adds to one partition, row by row of the calibration table: int64 throughout (P6).

Every function clamps after adding up, so whatever a unit sends, an overflow of its own sums included, its vector stays
within the bound that `hushmeter.plan.measurements.bound_of` states.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hushmeter import limits
from hushmeter.errors import ensure
from hushmeter.model.arrays import Bool, Int64
from hushmeter.model.measurement import FIXED_POINT, MeasurementName
from hushmeter.model.plan import ContributionBounds, Kind, Metric, Weighting
from hushmeter.plan.measurements import names_of, unit_mean_steps

_COUNT_CAP = 2**40 - 1
"""Own-data cap of one component's count, so that products with F and max_events stay in int64."""
_INT64_MAX = 2**63 - 1


def contribution(name: MeasurementName, metric: Metric, bounds: ContributionBounds, totals: Int64, dropped: Bool) -> Int64:
    """The vector that each unit adds to each partition that it keeps.

    Args:
        name: the row of the calibration table.
        metric: whose totals these are.
        bounds: at the window's resolution.
        totals: int64[k, components], one row a (unit, partition).
        dropped: bool[k], whether the unit was in more partitions than it keeps.

    Returns:
        int64[k, columns]; the L1 and the L2 norm of each row are at most `bound_of(metric, name, bounds)`.
    """
    row = _ROWS.get(name)
    if row is not None:
        vector = row(metric, bounds, totals)
        return vector if vector.ndim == 2 else vector[:, None]
    ensure(name is MeasurementName.CLAMPED, f"{name} is not counted from points")
    altered = dropped | _altered(metric, bounds, totals)
    return np.column_stack((altered, ~altered)).astype(np.int64)


def _altered(metric: Metric, bounds: ContributionBounds, totals: Int64) -> Bool:
    """Whether clamping or cutting changes what a unit has in a partition."""
    low, high = bounds.low, bounds.high
    if metric.kind is Kind.COUNTER:
        outside: Bool = (totals[:, 0] < low) | (totals[:, 0] > high)
        return outside
    events = _events(metric, totals)
    cut = events > bounds.max_events if _COUNTS_EVENTS & set(names_of(metric, ())) or per_event(metric) else events < 0
    if metric.kind in {Kind.DISTRIBUTION, Kind.RATIO}:
        total = totals[:, metric.count_components]
        cut |= (events > 0) & ((total < events * low) | (total > events * high))
    return cut


def _ones(_metric: Metric, _bounds: ContributionBounds, totals: Int64) -> Int64:
    return np.ones(len(totals), np.int64)


def _clamped_total(metric: Metric, bounds: ContributionBounds, totals: Int64) -> Int64:
    """A counter's total, clamped; of events the total of at most max_events."""
    if metric.kind is not Kind.COUNTER:
        return _kept_total(metric, bounds, totals)[0]
    clamped: Int64 = np.clip(totals, bounds.low, bounds.high)
    return clamped


def _capped_events(metric: Metric, bounds: ContributionBounds, totals: Int64) -> Int64:
    return np.minimum(_events(metric, totals), bounds.max_events)


def per_event(metric: Metric) -> bool:
    """Whether a unit weighs as much as it had events."""
    return metric.weighting is Weighting.EVENT and metric.kind is not Kind.COUNTER


def _counts(metric: Metric, totals: Int64) -> Int64:
    """The components that count events, int64[k, bins]."""
    return np.clip(totals[:, : metric.count_components], 0, _COUNT_CAP)


def _events(metric: Metric, totals: Int64) -> Int64:
    events: Int64 = _counts(metric, totals).sum(axis=1)
    return events


def _unit_mean(metric: Metric, bounds: ContributionBounds, totals: Int64) -> Int64:
    """2m - l - u, m the unit's own mean floored (of a counter its total), zero where it had no event."""
    low, high = bounds.low, bounds.high
    if metric.kind is Kind.COUNTER:
        return 2 * np.clip(totals[:, 0], low, high) - low - high
    events, total = _events(metric, totals), totals[:, metric.count_components]
    steps = unit_mean_steps(metric)
    whole, rest = np.divmod(total, np.maximum(events, 1))
    # A mean beyond any range is clamped to the range below. Capping it here keeps the product in int64.
    whole = np.clip(whole, -(2**32), 2**32)
    mean = np.clip(whole * steps + rest * steps // np.maximum(events, 1), low * steps, high * steps)
    offset: Int64 = np.where(events > 0, 2 * mean - (low + high) * steps, 0)
    return offset


def _event_sum(metric: Metric, bounds: ContributionBounds, totals: Int64) -> Int64:
    """2s' - n'(l + u): the total of at most max_events events, centered."""
    total, kept = _kept_total(metric, bounds, totals)
    centered: Int64 = 2 * total - kept * (bounds.low + bounds.high)
    return centered


def _kept_total(metric: Metric, bounds: ContributionBounds, totals: Int64) -> tuple[Int64, Int64]:
    """The total of at most max_events events, scaled down toward zero where there were more, clamped; and how many."""
    low, high, most = bounds.low, bounds.high, bounds.max_events
    # int64 does not hold the magnitude of its least number, so the next one takes its place.
    events, total = _events(metric, totals), np.maximum(totals[:, metric.count_components], -_INT64_MAX)
    kept = np.minimum(events, most)
    total = np.where(events > most, np.sign(total) * _scaled(np.abs(total), most, events), total)
    return np.clip(total, kept * low, kept * high), kept


def _scaled(values: Int64, most: int, events: Int64) -> Int64:
    """The floor of values * most / events, with no product beyond int64 where there are more than `most` events.

    Args:
        values: int64, not negative.
        most: `max_events`, at most 2^31; where it is above 2^16 there are fewer than 2^46 events.
        events: int64, of the same shape or a column beside it.
    """
    some = np.maximum(events, 1)
    whole, rest = np.divmod(values, some)
    upper, lower = divmod(most, 2**16)
    part, left = np.divmod(rest * upper, some)
    scaled: Int64 = whole * most + part * 2**16 + (left * 2**16 + rest * lower) // some
    return scaled


def _weights(metric: Metric, bounds: ContributionBounds, totals: Int64) -> Int64:
    """Each bin's share of the unit's weight in steps of 1/F, floored; at most F (or F max_events) altogether."""
    counts = _counts(metric, totals)
    if metric.kind is Kind.FLAG and metric.weighting is Weighting.UNIT:
        true = counts[:, 0] > 0
        sides: Int64 = FIXED_POINT * np.column_stack((true, ~true & (counts[:, 1] > 0))).astype(np.int64)
        return sides
    events = counts.sum(axis=1, keepdims=True)
    if metric.weighting is Weighting.UNIT:
        shares: Int64 = FIXED_POINT * counts // np.maximum(events, 1)
        return shares
    most = bounds.max_events
    return np.where(events <= most, FIXED_POINT * counts, _scaled(FIXED_POINT * counts, most, events))


def _squares(metric: Metric, bounds: ContributionBounds, totals: Int64) -> Int64:
    """2q - R^2, q the mean of (2x - l - u)^2 over the unit's events; or 2s' - n' R^2 where events are weighted.

    (2x - l - u)^2 is 0 to R^2; centering it halves what one unit can move, as it does for means.
    """
    low, high, widest = bounds.low, bounds.high, bounds.width**2
    if metric.kind is Kind.COUNTER:
        whole_units: Int64 = 2 * (2 * np.clip(totals[:, 0], low, high) - low - high) ** 2 - widest
        return whole_units
    events, total, squares = _events(metric, totals), totals[:, -2], totals[:, -1]
    # Where a unit has more events than this limit, its sums are scaled down, so that products stay in int64. The unit's own
    # data decide that (P1).
    shift = np.maximum(0, np.ceil(np.log2(np.maximum(events, 1) / limits.SQUARES_EVENTS_MAX))).astype(np.int64)
    events, total, squares = events >> shift, total >> shift, squares >> shift
    total = np.clip(total, events * low, events * high)
    squares = np.clip(squares, 0, events * max(low**2, high**2))
    centered = np.clip(4 * squares - 4 * (low + high) * total + events * (low + high) ** 2, 0, events * widest)
    if not per_event(metric):
        return np.where(events > 0, 2 * (centered // np.maximum(events, 1)) - widest, 0)
    most = bounds.max_events
    kept = np.minimum(events, most)
    scaled = np.where(events > most, _scaled(centered, most, events), centered)
    of_events: Int64 = 2 * np.clip(scaled, 0, kept * widest) - kept * widest
    return of_events


_COUNTS_EVENTS = {MeasurementName.EVENTS, MeasurementName.EVENT_SUM, MeasurementName.SUM}
_ROWS: dict[MeasurementName, Callable[[Metric, ContributionBounds, Int64], Int64]] = {
    MeasurementName.UNITS: _ones,
    MeasurementName.EVENTS: _capped_events,
    MeasurementName.SUM: _clamped_total,
    MeasurementName.UNIT_MEAN: _unit_mean,
    MeasurementName.EVENT_SUM: _event_sum,
    MeasurementName.WEIGHTS: _weights,
    MeasurementName.SQUARES: _squares,
}
