"""How a period's budget is divided among its measurements, and in which currency it is spent (C1).

Shares are relative weights, exact fractions that add up to the whole budget. `stated` gives every measurement its metric's
weight. `auto` makes the plan's expected error smallest: the sum over statistics of `w log(1 + e / u)`, where w is the
metric's weight, e the expected relative error, `e^2 = sum over measurements of (a x^-p)^2` with x what one window may cost
(p = 1/2 for zCDP's rho, 1 for pure epsilon; see `plan.expected_error`), and u the error at which a number starts to be
useful. The logarithm is the error itself where errors are small, so that there is little to gain from what is accurate
already; where they are large it counts ratios of errors, so that what is hopeless at any price, such as a partition of
three units, does not eat the budget of what is not. In `y = log x` the sum is convex, a softplus of a log-sum-exp, and so
is what a period costs, `sum k exp(y)` with k windows in it. Lagrange's condition is that `k x` is proportional to `-dF/dy`,
which a damped fixed point iteration finds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from hushmeter.errors import InvariantError, ensure
from hushmeter.model.arrays import Float64
from hushmeter.model.ledger import PrivacyLoss
from hushmeter.model.measurement import Currency, Measurement
from hushmeter.model.plan import Plan
from hushmeter.plan.expected_error import USEFUL_ERROR, goals
from hushmeter.plan.hidden_partitions import hidden_below
from hushmeter.plan.measurements import measurements_of

_ITERATIONS = 10_000
_CLOSE = 1e-9
_OCTAVES = 24
_STEPS_PER_OCTAVE = 16
"""Automatic weights are rounded to so many steps an octave, so that they are the same whatever computes the logarithms, and
are at least 2^-24 of the largest."""
_POWER = {Currency.ZCDP: 0.5, Currency.PURE: 1.0}


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


def expected_error(plan: Plan, currency: Currency, divided: Mapping[Measurement, Fraction], delta: Fraction) -> float:
    """The mean of `log(1 + e / u)` over the statistics, weighed as the plan weighs them.

    Units in private partitions that are expected to stay hidden count as an error of their whole share.

    Args:
        plan: the plan.
        currency: of the shares.
        divided: what one window of each measurement may cost.
        delta: of one period, for the selection of private partitions; 0 where there are none.
    """
    selecting = sum(m.windows for m in divided if m.selects)
    weighed = []
    for goal in goals(plan, divided):
        stds = [(m, size, noise_std(m, currency, float(divided[m]))) for m, size in goal.parts]
        error = math.hypot(*(size * std for _, size, std in stds))
        hidden = [
            hidden_below(plan, m, _typical_threshold(m, currency, std, float(delta) / selecting), std)
            for m, _, std in stds
            if m.selects
        ]
        weighed.append((goal.weight, error + max(hidden, default=0.0)))
    return math.fsum(w * math.log1p(error / USEFUL_ERROR) for w, error in weighed) / math.fsum(w for w, _ in weighed)


def _typical_threshold(m: Measurement, currency: Currency, std: float, delta: float) -> float:
    """About the threshold of a selection, by the tail of the noise of continuous values."""
    if currency is Currency.PURE:
        return 1 + std / math.sqrt(2) * math.log(m.l0 / (2 * delta))
    return 1 + std * -NormalDist().inv_cdf(delta / m.l0)


def choose_currency(plan: Plan, losses: Mapping[Currency, PrivacyLoss]) -> Currency:
    """The plan's currency, or the one with the smaller expected error (C1).

    Args:
        plan: the plan.
        losses: what a period may cost in each currency.
    """
    if plan.privacy.currency is not None:
        return plan.privacy.currency

    def error(currency: Currency) -> float:
        loss = losses[currency]
        return expected_error(plan, currency, shares(plan, currency, loss.amount), loss.delta)

    return min(losses, key=error)


def _stated_weights(measurements: Iterable[Measurement]) -> dict[Measurement, Fraction]:
    return {m: m.weight / m.windows for m in measurements}


def _auto_weights(plan: Plan, currency: Currency, measurements: Sequence[Measurement]) -> dict[Measurement, Fraction]:
    """The weights whose expected error is smallest, for a total of 1; errors scale, so the total is folded into them."""
    total = float(plan.privacy.epsilon) if currency is Currency.PURE else _typical_rho(plan)
    place = {m: i for i, m in enumerate(measurements)}
    asked = list(goals(plan, measurements))
    parts = [
        (i, place[m], (size * noise_std(m, currency, total)) ** 2) for i, goal in enumerate(asked) for m, size in goal.parts
    ]
    rows, columns, squares = (np.array(column) for column in zip(*parts, strict=True))
    ensure(bool(np.isfinite(squares).all()), "a plan's expected errors are finite")
    made_of = _MadeOf(np.array([goal.weight for goal in asked]), rows, columns, squares)
    best = _smallest(made_of, np.array([float(m.windows) for m in measurements]), _POWER[currency])
    steps = np.rint((best - best.max()) / math.log(2) * _STEPS_PER_OCTAVE) / _STEPS_PER_OCTAVE
    rounded = [round(2.0 ** (_OCTAVES + max(step, -_OCTAVES))) for step in steps.tolist()]
    return {m: Fraction(weight, 2**_OCTAVES) for m, weight in zip(measurements, rounded, strict=True)}


def _typical_rho(plan: Plan) -> float:
    """The rho of a period by the textbook conversion; shares need it to a few percent only."""
    log = math.log(1 / float(plan.privacy.delta))
    return (math.sqrt(float(plan.privacy.epsilon) + log) - math.sqrt(log)) ** 2


@dataclass(frozen=True, slots=True)
class _MadeOf:
    """Which measurements each statistic is made of.

    Attributes:
        weight: float64[goals].
        rows, columns: int64[parts], the goal and the measurement of each part.
        squares: float64[parts], the part's squared relative error at a share of 1.
    """

    weight: Float64
    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    squares: Float64

    def slopes(self, logs: Float64, power: float) -> Float64:
        """float64[measurements], by how much the sum of `w log(1 + e / u)` falls with the logarithm of each share."""
        parts = self.squares * np.exp(-2 * power * logs[self.columns])
        squared = np.bincount(self.rows, parts, len(self.weight))
        each = power * self.weight / (squared + USEFUL_ERROR * np.sqrt(squared))
        falling: Float64 = np.bincount(self.columns, each[self.rows] * parts, len(logs)).astype(np.float64)
        return falling


def _smallest(made_of: _MadeOf, windows: Float64, power: float) -> Float64:
    """Logarithms of what a window of each measurement gets of a total of 1, so that the weighed error is smallest.

    Every step goes `1 / (1 + p)` of the way to where the condition would hold for the present slopes: where errors are
    small and of one measurement each, that is the solution itself.
    """
    logs: Float64 = -np.log(windows * len(windows))
    for _ in range(_ITERATIONS):
        slopes = made_of.slopes(logs, power)
        target = np.log(slopes / (windows * slopes.sum()))
        moved: Float64 = logs + (target - logs) / (1 + power)
        moved -= np.log((windows * np.exp(moved)).sum())
        if float(np.abs(moved - logs).max()) < _CLOSE:
            return moved
        logs = moved
    raise InvariantError(f"auto weights did not settle within {_ITERATIONS} steps")
