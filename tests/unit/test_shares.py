from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from hushmeter.model.ledger import PrivacyLoss
from hushmeter.model.measurement import Currency, Measurement, MeasurementName
from hushmeter.model.plan import ContributionBounds, Dimension, Plan, Statistic
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.budget_division import choose_currency, expected_error, noise_std, shares
from hushmeter.plan.expected_error import USEFUL_ERROR, goals
from hushmeter.plan.measurements import measurements_of
from hushmeter.plan.reading import parse_plan
from hushmeter.plan.template import plan_template
from hushmeter.service.deployment.budget import budget_of
from tests.unit.any_plans import any_plans

PLAN = parse_plan(plan_template(dt.date(2026, 3, 2)), dt.date(2026, 3, 2))
currencies = pytest.mark.parametrize("currency", Currency)
TOTALS = st.fractions(min_value=Fraction(1, 1000), max_value=10)

ROUNDING = 5e-4
"""Shares half a sixteenth of an octave away from the best make the error larger by no more than this part of it: the second
order term is (ln 2 / 32)^2 / 2 of the error, and twice that leaves room for statistics that are made of several."""


def with_privacy(plan: Plan, **changes: object) -> Plan:
    """The plan with other privacy."""
    return dataclasses.replace(plan, privacy=dataclasses.replace(plan.privacy, **changes))


def reweighed(plan: Plan, name: str, weight: Fraction) -> Plan:
    """The plan with another weight of one metric."""
    metrics = (dataclasses.replace(m, weight=weight) if m.name == name else m for m in plan.metrics)
    return dataclasses.replace(plan, metrics=tuple(metrics))


def small(plan: Plan, units: int) -> Plan:
    """The plan with so few units that most of what it measures is hopeless."""
    return with_privacy(plan, expected_units=units)


def lopsided() -> Plan:
    """A metric of one number a week beside one with thousands, weighed very differently."""
    calls = dataclasses.replace(PLAN.metric("calls"), weight=Fraction(1, 50))
    dropped = dataclasses.replace(PLAN.metric("call_dropped"), weight=Fraction(20))
    return dataclasses.replace(PLAN, metrics=(calls, dropped))


def ratios_and_variances() -> Plan:
    """Statistics that are made of several measurements each."""
    setup = dataclasses.replace(
        PLAN.metric("call_setup"),
        quantiles=(),
        statistics=(Statistic.MEAN, Statistic.VARIANCE, Statistic.SUM, Statistic.EVENTS),
        bounds={"1d": ContributionBounds(2, 100, 10_000, 50, 3)},
    )
    return dataclasses.replace(PLAN, metrics=(setup, PLAN.metric("codec")))


PLANS: dict[str, Callable[[], Plan]] = {
    "template": lambda: PLAN,
    "few units": lambda: small(PLAN, 200),
    "many units": lambda: small(PLAN, 10**8),
    "lopsided": lopsided,
    "made of several": ratios_and_variances,
}


def typical_total(plan: Plan, currency: Currency) -> float:
    """What a period costs about: epsilon, or rho by the textbook conversion."""
    epsilon, log = float(plan.privacy.epsilon), math.log(1 / float(plan.privacy.delta))
    return epsilon if currency is Currency.PURE else (math.sqrt(epsilon + log) - math.sqrt(log)) ** 2


def objective(plan: Plan, currency: Currency, divided: Mapping[Measurement, float]) -> float:
    """The mean of log(1 + error / useful error), statistic by statistic."""
    total = weights = 0.0
    for goal in goals(plan, list(divided)):
        squared = sum((size * noise_std(m, currency, divided[m])) ** 2 for m, size in goal.parts)
        total += goal.weight * math.log1p(math.sqrt(squared) / USEFUL_ERROR)
        weights += goal.weight
    return total / weights


def best_by_scipy(plan: Plan, currency: Currency, total: float) -> float:
    """The smallest objective that a general optimiser finds, over all divisions of the total."""
    measurements = list(measurements_of(plan))
    windows = np.array([m.windows for m in measurements], np.float64)

    def at(logs: np.ndarray) -> float:
        parts = np.exp(logs - logs.max())
        divided = dict(zip(measurements, total * parts / parts.sum() / windows, strict=True))
        return math.log(objective(plan, currency, divided))

    found = minimize(at, np.zeros(len(measurements)), method="L-BFGS-B", options={"maxiter": 2_000, "maxfun": 10**6})
    return math.exp(found.fun)


@given(any_plans(), st.sampled_from(Currency), TOTALS)
def test_a_period_spends_its_total_to_the_last_bit(plan: Plan, currency: Currency, total: Fraction) -> None:
    """Every measurement gets something, and what one unit can be charged adds up to the total, in exact fractions."""
    divided = shares(plan, currency, total)
    assert list(divided) == list(measurements_of(plan))
    assert all(share > 0 for share in divided.values())
    assert sum(share * m.windows for m, share in divided.items()) == total


