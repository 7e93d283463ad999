from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter import limits
from hushmeter.errors import BudgetExhausted, InvariantError, PlanError
from hushmeter.ledger.accountant import epsilon_and_delta, period_loss, planned_costs, spendings_of
from hushmeter.ledger.pricing import PriceList, calibrate
from hushmeter.model.ledger import PrivacyBudget, PrivacyLoss, Spending
from hushmeter.model.measurement import Currency, Measurement
from hushmeter.model.plan import ContributionBounds, Dimension, Metric, Plan, Statistic, Weighting
from hushmeter.model.time import DAY_MS, Span
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.budget_division import shares
from hushmeter.plan.cautions import cautions
from hushmeter.plan.check import check_plan
from hushmeter.plan.measurements import measurements_of
from hushmeter.plan.reading import parse_plan
from hushmeter.plan.template import plan_template
from tests.examples import examples
from tests.unit.any_plans import any_budgets, any_plans

PLAN = parse_plan(plan_template(dt.date(2026, 3, 2)), dt.date(2026, 3, 2))
BUDGET = PrivacyBudget(4.0, 1e-8, Currency.ZCDP, PrivacyLoss(Fraction(1, 4), Fraction(1e-8) / 2))
MECHANISMS = OpenDPMechanisms()
SUNDAY_MS = 1_600_000_000_000


def charged_windows(prices: PriceList) -> list[Spending]:
    """What all windows of one period are charged, one after the other."""
    spent: list[Spending] = []
    period = prices.plan.privacy.period.window_of(SUNDAY_MS)
    for resolution in prices.plan.resolutions:
        for window in resolution.span.tiles(period):
            spent += spendings_of(prices.charge(window, spent))
    return spent


@examples(50)
@given(any_plans(periods=("1d",)), any_budgets())
def test_a_period_spends_its_budget_and_no_more(plan: Plan, budget: PrivacyBudget) -> None:
    """All windows of a period spend its budget to the last bit; a budget that is smaller by a hair is exhausted before."""
    prices = PriceList.of(plan, budget, MECHANISMS)
    selects = any(m.selects for m in measurements_of(plan))
    spent = period_loss(charged_windows(prices))
    assert spent == PrivacyLoss(budget.loss.amount, budget.loss.delta if selects else Fraction(0))
    hair = 1 - Fraction(1, 10**12)
    less = dataclasses.replace(budget, loss=PrivacyLoss(budget.loss.amount * hair, budget.loss.delta))
    with pytest.raises(BudgetExhausted, match=r"from 2020-09-14T00:00:00Z on"):
        charged_windows(dataclasses.replace(prices, budget=less))


@given(any_plans(), any_budgets())
def test_one_unit_never_costs_more_than_the_budget(plan: Plan, budget: PrivacyBudget) -> None:
    """As many windows of each measurement as one unit can be in cost the budget in exact arithmetic, amount and delta."""
    prices = PriceList.of(plan, budget, MECHANISMS)
    items = [item for of_resolution in prices.items.values() for item in of_resolution]
    total = sum((item.loss.times(item.measurement.windows) for item in items), PrivacyLoss())
    assert total.amount == budget.loss.amount
    assert total.delta == (budget.loss.delta if any(item.measurement.selects for item in items) else 0)
    assert total.within(budget.loss)
    assert {item.measurement for item in items} == set(measurements_of(plan))


@given(any_plans(), any_budgets())
def test_noise_is_never_smaller_than_its_price_allows(plan: Plan, budget: PrivacyBudget) -> None:
    """Each scale costs at most its share, exactly, and no more than a millionth of the share is left over."""
    for m, share in shares(plan, budget.currency, budget.loss.amount).items():
        scale = Fraction(calibrate(m, budget.currency, share))
        cost = m.l1 / scale if budget.currency is Currency.PURE else m.l2_squared / scale**2 / 2
        assert share * (1 - Fraction(1, 10**6)) <= cost <= share


