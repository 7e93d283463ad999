"""Goodness of fit for integer noise, and independence: the yardstick of the statistical tests, which is tested itself.

Distributions are written out here as plain probabilities, so that nothing is compared with the code that drew it.
A test rejects where `p < ALPHA`: with true noise one run in a thousand million does.

References:
    C. Canonne, G. Kamath, T. Steinke: The Discrete Gaussian for Differential Privacy (2020), Definition 1.
    S. Inusah, T. Kozubowski: A Discrete Analogue of the Laplace Distribution (2006), Definition 1.
    K. Pearson (1900): the chi-square statistic; bins of expected count of 5 or more after W. G. Cochran (1954).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from hushmeter.model.measurement import Mechanism

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

DRAWS = 20_000
ALPHA = 1e-9
EXPECTED_MIN = 5.0
BINS_MAX = 64
"""Few enough bins that the chi-square approximation holds far out in its tail, where `ALPHA` is."""


@dataclass(frozen=True)
class Distribution:
    """Probabilities of consecutive integers.

    Attributes:
        first: the smallest integer of the support.
        probabilities: float64[m], of `first`, `first + 1`, ...; they add up to 1.
    """

    first: int
    probabilities: Float64

    def __call__(self, z: int) -> float:
        """P(Z = z)."""
        place = z - self.first
        return float(self.probabilities[place]) if 0 <= place < len(self.probabilities) else 0.0

    def from_on(self, z: int) -> float:
        """P(Z >= z), added up from the small end so that tails keep their digits."""
        return math.fsum(self.probabilities[max(0, z - self.first) :])

    def given_at_least(self, z: int) -> Distribution:
        """The same under the condition Z >= z."""
        kept = self.probabilities[max(0, z - self.first) :]
        return Distribution(max(z, self.first), kept / math.fsum(kept))

    def shifted(self, by: int) -> Distribution:
        """The distribution of Z + by."""
        return Distribution(self.first + by, self.probabilities)

    def draw(self, n: int, seed: int) -> Int64:
        """Inverse-transform samples that repeat with the seed."""
        uniform = np.random.default_rng(seed).random(n)
        return self.first + np.searchsorted(np.cumsum(self.probabilities)[:-1], uniform, side="right")

    @property
    def variance(self) -> float:
        """The exact variance of the written-out probabilities."""
        x = self.first + np.arange(len(self.probabilities))
        mean = float(x @ self.probabilities)
        return float((x - mean) ** 2 @ self.probabilities)


def discrete_gaussian(sigma: float) -> Distribution:
    """P(z) proportional to exp(-z^2 / 2 sigma^2); what lies beyond 12 sigma is below 1e-32."""
    reach = math.ceil(12 * sigma) + 2
    z = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = np.exp(-(z**2) / (2 * sigma**2))
    return Distribution(-reach, weights / math.fsum(weights))


def discrete_laplace(scale: float) -> Distribution:
    """P(z) = (1 - p) / (1 + p) p^|z| with p = exp(-1 / scale); what lies beyond 74 scales is below 1e-32."""
    reach = math.ceil(74 * scale) + 2
    z = np.arange(-reach, reach + 1, dtype=np.float64)
    p = math.exp(-1 / scale)
    return Distribution(-reach, (1 - p) / (1 + p) * np.exp(-np.abs(z) / scale))


def noise_of(mechanism: Mechanism, scale: float) -> Distribution:
    """The distribution that a mechanism's noise should have."""
    return discrete_laplace(scale) if "laplace" in mechanism.value else discrete_gaussian(scale)


def bins_of(distribution: Distribution, n: int) -> list[slice]:
    """Runs of the support with an expected count of at least 5 each, at most about 64 of them.

    Args:
        distribution: what is expected.
        n: how many draws.

    Returns:
        Slices of `probabilities` that cover the support; the first and last hold the tails.
    """
    target = max(EXPECTED_MIN, n / BINS_MAX)
    cuts, held = [0], 0.0
    for i, expected in enumerate(n * distribution.probabilities):
        held += expected
        if held >= target:
            cuts.append(i + 1)
            held = 0.0
    # What is left over at the end, expected fewer than five times, joins the last bin.
    if held < EXPECTED_MIN and len(cuts) > 1:
        cuts.pop()
    return [slice(a, b) for a, b in zip(cuts, [*cuts[1:], len(distribution.probabilities)], strict=True) if a < b]


def p_value(draws: Int64, expected: Distribution) -> float:
    """How likely a chi-square at least this large is if the draws are from the distribution.

    Args:
        draws: int64[n], independent.
        expected: what they should follow; draws beyond its support count in its outer bins.

    Raises:
        ValueError: too few draws to test anything.
    """
    bins = bins_of(expected, len(draws))
    borders = expected.first + np.array([b.start for b in bins[1:]], np.int64)
    counts = np.bincount(np.searchsorted(borders, draws, side="right"), minlength=len(bins))
    wanted = len(draws) * np.array([expected.probabilities[b].sum() for b in bins])
    if len(bins) < 2 or wanted.min() < EXPECTED_MIN:
        raise ValueError(f"{len(draws)} draws make no two bins of expected count 5")
    return float(stats.chi2.sf(((counts - wanted) ** 2 / wanted).sum(), len(bins) - 1))


def p_value_of_share(hits: int, runs: int, probability: float) -> float:
    """How likely a number of hits at least this far out is, two-sided and exact, if each run hits with a probability."""
    return float(stats.binomtest(hits, runs, probability).pvalue)


def p_value_of_independence(x: Int64, y: Int64) -> float:
    """How likely correlations at least this large are if x and y are independent; two-sided, of values and of sizes.

    Args:
        x: int64[n].
        y: int64[n], y[i] drawn beside x[i].
    """
    p_values = []
    for a, b in ((x, y), (np.abs(x), np.abs(y))):
        r = min(max(float(np.corrcoef(a, b)[0, 1]), -1 + 1e-15), 1 - 1e-15)
        # Fisher's z of a correlation is normal with variance 1 / (n - 3).
        p_values.append(2 * float(stats.norm.sf(abs(math.atanh(r)) * math.sqrt(len(x) - 3))))
    return min(1.0, len(p_values) * min(p_values))
