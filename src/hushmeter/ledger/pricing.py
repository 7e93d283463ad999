"""What a window costs, and how much noise that buys (C1-C3, C5); pure, exact in Fractions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from hushmeter.errors import ensure
from hushmeter.ledger.accountant import ensure_affordable, spendings_of
from hushmeter.model.ledger import Charge, MeasurementCharge, PrivacyBudget, PrivacyLoss, Spending
from hushmeter.model.measurement import Currency, Measurement, Mechanism
from hushmeter.model.plan import Plan
from hushmeter.model.time import Window, iso
from hushmeter.plan.budget_division import shares

_SLACK = 1 - Fraction(1, 2**40)
"""Room for the privacy map, which rounds up in floating point: less than 1e-12 of the noise."""


class Thresholds(Protocol):
    """The part of the port `Mechanisms` that pricing needs: a function of parameters alone, no data and no noise."""

    def threshold(self, mechanism: Mechanism, *, scale: float, l0: int, delta: Fraction) -> int:
        """See `hushmeter.ports.Mechanisms`."""


def calibrate(measurement: Measurement, currency: Currency, amount: Fraction) -> float:
    """The scale of noise that costs at most an amount, with a little room for a map that rounds up.

    Args:
        measurement: with its exact sensitivities.
        currency: of the amount.
        amount: rho or epsilon that may be spent.

    Returns:
        sigma with `(l2_sensitivity / sigma)**2 / 2 <= rho * (1 - 2**-40)`, or b with
        `l1_sensitivity / b <= epsilon * (1 - 2**-40)`; exactly.

    References:
        M. Bun, T. Steinke (2016), Proposition 1.6: rho = (sensitivity / sigma)^2 / 2.
        C. Dwork, F. McSherry, K. Nissim, A. Smith (2006), Proposition 1: epsilon = sensitivity / b.
    """
    ensure(amount > 0, "a measurement cannot be free")
    sensitivity = Fraction(measurement.sensitivity(currency))
    if currency is Currency.PURE:
        least = sensitivity / (amount * _SLACK)
        scale = float(least)
        while Fraction(scale) < least:
            scale = math.nextafter(scale, math.inf)
        return scale
    squared = sensitivity**2
    scale = math.sqrt(squared / (2 * amount * _SLACK))
    while squared > 2 * amount * _SLACK * Fraction(scale) ** 2:
        scale = math.nextafter(scale, math.inf)
    return scale


@dataclass(frozen=True, slots=True)
class PriceList:
    """The price of every measurement of a plan, for one window each.

    Attributes:
        plan: the plan.
        budget: of one period.
        items: by resolution, in the order of `measurements_of`.
    """

    plan: Plan
    budget: PrivacyBudget
    items: Mapping[str, Sequence[MeasurementCharge]]

    @classmethod
    def of(cls, plan: Plan, budget: PrivacyBudget, thresholds: Thresholds) -> PriceList:
        """Divides the budget among all measurements of a period and calibrates each.

        Delta is divided evenly among the windows of what selects private partitions (C5).
        """
        divided = shares(plan, budget.currency, budget.loss.amount)
        selecting = sum(m.windows for m in divided if m.selects)
        ensure(selecting == 0 or budget.loss.delta > 0, "private partitions need a share of delta (C5)")
        delta = budget.loss.delta / max(1, selecting)
        items: dict[str, list[MeasurementCharge]] = {r.name: [] for r in plan.resolutions}
        for m, amount in divided.items():
            loss = PrivacyLoss(amount, delta if m.selects else Fraction(0))
            scale, mechanism = calibrate(m, budget.currency, amount), m.mechanism(budget.currency)
            threshold = thresholds.threshold(mechanism, scale=scale, l0=m.l0, delta=delta) if m.selects else None
            sensitivity = m.sensitivity(budget.currency)
            items[m.resolution].append(MeasurementCharge(m, mechanism, sensitivity, loss, scale, threshold))
        return cls(plan, budget, items)

    def charge(self, window: Window, spent: Sequence[Spending]) -> Charge:
        """The price of one window.

        Metrics that had expired when the window began are neither released nor charged; their share stays unspent (C3).

        Args:
            window: the release window.
            spent: what its period has been charged so far.

        Raises:
            BudgetExhausted: the period cannot pay.
        """
        released = {m.name for m in self.plan.metrics_in(window)}
        items = tuple(item for item in self.items[window.resolution] if item.measurement.metric in released)
        period = self.plan.privacy.period.window_of(window.end_ms)
        charge = Charge(window.resolution, window.start_ms, window.end_ms, period.start_ms, self.budget.currency, items)
        ensure_affordable(window, spent, spendings_of(charge), self.budget, f"from {iso(period.end_ms)} on")
        return charge
