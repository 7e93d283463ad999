"""What a window costs, and whether its period can pay (C1-C3); pure, exact in Fractions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hushmeter.errors import BudgetExhausted, ensure
from hushmeter.model.ledger import Charge, MeasurementCharge, PrivacyBudget
from hushmeter.model.measurement import Measurement
from hushmeter.model.plan import Plan
from hushmeter.model.time import Window, iso
from hushmeter.plan.measurements import rho_shares

_SLACK = 1 - Fraction(1, 2**40)
"""Room for the privacy map, which rounds up in floating point: less than 1e-12 of the noise."""


def calibrate(measurement: Measurement, rho: Fraction) -> float:
    """The scale of a discrete Gaussian that costs at most rho, with a little room for a map that rounds up.

    Args:
        measurement: with its exact squared sensitivity.
        rho: what may be spent.

    Returns:
        sigma with `(l2_sensitivity / sigma)**2 / 2 <= rho * (1 - 2**-40)`, exactly.

    References:
        M. Bun, T. Steinke (2016), Proposition 1.6: rho = (sensitivity / sigma)^2 / 2.
    """
    ensure(rho > 0, "a measurement cannot be free")
    squared = Fraction(measurement.l2_sensitivity) ** 2
    scale = math.sqrt(squared / (2 * rho * _SLACK))
    while squared > 2 * rho * _SLACK * Fraction(scale) ** 2:
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
    def of(cls, plan: Plan, budget: PrivacyBudget) -> PriceList:
        """Divides the budget among all measurements of a period and calibrates each."""
        items: dict[str, list[MeasurementCharge]] = {r.name: [] for r in plan.resolutions}
        for measurement, rho in rho_shares(plan, budget.rho).items():
            items[measurement.resolution].append(MeasurementCharge(measurement, rho, calibrate(measurement, rho)))
        return cls(plan, budget, items)

    def charge(self, window: Window, spent: Fraction) -> Charge:
        """The price of one window.

        Metrics that had expired when it began are neither released nor charged; their share stays unspent (C3).

        Args:
            window: the release window.
            spent: what its period has been charged so far.

        Raises:
            BudgetExhausted: the period cannot pay.
        """
        released = {m.name for m in self.plan.metrics_in(window)}
        items = tuple(item for item in self.items[window.resolution] if item.measurement.metric in released)
        period = self.plan.privacy.period.window_of(window.end_ms)
        charge = Charge(window.resolution, window.start_ms, window.end_ms, period.start_ms, items)
        if spent + charge.rho > self.budget.rho:
            remaining = self.budget.rho - spent
            raise BudgetExhausted(
                f"window {window} asks for rho {float(charge.rho):.6g}, but of the period's {float(self.budget.rho):.6g} "
                f"{float(spent):.6g} is spent, {float(remaining):.6g} remains; the next period begins {iso(period.end_ms)}"
            )
        return charge
