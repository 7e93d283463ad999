"""From scores of canaries to what a release has shown: confidence bounds that hold simultaneously.

A trial is one canary: present or not by a fair coin, scored from the answers alone. Each canary has a slot of its own, and
the noise of slots is independent. So trials are independent, each tests the presence of one unit, and the analysis need not
account for canaries that share a run. Thresholds are fixed in advance. Clopper and Pearson's intervals bound the true and
false positive rates, at levels that add up to `FAMILYWISE_ALPHA` over everything that one audit tests.

References:
    T. Steinke, M. Nasr, M. Jagielski: Privacy Auditing with One (1) Training Run (2023), for canaries in one run.
    J. Dong, A. Roth, W. Su: Gaussian Differential Privacy (2019), Definition 2.6 and Proposition 2.5 (trade-off functions),
        Theorem 2.14 (groups) and Corollary 3.3 (composition).
    C. Clopper, E. Pearson: The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial (1934).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from hushmeter.errors import ensure
from hushmeter.ledger.gaussian import delta_of
from hushmeter.model.arrays import Bool, Float64

FAMILYWISE_ALPHA = 1e-6
"""The largest probability that any statistical check fails although the engine is correct."""
THRESHOLDS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Where scores are cut: the mean score is 0 of absent canaries, and 1 of present ones at the claimed sensitivity."""
_BISECTIONS = 60
_FINE = 50.0
"""The scale, in steps, beyond which noise of whole numbers is nearly noise of real numbers."""


@dataclass(frozen=True, slots=True)
class PrivacyClaim:
    """The privacy loss that a release claims as its upper bound.

    Attributes:
        mechanism, statistic: which.
        epsilon, delta: claimed.
        mu: claimed sensitivity over noise; None for noise that is not Gaussian.
        lattice: `lattice_factor` of the claimed scale; 1 for noise of real numbers, and for noise that is not Gaussian.
        sensitivity: of Laplace noise, in steps; infinite for noise of real numbers.
    """

    mechanism: str
    statistic: str
    epsilon: float
    delta: float
    mu: float | None
    lattice: float = 1.0
    sensitivity: float = math.inf


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an audit has shown of one release; None where that cannot be said.

    Attributes:
        shown_epsilon: lower bound of epsilon, by the trade-off curve of the claimed noise. A bound above the claim says
            that the rates contradict it; the amount by which it is above means nothing.
        shown_mu: of Gaussian noise, the same bound in sensitivity over scale.
        shown_epsilon_by_counts: lower bound that assumes no family.
        trials: how many canaries.
        note: what a deterministic check found; empty for statistics.
    """

    mechanism: str
    statistic: str
    claimed_epsilon: float | None
    shown_epsilon: float | None
    claimed_mu: float | None
    shown_mu: float | None
    shown_epsilon_by_counts: float | None
    trials: int
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing that was shown exceeds what was claimed, and no check failed."""
        pairs = (
            (self.shown_epsilon, self.claimed_epsilon),
            (self.shown_mu, self.claimed_mu),
            (self.shown_epsilon_by_counts, self.claimed_epsilon),
        )
        return not self.note and all(s is None or c is None or s <= c for s, c in pairs)

    @property
    def name(self) -> str:
        """The statistic of a mechanism, or the check, in words."""
        return (
            self.statistic.removeprefix("check:")
            if self.statistic.startswith("check:")
            else f"{self.mechanism}, {self.statistic}"
        )

    @property
    def finding(self) -> str:
        """What does not hold; empty where everything does."""
        if self.holds or self.note:
            return self.note
        shown = f"epsilon {self.shown_epsilon}, mu {self.shown_mu}, by counts {self.shown_epsilon_by_counts}"
        return f"shown: {shown}; claimed: epsilon {self.claimed_epsilon}, mu {self.claimed_mu}"

    def row(self) -> Mapping[str, object]:
        """As the audit's JSON has it."""
        fields = ("mechanism", "statistic", "claimed_epsilon", "shown_epsilon", "claimed_mu", "shown_mu")
        return {name: getattr(self, name) for name in (*fields, "shown_epsilon_by_counts", "trials", "note")}


def checked(name: str, note: str, *, mechanism: str = "deterministic", trials: int = 1) -> Evidence:
    """The evidence of an exact check, which claims 0 and shows 1 where it fails.

    Args:
        name: of the check.
        note: what it found; empty where it holds.
        mechanism: the one that the check is about.
        trials: how often the check was made.
    """
    return Evidence(mechanism, f"check:{name}", 0.0, 1.0 if note else 0.0, None, None, None, trials, note)