@given(any_plans(), st.sampled_from(Currency), TOTALS)
def test_stated_weights_are_kept_in_proportion(plan: Plan, currency: Currency, total: Fraction) -> None:
    """By stated weights a whole period of each measurement costs its weight's part of the total, exactly."""
    divided = shares(with_privacy(plan, auto_weights=False), currency, total)
    whole = sum(m.weight for m in divided)
    for m, share in divided.items():
        assert share * m.windows == total * m.weight / whole
        assert m.weight in {plan.metric(m.metric).weight, plan.metric(m.metric).weight / 10}


def test_stated_weights_do_not_depend_on_the_currency_or_the_units() -> None:
    """Stated means stated: neither noise nor fleet moves the shares."""
    plan = with_privacy(PLAN, auto_weights=False)
    zcdp = shares(plan, Currency.ZCDP, Fraction(1))
    assert list(zcdp.values()) == list(shares(plan, Currency.PURE, Fraction(1)).values())
    assert list(zcdp.values()) == list(shares(small(plan, 3), Currency.ZCDP, Fraction(1)).values())


def automatic(name: str, currency: Currency) -> tuple[Plan, float, dict[Measurement, Fraction], float]:
    """A plan with automatic weights, a total typical of it, how that is divided, and how large the error is then."""
    plan = with_privacy(PLANS[name](), auto_weights=True)
    total = typical_total(plan, currency)
    divided = shares(plan, currency, Fraction(total))
    return plan, total, divided, objective(plan, currency, {m: float(share) for m, share in divided.items()})


@currencies
@pytest.mark.parametrize("name", PLANS)
def test_automatic_weights_are_the_best(name: str, currency: Currency) -> None:
    """No general optimiser finds a division with a smaller error than automatic weights, beyond their rounding."""
    plan, total, _, ours = automatic(name, currency)
    best = best_by_scipy(plan, currency, total)
    assert best * (1 - ROUNDING) <= ours <= best * (1 + ROUNDING)


@currencies
@pytest.mark.parametrize("name", PLANS)
def test_no_change_of_automatic_weights_helps(name: str, currency: Currency) -> None:
    """Neither moving budget between two measurements nor shaking all shares at random makes the error smaller."""
    plan, total, divided, ours = automatic(name, currency)
    measurements = list(divided)
    windows = np.array([m.windows for m in measurements], np.float64)
    spent = np.array([float(share) for share in divided.values()]) * windows
    generator = np.random.default_rng(7)
    for trial in range(100):
        factors = np.ones(len(spent))
        if trial % 2:
            factors = np.exp(generator.normal(scale=generator.choice([0.02, 0.1, 0.5, 2]), size=len(spent)))
        else:
            gains, loses = generator.choice(len(spent), 2, replace=False) if len(spent) > 1 else (0, 0)
            factors[gains], factors[loses] = 1.5, 0.7
        changed = spent * factors
        changed *= total / changed.sum()
        moved = objective(plan, currency, dict(zip(measurements, changed / windows, strict=True)))
        assert moved >= ours * (1 - ROUNDING)


@currencies
def test_automatic_weights_beat_stated_ones_at_the_real_budget(currency: Currency) -> None:
    """They are computed for a typical total; at the plan's own budget, a few percent away, they still lead."""
    auto = with_privacy(PLAN, auto_weights=True, currency=currency)
    budget = budget_of(auto, OpenDPMechanisms())
    assert budget.currency is currency
    amount = budget.loss.amount
    stated = shares(with_privacy(auto, auto_weights=False), currency, amount)
    ours = objective(auto, currency, {m: float(s) for m, s in shares(auto, currency, amount).items()})
    assert ours <= best_by_scipy(auto, currency, float(amount)) * (1 + 2 * ROUNDING)
    assert ours < objective(auto, currency, {m: float(s) for m, s in stated.items()})


@currencies
def test_a_heavier_metric_never_gets_less(currency: Currency) -> None:
    """Twice the weight never lowers a metric's part of the budget, stated or automatic."""
    for auto in (True, False):
        plan = with_privacy(PLAN, auto_weights=auto)
        for metric in plan.metrics:
            before = _by_metric(shares(plan, currency, Fraction(1)))
            after = _by_metric(shares(reweighed(plan, metric.name, 2 * metric.weight), currency, Fraction(1)))
            assert after[metric.name] > before[metric.name]


def _by_metric(divided: Mapping[Measurement, Fraction]) -> dict[str, Fraction]:
    found: defaultdict[str, Fraction] = defaultdict(Fraction)
    for m, share in divided.items():
        found[m.metric] += share * m.windows
    return dict(found)


@currencies
def test_what_is_hopeless_does_not_eat_the_budget(currency: Currency) -> None:
    """Beside a count that half the budget makes just useful, one of 10,000 empty partitions leaves it a third of it."""
    calls = PLAN.metric("calls")
    daily = {"1d": calls.bounds["1d"]}
    count = dataclasses.replace(calls, dimensions=(), views=((),), at=("1d",), bounds=daily, statistics=(Statistic.UNITS,))
    many = Dimension("size", tuple(f"v{i}" for i in range(10_000)))
    hopeless = dataclasses.replace(count, name="hopeless", dimensions=(many,), views=((many.name,),))
    plan = dataclasses.replace(PLAN, metrics=(count, hopeless), built_in=())
    [m, _] = measurements_of(plan)
    units = noise_std(m, currency, typical_total(plan, currency) / 2 / m.windows) / USEFUL_ERROR
    parts = _by_metric(shares(small(plan, round(units)), currency, Fraction(1)))
    assert parts["calls"] == pytest.approx(Fraction(1, 3), rel=0.15)


