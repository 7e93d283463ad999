from __future__ import annotations

import math

import numpy as np
import pytest

from hushmeter.model.measurement import Mechanism
from hushmeter.query.intervals import half_width
from tests.statistical.harness import noise_of

SCALES = sorted(
    {round(float(s), 4) for s in np.geomspace(0.3, 2_000, 40)} | {0.5, 1.0, 5.0, 999.9, 1_000.0, 1_000.1, 2_000.0}
)


@pytest.mark.parametrize("mechanism", Mechanism)
def test_the_half_width_is_the_smallest_that_covers(mechanism: Mechanism) -> None:
    """From 0.3 to 2,000, [-h, h] holds at least 95 % of the written-out noise, and [-h + 1, h - 1] less."""
    for scale in SCALES:
        h, noise = half_width(mechanism, scale), noise_of(mechanism, scale)
        outside = 2 * noise.from_on(h + 1)
        assert outside <= 0.05, scale
        if h > 0:
            assert 2 * noise.from_on(h) > 0.05, scale
        if scale >= 5:
            assert outside >= 0.03, scale


@pytest.mark.parametrize("mechanism", [Mechanism.DISCRETE_GAUSSIAN, Mechanism.DISCRETE_LAPLACE])
def test_scales_at_which_a_step_is_just_enough(mechanism: Mechanism) -> None:
    """Where a half-width covers 95 % by the last digit it still does not claim more than it holds."""
    for h in (1, 2, 5, 20):
        low, high = 0.01, 100.0
        # The scale at which h stops being enough, by bisection on the written-out tail.
        while math.nextafter(low, high) < high and high - low > 1e-9:
            middle = (low + high) / 2
            low, high = (middle, high) if 2 * noise_of(mechanism, middle).from_on(h + 1) <= 0.05 else (low, middle)
        assert half_width(mechanism, low - 1e-6) == h
        assert half_width(mechanism, high + 1e-6) == h + 1


@pytest.mark.parametrize("mechanism", [Mechanism.DISCRETE_GAUSSIAN, Mechanism.DISCRETE_LAPLACE])
@pytest.mark.parametrize("scale", [1e4, 1e9, 1e15])
def test_enormous_scales_take_the_continuous_quantile(mechanism: Mechanism, scale: float) -> None:
    """Far out the half-width is the continuous quantile: 1.96 sigma, or ln(20) scales, within a step and rounding."""
    quantile = math.log(20) if mechanism.laplace else 1.959963984540054
    assert half_width(mechanism, scale) == pytest.approx(quantile * scale, abs=1.5, rel=1e-12)
