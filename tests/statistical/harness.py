"""A chi-square test of integers against a distribution that is written out here; it has tests of its own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

DRAWS = 20_000
ALPHA = 1e-9
EXPECTED_MIN = 5

Pmf = Callable[[int], float]


def discrete_gaussian(scale: float) -> Pmf:
    """P(Z = z) of the discrete Gaussian: exp(-z^2 / 2 sigma^2), normalised over the integers."""
    reach = math.ceil(14 * scale) + 1
    total = math.fsum(math.exp(-(z * z) / (2 * scale**2)) for z in range(-reach, reach + 1))
    return lambda z: math.exp(-(z * z) / (2 * scale**2)) / total


def discrete_laplace(variance: float) -> Pmf:
    """P(Z = z) of the discrete Laplace of a variance: proportional to p^|z|."""
    # variance = 2p / (1 - p)^2
    p = (1 + variance - math.sqrt(1 + 2 * variance)) / variance
    return lambda z: (1 - p) / (1 + p) * p ** abs(z)


def sample(pmf: Pmf, reach: int, seed: int) -> np.ndarray:
    """Draws from a distribution over [-reach, reach], for the harness's own tests."""
    support = np.arange(-reach, reach + 1)
    weights = np.array([pmf(int(z)) for z in support])
    return np.random.default_rng(seed).choice(support, DRAWS, p=weights / weights.sum())


def p_value(draws: np.ndarray, pmf: Pmf) -> float:
    """Chi-square probability of draws under a distribution; bins have an expected count of at least 5."""
    reach = int(np.abs(draws).max()) + 1
    edges, mass, bins = [], 0.0, []
    for z in range(-reach, reach + 1):
        mass += pmf(z)
        if mass * len(draws) >= EXPECTED_MIN:
            edges.append(z)
            bins.append(mass)
            mass = 0.0
    # What is left above, and everything beyond, belongs to the last bin.
    bins[-1] = 1.0 - math.fsum(bins[:-1])
    which = np.minimum(np.searchsorted(edges, draws), len(bins) - 1)
    counts = np.bincount(which, minlength=len(bins))
    return float(stats.chisquare(counts, np.array(bins) * len(draws)).pvalue)
