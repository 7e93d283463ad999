"""Quantiles from a noisy histogram: its isotonic cumulative curve inverted, and the band around it inverted (E1).

The quantile that is estimated is that of the bounded histogram itself, with values spread evenly inside each bin: choose
edges as fine as quantiles shall be. It costs nothing beyond the histogram.

References:
    R. Barlow, D. Bartholomew, J. Bremner, H. Brunk: Statistical Inference under Order Restrictions (1972), section 1.2
    (pool adjacent violators).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hushmeter.query.intervals import Float
from hushmeter.query.ratios import Estimated

_STEPS = 16
"""Places inside each bin at which the band is looked at; between them it is taken to be straight."""


def quantiles(bins: Float, variance: float, borders: Sequence[float], at: Sequence[float], z: float) -> Estimated:
    """Quantiles of every row, with the noise of their linearisation and 95 % intervals.

    Args:
        bins: float64[rows, k], noisy weights of the bins.
        variance: of the noise in each, independent.
        borders: k + 1 rising numbers, ends of the bins; those of the outer bins are the ends of the range.
        at: rising, each between 0 and 1.
        z: how many standard deviations an interval reaches.

    Returns:
        Values, standard deviations, lower and upper ends, float64[rows, len(at)] each; values rise with `at`.
    """
    shape = (len(bins), len(at))
    values, stds, lows, highs = (np.zeros(shape) for _ in range(4))
    edges = np.asarray(borders, np.float64)
    for row, weights in enumerate(bins):
        curve = isotonic(weights)
        for column, q in enumerate(at):
            value = _inverted(curve, edges, q)
            low, high = _band(weights, variance, edges, q, z)
            values[row, column] = value
            # Where the band is wide or the curve flat, a derivative says nothing: the band itself is the measure.
            stds[row, column] = (high - low) / (2 * z)
            lows[row, column], highs[row, column] = min(low, value), max(high, value)
    return values, stds, lows, highs


def isotonic(weights: Float) -> Float:
    """The non-decreasing cumulative curve that is nearest to the noisy one, from 0; float64[k + 1].

    Args:
        weights: float64[k], noisy bins.
    """
    blocks: list[tuple[float, int]] = []
    for point in np.cumsum(weights).tolist():
        mean, size = max(point, 0.0), 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean, size = (mean * size + before * count) / (size + count), size + count
        blocks.append((mean, size))
    return np.concatenate([[0.0], *(np.full(size, mean) for mean, size in blocks)])


def _inverted(curve: Float, edges: Float, q: float) -> float:
    """Where the curve reaches a share of its end; the middle of the range where it holds nothing."""
    total = curve[-1]
    if total <= 0:
        return float((edges[0] + edges[-1]) / 2)
    target = q * total
    upper = max(1, int(np.searchsorted(curve, target)))
    rise = curve[upper] - curve[upper - 1]
    share = (target - curve[upper - 1]) / rise if rise > 0 else 0.5
    return float(edges[upper - 1] + share * (edges[upper] - edges[upper - 1]))


def _band(weights: Float, variance: float, edges: Float, q: float, z: float) -> tuple[float, float]:
    """The hull of all values that the noisy histogram does not contradict as its q-quantile.

    At a value a share t into bin j the true histogram has `sum_{i<j} h_i + t h_j - q sum h_i = 0`; the same map of the
    noisy one has the variance `v (sum of squared coefficients)`, and contradicts the value where it is more than z
    deviations away from zero.
    """
    k = len(weights)
    share = np.tile(np.arange(_STEPS + 1) / _STEPS, k)
    bin_of = np.repeat(np.arange(k), _STEPS + 1)
    before = np.concatenate([[0.0], np.cumsum(weights)])
    distance = before[bin_of] + share * weights[bin_of] - q * before[-1]
    squares = (1 - q) ** 2 * bin_of + (share - q) ** 2 + q**2 * (k - 1 - bin_of)
    width = z * math.sqrt(variance) * np.sqrt(squares)
    place = edges[bin_of] + share * (edges[bin_of + 1] - edges[bin_of])
    low = _crossing(place, distance + width)
    high = _crossing(-place[::-1], -(distance - width)[::-1])
    return low, -high


def _crossing(place: Float, bound: Float) -> float:
    """Where a bound stops being below zero, between two places in proportion; the first place if it never does."""
    inside = np.flatnonzero(bound >= 0)
    if not len(inside):
        return float(place[0])
    first = int(inside[0])
    if first == 0:
        return float(place[0])
    step = bound[first] - bound[first - 1]
    return float(place[first - 1] - bound[first - 1] / step * (place[first] - place[first - 1]))
