"""What one unit adds to a partition at the edges of each clamp (P5, P6): the calibration table, in exact integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hushmeter import limits
from hushmeter.model.measurement import FIXED_POINT, MeasurementName
from hushmeter.model.plan import ContributionBounds, Kind, Metric, Statistic, Weighting
from hushmeter.plan.measurements import bound_of
from hushmeter.sealing.statistics import _scaled, contribution
from tests.oracle.contribution import Contribution, Rules
from tests.strategies import STARTS

LEAST, MOST = -(2**63), 2**63 - 1


def metric_of(kind: Kind, *statistics: Statistic, bounds: ContributionBounds, by_event: bool = False) -> Metric:
    """A metric of one partition, with one border between bins where it is a distribution."""
    return replace(
        STARTS,
        kind=kind,
        statistics=statistics,
        bounds={"1h": bounds},
        edges=(0,) if kind is Kind.DISTRIBUTION else (),
        weighting=Weighting.EVENT if by_event else Weighting.UNIT,
    )


def added(metric: Metric, name: MeasurementName, totals: list[int]) -> list[int]:
    """What a unit with some totals adds; fails unless the oracle says the same, and the bound holds."""
    bounds = metric.bounds["1h"]
    vector = contribution(name, metric, bounds, np.array([totals], np.int64), np.zeros(1, np.bool_))[0].tolist()
    assert vector == Contribution(metric, bounds, totals, dropped=False, rules=Rules()).vector(name)
    assert sum(map(abs, vector)) <= bound_of(metric, name, bounds)
    return list(vector)


CLAMPED = MeasurementName.CLAMPED
ALTERED, WHOLE = [1, 0], [0, 1]


@pytest.mark.parametrize(
    ("totals", "said"),
    [
        ([2, 1, 30], WHOLE),
        ([2, 1, 31], ALTERED),
        ([2, 1, -15], WHOLE),
        ([2, 1, -16], ALTERED),
        ([3, 1, 7], ALTERED),
        ([3, 1, 400], ALTERED),
        ([0, 0, 400], WHOLE),
    ],
)
def test_a_unit_is_clamped_where_its_events_or_its_total_are_beyond_the_bounds(totals: list[int], said: list[int]) -> None:
    """Totals at either end are whole, one step beyond are clamped; events that were cut stay cut beside a lawful total."""
    bounds = ContributionBounds(1, -5, 10, 3)
    metric = metric_of(Kind.DISTRIBUTION, Statistic.EVENTS, Statistic.CLAMPED, bounds=bounds)
    assert added(metric, CLAMPED, totals) == said


WIDE = ContributionBounds(1, -1_000, 2_000, 9)


@pytest.mark.parametrize("total", [LEAST, -(2**62), -3 * 2**46, -(2**33), MOST, 2**62, 3 * 2**46, 2**33])
@pytest.mark.parametrize("events", [1, 2, 3])
def test_a_mean_beyond_the_range_is_its_nearer_end(events: int, total: int) -> None:
    """However far a total is beyond the range, no product wraps: a ratio's mean is the range's end (P5)."""
    metric = metric_of(Kind.RATIO, Statistic.RATIO, bounds=WIDE)
    assert added(metric, MeasurementName.UNIT_MEAN, [events, total]) == [(3_000 if total > 0 else -3_000) * FIXED_POINT]


@pytest.mark.parametrize(
    ("events", "total", "mean"),
    [(1, 7, 7), (1, -7, -7), (2, 7, 3.5), (4, -7, -1.75), (4, 7, 1.75), (2**16, 1, 2**-16), (0, 7, 500)],
)
def test_a_mean_inside_the_range_is_exact_to_a_part_of_a_step(events: int, total: int, mean: float) -> None:
    """A ratio's mean is kept to 2^-16 of a step; a unit without an event adds nothing."""
    metric = metric_of(Kind.RATIO, Statistic.RATIO, bounds=WIDE)
    assert added(metric, MeasurementName.UNIT_MEAN, [events, total]) == [int((2 * mean - 1_000) * FIXED_POINT)]


