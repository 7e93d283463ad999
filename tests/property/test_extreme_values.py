"""Arithmetic at the ends of int64: bounds as wide as a plan may declare, and totals that no honest unit has."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter import limits
from hushmeter.errors import PlanError
from hushmeter.model.ledger import PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency, MeasurementName
from hushmeter.model.plan import ContributionBounds, Kind, Metric, Statistic
from hushmeter.plan.check import check_plan
from hushmeter.plan.measurements import bound_of, columns_of, names_of
from hushmeter.sealing.statistics import contribution
from tests.examples import examples
from tests.oracle.contribution import Contribution, Rules
from tests.strategies import STARTS, metrics, plan_of

INT64 = np.iinfo(np.int64)
EDGES = [0, 1, -1, 2**20, 2**31, 2**40 - 1, 2**40, 2**53, 2**62, INT64.max, INT64.min, INT64.min + 1]
TOTALS = st.one_of(st.sampled_from(EDGES), st.integers(INT64.min, INT64.max), st.integers(-10, 10))
BUDGET = PrivacyBudget(1.0, 1e-8, Currency.PURE, PrivacyLoss(Fraction(1)))


def admitted(metric: Metric) -> bool:
    """Whether `plan check` takes a metric's integers."""
    try:
        check_plan(plan_of([metric]), BUDGET)
    except PlanError:
        return False
    return True


def with_bounds(metric: Metric, bounds: ContributionBounds) -> Metric:
    return replace(metric, bounds=dict.fromkeys(metric.at, bounds))