@examples(50)
@given(any_plans(), any_budgets())
def test_the_mechanism_agrees_with_the_price(plan: Plan, budget: PrivacyBudget) -> None:
    """OpenDP's own privacy map never exceeds what is charged, and the room left for it is below a millionth."""
    import opendp.prelude as dp

    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    for m, share in list(shares(plan, budget.currency, budget.loss.amount).items())[:3]:
        scale = calibrate(m, budget.currency, share)
        if budget.currency is Currency.PURE:
            made = dp.m.make_laplace(domain, dp.l1_distance(T="f64"), scale)
        else:
            made = dp.m.make_gaussian(domain, dp.l2_distance(T="f64"), scale)
        mapped = Fraction(made.map(m.sensitivity(budget.currency)))
        assert share * (1 - Fraction(1, 10**6)) <= mapped <= share


def test_a_measurement_for_nothing_is_a_defect() -> None:
    """Noise for an amount of zero would be infinite; for a negative one it has no meaning."""
    m = next(measurements_of(PLAN))
    for amount in (Fraction(0), Fraction(-1)):
        with pytest.raises(InvariantError, match="cannot be free"):
            calibrate(m, Currency.ZCDP, amount)


def test_private_partitions_need_delta() -> None:
    """A plan that selects cannot be priced with a budget whose whole delta is for the conversion (C5)."""
    with pytest.raises(InvariantError, match="private partitions need a share of delta"):
        PriceList.of(PLAN, PrivacyBudget(4.0, 1e-8, Currency.ZCDP, PrivacyLoss(Fraction(1, 4))), MECHANISMS)


def test_an_expired_metric_is_neither_released_nor_charged() -> None:
    """A window that begins after a metric's expiry leaves its share unspent (C3); what never expires stays."""
    prices = PriceList.of(PLAN, BUDGET, MECHANISMS)
    expires_ms = PLAN.metrics[0].expires_ms
    before = prices.charge(Span.parse("1d").window_of(expires_ms - 1), ())
    after = prices.charge(Span.parse("1d").window_of(expires_ms + 1), ())
    assert {i.measurement.metric for i in before.items} == {m.name for m in PLAN.measured}
    assert {i.measurement.metric for i in after.items} == {"participants"}
    assert 0 < sum(i.loss.amount for i in after.items) < sum(i.loss.amount for i in before.items)


def test_the_costs_of_longer_spans_are_those_of_the_promise() -> None:
    """Epsilon 4 a week is 5.85 in any rolling week, at most 10.86 in 30 days and about 41.7 in a year; delta stays."""
    budget = PrivacyBudget(4.0, 1e-8, Currency.ZCDP, PrivacyLoss(MECHANISMS.zcdp_budget(4.0, 1e-8)))
    costs = [epsilon_and_delta(loss, budget, MECHANISMS) for loss in planned_costs(budget, Span.parse("1w")).values()]
    assert [epsilon for epsilon, _ in costs] == pytest.approx([4.0, 5.85, 10.86, 41.7], abs=0.02)
    assert [delta for _, delta in costs] == pytest.approx([1e-8] * 4)


def test_pure_losses_add_up_without_a_conversion() -> None:
    """In the pure currency epsilon 4 a week is 8, 24 and 216 in longer spans, and delta is that of selection alone."""
    budget = PrivacyBudget(4.0, 1e-8, Currency.PURE, PrivacyLoss(Fraction(4), Fraction(1e-9)))
    costs = [epsilon_and_delta(loss, budget, MECHANISMS) for loss in planned_costs(budget, Span.parse("1w")).values()]
    assert [epsilon for epsilon, _ in costs] == [4, 8, 24, 216]
    assert [delta for _, delta in costs] == pytest.approx([1e-9, 2e-9, 6e-9, 54e-9])


