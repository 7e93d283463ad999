from __future__ import annotations

import dataclasses
import datetime as dt
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter.errors import BudgetExhausted, PlanError
from hushmeter.ledger.pricing import PriceList, calibrate
from hushmeter.model.ledger import PrivacyBudget
from hushmeter.model.plan import ContributionBounds, Plan, Statistic, Weighting
from hushmeter.model.time import DAY_MS, Span
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.check import check_plan, compositions
from hushmeter.plan.measurements import measurements_of, rho_shares
from hushmeter.plan.reading import parse_plan
from hushmeter.plan.template import plan_template
from tests.strategies import plans

PLAN = parse_plan(plan_template(dt.date(2026, 3, 2)), dt.date(2026, 3, 2))
RHO = Fraction(1, 4)
BUDGET = PrivacyBudget(4.0, 1e-8, RHO)


@given(plans(), st.fractions(min_value=Fraction(1, 1000), max_value=10))
def test_a_period_costs_exactly_its_budget(plan: Plan, rho: Fraction) -> None:
    """The shares of all releases of one period add up to the budget, to the last bit (C2)."""
    assert sum(share * m.windows for m, share in rho_shares(plan, rho).items()) == rho


@given(plans())
def test_a_period_can_be_charged_once_and_no_more(plan: Plan) -> None:
    """Charging every window of one period spends the budget exactly; one window more is refused with what would fit."""
    prices = PriceList.of(plan, BUDGET)
    period = plan.privacy.period.window_of(1_600_000_000_000)
    spent = Fraction(0)
    for resolution in plan.resolutions:
        for window in resolution.span.tiles(period):
            spent += prices.charge(window, spent).rho
    assert spent == RHO
    with pytest.raises(BudgetExhausted, match=r"0 remains; the next period begins 2020-09-14"):
        prices.charge(period_window(plan), spent)


def period_window(plan: Plan):
    return plan.finest.span.window_of(1_600_000_000_000)


@given(plans(), st.fractions(min_value=Fraction(1, 10**6), max_value=10))
def test_the_mechanism_agrees_with_the_price(plan: Plan, rho: Fraction) -> None:
    """OpenDP's own privacy map never exceeds what is charged, and the room left for it is below a millionth."""
    import opendp.prelude as dp

    for m in list(measurements_of(plan))[:3]:
        scale = calibrate(m, rho)
        space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
        mapped = Fraction(dp.m.make_gaussian(*space, scale).map(m.l2_sensitivity))
        assert mapped <= rho
        assert mapped >= rho * (1 - Fraction(1, 10**6))
        assert Fraction(m.l2_sensitivity) ** 2 >= m.l2_squared


def test_an_expired_metric_is_neither_released_nor_charged() -> None:
    """A window that begins after a metric's expiry leaves its share unspent (C3)."""
    prices = PriceList.of(PLAN, BUDGET)
    before = prices.charge(Span.parse("1d").window_of(PLAN.metrics[0].expires_ms - 1), Fraction(0))
    after = prices.charge(Span.parse("1d").window_of(PLAN.metrics[0].expires_ms + 1), Fraction(0))
    assert before.rho > 0
    assert after.rho == 0
    assert after.items == ()


def test_the_costs_of_longer_spans_are_those_of_the_promise() -> None:
    """Epsilon 4 a week is 5.85 in any rolling week, at most 10.9 in 30 days and about 41 in a year."""
    mechanisms = OpenDPMechanisms()
    rho = mechanisms.zcdp_budget(4.0, 1e-8)
    costs = [mechanisms.epsilon_of(r, 1e-8) for r in compositions(rho, Span.parse("1w")).values()]
    assert costs == pytest.approx([4.0, 5.85, 10.86, 41.7], abs=0.02)


