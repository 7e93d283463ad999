"""The accountant and the budget against references that follow their definitions, in exact fractions."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import math
from decimal import Decimal
from fractions import Fraction

import pytest
from dp_accounting.pld import privacy_loss_distribution
from hypothesis import example, given
from hypothesis import strategies as st

from hushmeter.errors import BudgetExhausted
from hushmeter.ledger.accountant import ensure_affordable, period_loss, span_costs
from hushmeter.model.ledger import PrivacyBudget, PrivacyLoss, Spending
from hushmeter.model.measurement import Currency, float_down, float_up
from hushmeter.model.time import DAY_MS, Span, Window, iso
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.reading import parse_plan
from hushmeter.plan.template import plan_template
from hushmeter.service.deployment.budget import budget_of
from tests.examples import examples

TODAY = dt.date(2026, 3, 2)
PLAN = parse_plan(plan_template(TODAY), TODAY)
"""One of its metrics has an open dimension."""
MECHANISMS = OpenDPMechanisms()


@given(st.fractions(min_value=Fraction(1, 10**30), max_value=10**6))
@example(Fraction(Decimal("0.1")))
@example(Fraction(1e-8))
def test_floats_are_rounded_to_their_side(number: Fraction) -> None:
    """`float_down` is the largest float that is no more, `float_up` the smallest that is no less."""
    down, up = float_down(number), float_up(number)
    assert Fraction(down) <= number <= Fraction(up)
    assert up in {down, float_up(Fraction(down) + Fraction(1, 10**400))}, "there is no float between them"


@examples(10)
@pytest.mark.parametrize("selecting", [True, False])
@pytest.mark.parametrize("currency", Currency)
@given(
    st.decimals(Decimal("0.01"), Decimal(100), places=20),
    st.decimals(Decimal("1e-12"), Decimal("9e-4"), places=25),
)
@example(Decimal("0.1"), Decimal("1e-8"))
def test_a_budget_never_exceeds_what_the_plan_says(
    currency: Currency, selecting: bool, epsilon: Decimal, delta: Decimal
) -> None:
    """Epsilon and delta are no more than the plan's decimals, and all parts together imply no more than them (C5)."""
    privacy = dataclasses.replace(PLAN.privacy, epsilon=epsilon, delta=delta, currency=currency)
    metrics = tuple(m for m in PLAN.metrics if selecting or not any(d.open for d in m.dimensions))
    budget = budget_of(dataclasses.replace(PLAN, privacy=privacy, metrics=metrics), MECHANISMS)
    assert Fraction(budget.epsilon) <= Fraction(epsilon)
    assert Fraction(budget.delta) <= Fraction(delta)
    assert budget.epsilon == pytest.approx(float(epsilon), rel=1e-15)
    assert budget.delta == pytest.approx(float(delta), rel=1e-15)
    assert budget.currency is currency
    assert Fraction(budget.conversion_delta) + budget.loss.delta <= Fraction(delta)
    assert (budget.loss.delta > 0) == selecting
    if currency is Currency.PURE:
        assert Fraction(epsilon) * (1 - Fraction(1, 2**52)) <= budget.loss.amount <= Fraction(epsilon)
    else:
        assert Fraction(MECHANISMS.epsilon_of(budget.loss.amount, budget.conversion_delta)) <= Fraction(epsilon)
        more = budget.loss.amount * (1 + Fraction(1, 10**6))
        assert MECHANISMS.epsilon_of(more, budget.conversion_delta) > budget.epsilon, "and little is given away"


amounts = st.fractions(min_value=Fraction(1, 1000), max_value=3, max_denominator=1000)
spent = st.lists(
    st.builds(
        Spending,
        st.sampled_from(["a", "b"]),
        st.just(2),
        st.builds(PrivacyLoss, amounts, st.sampled_from([Fraction(0), Fraction(1, 10**6), Fraction(1, 10**7)])),
        st.integers(1, 2),
    ),
    max_size=4,
)


@given(spent)
def test_a_period_costs_what_the_worst_choice_of_windows_does(charged: list[Spending]) -> None:
    """No unit that is in at most `cap` windows of each series loses more than is counted, and some unit loses that (P7)."""
    windows = [(s.series, s.loss) for s in charged for _ in range(s.count)]
    chosen = [
        subset
        for size in range(len(windows) + 1)
        for subset in itertools.combinations(windows, size)
        if all(sum(series == name for series, _ in subset) <= 2 for name in ("a", "b"))
    ]
    counted = period_loss(charged)
    assert counted.amount == max(sum((loss.amount for _, loss in subset), Fraction(0)) for subset in chosen)
    assert counted.delta == max(sum((loss.delta for _, loss in subset), Fraction(0)) for subset in chosen)