@given(any_plans(opened=False), st.sampled_from(Currency), TOTALS)
def test_the_expected_error_is_that_of_its_statistics(plan: Plan, currency: Currency, total: Fraction) -> None:
    """Where nothing can be hidden, the expected error is the weighed mean over the statistics."""
    divided = shares(plan, currency, total)
    plainly = objective(plan, currency, {m: float(share) for m, share in divided.items()})
    assert expected_error(plan, currency, divided, Fraction(0)) == pytest.approx(plainly)


def losses_of(plan: Plan) -> dict[Currency, PrivacyLoss]:
    """What a period may cost in each currency."""
    found = {c: budget_of(with_privacy(plan, currency=c), OpenDPMechanisms()) for c in Currency}
    return {currency: budget.loss for currency, budget in found.items()}


@pytest.mark.parametrize("name", PLANS)
def test_the_chosen_currency_errs_less(name: str) -> None:
    """The plan's budget is in the currency with the smaller expected error, unless the plan names one."""
    plan = with_privacy(PLANS[name](), currency=None)
    losses = losses_of(plan)
    errors = {c: expected_error(plan, c, shares(plan, c, loss.amount), loss.delta) for c, loss in losses.items()}
    chosen = choose_currency(plan, losses)
    assert errors[chosen] == min(errors.values())
    assert budget_of(plan, OpenDPMechanisms()).currency is chosen
    for currency in Currency:
        assert choose_currency(with_privacy(plan, currency=currency), losses) is currency


@pytest.mark.parametrize(("epsilon", "delta"), [("1", "1e-6"), ("0.5", "1e-8"), ("4", "1e-8")])
def test_laplace_noise_wins_while_a_unit_is_in_few_releases(epsilon: str, delta: str) -> None:
    """Of one count a window, pure losses err less up to as many windows as the two standard deviations say, zCDP beyond."""
    calls = PLAN.metric("calls")
    bounds = calls.bounds["1h"]
    count = dataclasses.replace(calls, views=((),), at=("1h",), bounds={"1h": bounds}, statistics=(Statistic.UNITS,))
    plan = with_privacy(PLAN, epsilon=Decimal(epsilon), delta=Decimal(delta), currency=None)
    losses = losses_of(dataclasses.replace(plan, metrics=(PLAN.metric("codec"),), built_in=()))
    chosen = []
    for cap in range(1, 169):
        capped = dataclasses.replace(count, bounds={"1h": dataclasses.replace(bounds, max_windows=cap)})
        chosen.append(choose_currency(dataclasses.replace(plan, metrics=(capped,), built_in=()), losses))
        pure = math.sqrt(2) * cap / float(losses[Currency.PURE].amount)
        zcdp = math.sqrt(cap / (2 * float(losses[Currency.ZCDP].amount)))
        assert (chosen[-1] is Currency.PURE) == (pure <= zcdp)
    assert chosen[0] is Currency.PURE
    assert chosen[-1] is Currency.ZCDP


def test_hidden_partitions_count_as_error() -> None:
    """Of private partitions a smaller delta hides more, and so errs more; public ones do not care."""
    few = small(PLAN, 2_000)
    divided = shares(few, Currency.ZCDP, Fraction(1, 4))
    errors = [expected_error(few, Currency.ZCDP, divided, Fraction(1, 10**n)) for n in (5, 9, 30)]
    assert errors[0] < errors[1] < errors[2]
    public = dataclasses.replace(few, metrics=few.metrics[:1])
    divided = shares(public, Currency.ZCDP, Fraction(1, 4))
    assert len({expected_error(public, Currency.ZCDP, divided, Fraction(1, 10**n)) for n in (5, 30)}) == 1


@currencies
def test_noise_is_as_large_as_its_price(currency: Currency) -> None:
    """A measurement's expected noise is that of its mechanism: sqrt(2) L1 / epsilon, or L2 / sqrt(2 rho)."""
    for m in measurements_of(PLAN):
        expected = math.sqrt(2) * m.l1 / 0.3 if currency is Currency.PURE else math.sqrt(m.l2_squared) / math.sqrt(0.6)
        assert noise_std(m, currency, 0.3) == pytest.approx(expected)


def test_clamped_shares_take_little() -> None:
    """Whom bounds altered is measured at a tenth of its metric's weight."""
    weights = {m.name: m.weight for m in measurements_of(PLAN) if m.metric == "call_setup"}
    assert weights[MeasurementName.CLAMPED] * 10 == weights[MeasurementName.WEIGHTS] == 2