@pytest.mark.parametrize(("period", "touched"), [("1d", [1, 2, 31, 366]), ("1w", [1, 2, 6, 54]), ("1mo", [1, 2, 3, 13])])
def test_a_span_touches_so_many_periods(period: str, touched: list[int]) -> None:
    """30 days touch at most 31 days, 6 weeks or 3 months (February between two others)."""
    assert list(compositions(Fraction(1), Span.parse(period)).values()) == touched


def test_integers_that_could_overflow_are_refused() -> None:
    """A metric whose sum over all units could leave int64 is refused with what to change (P6)."""
    metric = PLAN.metric("call_setup")
    wide = dataclasses.replace(
        metric, weighting=type(metric.weighting).EVENT, bounds={"1d": ContributionBounds(1, 0, 2**31, 2**14)}
    )
    plan = dataclasses.replace(PLAN, metrics=(wide,))
    with pytest.raises(PlanError, match=r"metrics.call_setup.per_unit.*below 2\^62; lower max_events"):
        check_plan(plan, RHO)
    report = check_plan(PLAN, RHO)
    assert report.releases_per_period == 168 * 2 + 7 * (2 + 2 + 1 + 1)


def test_every_overflow_is_told_once() -> None:
    """Each measurement that could overflow makes one line, however many views and metrics share it (P6)."""
    metric = PLAN.metric("call_setup")
    wide = dataclasses.replace(metric, weighting=Weighting.EVENT, bounds={"1d": ContributionBounds(1, 0, 2**31, 2**14)})
    plan = dataclasses.replace(PLAN, metrics=(wide, dataclasses.replace(wide, name="again")))
    with pytest.raises(PlanError) as caught:
        check_plan(plan, RHO)
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 2
    assert all(f"{2**27 * 2**31 * 2**14}" in line for line in lines)


@pytest.mark.parametrize(("high", "fits"), [(2**31 - 1, True), (2**31, False)])
def test_integers_fit_up_to_their_limit(high: int, fits: bool) -> None:
    """A product just below 2^62 holds, and 2^62 itself does not (P6)."""
    metric = PLAN.metric("call_setup")
    bounds = ContributionBounds(1, 0, high, 2**4)
    wide = dataclasses.replace(metric, weighting=Weighting.EVENT, bounds={"1d": bounds}, statistics=(Statistic.MEAN,))
    plan = dataclasses.replace(PLAN, metrics=(wide,))
    if fits:
        assert check_plan(plan, RHO).rows
    else:
        with pytest.raises(PlanError, match=str(2**62)):
            check_plan(plan, RHO)


@given(plans(), st.fractions(min_value=Fraction(1, 1000), max_value=10))
def test_the_report_never_promises_too_little_noise(plan: Plan, rho: Fraction) -> None:
    """Each row's scale costs at most its share of the budget, exactly, and the shares add up to one."""
    report = check_plan(plan, rho)
    shares = rho_shares(plan, rho)
    for row, (m, share) in zip(report.rows, shares.items(), strict=True):
        assert Fraction(row.l2_sensitivity) ** 2 >= m.l2_squared
        assert 2 * share * Fraction(row.scale) ** 2 >= Fraction(row.l2_sensitivity) ** 2
    assert sum(row.share for row in report.rows) == pytest.approx(1)
    assert report.ledger_entries_per_period == sum(m.windows for m in shares)


@given(st.integers(0, 10**10), st.integers(1, 400), st.sampled_from([1, 7]))
def test_no_span_touches_more_periods_than_are_charged(start: int, days: int, length: int) -> None:
    """Wherever a span begins, it touches no more periods than its cost counts, and some begin so that it touches all."""
    costs = list(compositions(Fraction(1), Span.parse("1d" if length == 1 else "1w")).values())
    period = length * DAY_MS
    for span_days, most in ((length, costs[1]), (30, costs[2]), (365, costs[3])):
        touched = -(-(start + span_days * DAY_MS) // period) - start // period
        assert touched <= most
        latest = period - 1 - days % 2
        assert -(-(latest + span_days * DAY_MS) // period) - latest // period == most
