"""Proves that a plan holds: its budget adds up exactly, and no sum leaves int64 (P6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from hushmeter import limits
from hushmeter.errors import ensure
from hushmeter.model.ledger import PrivacyBudget
from hushmeter.model.measurement import Measurement
from hushmeter.model.plan import Kind, Plan, Statistic
from hushmeter.plan.budget_division import shares
from hushmeter.plan.problems import Problems

INTEGER_BOUND = 2**62


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What was proven of a plan.

    Attributes:
        releases_per_period: how many releases one period publishes.
        ledger_entries_per_period: how many ledger entries they make.
    """

    releases_per_period: int
    ledger_entries_per_period: int


def check_plan(plan: Plan, budget: PrivacyBudget) -> PlanReport:
    """Proves the budget and the integer ranges of a plan.

    Args:
        plan: the plan.
        budget: of one period.

    Raises:
        PlanError: a sum over `limits.UNITS_MAX` units could leave int64; with the measurement and what to change.
        InvariantError: the shares of one period do not add up to the budget.
    """
    divided = shares(plan, budget.currency, budget.loss.amount)
    spent = sum((share * m.windows for m, share in divided.items()), Fraction(0))
    ensure(spent == budget.loss.amount, f"one period's releases cost {spent} instead of {budget.loss.amount}")
    _check_integers(plan, divided)
    windows = {m: plan.resolution(m.resolution).span.most_in(plan.privacy.period) for m in divided}
    keys = {(m.metric, m.view, m.resolution): windows[m] for m in divided}
    return PlanReport(sum(keys.values()), sum(windows.values()))


def _check_integers(plan: Plan, measurements: Iterable[Measurement]) -> None:
    """No sum of `limits.UNITS_MAX` units leaves int64 (P6). Views of a metric share its bounds: each problem is said once.

    What one unit's squares are centered with stays in int64 too: values far from zero have large squares, however narrow
    their range is.
    """
    problems = Problems()
    seen = dict.fromkeys((m.metric, m.resolution, m.name, m.bound * m.together) for m in measurements)
    for metric, resolution, name, bound in seen:
        product = limits.UNITS_MAX * bound
        if product >= INTEGER_BOUND:
            problems.add(
                f"metrics.{metric}.per_unit",
                product,
                f"at {resolution}, {limits.UNITS_MAX} units times {bound} a unit ({name}) must stay below 2^62; "
                "lower max_events or the range, or take a coarser step of values",
            )
    for spread in (m for m in plan.metrics if m.kind is Kind.DISTRIBUTION and Statistic.VARIANCE in m.statistics):
        farthest = max(max(abs(b.low), abs(b.high)) for b in spread.bounds.values())
        if farthest > limits.SQUARES_VALUE_MAX:
            problems.add(
                f"metrics.{spread.name}.per_unit.range",
                farthest,
                f"a variance needs values within {limits.SQUARES_VALUE_MAX} steps of zero; take a coarser step of values, "
                "or record their distance from a typical value",
            )
    problems.raise_any()
