"""Test doubles of `Mechanisms`: no noise at all, or the same noise every time."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.release import NoisyVector
from hushmeter.model.time import Int64


class _ClosedForms:
    """Conversions by the textbook formula, epsilon = rho + 2 sqrt(rho ln(1/delta)) (Bun and Steinke 2016, Prop. 1.3)."""

    def zcdp_budget(self, epsilon: float, delta: float) -> Fraction:
        """The rho whose textbook epsilon is `epsilon`."""
        log = math.log(1 / delta)
        return Fraction((math.sqrt(epsilon + log) - math.sqrt(log)) ** 2)

    def epsilon_of(self, rho: Fraction, delta: float) -> float:
        """The textbook epsilon."""
        return float(rho) + 2 * math.sqrt(float(rho) * math.log(1 / delta))


class ExactMechanisms(_ClosedForms):
    """Returns what it is given: for tests that count."""

    def gaussian(self, values: Int64, *, scale: float, l2_sensitivity: float, rho: Fraction) -> NoisyVector:
        """No noise; the price is the one that the scale would have."""
        ensure(0 < scale < math.inf and 0 < l2_sensitivity < math.inf, "scale and sensitivity are positive")
        return NoisyVector(values.copy(), scale, float(rho))


class SeededMechanisms(_ClosedForms):
    """Rounded Gaussian noise that repeats: for tests of what comes after noise. Not private.

    Args:
        seed: of the generator.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def gaussian(self, values: Int64, *, scale: float, l2_sensitivity: float, rho: Fraction) -> NoisyVector:
        """Adds rounded Gaussian noise."""
        ensure(0 < scale < math.inf and 0 < l2_sensitivity < math.inf, "scale and sensitivity are positive")
        noise = np.rint(self._generator.normal(0, scale, values.shape)).astype(np.int64)
        return NoisyVector(values + noise, scale, float(rho))
