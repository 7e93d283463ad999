"""The exact (epsilon, delta) curve of the Gaussian mechanism, to say what the conversion from zCDP costs.

References:
    B. Balle, Y. Wang: Improving the Gaussian Mechanism for Differential Privacy (2018), Theorem 8.
    J. Dong, A. Roth, W. Su: Gaussian Differential Privacy (2019), Corollary 2.13.
"""

from __future__ import annotations

import math

from hushmeter.model.ledger import PrivacyBudget
from hushmeter.model.measurement import Currency


def delta_of(mu: float, epsilon: float) -> float:
    """The exact delta at epsilon of Gaussian noise with sensitivity / sigma = mu."""
    return _below(-epsilon / mu + mu / 2) - math.exp(epsilon) * _below(-epsilon / mu - mu / 2)


def exact_mu(epsilon: float, delta: float) -> float:
    """The largest mu whose exact curve holds (epsilon, delta), by bisection."""
    low, high = 0.0, 1.0
    while delta_of(high, epsilon) <= delta:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        if delta_of(middle, epsilon) <= delta:
            low = middle
        else:
            high = middle
    return low


def conversion_overhead(budget: PrivacyBudget) -> float:
    """How much more noise the budget's rho takes than the exact composition of its Gaussians would: 1 for none.

    All releases of a period together are one Gaussian mechanism with mu = sqrt(2 rho); noise grows as 1 / mu.
    """
    if budget.currency is not Currency.ZCDP:
        return 1.0
    return exact_mu(budget.epsilon, budget.conversion_delta) / math.sqrt(2 * float(budget.loss.amount))


def _below(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2
