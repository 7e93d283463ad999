"""The receipt of an erasure: what a deployment promises, and by when; a function of time and plan alone (R3).

It names no unit, and is the same for one that was never heard of: whoever holds it learns nothing about anybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hushmeter.errors import LedgerBroken
from hushmeter.ledger.accountant import Conversion
from hushmeter.model.ledger import PrivacyBudget
from hushmeter.model.plan import Plan
from hushmeter.model.time import iso, iso_exact
from hushmeter.transparency.record import meaning, planned_spans
from hushmeter.transparency.signing import Statement

RECEIPT = Statement("erasure receipt", "receipt", "hushmeter erasure receipt 1")


def erased_by_ms(plan: Plan, received_at_ms: int) -> int:
    """By when the rows of a unit are gone, one window of the finest resolution later; windows of before may wait longer."""
    return received_at_ms + plan.finest.span.length_ms


def erasure_receipt(
    deployment_id: str, plan: Plan, budget: PrivacyBudget, received_at_ms: int, conversion: Conversion
) -> dict[str, object]:
    """What an erasure that was received at a moment is answered with.

    Args:
        deployment_id: 32 hexadecimal digits.
        plan: in force at that moment.
        budget: of one period of it.
        received_at_ms: the moment.
        conversion: of rho to epsilon.
    """
    period, unit = plan.privacy.period.window_of(received_at_ms), plan.privacy.unit
    received, gone = iso_exact(received_at_ms), iso_exact(erased_by_ms(plan, received_at_ms))
    spans = planned_spans(budget, plan, conversion)
    costs = [{**s, "meaning": meaning(float(str(s["epsilon"])), str(s["span"]), unit)} for s in spans]
    return {
        "format": RECEIPT.format,
        "deployment": deployment_id,
        "plan": {"name": plan.name, "version": plan.version, "plan_hash": plan.plan_hash},
        "privacy_unit": unit,
        "received_at": received,
        "rows_gone_by": gone,
        "period": {"from": iso(period.start_ms), "to": iso(period.end_ms)},
        "costs_at_most": costs,
        "what_holds": [
            f"All consent of this {unit} is withdrawn. No window whose deadline comes after {received} holds it any more.",
            f"Its rows are removed from every file of raw data by {gone}. Those of a window whose deadline had passed by "
            f"{received} go when that is released or lost, if that is later; backups never hold any.",
            f"Releases of windows whose deadline had passed by {received} may hold it. They stay as they are: each holds "
            "its part in a sum with noise, at the costs stated here, and nobody can take it out again.",
            "Kept until they end by themselves: which windows of a period it was counted in, where a metric limits that "
            "(under the period's key, until the period has ended), and its decisions, so that the withdrawal binds.",
        ],
    }


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """What holds of a receipt.

    Attributes:
        content: as `receipt_of` made it.
        key: that it is signed with.
    """

    content: dict[str, Any]
    key: bytes

    @property
    def promises(self) -> list[str]:
        """What it says in words."""
        return [str(said) for said in self.content["what_holds"]]

    @property
    def costs(self) -> list[str]:
        """What releases that hold the unit cost it at most, span by span."""
        return [f"{c['meaning']}, delta {c['delta']:.3g}" for c in self.content["costs_at_most"]]


def verify_receipt(text: str, key: bytes | None = None) -> VerifiedReceipt:
    """Checks the signature of a receipt.

    Args:
        text: as the service sent it.
        key: public key of the deployment; None takes the one that the text itself names, which proves nothing about whose
            receipt it is.

    Raises:
        LedgerBroken: naming what does not hold.
    """
    content, named = RECEIPT.opened(text, key)
    receipt = VerifiedReceipt(content, named)
    try:
        _ = receipt.promises, receipt.costs, content["deployment"], content["received_at"]
    except (KeyError, TypeError, ValueError):
        raise LedgerBroken(RECEIPT.damaged) from None
    return receipt
