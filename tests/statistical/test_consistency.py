"""Consistent estimates are as sharp as they say: coverage and squared error over thousands of redraws of the noise (E4)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hushmeter.query.consistency import NoisyView, consistent
from hushmeter.query.intervals import Z
from hushmeter.testing.consistency import consistent_windows

RUNS = 20_000
LUCK = 6.2
"""Standard errors that chance may take: about 1e-9 to both sides."""
SIZES = {"country": 5, "version": 4, "device": 3}
PLANS = {
    "cube": [(), ("country",), ("version",), ("device",), ("country", "version", "device")],
    "pairs": [("country", "version"), ("version", "device"), ("country", "device")],
    "chain": [(), ("country",), ("country", "version")],
    "unrelated": [("country",), ("version",)],
    "twice": [("device",), ("device",)],
}
STDS = [[20.0] * 5, [8.0, 30.0, 15.0, 60.0, 25.0]]


def redrawn(plan: str, stds: list[float], seed: int) -> tuple[list[np.ndarray], list[NoisyView]]:
    """The exact views, and noisy ones whose columns are independent runs."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2_000, tuple(SIZES.values()))
    exact, views = [], []
    for names, std in zip(PLANS[plan], stds, strict=False):
        marginal = truth.sum(axis=tuple(i for i, name in enumerate(SIZES) if name not in names))
        noise = std * rng.standard_normal((*marginal.shape, RUNS))
        exact.append(marginal[..., None])
        views.append(NoisyView(names, marginal[..., None] + noise, std**2))
    return exact, views


def assert_honest(errors: np.ndarray, variance: float) -> None:
    """Fails unless errors, float[cells..., runs], have the variance that is claimed and 95 % intervals cover 95 %."""
    squares = (errors**2).mean(axis=-1) / variance
    assert np.abs(squares - 1).max() <= LUCK * math.sqrt(2 / RUNS)
    covered = (np.abs(errors) <= Z * math.sqrt(variance)).mean(axis=-1)
    assert np.abs(covered - 0.95).max() <= LUCK * math.sqrt(0.95 * 0.05 / RUNS)
    assert np.abs(errors.mean(axis=-1)).max() <= LUCK * math.sqrt(variance / RUNS)


@pytest.mark.parametrize("stds", STDS, ids=["equal", "unequal"])
@pytest.mark.parametrize("plan", PLANS)
def test_views_are_as_sharp_as_claimed(plan: str, stds: list[float]) -> None:
    """In every cell intervals cover 95 % and errors have the claimed variance; no view's is above its release's."""
    exact, views = redrawn(plan, stds, seed=1)
    for truth, view, told in zip(exact, views, consistent(views), strict=True):
        assert_honest(told.values - truth, told.variance)
        # One draw makes both errors, so that what chance does to one it does to the other.
        raw, now = (((v - truth) ** 2).mean() for v in (view.values, told.values))
        assert now <= raw


def test_unrelated_views_still_share_their_total() -> None:
    """Two views without a common dimension measure one total twice; both gain, by what the closed form says."""
    _, views = redrawn("unrelated", [20.0, 20.0], seed=2)
    country, version = consistent(views)
    # The total of 5 cells and that of 4, together: 1 / (1/5 + 1/4) = 20/9 of a cell's variance.
    assert country.variance == pytest.approx(400 * (4 / 5 + 20 / 9 / 25))
    assert version.variance == pytest.approx(400 * (3 / 4 + 20 / 9 / 16))


def test_windows_are_as_sharp_as_claimed() -> None:
    """Hours of uneven noise and their day: intervals cover 95 %, errors have the claimed variance, below the release's."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 500, (24, 1))
    stds, day_std = np.where(np.arange(24) % 2, 10.0, 30.0), 40.0
    fine = truth + stds[:, None] * rng.standard_normal((24, RUNS))
    coarse = truth.sum(axis=0) + day_std * rng.standard_normal(RUNS)
    told = consistent_windows(fine, stds**2, coarse, day_std**2)
    for hour in range(24):
        assert_honest(told.fine[hour] - truth[hour], told.fine_variance[hour])
    assert_honest(told.coarse - truth.sum(axis=0), told.coarse_variance)
    raw, now = (((v - truth) ** 2).mean() for v in (fine, told.fine))
    assert now < raw
    assert ((told.coarse - truth.sum()) ** 2).mean() < ((coarse - truth.sum()) ** 2).mean()


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_the_check_catches_a_wrong_variance(factor: float) -> None:
    """`assert_honest` fails for a standard deviation that is a fifth too small, or a quarter too large."""
    errors = np.random.default_rng(4).standard_normal((3, RUNS))
    assert_honest(errors, 1.0)
    with pytest.raises(AssertionError):
        assert_honest(errors, factor**2)


def test_the_check_catches_wrong_weights() -> None:
    """Weights for another plan's noise give estimates that agree, but whose errors are not what is claimed."""
    exact, views = redrawn("chain", STDS[1], seed=5)
    wrong = [NoisyView(v.dimensions, v.values, 400.0) for v in views]
    told = consistent(wrong)[0]
    with pytest.raises(AssertionError):
        assert_honest(told.values - exact[0], told.variance)
