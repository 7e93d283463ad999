"""Estimates are in the statistic's unit, with intervals that are cut to what is possible and values that are not."""

from __future__ import annotations

import dataclasses
import math
from decimal import Decimal

import numpy as np
import pytest

from hushmeter.model.measurement import FIXED_POINT, MeasurementName
from hushmeter.model.plan import Metric, Statistic, Weighting
from hushmeter.query.estimates import StatisticEstimates, component_labels, estimate
from hushmeter.query.quantiles import quantiles
from hushmeter.query.ratios import MeanInputs, mean, share_of_total, variance
from hushmeter.query.sums import Sums
from tests.unit.ten_units import PLAN

M = MeasurementName


def sums(*rows: list[float], variance: float = 4.0, half_width: float = 5.0, spread: float = 9.0) -> Sums:
    return Sums(np.array(rows), variance, half_width, 2.0, spread)


def within(metric: str, low: int, high: int) -> Metric:
    """A metric with another range."""
    found = PLAN.metric(metric)
    bounds = {name: dataclasses.replace(b, low=low, high=high) for name, b in found.bounds.items()}
    return dataclasses.replace(found, bounds=bounds)


def columns(found: StatisticEstimates) -> list[list[list[float]]]:
    """Values, deviations, lower and upper ends."""
    return [array.tolist() for array in (found.values, found.noise_std, found.low, found.high)]


def test_counts_below_zero_stay_and_their_intervals_do_not() -> None:
    """Noise may take a count below zero, which keeps sums of counts unbiased; no interval reaches there (E3)."""
    found = estimate(PLAN.metric("calls"), "1d", {M.UNITS: sums([7.0], [3.0], [-9.0])}, Statistic.UNITS)
    assert (found.statistic, found.components, found.ranked) == (Statistic.UNITS, ("",), None)
    assert columns(found) == [[[7], [3], [-9]], [[2], [2], [2]], [[2], [0], [0]], [[12], [8], [0]]]


@pytest.mark.parametrize(
    ("low", "high", "ends"),
    [
        (0, 20, ([0], [12])),
        (-5, 20, ([-2], [12])),
        (-20, 0, ([-2], [0])),
        (-20, -1, ([-2], [0])),
        (1, 20, ([0], [12])),
        (0, 1, ([0], [12])),
    ],
)
def test_a_sum_has_the_signs_that_its_range_has(low: int, high: int, ends: tuple[list[float], list[float]]) -> None:
    """A sum of values that are never negative is not, nor is one of values that are never positive positive."""
    found = estimate(within("calls", low, high), "1d", {M.SUM: sums([5.0], half_width=7.0)}, Statistic.SUM)
    assert columns(found) == [[[5]], [[2]], [ends[0]], [ends[1]]]


def test_a_sum_of_events_is_counted_from_the_middle_of_the_range() -> None:
    """Of values of half a second between 20 and 50 s, the sum is 35 s an event and a quarter of S."""
    measured = {M.EVENT_SUM: sums([-300.0], variance=16.0, spread=20.0), M.EVENTS: sums([10.0])}
    found = estimate(within("talk", 40, 100), "1d", measured, Statistic.SUM)
    reach = 2 * math.sqrt(70**2 * 9 + 20 / 4) / 2
    told = [275, math.sqrt(70**2 * 4 + 16 / 4) / 2, 275 - reach, 275 + reach]
    assert np.ravel(columns(found)) == pytest.approx(told)


def test_means_and_variances_are_in_units_of_the_metric() -> None:
    """A step of half a second scales a mean by a half, and a variance by a quarter."""
    metric = PLAN.metric("talk")
    centered, count, squares = sums([-900.0]), sums([30.0]), sums([-200_000.0], variance=10_000.0, spread=20_000.0)
    inputs = MeanInputs(metric, metric.bounds["1d"], centered, count)
    measured = {M.EVENT_SUM: centered, M.EVENTS: count, M.SQUARES: squares}
    for statistic, in_steps, factor in (
        (Statistic.MEAN, mean(inputs), 0.5),
        (Statistic.VARIANCE, variance(inputs, squares), 0.25),
    ):
        found = estimate(metric, "1d", measured, statistic)
        assert (found.statistic, found.components) == (statistic, ("",))
        assert columns(found) == [(array * factor).tolist() for array in in_steps]
        assert found.low[0, 0] < found.values[0, 0] < found.high[0, 0]


