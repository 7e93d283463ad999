"""What a loss is in epsilon and delta, and how much the conversion from zCDP gives away (C2)."""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import NormalDist

import pytest

from hushmeter.ledger.accountant import epsilon_and_delta
from hushmeter.ledger.gaussian import conversion_overhead, delta_of, exact_mu
from hushmeter.model.ledger import PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency
from hushmeter.noise.opendp import OpenDPMechanisms

NORMAL = NormalDist()
PAIRS = [(0.5, 1e-6), (1.0, 1e-5), (2.0, 1e-3), (4.0, 1e-8), (0.01, 0.2), (0.1, 0.9)]


@pytest.mark.parametrize("mu", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_delta_is_that_of_the_gaussian_mechanism(epsilon: float, mu: float) -> None:
    """It is what Balle and Wang's Theorem 8 says, with the normal distribution of the standard library."""
    stated = NORMAL.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * NORMAL.cdf(-mu / 2 - epsilon / mu)
    assert delta_of(mu, epsilon) == pytest.approx(stated, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("epsilon", "delta"), PAIRS)
def test_the_exact_noise_is_the_least_that_holds(epsilon: float, delta: float) -> None:
    """The next larger ratio of sensitivity and sigma has more than delta."""
    mu = exact_mu(epsilon, delta)
    assert delta_of(mu, epsilon) <= delta < delta_of(math.nextafter(mu, math.inf), epsilon)


@pytest.mark.parametrize("mu", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_a_ratio_that_has_exactly_delta_holds(mu: float) -> None:
    """From the delta of a ratio that ratio comes back, or one more by rounding alone."""
    found = exact_mu(1.0, delta_of(mu, 1.0))
    assert mu <= found == pytest.approx(mu, rel=1e-12)


def test_zcdp_gives_away_what_the_exact_composition_would_not() -> None:
    """The overhead is the ratio of both noises: with that much less noise, delta at epsilon is all of the budget's."""
    loss = PrivacyLoss(OpenDPMechanisms().zcdp_budget(4.0, 5e-9), Fraction(5e-9))
    budget = PrivacyBudget(4.0, 1e-8, Currency.ZCDP, loss)
    overhead = conversion_overhead(budget)
    assert 1 < overhead < 1.2
    mu = math.sqrt(2 * float(loss.amount))
    assert delta_of(mu * overhead, 4.0) == pytest.approx(budget.conversion_delta, rel=1e-9)
    assert delta_of(mu, 4.0) < budget.conversion_delta


def test_pure_losses_are_not_converted() -> None:
    """Epsilons that add up give nothing away, and are told as they are."""
    loss = PrivacyLoss(Fraction(4), Fraction(1e-8))
    budget = PrivacyBudget(4.0, 1e-8, Currency.PURE, loss)
    assert conversion_overhead(budget) == 1.0
    assert epsilon_and_delta(loss, budget, OpenDPMechanisms()) == (4.0, 1e-8)


def test_deltas_of_conversion_and_selection_add_up() -> None:
    """Delta is that of the conversion, which is one for any span, and of all selections, rounded up."""
    budget = PrivacyBudget(4.0, 1e-8, Currency.ZCDP, PrivacyLoss(Fraction(1, 4), Fraction(4, 10**9)))
    mechanisms = OpenDPMechanisms()
    for periods in (1, 2, 52):
        loss = budget.loss.times(periods)
        epsilon, delta = epsilon_and_delta(loss, budget, mechanisms)
        assert epsilon == mechanisms.epsilon_of(loss.amount, budget.conversion_delta)
        assert delta == pytest.approx(6e-9 + 4e-9 * periods, rel=1e-12)
        assert Fraction(delta) >= Fraction(budget.conversion_delta) + loss.delta
