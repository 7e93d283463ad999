"""Quantiles from a noisy histogram: its isotonic cumulative curve inverted, and the band around it inverted (E1).

The quantile that is estimated is that of the bounded histogram itself, with values spread evenly inside each bin: choose
edges as fine as quantiles shall be. Quantiles cost nothing beyond the histogram.

References:
    R. Barlow, D. Bartholomew, J. Bremner, H. Brunk: Statistical Inference under Order Restrictions (1972), section 1.2
    (isotonic regression, its max-min formula).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hushmeter.model.arrays import Float64
from hushmeter.query.ratios import Estimated

_STEPS = 16
"""Places inside each bin at which the band is looked at; between them it is taken to be straight."""
_CELLS_MAX = 2**21
"""Rows are taken in groups whose bands have at most so many places altogether, which bounds the memory."""


def quantiles(bins: Float64, variance: float, borders: Sequence[float], at: Sequence[float], z: float) -> Estimated:
    """Quantiles of every row, with their noise and 95 % intervals.

    Args:
        bins: float64[rows, k], noisy weights of the bins.
        variance: of the noise in each bin; independent between bins.
        borders: k + 1 rising numbers, ends of the bins; those of the outer bins are the ends of the range.
        at: rising, each between 0 and 1.
        z: how many standard deviations an interval reaches.

    Returns:
        Values, standard deviations, lower and upper ends, float64[rows, len(at)] each. Values never fall as `at` rises; a
        standard deviation is the interval's width over 2 z.
    """
    values, lows, highs = (np.zeros((len(bins), len(at))) for _ in range(3))
    edges = np.asarray(borders, np.float64)
    group = max(1, _CELLS_MAX // (bins.shape[1] * (_STEPS + 1)))
    for first in range(0, len(bins), group):
        rows = slice(first, first + group)
        curve = isotonic(bins[rows])
        for column, q in enumerate(at):
            values[rows, column] = _inverted(curve, edges, q)
            lows[rows, column], highs[rows, column] = _band(bins[rows], z * math.sqrt(variance), edges, q)
    # Where the band is wide or the curve flat, a derivative says nothing, so the band's own width is the measure.
    stds = (highs - lows) / (2 * z)
    return values, stds, np.minimum(lows, values), np.maximum(highs, values)


def isotonic(weights: Float64) -> Float64:
    """The non-decreasing cumulative curve from 0 that is nearest to the noisy one; float64[rows, k + 1].

    The max-min formula of least squares: a stretch is a run of consecutive points. For each start up to a place, take the
    smallest mean of all stretches from that start that reach the place. The curve there is the largest of these over all
    starts, and 0 where that is negative.

    Args:
        weights: float64[rows, k], noisy bins.

    References:
        Barlow et al. (1972), section 1.2.
    """
    points = np.cumsum(weights, axis=1)
    fitted = np.zeros((len(weights), weights.shape[1] + 1))
    for start in range(weights.shape[1]):
        means = np.cumsum(points[:, start:], axis=1) / np.arange(1, weights.shape[1] - start + 1)
        smallest = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
        np.maximum(fitted[:, start + 1 :], smallest, out=fitted[:, start + 1 :])
    return fitted


def _inverted(curves: Float64, edges: Float64, q: float) -> Float64:
    """Where each curve, float64[rows, k + 1], reaches a share q of its end; the middle of the range where the end is 0."""
    total = curves[:, -1]
    target = q * total
    upper = np.maximum(1, (curves < target[:, None]).sum(axis=1))
    row = np.arange(len(curves))
    below, rise = curves[row, upper - 1], curves[row, upper] - curves[row, upper - 1]
    share = (target - below) / np.where(rise > 0, rise, 1.0)
    place = edges[upper - 1] + share * (edges[upper] - edges[upper - 1])
    found: Float64 = np.where(total > 0, place, (edges[0] + edges[-1]) / 2)
    return found


def _band(weights: Float64, reach: float, edges: Float64, q: float) -> tuple[Float64, Float64]:
    """The hull of all values that each noisy histogram does not contradict as its q-quantile.

    Where the q-quantile lies a share t into bin j, the true histogram has `sum_{i<j} h_i + t h_j - q sum h_i = 0`. The same
    map of the noisy histogram has the variance `v (sum of squared coefficients)`. The noisy histogram contradicts a value
    where this map is more than z deviations away from zero.

    Args:
        weights: float64[rows, k], noisy bins.
        reach: z deviations of one bin.
        edges: float64[k + 1].
        q: which quantile, between 0 and 1.

    Returns:
        Lower and upper ends, float64[rows] each.
    """
    k = weights.shape[1]
    share = np.tile(np.arange(_STEPS + 1) / _STEPS, k)
    bin_of = np.repeat(np.arange(k), _STEPS + 1)
    before = np.cumsum(weights, axis=1) - weights
    distance = before[:, bin_of] + share * weights[:, bin_of] - q * weights.sum(axis=1, keepdims=True)
    squares = (1 - q) ** 2 * bin_of + (share - q) ** 2 + q**2 * (k - 1 - bin_of)
    width = reach * np.sqrt(squares)
    place = edges[bin_of] + share * (edges[bin_of + 1] - edges[bin_of])
    low = _crossing(place, distance + width)
    high = _crossing(-place[::-1], (width - distance)[:, ::-1])
    return low, -high


def _crossing(place: Float64, bound: Float64) -> Float64:
    """The place where each row of a bound first reaches 0, by linear interpolation; the first place where it never does."""
    row, first = np.arange(len(bound)), np.argmax(bound >= 0, axis=1)
    last = np.maximum(first - 1, 0)
    step = bound[row, first] - bound[row, last]
    share = -bound[row, last] / np.where(step > 0, step, 1.0)
    crossed: Float64 = place[last] + share * (place[first] - place[last])
    return crossed
