"""What the ledger says about a charge, and whether a ledger holds (C2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hushmeter.errors import LedgerBroken
from hushmeter.model.ledger import (
    GENESIS,
    Charge,
    LedgerEntry,
    MeasurementCharge,
    PrivacyBudget,
    canonical_json,
    chain_hash,
)
from hushmeter.model.plan import Plan
from hushmeter.model.release import Release
from hushmeter.model.time import iso


def entries_of(plan: Plan, deployment_id: str, charge: Charge, releases: Sequence[Release] | None) -> tuple[str, ...]:
    """The contents of the ledger entries of one window, an entry a measurement.

    Args:
        plan: the plan in force.
        deployment_id: whose ledger.
        charge: what the window costs.
        releases: what was released for it; None where the window is lost, and charged all the same (C6).

    Returns:
        Canonical JSON texts, in the order of the charge's items; functions of plan, window and privacy map alone (R1).
    """
    mapped = {} if releases is None else _mapped_rho(releases)
    return tuple(_content(plan, deployment_id, charge, item, mapped) for item in charge.items)


def _mapped_rho(releases: Sequence[Release]) -> dict[tuple[str, tuple[str, ...], str], float]:
    return {(r.key.metric, r.key.view, name.value): v.rho for r in releases for name, v in r.vectors.items()}


def _content(
    plan: Plan,
    deployment_id: str,
    charge: Charge,
    item: MeasurementCharge,
    mapped: Mapping[tuple[str, tuple[str, ...], str], float],
) -> str:
    m = item.measurement
    mapped_rho = mapped.get((m.metric, m.view, m.name.value))
    return canonical_json(
        {
            "deployment": deployment_id,
            "plan": plan.name,
            "plan_version": plan.version,
            "plan_hash": plan.plan_hash,
            "metric": m.metric,
            "view": list(m.view),
            "measurement": m.name.value,
            "resolution": charge.resolution,
            "window_start_ms": charge.window_start_ms,
            "window_end_ms": charge.window_end_ms,
            "period_start_ms": charge.period_start_ms,
            "mechanism": "lost" if mapped_rho is None else "discrete_gaussian",
            "norm": "L2",
            "l2_squared": m.l2_squared,
            "sensitivity": m.l2_sensitivity,
            "l0": m.l0,
            "cap": m.windows,
            "scale": item.scale,
            "delta": 0,
            "threshold": None,
            "rho": f"{item.rho.numerator}/{item.rho.denominator}",
            "mapped_rho": mapped_rho,
        }
    )


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """What a ledger that holds adds up to.

    Attributes:
        count: how many entries.
        head_hash: hash of the newest entry; zeros for an empty ledger.
        rho_by_period: exact sums by start of the period.
    """

    count: int
    head_hash: bytes
    rho_by_period: Mapping[int, Fraction]


def verify_chain(entries: Iterable[LedgerEntry]) -> LedgerSummary:
    """Follows the hash chain from the first entry on.

    Raises:
        LedgerBroken: naming the first entry that does not hold.
    """
    previous, count = GENESIS, 0
    spent: defaultdict[int, Fraction] = defaultdict(Fraction)
    for entry in entries:
        count += 1
        if entry.sequence != count:
            raise LedgerBroken(f"entry {count} is missing: entry {entry.sequence} stands in its place")
        if entry.previous_hash != previous:
            raise LedgerBroken(f"entry {count} does not follow the entry before it: previous_hash differs")
        if entry.entry_hash != chain_hash(previous, entry.content):
            raise LedgerBroken(f"entry {count} was altered: its hash is not that of its content")
        try:
            spent[int(str(entry.fields["period_start_ms"]))] += Fraction(str(entry.fields["rho"]))
        except (KeyError, ValueError, ZeroDivisionError):
            raise LedgerBroken(f"entry {count} has no readable period_start_ms and rho") from None
        previous = entry.entry_hash
    return LedgerSummary(count, previous, dict(spent))


def verify_budget(summary: LedgerSummary, budget: PrivacyBudget) -> None:
    """Checks that no period was charged more than its budget; raises `LedgerBroken` naming the first that was."""
    for start, rho in sorted(summary.rho_by_period.items()):
        if rho > budget.rho:
            raise LedgerBroken(
                f"the period from {iso(start)} was charged rho {float(rho):.6g}; its budget is {float(budget.rho):.6g}"
            )
