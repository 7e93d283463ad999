from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hushmeter.model.ledger import PrivacyLoss
from hushmeter.model.measurement import Mechanism
from hushmeter.model.time import Int64
from hushmeter.noise.opendp import OpenDPMechanisms
from tests.statistical.harness import ALPHA, DRAWS, Pmf, discrete_gaussian, discrete_laplace, p_value, sample

MECHANISMS = OpenDPMechanisms()


def noisy(exact: Int64, scale: float) -> Int64:
    loss = PrivacyLoss(Fraction(10))
    gaussian = Mechanism.DISCRETE_GAUSSIAN
    return MECHANISMS.add_noise(exact, mechanism=gaussian, scale=scale, sensitivity=1.0, loss=loss).values


@pytest.mark.parametrize("scale", [0.7, 3.0, 25.0])
def test_the_harness_accepts_the_right_noise(scale: float) -> None:
    """Draws from the distribution itself pass."""
    assert p_value(sample(discrete_gaussian(scale), int(12 * scale) + 2, 1), discrete_gaussian(scale)) > ALPHA


@pytest.mark.parametrize("scale", [3.0, 25.0])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda s: discrete_gaussian(0.8 * s),
        lambda s: discrete_gaussian(1.25 * s),
        lambda s: lambda z: discrete_gaussian(s)(z - 1) if s < 10 else discrete_gaussian(s)(z - 5),
        lambda s: discrete_laplace(s**2),
    ],
    ids=["0.8x", "1.25x", "shifted", "laplace"],
)
def test_the_harness_rejects_wrong_noise(scale: float, wrong: object) -> None:
    """Draws of another scale, another centre or another family fail."""
    other: Pmf = wrong(scale)  # type: ignore[operator]
    assert p_value(sample(other, int(16 * scale) + 8, 2), discrete_gaussian(scale)) < ALPHA


@pytest.mark.parametrize("scale", [0.7, 3.0, 25.0, 321.5])
def test_the_noise_is_the_discrete_gaussian(scale: float) -> None:
    """OpenDP's noise, through our port, has the distribution that the ledger names."""
    exact = np.full((DRAWS // 4, 4), 17, np.int64)
    assert p_value((noisy(exact, scale) - exact).ravel(), discrete_gaussian(scale)) > ALPHA


def test_cells_are_independent_and_noise_is_fresh() -> None:
    """Neighbouring cells, and two releases of the same values, are uncorrelated (five standard errors)."""
    exact = np.zeros((DRAWS, 2), np.int64)
    first, second = (noisy(exact, 9.0) for _ in range(2))
    limit = 5 / np.sqrt(DRAWS)
    assert abs(np.corrcoef(first[:, 0], first[:, 1])[0, 1]) < limit
    assert abs(np.corrcoef(first[:, 0], second[:, 0])[0, 1]) < limit
    assert (first != second).any()
