from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tests.statistical.harness import (
    ALPHA,
    DRAWS,
    EXPECTED_MIN,
    bins_of,
    discrete_gaussian,
    discrete_laplace,
    p_value,
    p_value_of_independence,
    p_value_of_share,
)

SCALES = (1.0, 2.5, 5.39, 400.0)
FAMILIES = {"gaussian": discrete_gaussian, "laplace": discrete_laplace}
families = pytest.mark.parametrize("family", FAMILIES)


@families
@pytest.mark.parametrize("scale", [0.5, *SCALES])
def test_true_noise_passes(family: str, scale: float) -> None:
    """Draws from the very distribution are not rejected, with any of twenty seeds."""
    expected = FAMILIES[family](scale)
    assert min(p_value(expected.draw(DRAWS, seed), expected) for seed in range(20)) > 1e-4


@families
def test_p_values_are_calibrated(family: str) -> None:
    """With true noise about one p-value in ten is below 0.1 and one in two below 0.5: alpha means what it says."""
    expected = FAMILIES[family](5.39)
    p_values = np.array([p_value(expected.draw(DRAWS, seed), expected) for seed in range(300)])
    assert 12 <= (p_values < 0.1).sum() <= 52
    assert 110 <= (p_values < 0.5).sum() <= 190


@families
@pytest.mark.parametrize("scale", [0.5, *SCALES])
@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_wrong_scale_is_rejected(family: str, scale: float, factor: float) -> None:
    """Noise of 0.8 or 1.25 times the scale is rejected."""
    assert p_value(FAMILIES[family](factor * scale).draw(DRAWS, 1), FAMILIES[family](scale)) < ALPHA


@families
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_shifted_centre_is_rejected(family: str, scale: float, sign: int) -> None:
    """Noise around a centre a quarter of the scale away (at least one step) is rejected."""
    expected = FAMILIES[family](scale)
    assert p_value(expected.shifted(sign * max(1, round(scale / 4))).draw(DRAWS, 2), expected) < ALPHA


@pytest.mark.parametrize("scale", SCALES)
def test_the_wrong_family_is_rejected(scale: float) -> None:
    """Laplace noise of a Gaussian's variance is not taken for it, nor the Gaussian for that Laplace."""
    gaussian = discrete_gaussian(scale)
    # 2p / (1 - p)^2 is the discrete Laplace's variance.
    p = 1 + 1 / gaussian.variance - math.sqrt((1 + 1 / gaussian.variance) ** 2 - 1)
    laplace = discrete_laplace(-1 / math.log(p))
    assert laplace.variance == pytest.approx(gaussian.variance, rel=1e-6)
    assert p_value(laplace.draw(DRAWS, 3), gaussian) < ALPHA
    assert p_value(gaussian.draw(DRAWS, 3), laplace) < ALPHA


@families
def test_no_noise_is_rejected(family: str) -> None:
    """The exact value, twenty thousand times, is rejected."""
    assert p_value(np.zeros(DRAWS, np.int64), FAMILIES[family](1.0)) < ALPHA


@families
def test_draws_beyond_the_support_count(family: str) -> None:
    """A twentieth of the draws far outside of the written-out support is rejected, not dropped."""
    expected = FAMILIES[family](2.5)
    draws = expected.draw(DRAWS, 4)
    draws[: DRAWS // 20] = 10**12
    assert p_value(draws, expected) < ALPHA


@families
@pytest.mark.parametrize("scale", [0.5, *SCALES])
def test_bins_cover_the_support_and_expect_enough(family: str, scale: float) -> None:
    """Bins follow one another from end to end, and each expects at least five draws."""
    expected = FAMILIES[family](scale)
    bins = bins_of(expected, DRAWS)
    assert bins[0].start == 0
    assert bins[-1].stop == len(expected.probabilities)
    assert all(a.stop == b.start for a, b in itertools.pairwise(bins))
    assert min(DRAWS * expected.probabilities[b].sum() for b in bins) >= EXPECTED_MIN
    assert 3 <= len(bins) <= 65


def test_too_few_draws_are_no_test() -> None:
    """Where no two bins expect five draws the harness refuses to answer instead of passing."""
    with pytest.raises(ValueError, match="no two bins"):
        p_value(np.zeros(8, np.int64), discrete_gaussian(1.0))


def test_the_probabilities_are_the_definitions() -> None:
    """P(z) / P(0) is exp(-z^2 / 2 sigma^2), or exp(-|z| / b); all add up to one; conditions only rescale."""
    gaussian, laplace = discrete_gaussian(1.5), discrete_laplace(1.5)
    assert gaussian(-2) / gaussian(0) == pytest.approx(math.exp(-4 / 4.5))
    assert laplace(-2) / laplace(0) == pytest.approx(math.exp(-2 / 1.5))
    for one in (gaussian, laplace):
        assert math.fsum(one.probabilities) == pytest.approx(1, abs=1e-12)
        assert one.from_on(3) == pytest.approx(math.fsum(one(z) for z in range(3, 200)))
        assert one.given_at_least(3)(4) == pytest.approx(one(4) / one.from_on(3))
        assert one.given_at_least(3)(2) == 0
        assert one.shifted(7)(9) == one(2)
    # (1 - p) / (1 + p) p^z, summed from z on.
    p = math.exp(-1 / 1.5)
    assert laplace.from_on(30) == pytest.approx(p**30 / (1 + p), rel=1e-12)


def test_a_share_is_judged_from_both_sides() -> None:
    """A tenth of the runs more or fewer than expected is rejected, the expected number is not."""
    assert p_value_of_share(2_000, DRAWS, 0.1) > 0.5
    assert p_value_of_share(2_400, DRAWS, 0.1) < ALPHA
    assert p_value_of_share(1_600, DRAWS, 0.1) < ALPHA


def test_independent_draws_pass() -> None:
    """Two independent columns are not called dependent, with any of fifty seeds."""
    noise = discrete_gaussian(3.0)
    assert min(p_value_of_independence(noise.draw(DRAWS, s), noise.draw(DRAWS, 1_000 + s)) for s in range(50)) > 1e-5


@pytest.mark.parametrize("part", [1, 3])
def test_shared_noise_is_rejected(part: int) -> None:
    """Two columns that share noise of one half to one tenth of their variance are called dependent."""
    shared, noise = discrete_gaussian(3.0).draw(DRAWS, 1), discrete_gaussian(3.0 * part)
    x, y = shared + noise.draw(DRAWS, 2), shared + noise.draw(DRAWS, 3)
    assert p_value_of_independence(x, y) < ALPHA
    assert p_value_of_independence(x, -y) < ALPHA


def test_the_same_or_mirrored_noise_is_rejected() -> None:
    """A column beside itself, its mirror image, or the same sizes with fresh signs is called dependent."""
    x = discrete_gaussian(3.0).draw(DRAWS, 1)
    signs = np.random.default_rng(2).choice(np.array([-1, 1]), DRAWS)
    for y in (x, -x, x * signs):
        assert p_value_of_independence(x, y) < ALPHA