def shown_by(claim: PrivacyClaim, scores: Float64, present: Bool, tests: int) -> Evidence:
    """Bounds what scores say about presence.

    Args:
        claim: of the release.
        scores: float64[n], one a canary.
        present: bool[n], whether the canary was there.
        tests: how many releases the audit tests in all; they share `FAMILYWISE_ALPHA`.

    Returns:
        The largest bounds over `THRESHOLDS`, each direction of the test included; together they err with probability
        `FAMILYWISE_ALPHA / tests` at most.
    """
    inside, outside = scores[present], scores[~present]
    ensure(len(inside) > 0 and len(outside) > 0, "an audit needs canaries that are present and such that are not")
    alpha = FAMILYWISE_ALPHA / tests / len(THRESHOLDS) / 2
    _ensure_deniable(claim, 1 - rate_at_most(0, len(inside), alpha), rate_at_most(0, len(outside), alpha))
    mu, by_counts, by_curve = -math.inf, 0.0, 0.0
    for threshold in THRESHOLDS:
        hits, alarms = int((inside > threshold).sum()), int((outside > threshold).sum())
        hit_rate = 1 - rate_at_most(len(inside) - hits, len(inside), alpha)
        alarm_rate = rate_at_most(alarms, len(outside), alpha)
        mu = max(mu, _normal(hit_rate) - _normal(alarm_rate))
        # Both directions: present scores high, and absent scores low.
        for yes, no in ((hit_rate, alarm_rate), (1 - alarm_rate, 1 - hit_rate)):
            if yes > claim.delta and no > 0:
                by_counts = max(by_counts, math.log((yes - claim.delta) / no))
        by_curve = max(by_curve, _laplace_epsilon(hit_rate, alarm_rate, claim.sensitivity))
    mu /= claim.lattice
    gaussian = claim.mu is not None
    return Evidence(
        mechanism=claim.mechanism,
        statistic=claim.statistic,
        claimed_epsilon=claim.epsilon,
        shown_epsilon=epsilon_of_mu(mu, claim.delta) if gaussian else by_curve,
        claimed_mu=claim.mu,
        shown_mu=max(mu, 0.0) if gaussian else None,
        shown_epsilon_by_counts=by_counts,
        trials=len(scores),
    )


def _ensure_deniable(claim: PrivacyClaim, hit_rate: float, alarm_rate: float) -> None:
    """Ensures that the test can fail: canaries that are all told apart must contradict the claim."""
    if claim.mu is None:
        most, claimed = _laplace_epsilon(hit_rate, alarm_rate, claim.sensitivity), claim.epsilon
    else:
        most, claimed = _normal(hit_rate) - _normal(alarm_rate), claim.mu * claim.lattice
    ensure(most > claimed, f"so few canaries cannot contradict {claimed:.3g}, only what is below {most:.3g}; take more")


def rate_at_most(successes: int, trials: int, alpha: float) -> float:
    """Clopper and Pearson's upper bound of a rate: the largest that so few successes do not contradict at level alpha."""
    if successes >= trials:
        return 1.0
    counts = np.arange(successes + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    ways = logs[trials] - logs[counts] - logs[trials - counts]
    low, high = successes / trials, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        tail = np.exp(ways + counts * math.log(middle) + (trials - counts) * math.log1p(-middle)).sum()
        low, high = (middle, high) if tail > alpha else (low, middle)
    return high


def epsilon_of_mu(mu: float, delta: float) -> float:
    """The epsilon that a Gaussian trade-off curve has at delta; 0 where mu is not positive."""
    if mu <= 0 or delta_of(mu, 0.0) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while delta_of(mu, high) > delta:
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(mu, middle) > delta else (low, middle)
    return low


def _normal(rate: float) -> float:
    """The quantile of the standard normal; infinite of rates 0 and 1."""
    return NormalDist().inv_cdf(rate) if 0 < rate < 1 else -math.inf if rate <= 0 else math.inf


def lattice_factor(scale: float) -> float:
    """How much better a threshold tells the discrete Gaussian from itself moved by one step than it tells the Gaussian.

    A threshold between two whole numbers lets `Phi(m / 2)` of the one through, and `1 - Phi(m / 2)` of the other. The
    mechanism is m-GDP for a sensitivity of 1, and k m-GDP for one of k.

    Args:
        scale: sigma, in steps.

    Returns:
        m times the scale, at least 1.
    """
    if scale > _FINE:
        # The first terms of the exact value's series; the further ones are less than 1 / scale^4.
        return 1 + 1 / (24 * scale**2) + scale**-4
    steps = np.arange(1, math.ceil(40 * scale) + 1)
    tail = float(np.exp(-((steps / scale) ** 2) / 2).sum())
    return -2 * scale * _normal(tail / (1 + 2 * tail))


def _laplace_epsilon(hit_rate: float, alarm_rate: float, sensitivity: float) -> float:
    """The smallest epsilon whose Laplace trade-off curve allows these rates."""
    miss_rate = 1 - hit_rate
    low, high = 0.0, 100.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if miss_rate < laplace_curve(alarm_rate, middle, sensitivity) else (low, middle)
    return low


def laplace_curve(alarm_rate: float, epsilon: float, sensitivity: float = math.inf) -> float:
    """The smallest miss rate that Laplace noise leaves at a false alarm rate.

    Take noise of whole numbers, and the same noise moved by k. A threshold t from 1 to k lets `r^t / (1 + r)` of the first
    through and keeps `r^(k + 1 - t) / (1 + r)` of the second back, where r = exp(-epsilon / k). The curve runs through
    these points, never above their chords; outside of them the rates differ by the factor exp(epsilon). For infinite k the
    curve is equation 6 of Dong et al. 2019, section 2.3.

    Args:
        alarm_rate: 0 to 1.
        epsilon: sensitivity over scale.
        sensitivity: k, in steps; infinite for noise of real numbers.
    """
    shrink, ratio = math.exp(-epsilon), math.exp(-epsilon / sensitivity)
    if alarm_rate < shrink / (1 + ratio):
        return 1 - alarm_rate / shrink
    if alarm_rate <= ratio / (1 + ratio):
        return shrink * ratio / (1 + ratio) ** 2 / alarm_rate
    return shrink * (1 - alarm_rate)
