"""How a period's budget is divided among its measurements, and in which currency it is spent (C1).

Shares are relative weights, exact fractions that add up to the whole budget. `stated` gives every measurement its metric's
weight. `auto` makes the expected relative error smallest: with error `a_i x_i^-p` of a series that gets x_i a window
(p = 1/2 for zCDP's rho, 1 for pure epsilon), and k_i windows in a period, Lagrange's condition on `sum w_i a_i x_i^-p`
under `sum k_i x_i = total` is `x_i ~ (w_i a_i / k_i)^(1 / (1 + p))`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction

from hushmeter.errors import ensure
from hushmeter.model.measurement import Currency, Measurement, MeasurementName
from hushmeter.model.plan import Plan
from hushmeter.plan.measurements import measurements_of

_PARTS = 2**24
"""Automatic weights are rounded to this many parts of the largest, and are never less than one part."""
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
    """The mean of the measurements' expected relative errors, weighed as the plan weighs them."""
    weighed = [
        (float(m.weight), noise_std(m, currency, float(share)) / expected_signal(plan, m)) for m, share in divided.items()
    ]
    return math.fsum(w * error for w, error in weighed) / math.fsum(w for w, _ in weighed)


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


def _auto_weights(plan: Plan, currency: Currency, measurements: Iterable[Measurement]) -> dict[Measurement, Fraction]:
    power = 1 / (1 + _POWER[currency])
    best = {
        m: (float(m.weight) * noise_std(m, currency, 1.0) / expected_signal(plan, m) / m.windows) ** power
        for m in measurements
    }
    most = max(best.values())
    ensure(0 < most < math.inf, "a plan's expected errors are finite")
    return {m: Fraction(max(1, round(x / most * _PARTS)), _PARTS) for m, x in best.items()}
