"""95 % intervals: exact for one draw of discrete noise, normal for sums of several, Fieller's for ratios (E4)."""

from __future__ import annotations

import functools
import math

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.arrays import Float64
from hushmeter.model.measurement import Mechanism

CONFIDENCE = 0.95
Z = 1.959963984540054
"""The 97.5 % quantile of the standard normal."""
_EXACT_UP_TO = 1_000.0
"""Beyond this scale the discrete Gaussian has in [-h, h] what the normal has in [-h - 1/2, h + 1/2], and hardly more."""


def z_of(mechanism: Mechanism) -> float:
    """How many standard deviations a 95 % interval of a linear map of noise reaches to either side.

    For Gaussian noise the normal quantile; for Laplace noise that of a single Laplace variable, ln(20) / sqrt(2), which
    covers 95 % of one and up to 96.6 % of sums of many, whose tails are lighter.
    """
    return math.log(20) / math.sqrt(2) if mechanism.laplace else Z


@functools.lru_cache(maxsize=4096)
def half_width(mechanism: Mechanism, scale: float) -> int:
    """The smallest h such that a mechanism's noise lies in [-h, h] with probability at least 0.95.

    Args:
        mechanism: discrete Gaussian or Laplace, with or without selection.
        scale: of the noise, in steps; positive and finite.

    Returns:
        h, in steps.

    References:
        C. Canonne, G. Kamath, T. Steinke: The Discrete Gaussian for Differential Privacy (2020), Definition 1.
        S. Inusah, T. Kozubowski: A Discrete Analogue of the Laplace Distribution (2006), equation 2.3: with
        p = exp(-1/b), noise exceeds h to either side with probability 2 p^(h+1) / (1 + p).
    """
    ensure(0 < scale < math.inf, f"a scale is positive and finite, got {scale}")
    if mechanism.laplace:
        p = math.exp(-1 / scale)
        return max(0, math.ceil(-scale * math.log((1 - CONFIDENCE) * (1 + p) / 2) - 1 - 1e-9))
    if scale > _EXACT_UP_TO:
        return math.ceil(Z * scale - 0.5)
    reach = math.ceil(12 * scale) + 1
    weights = np.exp(-((np.arange(reach + 1) / scale) ** 2) / 2)
    within = weights[0] + 2 * np.concatenate([[0.0], np.cumsum(weights[1:])])
    return int(np.searchsorted(within, CONFIDENCE * within[-1]))


def fieller(
    numerator: Float64,
    denominator: Float64,
    var_n: Float64 | float,
    var_d: Float64 | float,
    cov: Float64 | float,
    admissible: tuple[float, float],
    z: float = Z,
) -> tuple[Float64, Float64]:
    """Confidence sets of ratios of two noisy numbers, as intervals inside the admissible range.

    The set is `{theta: (S - theta N)^2 <= z^2 (VS - 2 theta C + theta^2 VN)}`, which holds the true ratio with the nominal
    probability however small N is. Where it is not one interval inside the range, its hull there is returned.

    Args:
        numerator: S, float64 array.
        denominator: N, of the same shape.
        var_n: variance of S.
        var_d: variance of N.
        cov: their covariance.
        admissible: smallest and largest possible ratio.
        z: how many standard deviations the interval reaches.

    Returns:
        Lower and upper ends, arrays of that shape.

    References:
        E. C. Fieller: Some Problems in Interval Estimation (1954), equation 4.
    """
    lowest, highest = admissible
    # a theta^2 - 2 b theta + c <= 0
    a = denominator**2 - z**2 * var_d
    b = numerator * denominator - z**2 * cov
    c = numerator**2 - z**2 * var_n
    root = np.sqrt(np.maximum(b**2 - a * c, 0.0))
    bounded = a > 0
    safe = np.where(a == 0, 1.0, a)
    first, second = (b - root) / safe, (b + root) / safe
    low = np.where(bounded, np.minimum(first, second), lowest)
    high = np.where(bounded, np.maximum(first, second), highest)
    # a < 0 with real roots: the set is everything outside the gap between the roots. Where the gap reaches past one end of
    # the range, it cuts that end off.
    gap = (a < 0) & (b**2 - a * c > 0)
    left, right = np.minimum(first, second), np.maximum(first, second)
    low = np.where(gap & (left < lowest), right, low)
    high = np.where(gap & (right > highest), left, high)
    return cut(low, high, lowest, highest)


def cut(low: Float64, high: Float64, lowest: float, highest: float) -> tuple[Float64, Float64]:
    """Cuts intervals to the admissible range (E3); one that lies outside becomes the nearest end of the range.

    Args:
        low: lower ends, float64 array.
        high: upper ends, of the same shape.
        lowest: smallest admissible value; may be infinite.
        highest: largest admissible value; may be infinite.
    """
    return np.clip(low, lowest, highest), np.clip(high, lowest, highest)
