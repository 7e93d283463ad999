from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter.errors import InvariantError
from hushmeter.model.measurement import Mechanism
from hushmeter.query.intervals import cut, fieller, half_width, z_of
from tests.statistical.harness import noise_of

GAUSSIAN, LAPLACE = Mechanism.DISCRETE_GAUSSIAN, Mechanism.DISCRETE_LAPLACE


@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_noise_has_a_scale(mechanism: Mechanism, scale: float) -> None:
    """There is no interval of noise whose scale is not positive and finite."""
    with pytest.raises(InvariantError, match="positive and finite"):
        half_width(mechanism, scale)


@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize("scale", [0.2, 1.0, 7.5, 60.0])
def test_the_stated_variance_is_that_of_the_noise(mechanism: Mechanism, scale: float) -> None:
    """The variance of the discrete Laplace is exact; that of the discrete Gaussian is the scale's square, or less."""
    pmf = noise_of(mechanism, scale)
    exact = math.fsum(z * z * pmf(z) for z in range(-math.ceil(60 * scale) - 9, math.ceil(60 * scale) + 10))
    stated = mechanism.variance(scale)
    if mechanism.laplace:
        assert stated == pytest.approx(exact, rel=1e-9)
    else:
        assert exact <= stated * (1 + 1e-9)
        if scale >= 1:
            assert stated == pytest.approx(exact, rel=1e-6)


def test_z_of_each_family() -> None:
    """Z is the normal's 97.5 % quantile for Gaussian noise, and where one Laplace variable leaves 5 % for the other."""
    for mechanism in Mechanism:
        z = z_of(mechanism)
        if mechanism.laplace:
            assert math.exp(-z * math.sqrt(2)) == pytest.approx(0.05, rel=1e-12)
        else:
            assert math.erfc(z / math.sqrt(2)) == pytest.approx(0.05, rel=1e-12)


@pytest.mark.parametrize("factors", [(1,), (1, 1), (3, 1), (10, 1), (1, 1, 1), (1,) * 12, (5, *(1,) * 30)], ids=str)
@pytest.mark.parametrize("mechanism", [GAUSSIAN, LAPLACE])
def test_intervals_of_sums_cover(mechanism: Mechanism, factors: tuple[int, ...]) -> None:
    """The interval of a sum of noises, of equal or unequal weights, covers 95 to 97 % of it (E4)."""
    scale = 6.0
    reach = 160
    one = np.array([noise_of(mechanism, scale)(z) for z in range(-reach, reach + 1)])
    total = np.ones(1)
    for factor in factors:
        spread = np.zeros(2 * reach * factor + 1)
        spread[::factor] = one
        total = np.convolve(total, spread)
    std = math.sqrt(sum(f**2 for f in factors) * mechanism.variance(scale))
    width = math.ceil(z_of(mechanism) * std)
    centre = len(total) // 2
    covered = total[centre - width : centre + width + 1].sum()
    assert 0.95 <= covered <= 0.97


@pytest.mark.parametrize("mechanism", [GAUSSIAN, LAPLACE])
@pytest.mark.parametrize("scale", [0.05, 0.3, 0.5, 1.0, 2.0, 7.5, 61.0, 1_000.0])
def test_a_half_width_is_the_smallest_that_covers(mechanism: Mechanism, scale: float) -> None:
    """Noise lies in [-h, h] with probability 0.95 or more, and in nothing narrower (E4)."""
    h, pmf = half_width(mechanism, scale), noise_of(mechanism, scale)
    within = math.fsum(pmf(z) for z in range(-h + 1, h)) if h else 0.0
    assert within < 0.95 <= within + (pmf(h) + pmf(-h) if h else pmf(0))


@pytest.mark.parametrize(("scale", "h"), [(1_001.0, 1_962), (2_000.0, 3_920), (10_000.0, 19_600), (1e6, 1_959_964)])
def test_a_wide_gaussian_is_the_normal_in_whole_steps(scale: float, h: int) -> None:
    """Beyond a scale of 1,000 the half width is 1.96 deviations less half a step, rounded up."""
    assert half_width(GAUSSIAN, scale) == h