def touched_by(period: str) -> list[Fraction]:
    """How many budgets longer spans cost."""
    budget = PrivacyBudget(1.0, 1e-8, Currency.PURE, PrivacyLoss(Fraction(1)))
    return [loss.amount for loss in planned_costs(budget, Span.parse(period)).values()]


@pytest.mark.parametrize(("period", "touched"), [("1d", [1, 2, 31, 366]), ("1w", [1, 2, 6, 54]), ("1mo", [1, 2, 3, 13])])
def test_a_span_touches_so_many_periods(period: str, touched: list[int]) -> None:
    """30 days touch at most 31 days, 6 weeks or 3 months (February between two others)."""
    assert touched_by(period) == touched


@given(st.integers(0, 10**10), st.integers(1, 400), st.sampled_from([1, 7]))
def test_no_span_touches_more_periods_than_are_charged(start: int, days: int, length: int) -> None:
    """Wherever a span begins, it touches no more periods than its cost counts, and some begin so that it touches all."""
    costs = touched_by("1d" if length == 1 else "1w")
    period = length * DAY_MS
    for span_days, most in ((length, costs[1]), (30, costs[2]), (365, costs[3])):
        touched = -(-(start + span_days * DAY_MS) // period) - start // period
        assert touched <= most
        latest = period - 1 - days % 2
        assert -(-(latest + span_days * DAY_MS) // period) - latest // period == most


def test_the_report_counts_what_a_period_publishes() -> None:
    """Releases are counted a view and window, ledger entries a measurement and window."""
    report = check_plan(PLAN, BUDGET)
    by_metric = {"calls": 2 * (168 + 7), "call_setup": 3 * 7, "call_dropped": 7, "codec": 7, "participants": 168 + 7}
    assert report.releases_per_period == sum(by_metric.values())
    entries = {"calls": 2 * 2 * 175, "call_setup": 3 * 4 * 7, "call_dropped": 7, "codec": 7, "participants": 175}
    assert report.ledger_entries_per_period == sum(entries.values())


def alone(metric: Metric, *others: Metric) -> Plan:
    """The plan with these metrics only."""
    return dataclasses.replace(PLAN, metrics=(metric, *others), built_in=())


def by_events(statistics: Sequence[Statistic], bounds: ContributionBounds, dimension: Dimension | None = None) -> Metric:
    """A distribution that is weighted by events, in total and by one dimension."""
    return dataclasses.replace(
        PLAN.metric("call_setup"),
        dimensions=() if dimension is None else (dimension,),
        views=((),) if dimension is None else ((), (dimension.name,)),
        quantiles=(),
        weighting=Weighting.EVENT,
        statistics=tuple(statistics),
        bounds={"1d": bounds},
    )


OVERFLOWING = by_events([Statistic.MEAN, Statistic.HISTOGRAM], ContributionBounds(1, 0, 2**31, 2**14))


def test_integers_that_could_overflow_are_refused() -> None:
    """A metric whose sum over all units could leave int64 is refused with the sum and what to change (P6)."""
    with pytest.raises(PlanError) as caught:
        check_plan(alone(OVERFLOWING), BUDGET)
    line = str(caught.value).splitlines()[1]
    assert "metrics.call_setup.per_unit: at 1d, 134217728 units times 35184372088832 a unit (event_sum)" in line
    assert "must stay below 2^62; lower max_events or the range, or take a coarser step of values" in line
    assert line.endswith(f"(got {2**27 * 2**31 * 2**14})")


def test_every_overflow_is_told_once() -> None:
    """Each measurement that could overflow makes one line, however many views and metrics share it (P6)."""
    bounds = OVERFLOWING.bounds["1d"]
    wide = by_events([Statistic.MEAN, Statistic.HISTOGRAM], bounds, Dimension("platform", ("ios", "android")))
    with pytest.raises(PlanError) as caught:
        check_plan(alone(wide, dataclasses.replace(wide, name="again")), BUDGET)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["metrics.call_setup.per_unit", "metrics.again.per_unit"]


@pytest.mark.parametrize(
    ("statistic", "fits", "overflows"),
    [
        (Statistic.MEAN, (0, 2**31 - 1, 2**4), (0, 2**31, 2**4)),
        (Statistic.SUM, (-1, 2**31 - 1, 2**4), (-1, 2**31, 2**4)),
        (Statistic.VARIANCE, (-(2**16), 2**16, 1), (-(2**16), 2**16, 2)),
        (Statistic.VARIANCE, (0, 2**15, 31), (0, 2**15, 32)),
    ],
)
def test_integers_fit_up_to_their_limit(
    statistic: Statistic, fits: tuple[int, int, int], overflows: tuple[int, int, int]
) -> None:
    """A product just below 2^62 holds, and 2^62 itself does not (P6)."""
    assert check_plan(alone(by_events([statistic], ContributionBounds(1, *fits))), BUDGET).releases_per_period
    with pytest.raises(PlanError, match=rf"must stay below 2\^62.*got {2**62}"):
        check_plan(alone(by_events([statistic], ContributionBounds(1, *overflows))), BUDGET)


def test_rows_that_fall_together_count_together() -> None:
    """Where views share their bounding, all rows that one unit keeps may fall into the total: their sum must fit (P6)."""
    regions = Dimension("region", tuple(f"r{i}" for i in range(32)))
    fits = by_events([Statistic.SUM], ContributionBounds(16, 0, 2**31 - 1, 1), regions)
    over = by_events([Statistic.SUM], ContributionBounds(16, 0, 2**31, 1), regions)
    for plan in (alone(fits), alone(over), alone(dataclasses.replace(fits, shared_bounding=True))):
        assert check_plan(plan, BUDGET).releases_per_period
    with pytest.raises(PlanError, match=rf"times {16 * 2**31} a unit \(sum\).*got {2**62}"):
        check_plan(alone(dataclasses.replace(over, shared_bounding=True)), BUDGET)


@pytest.mark.parametrize("sign", [1, -1])
def test_squares_are_of_values_near_enough_to_zero(sign: int) -> None:
    """A variance takes values up to the limit, on either side of zero, and says how far the range goes beyond it."""
    most = limits.SQUARES_VALUE_MAX

    def plan(farthest: int) -> Plan:
        low, high = sorted((sign * (farthest - 10), sign * farthest))
        return alone(by_events([Statistic.VARIANCE], ContributionBounds(1, low, high, 1)))

    assert check_plan(plan(most), BUDGET).releases_per_period
    with pytest.raises(PlanError, match=rf"call_setup.per_unit.range: .* within {most} steps of zero.*got {most + 1}\)"):
        check_plan(plan(most + 1), BUDGET)


@given(any_plans())
def test_every_measurement_is_named_once(plan: Plan) -> None:
    """Caps are counted by series: no two measurements of a plan share one (C2)."""
    measurements: list[Measurement] = list(measurements_of(plan))
    assert len({m.series() for m in measurements}) == len(measurements)


@pytest.mark.parametrize(("most", "warned"), [(None, False), (1, True), (6, True), (7, False)])
def test_series_that_decline_by_rule_are_told(most: int | None, warned: bool) -> None:
    """Whoever writes a plan hears which series keep a unit's first windows alone; a cap that cuts nothing is none (P7)."""
    metric = by_events([Statistic.SUM], ContributionBounds(1, 0, 10, 1, most))
    plan = alone(metric)
    weekly = dataclasses.replace(plan, privacy=dataclasses.replace(plan.privacy, period=Span.parse("1w")))
    told = cautions(weekly)
    assert [line.partition(" keeps")[0] for line in told] == (
        ["metrics.call_setup.per_unit.max_windows.1d"] if warned else []
    )
    assert all(f"first {most} of up to 7 windows, so that each 1w looks like a decline" in line for line in told)
