"""What a plan charges, recomputed from the contract's own table; nothing here calls the code that computed it first.

References:
    M. Bun, T. Steinke: Concentrated Differential Privacy (2016), Proposition 1.6 (a Gaussian's rho).
    C. Canonne, G. Kamath, T. Steinke: The Discrete Gaussian for Differential Privacy (2020), Proposition 7 (rho to delta).
    C. Dwork, F. McSherry, K. Nissim, A. Smith: Calibrating Noise to Sensitivity in Private Data Analysis (2006),
        Proposition 1 (a Laplace's epsilon).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

from hushmeter.ledger.pricing import PriceList
from hushmeter.model.ledger import MeasurementCharge
from hushmeter.model.measurement import FIXED_POINT, Currency, Measurement
from hushmeter.model.plan import ContributionBounds, Kind, Metric, Plan, Weighting
from hushmeter.rehearsal.audit.evidence import Evidence, checked
from hushmeter.rehearsal.audit.noise import Scale, tail

_ROUNDING = 1e-9
_FEWEST_WINDOWS = {"1d": 1, "1w": 7, "1mo": 31}


def audit_prices(plan: Plan, prices: PriceList) -> Iterator[Evidence]:
    """Recomputes sensitivity, loss, delta, threshold and conversion of everything that a plan charges."""
    items = [item for items in prices.items.values() for item in items]
    yield checked("sensitivity of each charge", _first(_sensitivity(plan, i) for i in items), trials=len(items))
    yield checked("loss of each charge", _first(map(_loss, items)), trials=len(items))
    yield checked("delta of each threshold", _first(_threshold(i) for i in items if i.mechanism.selects))
    yield checked("the period costs at most its budget", _period(plan, prices, items), trials=len(items))
    yield checked("epsilon of the budget", _conversion(prices))


def _first(notes: Iterator[str] | map[str]) -> str:
    return next((note for note in notes if note), "")


def stated_bound(metric: Metric, m: Measurement, bounds: ContributionBounds) -> int:
    """What one unit adds to one partition at most, by the contract's table."""
    width, most = bounds.high - bounds.low, bounds.max_events
    by_event = metric.weighting is Weighting.EVENT and metric.kind is not Kind.COUNTER
    far = max(abs(bounds.low), abs(bounds.high))
    table = {
        "units": 1,
        "clamped": 1,
        "capped": 1,
        "events": most,
        "sum": far if metric.kind is Kind.COUNTER else far * most,
        "unit_mean": width * (FIXED_POINT if metric.kind is Kind.RATIO else 1),
        "event_sum": width * most,
        "weights": FIXED_POINT * (most if by_event else 1),
        "squares": width * width * (most if by_event else 1),
    }
    return table[m.name.value]


def _sensitivity(plan: Plan, item: MeasurementCharge) -> str:
    m = item.measurement
    metric = plan.metric(m.metric)
    bounds = metric.bounds[m.resolution]
    bound, scoped = stated_bound(metric, m, bounds), [d for d in metric.dimensions if d.name in m.view and not d.per_unit]
    everything = math.inf if any(d.open for d in scoped) else math.prod(len(d.values) for d in scoped)
    l0 = min(bounds.max_partitions, everything)
    if not metric.shared_bounding:
        squared = Fraction(l0 * bound**2) if not item.mechanism.laplace else Fraction(l0 * bound) ** 2
        if Fraction(item.sensitivity) ** 2 < squared:
            return f"{m.series()}: {item.sensitivity:g} is charged; one unit can move it by {math.sqrt(squared):g}"
    exact = Fraction(m.l1) ** 2 if item.mechanism.laplace else Fraction(m.l2_squared)
    if Fraction(item.sensitivity) ** 2 < exact or m.bound < bound or m.l0 < (l0 if not metric.shared_bounding else 1):
        return f"{m.series()}: the charge is below the measurement's own sensitivity"
    return ""


def _loss(item: MeasurementCharge) -> str:
    ratio = Fraction(item.sensitivity) / Fraction(item.scale)
    cost = ratio if item.mechanism.laplace else ratio**2 / 2
    if cost > item.loss.amount:
        return f"{item.measurement.series()} costs {float(cost):g}; {float(item.loss.amount):g} is charged"
    return ""


def _threshold(item: MeasurementCharge) -> str:
    """The probability that any partition of one unit alone is shown is at most delta, over all partitions of that unit."""
    m, law = item.measurement, Scale(item.mechanism, item.scale)
    delta = -math.expm1(m.l0 * math.log1p(-tail(law, (item.threshold or 0) - 1)))
    if delta > float(item.loss.delta) * (1 + _ROUNDING):
        return f"{m.series()}: a unit alone is shown with {delta:g}; {float(item.loss.delta):g} is charged"
    return ""


def _period(plan: Plan, prices: PriceList, items: list[MeasurementCharge]) -> str:
    """The budget of one period pays for the dearest windows that one unit can be in, of all measurements together."""
    spent, delta = Fraction(0), Fraction(0)
    for item in items:
        m = item.measurement
        span = plan.resolution(m.resolution).span
        days = _FEWEST_WINDOWS.get(plan.privacy.period.name, 0)
        there = max(1, days * 86_400_000 // span.length_ms) if not span.monthly else 1
        most = plan.metric(m.metric).bounds[m.resolution].max_windows
        windows = min(most, there) if most else there
        spent += windows * item.loss.amount
        delta += windows * item.loss.delta
    budget = prices.budget
    if spent > budget.loss.amount:
        return f"one period costs {float(spent):g}, the budget is {float(budget.loss.amount):g}"
    if delta > budget.loss.delta or budget.loss.delta > Fraction(budget.delta):
        return f"selections of one period cost delta {float(delta):g}, {float(budget.loss.delta):g} may be spent"
    if Fraction(budget.epsilon) > Fraction(plan.privacy.epsilon) or Fraction(budget.delta) > Fraction(plan.privacy.delta):
        return "the budget is larger than what the plan says"
    return ""


def _conversion(prices: PriceList) -> str:
    """The budget's rho implies its epsilon at the delta that selections leave; a pure budget needs no conversion."""
    budget = prices.budget
    if budget.currency is Currency.PURE:
        return "" if budget.loss.amount <= Fraction(budget.epsilon) else "the budget is more than its epsilon"
    left = float(Fraction(budget.delta) - budget.loss.delta)
    implied = delta_of_rho(float(budget.loss.amount), budget.epsilon)
    if implied > left * (1 + 1e-6):
        return f"rho {float(budget.loss.amount):g} implies epsilon {budget.epsilon:g} at delta {implied:g}, not at {left:g}"
    return ""


def delta_of_rho(rho: float, epsilon: float) -> float:
    """The delta that rho-zCDP implies at epsilon: the least over orders a > 1 of the bound by its Renyi divergence."""
    logs = []
    for step in range(1, 60_000):
        a = 1 + math.expm1(step / 5_000)
        logs.append((a - 1) * (a * rho - epsilon) - math.log(a - 1) + a * math.log1p(-1 / a))
    return math.exp(min(logs))