def test_bins_are_weights_in_fixed_point() -> None:
    """A histogram has the noise of its weights in each bin, named by the bins."""
    metric = PLAN.metric("talk")
    weights = sums([3.0 * FIXED_POINT, FIXED_POINT, -9.0], half_width=2.0 * FIXED_POINT, variance=FIXED_POINT**2)
    found = estimate(metric, "1d", {M.WEIGHTS: weights}, Statistic.HISTOGRAM)
    assert found.components == component_labels(metric)
    assert columns(found)[1:] == [[[1, 1, 1]], [[1, 0, 0]], [[5, 3, 2 - 9 / FIXED_POINT]]]
    assert found.values.tolist() == [[3, 1, -9 / FIXED_POINT]]


@pytest.mark.parametrize(
    ("metric", "statistic", "measured", "labels"),
    [
        ("codec", Statistic.RATE, M.WEIGHTS, ("opus", "aac", "g711")),
        ("call_dropped", Statistic.RATE, M.WEIGHTS, ("",)),
        ("call_setup", Statistic.CLAMPED, M.CLAMPED, ("",)),
        ("capped", Statistic.RATE, M.CAPPED, ("",)),
    ],
)
def test_only_a_choice_has_a_share_for_each(
    metric: str, statistic: Statistic, measured: MeasurementName, labels: tuple[str, ...]
) -> None:
    """Of a choice every option's share is told; of two sides the first one's."""
    weights = sums([30.0, 10.0, 5.0][: max(2, len(labels))])
    found = estimate(PLAN.metric(metric), "1d", {measured: weights}, statistic)
    assert found.components == labels
    expected = share_of_total(weights, of_each=len(labels) > 1)
    assert columns(found) == [array.tolist() for array in expected]


def test_how_many_were_clamped_of_a_choice_is_one_share() -> None:
    """The units that bounding altered are one share of a choice's, not one for each option."""
    metric = dataclasses.replace(PLAN.metric("codec"), statistics=(Statistic.CLAMPED,), top_k=0)
    found = estimate(metric, "1d", {M.CLAMPED: sums([1.0, 3.0])}, Statistic.CLAMPED)
    assert (found.components, found.values.tolist()) == (("",), [[0.25]])


def test_quantiles_are_named_by_their_shares() -> None:
    """Quantiles invert the bins between the ends of the range, in the metric's unit."""
    metric = dataclasses.replace(
        PLAN.metric("talk"), statistics=(Statistic.QUANTILES,), quantiles=(Decimal("0.250"), Decimal("0.5"))
    )
    weights = sums([30.0, 10.0, 15.0])
    found = estimate(metric, "1d", {M.WEIGHTS: weights}, Statistic.QUANTILES)
    assert (found.statistic, found.components) == (Statistic.QUANTILES, ("0.25", "0.5"))
    in_steps = quantiles(weights.values, 4.0, [0, 10, 20, 100], [0.25, 0.5], 2.0)
    assert columns(found) == [(array / 2).tolist() for array in in_steps]


def test_both_of_two_options_are_named() -> None:
    """A histogram of two options has two columns, with a name each."""
    metric = dataclasses.replace(PLAN.metric("codec"), options=("on", "off"), statistics=(Statistic.HISTOGRAM,), top_k=0)
    found = estimate(metric, "1d", {M.WEIGHTS: sums([3.0, 4.0])}, Statistic.HISTOGRAM)
    assert found.components == ("on", "off")


def test_events_of_a_flag_are_those_of_both_sides() -> None:
    """Where a flag's sides weigh events, their sum in fixed point is the number of events."""
    flag = dataclasses.replace(
        PLAN.metric("call_dropped"), weighting=Weighting.EVENT, statistics=(Statistic.RATE, Statistic.EVENTS)
    )
    found = estimate(flag, "1d", {M.WEIGHTS: sums([3.0 * FIXED_POINT, FIXED_POINT])}, Statistic.EVENTS)
    assert (found.components, found.values.tolist()) == (("",), [[4.0]])


def test_a_distribution_without_edges_has_no_bins() -> None:
    """Bins are named by edges alone."""
    metric = dataclasses.replace(PLAN.metric("talk"), edges=(), statistics=(Statistic.SUM,))
    assert component_labels(metric) == ()