def narrower(bounds: ContributionBounds, what: str) -> ContributionBounds:
    """Half of the events, of the range, or of its distance from zero."""
    if what == "events":
        return replace(bounds, max_events=max(1, bounds.max_events // 2))
    low, width = bounds.low, bounds.width
    if what == "width":
        return replace(bounds, high=low + max(1, width // 2))
    nearer = -(-low // 2) if low < 0 else low // 2
    return replace(bounds, low=nearer, high=min(limits.RANGE_MAX, nearer + width))


@st.composite
def widest(draw: st.DrawFn) -> Metric:
    """A metric with bounds as wide as a plan may declare them, in one of the ways in which they can be wide."""
    metric, partitions = draw(metrics("m")), draw(st.integers(1, 4))
    end, span = limits.RANGE_MAX, st.integers(1, 2 * limits.RANGE_MAX) | st.integers(0, 32).map(lambda e: 2**e)
    low = draw(st.sampled_from([0, 1, -end, end - 1, end - 2**10]) | st.integers(-end, end - 1))
    events_max = end if metric.kind is Kind.RATIO else limits.EVENTS_PER_UNIT_MAX
    events = draw(st.sampled_from([1, events_max]) | st.integers(1, events_max))
    bounds = ContributionBounds(partitions, low, min(end, low + draw(span)), events)
    for what in draw(st.permutations(["events", "width", "distance"])):
        while not admitted(with_bounds(metric, bounds)) and bounds != narrower(bounds, what):
            bounds = narrower(bounds, what)
    return with_bounds(metric, bounds)


def measured(metric: Metric) -> set[MeasurementName]:
    return {name for view in metric.views for name in names_of(metric, view)}


@examples(600)
@given(widest(), st.booleans(), st.data())
def test_no_totals_leave_the_bound(metric: Metric, dropped: bool, data: st.DataObject) -> None:
    """Whatever int64 totals a unit manages to send, wrapped ones included, its vector stays within its bound (P5, P6)."""
    totals = data.draw(st.lists(TOTALS, min_size=len(metric.components), max_size=len(metric.components)))
    bounds = metric.bounds["1d"]
    for name in measured(metric):
        vector = contribution(name, metric, bounds, np.array([totals], np.int64), np.array([dropped]))
        assert vector.dtype == np.int64
        assert vector.shape == (1, columns_of(metric, name))
        # The L2 norm is never larger than the L1 norm.
        assert sum(abs(int(v)) for v in vector[0]) <= bound_of(metric, name, bounds)


@given(metrics("m"))
def test_every_bound_is_reached(metric: Metric) -> None:
    """In each row of the calibration table some unit moves one cell by the whole bound: none could be claimed lower."""
    for bounds in metric.bounds.values():
        events = bounds.max_events
        ends = [(events, x) for x in (bounds.low, bounds.high)]
        # All events in the first bin, side or option, and all at one end of the range.
        totals = [[n, *[0] * (metric.count_components - 1), n * x, n * x * x] for n, x in ends]
        if metric.kind is Kind.COUNTER:
            totals = [[x] for _, x in ends]
        columns = np.array(totals, np.int64)[:, : len(metric.components)]
        for name in measured(metric):
            vectors = contribution(name, metric, bounds, columns, np.zeros(len(ends), np.bool_))
            assert int(np.abs(vectors).max()) == bound_of(metric, name, bounds), name


def assert_exact(metric: Metric, totals: list[int], dropped: bool) -> None:
    """Fails unless each vector is what the oracle computes in Python's integers."""
    for bounds in metric.bounds.values():
        has = Contribution(metric, bounds, totals, dropped, Rules())
        for name in measured(metric):
            vector = contribution(name, metric, bounds, np.array([totals], np.int64), np.array([dropped]))
            assert vector[0].tolist() == has.vector(name), name


@st.composite
def honest_totals(draw: st.DrawFn, metric: Metric) -> list[int]:
    """What events inside the range add up to: fewer than 2^20 where squares are added up too, else up to int64's end."""
    bounds = metric.bounds["1d"]
    most = 2**18 if Statistic.VARIANCE in metric.statistics else min(2**38, 2**60 // max(abs(bounds.low), abs(bounds.high)))
    value = st.sampled_from([bounds.low, bounds.high]) | st.integers(bounds.low, bounds.high)
    if metric.kind is Kind.COUNTER:
        return [draw(value)]
    counts, total, squares = [0] * metric.count_components, 0, 0
    for _ in range(draw(st.integers(0, 3))):
        events = draw(st.sampled_from([1, 2, most]) | st.integers(1, most))
        x = draw(value)
        counts[draw(st.integers(0, len(counts) - 1))] += events
        total, squares = total + events * x, squares + events * x * x
    return [*counts, total, squares][: len(metric.components)]


@examples(600)
@given(widest(), st.booleans(), st.data())
def test_honest_totals_are_counted_exactly(metric: Metric, dropped: bool, data: st.DataObject) -> None:
    """At the widest bounds of a plan no product of an honest unit's totals leaves int64: the vector is the exact one."""
    assert_exact(metric, data.draw(honest_totals(metric)), dropped)


@examples(1000)
@given(metrics("m"), st.booleans(), st.data())
def test_any_totals_are_counted_as_the_table_says(metric: Metric, dropped: bool, data: st.DataObject) -> None:
    """In a narrow range the vector is the exact one for all totals, those of lying units too (P5, P6)."""
    few = st.integers(-3, 12)
    totals = data.draw(st.lists(few | few | TOTALS, min_size=len(metric.components), max_size=len(metric.components)))
    assert_exact(metric, totals, dropped)


@pytest.mark.parametrize("statistics", [(Statistic.EVENTS, Statistic.SUM), (Statistic.SUM,)], ids=["centered", "alone"])
def test_the_least_total_is_a_low_one(statistics: tuple[Statistic, ...]) -> None:
    """The one int64 that has no magnitude counts as the range's lower end, also where events are cut (P5)."""
    metric = replace(STARTS, kind=Kind.DISTRIBUTION, statistics=statistics, bounds={"1h": ContributionBounds(1, -3, 4, 2)})
    assert_exact(metric, [5, int(INT64.min)], dropped=False)
