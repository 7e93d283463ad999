"""Proves that a plan holds: its budget adds up exactly, and no sum leaves int64 (P6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from hushmeter import limits
from hushmeter.errors import PlanError, ensure
from hushmeter.model.measurement import FIXED_POINT, Measurement, MeasurementName
from hushmeter.model.plan import Plan
from hushmeter.model.time import DAY_MS, Span
from hushmeter.plan.measurements import rho_shares

INTEGER_BOUND = 2**62
_ONE_YEAR_DAYS = 365
_MONTH_SHORTEST_DAYS = 28


@dataclass(frozen=True, slots=True)
class MeasurementReport:
    """What one measurement of a plan will be like.

    Attributes:
        l2_sensitivity, scale: in the vector's own steps.
        noise_std: in units of what it counts: units, events, or the metric's unit.
        share: of the period's budget, all its windows together.
        windows: how many windows of a period release it.
    """

    metric: str
    view: tuple[str, ...]
    resolution: str
    name: str
    l0: int
    l2_sensitivity: float
    scale: float
    noise_std: float
    share: float
    windows: int


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What was proven of a plan.

    Attributes:
        rows: one a measurement.
        releases_per_period: how many releases one period publishes.
        ledger_entries_per_period: how many ledger entries they make.
    """

    rows: tuple[MeasurementReport, ...]
    releases_per_period: int
    ledger_entries_per_period: int


def check_plan(plan: Plan, rho: Fraction) -> PlanReport:
    """Proves the budget and the integer ranges of a plan.

    Args:
        plan: the plan.
        rho: the period's budget.

    Raises:
        PlanError: a sum over `limits.UNITS_MAX` units could leave int64; with the measurement and what to change.
        InvariantError: the shares of one period do not add up to `rho`.
    """
    shares = rho_shares(plan, rho)
    spent = sum((share * m.windows for m, share in shares.items()), Fraction(0))
    ensure(spent == rho, f"one period's releases cost {spent} instead of {rho}")
    for measurement in shares:
        _check_integers(measurement)
    rows = tuple(_row(plan, m, share, rho) for m, share in shares.items())
    keys = {(m.metric, m.view, m.resolution): m.windows for m in shares}
    return PlanReport(rows, sum(keys.values()), sum(m.windows for m in shares))


def _check_integers(m: Measurement) -> None:
    product = limits.UNITS_MAX * m.bound
    if product >= INTEGER_BOUND:
        raise PlanError(
            f"metrics.{m.metric}.per_unit: at {m.resolution}, {limits.UNITS_MAX} units times {m.bound} a unit ({m.name}) "
            f"is {product}, which must stay below 2^62; lower max_events or the range, or take a coarser step of values"
        )


def _row(plan: Plan, m: Measurement, share: Fraction, rho: Fraction) -> MeasurementReport:
    scale = m.l2_sensitivity / math.sqrt(2 * share)
    metric = plan.metric(m.metric)
    in_units = {
        MeasurementName.SUM: float(metric.step),
        MeasurementName.UNIT_MEAN: float(metric.step) / 2,
        MeasurementName.EVENT_SUM: float(metric.step) / 2,
        MeasurementName.WEIGHTS: 1 / FIXED_POINT,
    }.get(m.name, 1.0)
    return MeasurementReport(
        m.metric,
        m.view,
        m.resolution,
        m.name.value,
        m.l0,
        m.l2_sensitivity,
        scale,
        scale * in_units,
        float(share * m.windows / rho),
        m.windows,
    )


def compositions(rho: Fraction, period: Span) -> dict[str, Fraction]:
    """What longer spans cost one unit: rho times the periods that a span can touch, at one and the same delta.

    A span of D days that begins anywhere touches at most floor(D/L) + 2 periods of L days, one less where L divides D.
    zCDP composes by adding rho (Bun and Steinke 2016, Lemma 1.7); the conversion to epsilon is done once, at the end.

    Returns:
        Total rho by span: one period, any rolling period, 30 days, one year.
    """
    length = _MONTH_SHORTEST_DAYS if period.monthly else period.length_ms // DAY_MS
    return {
        f"one period ({period.name})": rho,
        "any rolling period": 2 * rho,
        "any 30 days": _touched(30, length) * rho,
        "any year": (13 if period.monthly else _touched(_ONE_YEAR_DAYS, length)) * rho,
    }


def _touched(days: int, length: int) -> int:
    return days // length + (1 if days % length == 0 else 2)