@given(spent, spent, st.fractions(0, 12, max_denominator=50))
def test_a_period_pays_exactly_what_it_can(before: list[Spending], asked: list[Spending], whole: Fraction) -> None:
    """A window is refused if and only if its period's budget does not hold it; the refusal says all it takes to go on."""
    loss = PrivacyLoss(whole + Fraction(1, 10**9), Fraction(1, 10**5))
    budget = PrivacyBudget(20.0, 1e-4, Currency.PURE, loss)
    fits = period_loss([*before, *asked]).within(loss)
    window = Window("1d", 0, DAY_MS)
    if fits:
        ensure_affordable(window, before, asked, budget, "tomorrow")
        return
    with pytest.raises(BudgetExhausted) as refused:
        ensure_affordable(window, before, asked, budget, "tomorrow")
    told = str(refused.value)
    spent_before, after = period_loss(before), period_loss([*before, *asked])
    numbers = (spent_before.amount, after.amount - spent_before.amount, loss.amount, loss.amount - spent_before.amount)
    for number in numbers:
        assert f"{float(number):.9g}" in told
    assert str(window) in told
    assert "tomorrow the next period has a new budget" in told
    assert "what would fit:" in told


@given(
    st.lists(st.fractions(0, 5, max_denominator=20), min_size=1, max_size=70),
    st.sampled_from(["1d", "1w"]),
    st.integers(0, 500),
)
def test_the_dearest_span_is_counted(losses: list[Fraction], period_name: str, offset: int) -> None:
    """Whatever the moment a span of 30 days begins at, the periods that it touches cost no more than is stated (C5)."""
    period = Span.parse(period_name)
    first = period.window_of(1 + offset * DAY_MS).start_ms
    starts = [first + n * period.length_ms for n in range(len(losses))]
    by_period = {start: PrivacyLoss(amount, Fraction(0)) for start, amount in zip(starts, losses, strict=True)}
    stated = {cost.name: cost.loss.amount for cost in span_costs(by_period, period)}
    assert stated[f"one period ({period_name})"] == max(losses)
    assert stated[f"to date (since {iso(first)})"] == sum(losses)
    for days, name in ((30, "any 30 days"), (365, "any year")):
        touched = [
            sum(
                (
                    amount
                    for start, amount in zip(starts, losses, strict=True)
                    if start < begin + days * DAY_MS and start + period.length_ms > begin
                ),
                Fraction(0),
            )
            for at in starts
            for begin in (at - 1, at, at + 1)
        ]
        assert max(touched) <= stated[name]


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 1e-6), (2.0, 1e-6), (4.0, 1e-8)])
@pytest.mark.parametrize("parts", [(1,), (1, 1, 1, 1, 1), (10, 3, 1, 0.1)], ids=str)
def test_composed_gaussians_cost_no_more_than_is_stated(epsilon: float, delta: float, parts: tuple[float, ...]) -> None:
    """Google's accountant, which composes privacy loss distributions, finds at most the epsilon that was budgeted (C2)."""
    rho = MECHANISMS.zcdp_budget(epsilon, delta)
    composed = None
    for part in parts:
        sigma = math.sqrt(1 / (2 * float(rho) * part / sum(parts)))
        one = privacy_loss_distribution.from_gaussian_mechanism(sigma, value_discretization_interval=1e-3)
        composed = one if composed is None else composed.compose(one)
    assert composed is not None
    found = composed.get_epsilon_for_delta(delta)
    assert 0.85 * epsilon <= found <= epsilon


@pytest.mark.parametrize("parts", [(1.0,), (0.5, 0.25, 0.25), (0.1,) * 10], ids=str)
def test_composed_laplaces_cost_no_more_than_is_stated(parts: tuple[float, ...]) -> None:
    """With delta next to nothing, Google's accountant finds at most the sum of epsilons, and all but the last of it."""
    composed = None
    for part in parts:
        one = privacy_loss_distribution.from_laplace_mechanism(1 / part, value_discretization_interval=1e-4)
        composed = one if composed is None else composed.compose(one)
    assert composed is not None
    found = composed.get_epsilon_for_delta(1e-12)
    assert found <= sum(parts) * (1 + 1e-3)
    if len(parts) == 1:
        assert found >= 0.99
