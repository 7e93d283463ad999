"""What one unit adds to one partition, row by row of the calibration table: int64 throughout (P6).

Every function clamps after adding up, so whatever a unit sends, an overflow of its own sums included, its vector stays
within the bound that `hushmeter.plan.measurements.bound_of` states.
"""

from __future__ import annotations

import numpy as np

from hushmeter.model.measurement import FIXED_POINT, MeasurementName
from hushmeter.model.plan import ContributionBounds, Kind, Metric, Weighting
from hushmeter.model.time import Int64

_COUNT_CAP = 2**40 - 1
"""Own-data cap of one component's count, so that products with F and max_events stay in int64."""


def contribution(name: MeasurementName, metric: Metric, bounds: ContributionBounds, totals: Int64) -> Int64:
    """The vector that each unit adds to each partition that it keeps.

    Args:
        name: the row of the calibration table.
        metric: whose totals these are.
        bounds: at the window's resolution.
        totals: int64[k, components], one row a (unit, partition).

    Returns:
        int64[k, columns]; the L2 norm of each row is at most `bound_of(metric, name, bounds)`.
    """
    match name:
        case MeasurementName.UNITS:
            return np.ones((len(totals), 1), np.int64)
        case MeasurementName.EVENTS:
            return np.minimum(_events(metric, totals), bounds.max_events)[:, None]
        case MeasurementName.SUM:
            return np.clip(totals, bounds.low, bounds.high)
        case MeasurementName.UNIT_MEAN:
            return _unit_mean(metric, bounds, totals)[:, None]
        case MeasurementName.EVENT_SUM:
            return _event_sum(metric, bounds, totals)[:, None]
        case MeasurementName.WEIGHTS:
            return _weights(metric, bounds, totals)


def _counts(metric: Metric, totals: Int64) -> Int64:
    """The components that count events, without a distribution's sum; int64[k, bins]."""
    counts = totals[:, :-1] if metric.kind is Kind.DISTRIBUTION else totals
    return np.clip(counts, 0, _COUNT_CAP)


def _events(metric: Metric, totals: Int64) -> Int64:
    events: Int64 = _counts(metric, totals).sum(axis=1)
    return events


def _unit_mean(metric: Metric, bounds: ContributionBounds, totals: Int64) -> Int64:
    """2m - l - u, m the unit's own mean floored (of a counter its total), zero where it had no event."""
    low, high = bounds.low, bounds.high
    if metric.kind is Kind.COUNTER:
        return 2 * np.clip(totals[:, 0], low, high) - low - high
    events = _events(metric, totals)
    mean = np.clip(totals[:, -1] // np.maximum(events, 1), low, high)
    return np.where(events > 0, 2 * mean - low - high, 0)


def _event_sum(metric: Metric, bounds: ContributionBounds, totals: Int64) -> Int64:
    """2s' - n'(l + u): the sum of at most max_events events, scaled down toward zero where there were more, centered."""
    low, high, most = bounds.low, bounds.high, bounds.max_events
    events, total = _events(metric, totals), totals[:, -1]
    kept = np.minimum(events, most)
    whole, rest = np.divmod(np.abs(total), np.maximum(events, 1))
    # A mean beyond any range ends at the range's end below; capping it first keeps the product in int64.
    scaled = np.minimum(whole, 2**32) * most + rest * most // np.maximum(events, 1)
    total = np.where(events > most, np.sign(total) * scaled, total)
    centered: Int64 = 2 * np.clip(total, kept * low, kept * high) - kept * (low + high)
    return centered


def _weights(metric: Metric, bounds: ContributionBounds, totals: Int64) -> Int64:
    """Each bin's share of the unit's weight in steps of 1/F, floored; at most F (or F max_events) altogether."""
    counts = _counts(metric, totals)
    if metric.kind is Kind.FLAG and metric.weighting is Weighting.UNIT:
        true = counts[:, 0] > 0
        sides: Int64 = FIXED_POINT * np.column_stack((true, ~true & (counts[:, 1] > 0))).astype(np.int64)
        return sides
    events = counts.sum(axis=1, keepdims=True)
    some = np.maximum(events, 1)
    if metric.weighting is Weighting.UNIT:
        shares: Int64 = FIXED_POINT * counts // some
        return shares
    most = bounds.max_events
    whole, rest = np.divmod(FIXED_POINT * counts, some)
    return np.where(events <= most, FIXED_POINT * counts, whole * most + rest * most // some)
