"""Proves that a plan holds: its budget adds up exactly, and no sum leaves int64 (P6)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from hushmeter import limits
from hushmeter.errors import ensure
from hushmeter.model.measurement import FIXED_POINT, Measurement, MeasurementName
from hushmeter.model.plan import Plan
from hushmeter.model.time import DAY_MS, Span
from hushmeter.plan.measurements import rho_shares
from hushmeter.plan.problems import Problems

INTEGER_BOUND = 2**62
_ONE_YEAR_DAYS = 365
_MONTH_SHORTEST_DAYS = 28


@dataclass(frozen=True, slots=True)
class MeasurementReport:
    """What one measurement of a plan will be like.

    Attributes:
        l2_sensitivity, scale: in the vector's own steps, both rounded up.
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
    _check_integers(shares)
    rows = tuple(_row(plan, m, share, rho) for m, share in shares.items())
    keys = {(m.metric, m.view, m.resolution): m.windows for m in shares}
    return PlanReport(rows, sum(keys.values()), sum(m.windows for m in shares))


def _check_integers(measurements: Iterable[Measurement]) -> None:
    """No sum of `limits.UNITS_MAX` units leaves int64 (P6); views of a metric share its bounds, so each is told once."""
    problems = Problems()
    for metric, resolution, name, bound in dict.fromkeys((m.metric, m.resolution, m.name, m.bound) for m in measurements):
        product = limits.UNITS_MAX * bound
        if product >= INTEGER_BOUND:
            problems.add(
                f"metrics.{metric}.per_unit",
                product,
                f"at {resolution}, {limits.UNITS_MAX} units times {bound} a unit ({name}) must stay below 2^62; "
                "lower max_events or the range, or take a coarser step of values",
            )
    problems.raise_any()


def _scale(m: Measurement, share: Fraction) -> float:
    """The scale that costs at most `share`: l2 / sqrt(2 rho), rounded up."""
    squared = Fraction(m.l2_sensitivity) ** 2
    scale = math.sqrt(squared / (2 * share))
    while 2 * share * Fraction(scale) ** 2 < squared:
        scale = math.nextafter(scale, math.inf)
    return scale


def _row(plan: Plan, m: Measurement, share: Fraction, rho: Fraction) -> MeasurementReport:
    scale = _scale(m, share)
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
    zCDP composes by adding rho (Bun and Steinke 2016, Lemma 1.7); the conversion to epsilon is done once, at the end, at
    the plan's own delta, which does not grow with the number of periods. At epsilon 4 and delta 1e-8 a week that is 5.85
    for 2 weeks, 10.86 for 6 and 41.7 for 54: the numbers of the privacy contract. (At n times delta they would be 5.73,
    10.33 and 38.1.) A year has 365 days; a rolling period has the length of a period, so that it touches two.

    Args:
        rho: of one period.
        period: the protection period.

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
