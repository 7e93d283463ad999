from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter.errors import InvariantError
from hushmeter.query.intervals import Z, cut, discrete_gaussian_half_width, fieller
from tests.statistical.harness import discrete_gaussian


@pytest.mark.parametrize("scale", [0.3, 0.5, 1.0, 2.3, 5.0, 7.7, 20.0, 150.0])
def test_the_half_width_is_the_smallest_that_covers(scale: float) -> None:
    """[-h, h] holds at least 95 % of the discrete Gaussian, and [-h+1, h-1] less."""
    h, pmf = discrete_gaussian_half_width(scale), discrete_gaussian(scale)

    def within(width: int) -> float:
        return math.fsum(pmf(z) for z in range(-width, width + 1))

    assert within(h) >= 0.95 - 1e-12
    if h > 0:
        assert within(h - 1) < 0.95
    if scale >= 5:
        assert within(h) <= 0.98


def test_large_scales_take_the_normal_quantile() -> None:
    """Beyond the exact range the half-width is the normal quantile, rounded up, and the two meet within a step."""
    assert discrete_gaussian_half_width(1e9) == math.ceil(Z * 1e9)
    assert abs(discrete_gaussian_half_width(999.9) - Z * 999.9) <= 1.5
    with pytest.raises(InvariantError):
        discrete_gaussian_half_width(0.0)


numbers = st.floats(-50, 50).map(lambda x: round(x, 3))


@given(numbers, numbers, st.floats(0.1, 20), st.floats(0.1, 20), st.floats(-0.9, 0.9))
def test_fieller_is_the_hull_of_its_set(s: float, n: float, var_s: float, var_n: float, correlation: float) -> None:
    """The interval is the hull, inside the admissible range, of all ratios that the data do not reject."""
    cov = correlation * math.sqrt(var_s * var_n)
    low, high = fieller(np.array([[s]]), np.array([[n]]), var_s, var_n, cov, (-3.0, 3.0))
    grid = np.linspace(-3, 3, 6001)
    slack = Z**2 * (var_s - 2 * grid * cov + grid**2 * var_n) - (s - grid * n) ** 2
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
    low, high = cut(np.array([-5.0, -5.0, 1.0]), np.array([-1.0, 2.0, 3.0]), 0.0, 2.5)
    assert low.tolist() == [0.0, 0.0, 1.0]
    assert high.tolist() == [0.0, 2.0, 2.5]
