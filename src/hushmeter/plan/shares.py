"""How a period's budget is divided among its measurements, and in which currency it is spent (C1).

Shares are relative weights, exact fractions that add up to the whole budget. `stated` gives every measurement its metric's
weight. `auto` makes the plan's expected error smallest: the sum over measurements of `w log(1 + a x^-p)`, where x is what
one window may cost, `a x^-p` the expected relative error (p = 1/2 for zCDP's rho, 1 for pure epsilon) and w the metric's
weight. The logarithm is the error itself where errors are small, and keeps what is hopeless at any price, such as a
partition of three units, from eating the budget of what is not. The sum is convex; with k windows in a period, Lagrange's
condition under `sum k x = total` is `w p a / (x^(p+1) + a x) = lambda k`, solved by bisection in x and in lambda.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from hushmeter.errors import ensure
from hushmeter.model.measurement import Currency, Measurement, MeasurementName
from hushmeter.model.plan import Plan
from hushmeter.plan.measurements import measurements_of

Float = npt.NDArray[np.float64]

_BISECTIONS = 80
_OCTAVES = 24
_STEPS_PER_OCTAVE = 16
"""Automatic weights are rounded to so many steps an octave, so that they are the same whatever computes the logarithms, and
are at least 2^-24 of the largest."""
_TYPICAL = 0.5
"""What a unit typically contributes, as a share of what it may."""
_POWER = {Currency.ZCDP: 0.5, Currency.PURE: 1.0}


def expected_units(plan: Plan, m: Measurement) -> float:
    """How many units the plan's author expects in one partition and window: all of them, spread evenly."""
    if m.metric in {b.name for b in plan.built_in}:
        return float(plan.privacy.expected_units)
    opened = plan.metric(m.metric).open_dimension(m.view)
    tokens = opened.open.expected if opened is not None and opened.open is not None else 1
    return plan.privacy.expected_units / (m.partitions * tokens)


def expected_signal(plan: Plan, m: Measurement) -> float:
    """The typical size of one cell, in the vector's steps, at `expected_units`."""
    if m.name in {MeasurementName.UNITS, MeasurementName.CLAMPED, MeasurementName.CAPPED}:
        return expected_units(plan, m)
    return expected_units(plan, m) * m.bound * _TYPICAL / m.columns


def noise_std(m: Measurement, currency: Currency, amount: float) -> float:
    """The standard deviation of the noise in each cell, in the vector's steps, if one window may cost `amount`."""
    if currency is Currency.PURE:
        return math.sqrt(2) * m.l1 / amount
    return math.sqrt(m.l2_squared / (2 * amount))


def shares(plan: Plan, currency: Currency, total: Fraction) -> dict[Measurement, Fraction]:
    """What one window's release of each measurement may cost, so that a whole period costs exactly `total`.

    Args:
        plan: the plan.
        currency: of `total`.
        total: rho or epsilon of one period.

    Returns:
        The share of one window, by measurement; `sum(share * measurement.windows) == total`, exactly.
    """
    measurements = tuple(measurements_of(plan))
    weights = _auto_weights(plan, currency, measurements) if plan.privacy.auto_weights else _stated_weights(measurements)
    whole = sum((weights[m] * m.windows for m in measurements), Fraction(0))
    return {m: total * weights[m] / whole for m in measurements}


def expected_error(plan: Plan, currency: Currency, divided: Mapping[Measurement, Fraction]) -> float:
    """The mean of log(1 + expected relative error) over the measurements, weighed as the plan weighs them."""
    weighed = [
        (float(m.weight), noise_std(m, currency, float(share)) / expected_signal(plan, m)) for m, share in divided.items()
    ]
    return math.fsum(w * math.log1p(error) for w, error in weighed) / math.fsum(w for w, _ in weighed)


def choose_currency(plan: Plan, amounts: Mapping[Currency, Fraction]) -> Currency:
    """The plan's currency, or the one with the smaller expected error (C1).

    Args:
        plan: the plan.
        amounts: what a period may cost in each currency.
    """
    if plan.privacy.currency is not None:
        return plan.privacy.currency
    return min(amounts, key=lambda currency: expected_error(plan, currency, shares(plan, currency, amounts[currency])))


def _stated_weights(measurements: Iterable[Measurement]) -> dict[Measurement, Fraction]:
    return {m: m.weight / m.windows for m in measurements}


def _auto_weights(plan: Plan, currency: Currency, measurements: Sequence[Measurement]) -> dict[Measurement, Fraction]:
    """The weights whose expected error is smallest, for a total of 1; errors scale, so the total is folded into them."""
    total = float(plan.privacy.epsilon) if currency is Currency.PURE else _typical_rho(plan)
    stated = np.array([float(m.weight) for m in measurements])
    windows = np.array([float(m.windows) for m in measurements])
    error = np.array([noise_std(m, currency, total) / expected_signal(plan, m) for m in measurements])
    ensure(bool(np.isfinite(error).all()), "a plan's expected errors are finite")
    best = _smallest(stated, error, windows, _POWER[currency])
    steps = np.rint(np.log2(best / best.max()) * _STEPS_PER_OCTAVE) / _STEPS_PER_OCTAVE
    rounded = [round(2.0 ** (_OCTAVES + max(step, -_OCTAVES))) for step in steps.tolist()]
    return {m: Fraction(weight, 2**_OCTAVES) for m, weight in zip(measurements, rounded, strict=True)}


def _typical_rho(plan: Plan) -> float:
    """The rho of a period by the textbook conversion; shares need it to a few percent only."""
    log = math.log(1 / float(plan.privacy.delta))
    return (math.sqrt(float(plan.privacy.epsilon) + log) - math.sqrt(log)) ** 2


def _smallest(weight: Float, error: Float, windows: Float, power: float) -> Float:
    """What one window of each measurement gets of a total of 1, so that the sum of `w log(1 + e x^-p)` is smallest.

    Args:
        weight: float64[n], w.
        error: float64[n], e: the relative error at x = 1.
        windows: float64[n], k.
        power: p.
    """

    def shares_at(price: float) -> Float:
        """The x of each with `w p e / (x^(p+1) + e x) = price k`; the left side falls from infinity to 0."""
        low, high = np.zeros(len(weight)), np.ones(len(weight))
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            worth = weight * power * error / (middle ** (power + 1) + error * middle) > price * windows
            low, high = np.where(worth, middle, low), np.where(worth, high, middle)
        return (low + high) / 2

    low, high = -100.0, 100.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        dear = float((shares_at(math.exp(middle)) * windows).sum()) <= 1
        low, high = (low, middle) if dear else (middle, high)
    return shares_at(math.exp(high))