@pytest.mark.parametrize(
    ("s", "n", "variances", "ends"),
    [
        (3.0, 5.0, (1.0, 1.0, 0.0), ((15 - math.sqrt(120)) / 21, (15 + math.sqrt(120)) / 21)),
        (3.0, 5.0, (1.0, 1.0, 0.5), ((13 - math.sqrt(64)) / 21, (13 + math.sqrt(64)) / 21)),
        (-3.0, 5.0, (1.0, 1.0, 0.0), ((-15 - math.sqrt(120)) / 21, (-15 + math.sqrt(120)) / 21)),
        (3.0, -5.0, (1.0, 1.0, 0.0), ((-15 - math.sqrt(120)) / 21, (-15 + math.sqrt(120)) / 21)),
        (8.0, 2.0, (1.0, 0.25, 0.0), ((16 - math.sqrt(76)) / 3, 5.0)),
        (1.0, 1.0, (1.0, 1.0, 0.0), (-5.0, 5.0)),
        (0.0, 2.0, (1.0, 1.0, 0.0), (-5.0, 5.0)),
        (3.0, 1.0, (1.0, 1.0, 0.0), (-5.0, 5.0)),
        (8.0, 1.0, (1.0, 1.0, 0.0), ((-8 + math.sqrt(244)) / 3, 5.0)),
        (-8.0, 1.0, (1.0, 1.0, 0.0), (-5.0, -(-8 + math.sqrt(244)) / 3)),
        (8.0, -1.0, (1.0, 1.0, 0.0), (-5.0, -(-8 + math.sqrt(244)) / 3)),
        (8.0, 2.0, (1.0, 1.0, 0.0), (-5.0, 5.0)),
        (3.0, 1.0, (1.0, 0.5, 0.25), (-5.0, 5.0)),
        (-3.0, 1.0, (1.0, 0.5, -0.25), (-5.0, 5.0)),
        (0.8, 0.1, (0.01, 0.01, 0.0), ((-8 + math.sqrt(244)) / 3, 5.0)),
        (0.3, 0.5, (0.01, 0.01, 0.0), ((15 - math.sqrt(120)) / 21, (15 + math.sqrt(120)) / 21)),
        (-1.0, 1.0, (1.0, 0.5, 0.7), (-5.0, 3.8 - math.sqrt(11.44))),
    ],
)
def test_fieller_by_hand(s: float, n: float, variances: tuple[float, float, float], ends: tuple[float, float]) -> None:
    """Two deviations: between the roots, everywhere, or outside of a gap that reaches past one end of the range."""
    low, high = fieller(np.array([[s]]), np.array([[n]]), *variances, (-5.0, 5.0), 2.0)
    assert (low[0, 0], high[0, 0]) == pytest.approx(ends)


def test_fieller_reaches_two_deviations_unless_told_otherwise() -> None:
    """The default is the normal's 97.5 % quantile: of an exact denominator, S plus or minus 1.96 over N."""
    low, high = fieller(np.array([[3.0]]), np.array([[4.0]]), 1.0, 0.0, 0.0, (-5.0, 5.0))
    assert (low[0, 0], high[0, 0]) == pytest.approx(((3 - 1.959964) / 4, (3 + 1.959964) / 4))


numbers = st.floats(-50, 50).map(lambda x: round(x, 3))


@given(numbers, numbers, st.floats(0.1, 20), st.floats(0.1, 20), st.floats(-0.9, 0.9), st.sampled_from(Mechanism))
def test_fieller_is_the_hull_of_its_set(
    s: float, n: float, var_s: float, var_n: float, correlation: float, mechanism: Mechanism
) -> None:
    """The interval is the hull, inside the admissible range, of all ratios that the data do not reject."""
    cov, z = correlation * math.sqrt(var_s * var_n), z_of(mechanism)
    low, high = fieller(np.array([[s]]), np.array([[n]]), var_s, var_n, cov, (-3.0, 3.0), z)
    grid = np.linspace(-3, 3, 6001)
    slack = z**2 * (var_s - 2 * grid * cov + grid**2 * var_n) - (s - grid * n) ** 2
    inside = grid[slack >= 0]
    if len(inside):
        assert low[0, 0] <= inside[0] + 1e-3
        assert high[0, 0] >= inside[-1] - 1e-3
    surely_outside = grid[slack < -1e-6 * (1 + (s - grid * n) ** 2)]
    if len(inside) and len(surely_outside):
        assert not ((surely_outside < inside[0] - 2e-3) & (surely_outside > low[0, 0] + 2e-3)).any()
        assert not ((surely_outside > inside[-1] + 2e-3) & (surely_outside < high[0, 0] - 2e-3)).any()


def test_cutting_never_recentres() -> None:
    """An interval that misses the admissible range becomes its nearest end; others lose what is impossible (E3)."""
    low, high = cut(np.array([-5.0, -5.0, 1.0, 3.0]), np.array([-1.0, 2.0, 3.0, 4.0]), 0.0, 2.5)
    assert low.tolist() == [0.0, 0.0, 1.0, 2.5]
    assert high.tolist() == [0.0, 2.0, 2.5, 2.5]
