"""The privacy budget of a plan's period."""

from __future__ import annotations

from fractions import Fraction

from hushmeter.errors import PlanError
from hushmeter.model.ledger import PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency, float_down
from hushmeter.model.plan import Plan
from hushmeter.plan.budget_division import choose_currency
from hushmeter.ports import Mechanisms


def budget_of(plan: Plan, mechanisms: Mechanisms, founded: Currency | None = None) -> PrivacyBudget:
    """The period's budget in the plan's currency, which is chosen here where the plan leaves it open (C1).

    A deployment keeps the currency that it was `founded` with, so that the losses of its periods add up.

    Where the plan has private partitions, these may spend half of delta, and the conversion of rho the other half. Pure
    losses need no conversion: private partitions may spend all of delta (C5). Epsilon and delta never exceed what the plan
    says.
    """
    epsilon, delta = (float_down(Fraction(stated)) for stated in (plan.privacy.epsilon, plan.privacy.delta))
    selecting = any(m.open_dimension(view) for m in plan.metrics for view in m.views)
    halved = Fraction(delta) / 2 if selecting else Fraction(0)
    conversion = delta / 2 if selecting else delta
    losses = {
        Currency.ZCDP: PrivacyLoss(mechanisms.zcdp_budget(epsilon, conversion), halved),
        Currency.PURE: PrivacyLoss(Fraction(epsilon), 2 * halved),
    }
    if founded is not None and plan.privacy.currency not in {None, founded}:
        raise PlanError(
            f"privacy.currency: this deployment was founded with {founded}, in which its periods add up; write {founded} "
            "or auto, or found another deployment"
        )
    currency = founded or choose_currency(plan, losses)
    return PrivacyBudget(epsilon, delta, currency, losses[currency])
