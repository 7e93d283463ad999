"""Sums of releases and linear maps of them carry the noise of what they were made of."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hushmeter.model.measurement import FIXED_POINT, MeasurementName, Mechanism
from hushmeter.model.release import NoisyVector
from hushmeter.query.intervals import half_width, z_of
from hushmeter.query.sums import Sums, counted

GAUSSIAN, LAPLACE = Mechanism.DISCRETE_GAUSSIAN, Mechanism.DISCRETE_LAPLACE


def vector(*cells: int, scale: float, mechanism: Mechanism = GAUSSIAN) -> NoisyVector:
    return NoisyVector(np.array([cells], np.int64), mechanism, scale, 1.0)


@pytest.mark.parametrize(("mechanism", "exact"), [(GAUSSIAN, 6), (LAPLACE, 10)])
def test_one_release_has_its_own_exact_interval(mechanism: Mechanism, exact: int) -> None:
    """A release alone has the variance and the exact interval of its mechanism, and half a step more where it is mapped."""
    found = Sums.of([vector(7, -3, scale=3.2, mechanism=mechanism)])
    variance, z = mechanism.variance(3.2), z_of(mechanism)
    assert found.values.tolist() == [[7.0, -3.0]]
    assert found.values.dtype == np.float64
    assert (found.variance, found.half_width, found.z) == (variance, half_width(mechanism, 3.2), z)
    assert found.half_width == exact
    assert found.spread == pytest.approx((math.sqrt(variance) + 0.5 / z) ** 2)


def test_several_releases_have_the_noise_of_all() -> None:
    """Values and variances add up; the interval reaches a whole number of steps, as many as z deviations need."""
    found = Sums.of([vector(7, -3, scale=3.0), vector(10, 20, scale=4.0)])
    z = z_of(GAUSSIAN)
    assert found.values.tolist() == [[17.0, 17.0]]
    assert (found.variance, found.half_width, found.z) == (25.0, 10.0, z)
    assert found.spread == pytest.approx((5 + 0.5 / z) ** 2)


def test_noise_of_two_families_reaches_as_far_as_the_wider() -> None:
    """Where Gaussian and Laplace noise add up, intervals take the larger number of deviations."""
    for mechanisms in ([GAUSSIAN, LAPLACE], [LAPLACE, GAUSSIAN]):
        found = Sums.of([vector(1, scale=3.0, mechanism=m) for m in mechanisms])
        assert found.z == z_of(LAPLACE)
        assert found.half_width == math.ceil(z_of(LAPLACE) * math.sqrt(9 + LAPLACE.variance(3.0)))


def test_rows_keep_their_noise() -> None:
    """Some of the partitions have the noise that all have."""
    found = Sums(np.array([[1.0], [2.0], [3.0]]), 4.0, 5.0, 2.0, 9.0).rows([2, 0])
    assert found.values.tolist() == [[3.0], [1.0]]
    assert (found.variance, found.half_width, found.z, found.spread) == (4.0, 5.0, 2.0, 9.0)


@pytest.mark.parametrize("factor", [3.0, -3.0])
def test_scaled_noise_scales(factor: float) -> None:
    """A factor moves values and widths by itself, and variances by its square."""
    found = Sums(np.array([[1.0, -2.0]]), 4.0, 5.0, 2.0, 9.0).scaled(factor)
    assert found.values.tolist() == [[factor, -2 * factor]]
    assert (found.variance, found.half_width, found.z, found.spread) == (36.0, 15.0, 2.0, 81.0)


@pytest.mark.parametrize(("one_z", "other_z"), [(2.0, 1.0), (1.0, 2.0)])
def test_linear_maps_add_independent_noise(one_z: float, other_z: float) -> None:
    """Two sums with factors have the variances by the factors' squares, and reach z deviations of their spread."""
    one, other = Sums(np.array([[10.0]]), 4.0, 5.0, one_z, 9.0), Sums(np.array([[7.0]]), 1.0, 3.0, other_z, 1.75)
    found = one.plus(3.0, other, -2.0)
    assert found.values.tolist() == [[16.0]]
    assert (found.variance, found.spread, found.z) == (40.0, 88.0, 2.0)
    assert found.half_width == pytest.approx(2 * math.sqrt(88))


def test_columns_add_up_with_the_noise_of_each() -> None:
    """The sum of three columns has three times the variance of one, in every partition."""
    found = Sums(np.array([[1.0, 2.0, 4.0], [5.0, 5.0, -6.0]]), 4.0, 5.0, 2.0, 9.0).across()
    assert found.values.tolist() == [[7.0], [4.0]]
    assert (found.variance, found.spread, found.z) == (12.0, 27.0, 2.0)
    assert found.half_width == pytest.approx(2 * math.sqrt(27))


def test_weights_count_in_fixed_point() -> None:
    """Weights become a number of events over all bins; other measurements are counts already."""
    weights = Sums(np.array([[3.0 * FIXED_POINT, FIXED_POINT]]), 4.0, 5.0, 2.0, 9.0)
    found = counted(weights, MeasurementName.WEIGHTS)
    assert found.values.tolist() == [[4.0]]
    assert found.variance == pytest.approx(8 / FIXED_POINT**2)
    assert counted(weights, MeasurementName.EVENTS) is weights