@pytest.mark.parametrize("total", [LEAST, LEAST + 1, -(2**62) - 1, 2**62 + 1, MOST])
@pytest.mark.parametrize("events", [2**32, 2**33 + 1, 2**40 - 1])
def test_the_mean_of_many_events_is_exact_up_to_the_last_total(events: int, total: int) -> None:
    """Totals near the ends of int64 whose mean lies in the range are divided as they are."""
    metric = metric_of(Kind.RATIO, Statistic.RATIO, bounds=ContributionBounds(1, -(2**31), 2**31, 9))
    fine = FIXED_POINT * total // events
    assert added(metric, MeasurementName.UNIT_MEAN, [events, total]) == [2 * fine]


@pytest.mark.parametrize(("totals", "said"), [([0, 0], 0), ([0, 1], 1), ([0, 2], 1), ([1, 1], 0), ([1, 0], 0)])
def test_one_event_is_enough_for_a_flag_to_be_false(totals: list[int], said: int) -> None:
    """A unit is false from its first event on, where none was true."""
    metric = metric_of(Kind.FLAG, Statistic.RATE, bounds=ContributionBounds(1, 0, 1, 1))
    assert added(metric, MeasurementName.WEIGHTS, totals)[1] == said * FIXED_POINT


@pytest.mark.parametrize("by_event", [False, True])
@pytest.mark.parametrize(
    ("low", "high"),
    [(-5, 5), (-7, 3), (0, 10), (2, 9), (-9, -2), (0, limits.SQUARES_VALUE_MAX), (-limits.SQUARES_VALUE_MAX, 0)],
)
def test_squares_stay_within_what_their_range_allows(*, by_event: bool, low: int, high: int) -> None:
    """Sums of squares below zero, at their ends and near int64's are clamped before and after they are centered."""
    bounds = ContributionBounds(1, low, high, 2)
    metric = metric_of(Kind.DISTRIBUTION, Statistic.VARIANCE, bounds=bounds, by_event=by_event)
    largest = max(low**2, high**2)
    for events in (0, 1, 2, 3, 2**20 - 1):
        for total in {LEAST, events * low, events * (low + high) // 2, events * high, MOST}:
            for squares in (LEAST, -1, 0, 1, events * largest, events * largest + 1, 2**61, 2**62, MOST):
                added(metric, MeasurementName.SQUARES, [events, 0, total, squares])


@pytest.mark.parametrize("by_event", [False, True])
def test_squares_of_no_events_add_nothing(*, by_event: bool) -> None:
    """A unit without an event moves no variance, whatever squares it sends."""
    metric = metric_of(Kind.DISTRIBUTION, Statistic.VARIANCE, bounds=ContributionBounds(1, 0, 9, 2), by_event=by_event)
    assert added(metric, MeasurementName.SQUARES, [0, 0, 5, 81]) == [0]


@pytest.mark.parametrize("most", [1, 2, 2**14, 2**16 - 1, 2**16, 2**17 + 3, 3**16 + 5, 2**26 + 7, 2**31 - 1, 2**31])
def test_scaling_is_exact_for_every_number_of_events(most: int) -> None:
    """The floor of values * most / events, by Python's integers, up to the largest events and values there are."""
    generator = np.random.default_rng(most)
    events_max = 2**40 * 9 if most <= 2**16 else 2**46 - 1
    events = np.append(generator.integers(most + 1, events_max, 200), [most + 1, events_max])
    values = np.append(generator.integers(0, MOST, 200), [MOST, MOST])
    values[:100] >>= generator.integers(0, 62, 100)
    exact = [value * most // n for value, n in zip(values.tolist(), events.tolist(), strict=True)]
    assert _scaled(values, most, events).tolist() == exact
