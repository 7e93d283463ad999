"""What a person is told of a period's budget: a refusal, what spans of time have cost, and a period that was overspent."""

from __future__ import annotations

from fractions import Fraction

import pytest

from hushmeter.errors import BudgetExhausted, LedgerBroken
from hushmeter.ledger.accountant import SpanCost, ensure_affordable, span_costs
from hushmeter.ledger.entries import LedgerSummary, verify_budget
from hushmeter.model.ledger import GENESIS, PrivacyBudget, PrivacyLoss, Spending
from hushmeter.model.measurement import Currency
from hushmeter.model.time import DAY_MS, WEEK_MS, Span, Window

MONDAY = 4 * DAY_MS
WEEK = Span.parse("1w")
DELTA = Fraction(1, 10**9)


def loss(amount: str, deltas: int = 0) -> PrivacyLoss:
    return PrivacyLoss(Fraction(amount), deltas * DELTA)


def budget_for(currency: Currency, amount: str = "1/4", deltas: int = 5) -> PrivacyBudget:
    return PrivacyBudget(4.0, 1e-8, currency, loss(amount, deltas))


SPENT = (Spending("a", 2, loss("0.0625")), Spending("b", 7, loss("0.125", 3)))


@pytest.mark.parametrize(("currency", "unit"), [(Currency.ZCDP, "rho"), (Currency.PURE, "epsilon")])
def test_a_refusal_says_what_was_asked_spent_and_left(currency: Currency, unit: str) -> None:
    """It names the plan's unit, both prices, both budgets, every series that would fit, and when there is more."""
    asked = (
        Spending("c", 1, loss("0.03125")),
        Spending("d", 1, loss("0.25")),
        Spending("e", 1, loss("0.015625", 1)),
        Spending("f", 1, loss("0.001", 2)),
    )
    with pytest.raises(BudgetExhausted) as refused:
        ensure_affordable(Window("1d", MONDAY, MONDAY + DAY_MS), SPENT, asked, budget_for(currency), "on Monday")
    assert str(refused.value) == (
        f"window 1d 1970-01-05T00:00:00Z asks for {unit} 0.297875 and delta 3e-09; its period has spent 0.1875 of 0.25 and "
        "delta 3e-09 of 5e-09, so 0.0625 remains; nothing was published or charged; what would fit: c, e; on Monday the "
        "next period has a new budget, and `hushmeter ledger show` lists what this one paid"
    )


def test_a_refusal_says_that_nothing_would_fit() -> None:
    """Where no series that was asked for fits into the rest, the refusal says so in a word."""
    window, budget = Window("1w", MONDAY, MONDAY + WEEK_MS), budget_for(Currency.ZCDP)
    with pytest.raises(BudgetExhausted) as refused:
        ensure_affordable(window, SPENT, [Spending("c", 1, loss("1/3", 1))], budget, "on 12 January")
    assert str(refused.value) == (
        "window 1w 1970-01-05T00:00:00Z asks for rho 0.333333333 and delta 1e-09; its period has spent 0.1875 of 0.25 and "
        "delta 3e-09 of 5e-09, so 0.0625 remains; nothing was published or charged; what would fit: nothing; on 12 January "
        "the next period has a new budget, and `hushmeter ledger show` lists what this one paid"
    )


def test_one_period_is_all_that_any_span_has_cost() -> None:
    """While one period was charged, every span has touched one period, and cost what that one did."""
    costs = span_costs({MONDAY: loss("1/8", 2)}, WEEK)
    names = ("one period (1w)", "any rolling period", "any 30 days", "any year", "to date (since 1970-01-05T00:00:00Z)")
    assert costs == tuple(SpanCost(name, loss("1/8", 2), 1) for name in names)


def test_amounts_and_deltas_of_the_dearest_span_add_up() -> None:
    """A span costs the deltas of its periods as well as their amounts, and no others; a week without charges is free."""
    weeks = {0: loss("1/8", 1), 1: loss("1/4", 2), 2: loss("1/4", 3), 4: loss("1/8", 4)}
    costs = span_costs({MONDAY + n * WEEK_MS: cost for n, cost in weeks.items()}, WEEK)
    assert {cost.name: (cost.loss, cost.periods) for cost in costs} == {
        "one period (1w)": (loss("1/4", 3), 1),
        "any rolling period": (loss("1/2", 5), 2),
        "any 30 days": (loss("3/4", 10), 5),
        "any year": (loss("3/4", 10), 5),
        "to date (since 1970-01-05T00:00:00Z)": (loss("3/4", 10), 5),
    }


def summary_of(by_period: dict[int, PrivacyLoss]) -> LedgerSummary:
    return LedgerSummary(1, len(by_period), GENESIS, by_period)


def test_a_period_has_the_budget_of_the_plan_that_rules_when_it_begins() -> None:
    """A later version's budget holds from the period on that begins at its moment, until the next version's does."""
    first, second, third = MONDAY, MONDAY + WEEK_MS, MONDAY + 2 * WEEK_MS
    budget = budget_for(Currency.ZCDP)
    later = {third: budget_for(Currency.ZCDP, "1/2"), second: budget_for(Currency.PURE, "1/8")}
    verify_budget(summary_of({first: loss("1/4"), second: loss("1/8"), third: loss("1/2")}), budget, later)
    verify_budget(summary_of({third + WEEK_MS: loss("1/2")}), budget, later)
    for start, amount, told in (
        (first, "0.26", "1970-01-05T00:00:00Z was charged zcdp 0.26 and delta 3e-09; its budget is 0.25 and 5e-09"),
        (second, "0.13", "1970-01-12T00:00:00Z was charged pure 0.13 and delta 3e-09; its budget is 0.125 and 5e-09"),
        (third, "0.51", "1970-01-19T00:00:00Z was charged zcdp 0.51 and delta 3e-09; its budget is 0.5 and 5e-09"),
    ):
        with pytest.raises(LedgerBroken) as broken:
            verify_budget(summary_of({start: loss(amount, 3)}), budget, later)
        assert str(broken.value) == f"the period from {told}"
