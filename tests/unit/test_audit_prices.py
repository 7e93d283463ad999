"""The audit recomputes what a plan charges: honest prices hold, and each that is too low fails the check of its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest

from hushmeter.ledger.pricing import PriceList
from hushmeter.model.ledger import MeasurementCharge, PrivacyLoss
from hushmeter.model.plan import Plan
from hushmeter.rehearsal.audit.plans import AUDIT_PLANS
from hushmeter.rehearsal.audit.prices import audit_prices
from hushmeter.rehearsal.audit.run import Trial

ZCDP, PURE = (Trial(text, quick=True, numbers=frozenset()).priced() for text in AUDIT_PLANS)
Change = Callable[[MeasurementCharge], MeasurementCharge]


def failed(plan: Plan, prices: PriceList) -> dict[str, str]:
    """What was found by each check that fails."""
    return {e.name: e.note for e in audit_prices(plan, prices) if not e.holds}


def charged(prices: PriceList, change: Change, metric: str = "") -> PriceList:
    """The prices with a change of every charge, or of those of one metric."""
    items = {
        name: [change(i) if metric in ("", i.measurement.metric) else i for i in of_resolution]
        for name, of_resolution in prices.items.items()
    }
    return replace(prices, items=items)


def budgeted(prices: PriceList, *, amount: Fraction = Fraction(1), delta: Fraction = Fraction(1)) -> PriceList:
    """The prices with another budget: so many times its loss's amount and delta."""
    loss = prices.budget.loss
    return replace(prices, budget=replace(prices.budget, loss=PrivacyLoss(loss.amount * amount, loss.delta * delta)))


def dearer(item: MeasurementCharge, amount: int = 1, delta: int = 1) -> MeasurementCharge:
    """The same noise at a higher price."""
    return replace(item, loss=PrivacyLoss(item.loss.amount * amount, item.loss.delta * delta))


@pytest.mark.parametrize("trial", [ZCDP, PURE], ids=["zcdp", "pure"])
def test_honest_prices_hold(trial: tuple[Plan, PriceList]) -> None:
    """No check fails on what the service charges, in either currency."""
    assert failed(*trial) == {}


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (lambda i: replace(i, sensitivity=i.sensitivity / 2), "sensitivity of each charge", "one unit can move it by"),
        (lambda i: replace(i, scale=i.scale / 2), "loss of each charge", "is charged"),
        (
            lambda i: i if i.threshold is None else replace(i, threshold=i.threshold - 2),
            "delta of each threshold",
            "a unit alone is shown with",
        ),
        (lambda i: dearer(i, amount=2), "the period costs at most its budget", "one period costs"),
        (lambda i: dearer(i, delta=2), "the period costs at most its budget", "selections of one period cost delta"),
    ],
    ids=["sensitivity", "scale", "threshold", "amount", "delta"],
)
@pytest.mark.parametrize("trial", [ZCDP, PURE], ids=["zcdp", "pure"])
def test_a_charge_that_is_wrong_is_found(trial: tuple[Plan, PriceList], change: Change, check: str, words: str) -> None:
    """The check that is about a charge's field fails, and says by how much."""
    plan, prices = trial
    assert words in failed(plan, charged(prices, change)).get(check, "")


@pytest.mark.parametrize("trial", [ZCDP, PURE], ids=["zcdp", "pure"])
def test_a_measurement_that_shares_its_bounding_is_held_to_its_own_sensitivity(trial: tuple[Plan, PriceList]) -> None:
    """Where views share one bounding, a charge below the measurement's exact sensitivity is found."""
    plan, prices = trial
    lower = charged(prices, lambda i: replace(i, sensitivity=i.sensitivity * 0.99), "shared")
    note = failed(plan, lower)["sensitivity of each charge"]
    assert note.startswith("shared")
    assert note.endswith("the charge is below the measurement's own sensitivity")


def test_a_budget_that_the_plan_does_not_have_is_found() -> None:
    """An epsilon beyond the plan's is found, however little of it is spent."""
    plan, prices = ZCDP
    larger = replace(prices, budget=replace(prices.budget, epsilon=prices.budget.epsilon * 2))
    assert failed(plan, larger) == {"the period costs at most its budget": "the budget is larger than what the plan says"}


@pytest.mark.parametrize(
    ("trial", "words"),
    [(ZCDP, "implies epsilon 4 at delta"), (PURE, "the budget is more than its epsilon")],
    ids=["zcdp", "pure"],
)
def test_a_budget_that_its_epsilon_does_not_pay_for_is_found(trial: tuple[Plan, PriceList], words: str) -> None:
    """One per cent more than epsilon allows is found, in either currency."""
    plan, prices = trial
    assert words in failed(plan, budgeted(prices, amount=Fraction(101, 100)))["epsilon of the budget"]
