from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hushmeter.model.arrays import Int64
from hushmeter.model.ledger import PrivacyLoss
from hushmeter.model.measurement import Mechanism
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.testing.mechanisms import SeededMechanisms, add_noise
from tests.statistical.harness import ALPHA, DRAWS, noise_of, p_value, p_value_of_independence

ENOUGH = PrivacyLoss(Fraction(10**6))
families = pytest.mark.parametrize("mechanism", [Mechanism.DISCRETE_GAUSSIAN, Mechanism.DISCRETE_LAPLACE])


def drawn(
    values: Int64, mechanism: Mechanism, scale: float, source: OpenDPMechanisms | SeededMechanisms | None = None
) -> Int64:
    """What is added to the values, flattened."""
    source = source or OpenDPMechanisms()
    noisy = add_noise(source, values, mechanism=mechanism, scale=scale, sensitivity=1.0, loss=ENOUGH)
    return (noisy.values - values).reshape(-1)


@families
@pytest.mark.parametrize("scale", [0.4, 1.0, 5.39, 321.5])
def test_the_noise_has_the_distribution_that_the_ledger_names(mechanism: Mechanism, scale: float) -> None:
    """What production adds to every cell follows the named family at the declared scale."""
    values = np.full((DRAWS // 4, 4), 17, np.int64)
    assert p_value(drawn(values, mechanism, scale), noise_of(mechanism, scale)) > ALPHA


@families
@pytest.mark.parametrize("value", [-(2**55), 2**55 + 1])
def test_the_noise_does_not_depend_on_the_value(mechanism: Mechanism, value: int) -> None:
    """Large odd values, of either sign, get the same noise to the last step: nothing passes through a float."""
    values = np.full((DRAWS, 1), value, np.int64)
    assert p_value(drawn(values, mechanism, 3.0), noise_of(mechanism, 3.0)) > ALPHA


@families
@pytest.mark.parametrize("scale", [0.4, 5.39, 321.5])
def test_the_variance_that_is_told_is_the_noise_s(mechanism: Mechanism, scale: float) -> None:
    """`Mechanism.variance` is the variance of the distribution; of a Gaussian's at small scales a little more."""
    exact = noise_of(mechanism, scale).variance
    told = mechanism.variance(scale)
    if mechanism.laplace or scale > 1:
        assert told == pytest.approx(exact, rel=1e-9)
    assert told >= exact * (1 - 1e-9)


@families
def test_cells_get_independent_noise(mechanism: Mechanism) -> None:
    """The noise of a cell says nothing about that of its neighbours, in the same row or the next, or in the next parts.

    Parts of 512 cells are drawn side by side.
    """
    noise = drawn(np.zeros((DRAWS, 2), np.int64), mechanism, 3.0)
    for lag in (1, 2, 3, 7, 512, 1024, 3 * 512):
        assert p_value_of_independence(noise[:-lag], noise[lag:]) > ALPHA


@families
def test_noise_is_fresh_per_call(mechanism: Mechanism) -> None:
    """The same mechanism asked twice about the same values, or another instance of it, draws anew."""
    values, one = np.zeros((DRAWS, 1), np.int64), OpenDPMechanisms()
    first, second, third = (drawn(values, mechanism, 3.0, source) for source in (one, one, OpenDPMechanisms()))
    assert p_value_of_independence(first, second) > ALPHA
    assert p_value_of_independence(first, third) > ALPHA
    assert p_value_of_independence(second, third) > ALPHA


@families
@pytest.mark.parametrize("scale", [20.0, 321.5])
def test_the_seeded_double_is_close_to_it(mechanism: Mechanism, scale: float) -> None:
    """The repeating double has noise of the declared family and scale, so that what comes after can be tested on it."""
    noise = drawn(np.zeros((DRAWS, 1), np.int64), mechanism, scale, SeededMechanisms(7))
    assert p_value(noise, noise_of(mechanism, scale)) > ALPHA
