"""Discrete Gaussian noise from OpenDP, and its conversions: the only way from a tally to a release.

OpenDP accepts a scale of zero and then returns the exact data, so everything is ensured here before any value is passed.

References:
    M. Bun, T. Steinke: Concentrated Differential Privacy (2016), Definition 1.1 and Proposition 1.6.
    C. Canonne, G. Kamath, T. Steinke: The Discrete Gaussian for Differential Privacy (2020), Theorem 4.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import opendp.prelude as dp

from hushmeter.errors import ensure
from hushmeter.model.release import NoisyVector
from hushmeter.model.time import Int64

dp.enable_features("contrib")


class OpenDPMechanisms:
    """The production implementation of the port `Mechanisms`."""

    def gaussian(self, values: Int64, *, scale: float, l2_sensitivity: float, rho: Fraction) -> NoisyVector:
        """Adds independent discrete Gaussian noise to every cell.

        Args:
            values: int64[partitions, columns], exact.
            scale: sigma of the noise, in the same steps.
            l2_sensitivity: L2 norm of what one unit can move `values` by.
            rho: what may be spent.

        Returns:
            The noisy values, read-only, with the rho that OpenDP's own privacy map states: at most `rho`.

        Raises:
            InvariantError: scale or sensitivity is not positive and finite, or the map exceeds `rho`.

        Privacy:
            `rho`-zCDP under adding or removing one unit, if `l2_sensitivity` holds.
        """
        ensure(0 < scale < math.inf, f"the scale must be positive and finite, got {scale}")
        ensure(0 < l2_sensitivity < math.inf, f"the sensitivity must be positive and finite, got {l2_sensitivity}")
        mechanism = _gaussian(scale)
        mapped = mechanism.map(l2_sensitivity)
        ensure(
            0 < mapped < math.inf and Fraction(mapped) <= rho,
            f"the mechanism costs rho {mapped}, {float(rho)} may be spent",
        )
        ensure(values.dtype == np.int64 and values.ndim == 2, "values are int64[partitions, columns]")
        noisy = np.array(mechanism(np.ascontiguousarray(values).reshape(-1)), np.int64).reshape(values.shape)
        noisy.flags.writeable = False
        return NoisyVector(noisy, scale, mapped)

    def zcdp_budget(self, epsilon: float, delta: float) -> Fraction:
        """The largest float rho that implies (epsilon, delta), as a Fraction; found by bisection on OpenDP's conversion."""
        ensure(0 < epsilon < math.inf and 0 < delta < 1, f"not a budget: epsilon {epsilon}, delta {delta}")
        low, high = 0.0, epsilon
        while low < (middle := (low + high) / 2) < high:
            if self.epsilon_of(Fraction(middle), delta) <= epsilon:
                low = middle
            else:
                high = middle
        ensure(low > 0, f"no rho implies epsilon {epsilon} at delta {delta}")
        return Fraction(low)

    def epsilon_of(self, rho: Fraction, delta: float) -> float:
        """The epsilon that rho implies at delta, rounded up."""
        ensure(rho > 0 and 0 < delta < 1, f"not a loss: rho {float(rho)}, delta {delta}")
        # A discrete Gaussian of scale 1 and this sensitivity costs at least rho; OpenDP converts its whole profile.
        distance = math.nextafter(math.sqrt(2 * float(rho)), math.inf)
        return float(_profile().map(distance).epsilon(delta))


@functools.lru_cache(maxsize=4096)
def _gaussian(scale: float) -> Any:
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    return dp.m.make_gaussian(*space, scale)


@functools.cache
def _profile() -> Any:
    unit = dp.m.make_gaussian(dp.atom_domain(T="i64"), dp.absolute_distance(T="f64"), scale=1.0)
    return dp.c.make_zCDP_to_approxDP(unit)
