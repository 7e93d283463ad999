from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import hushmeter
from hushmeter.errors import InvariantError
from hushmeter.noise.opendp import OpenDPMechanisms

MECHANISMS = OpenDPMechanisms()


class Untouchable(np.ndarray):
    """An array that fails the test when anybody looks at it."""

    def __array_finalize__(self, other: object) -> None:
        if isinstance(other, Untouchable):
            pytest.fail("values were touched")


@pytest.mark.parametrize(
    ("scale", "sensitivity", "rho"),
    [
        (0.0, 1.0, Fraction(1)),
        (-1.0, 1.0, Fraction(1)),
        (math.inf, 1.0, Fraction(1)),
        (math.nan, 1.0, Fraction(1)),
        (1.0, 0.0, Fraction(1)),
        (1.0, math.inf, Fraction(1)),
        (1.0, math.nan, Fraction(1)),
        (1.0, 1.0, Fraction(49, 100)),
        (1.0, 1.0, Fraction(0)),
    ],
)
def test_what_would_not_be_private_is_refused_before_values_are_read(
    scale: float, sensitivity: float, rho: Fraction
) -> None:
    """A scale or sensitivity that is not positive and finite, or a price beyond the charge, touches no value."""
    values = np.zeros((2, 2), np.int64).view(Untouchable)
    with pytest.raises(InvariantError):
        MECHANISMS.gaussian(values, scale=scale, l2_sensitivity=sensitivity, rho=rho)


def test_values_survive_at_the_edges_of_int64() -> None:
    """Shape and type stay, results are read-only, and values near the ends of int64 saturate instead of wrapping."""
    values = np.array([[np.iinfo(np.int64).max, np.iinfo(np.int64).min, 0]], np.int64)
    noisy = MECHANISMS.gaussian(values, scale=5.0, l2_sensitivity=1.0, rho=Fraction(1))
    assert noisy.values.shape == (1, 3)
    assert noisy.values.dtype == np.int64
    assert not noisy.values.flags.writeable
    assert noisy.values[0, 0] > 2**62
    assert noisy.values[0, 1] < -(2**62)
    assert noisy.rho == pytest.approx(1 / 50)


def test_the_budget_of_the_promise() -> None:
    """Epsilon 4 at delta 1e-8 is rho 0.23259, rounded down."""
    rho = MECHANISMS.zcdp_budget(4.0, 1e-8)
    assert float(rho) == pytest.approx(0.23259, abs=5e-6)
    assert MECHANISMS.epsilon_of(rho, 1e-8) <= 4.0
    assert MECHANISMS.epsilon_of(Fraction(math.nextafter(float(rho), 1)), 1e-8) > 4.0


@pytest.mark.parametrize("delta", [1e-6, 1e-8, 1e-10])
@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 4.0, 10.0])
def test_the_conversion_is_sound_and_near_the_exact_one(epsilon: float, delta: float) -> None:
    """ZCDP asks for at least the exact Gaussian's sigma (dp-accounting's own), and at most 11 % more of it."""
    from dp_accounting import gaussian_mechanism

    exact = gaussian_mechanism.get_sigma_gaussian(epsilon, delta)
    ours = 1 / math.sqrt(2 * float(MECHANISMS.zcdp_budget(epsilon, delta)))
    assert exact <= ours <= 1.11 * exact


def test_only_contrib_is_enabled() -> None:
    """The feature `honest-but-curious`, which allows unproven parts, is enabled nowhere."""
    from opendp.mod import GLOBAL_FEATURES

    assert "honest-but-curious" not in GLOBAL_FEATURES
    for path in Path(hushmeter.__file__).parent.rglob("*.py"):
        assert "honest-but-curious" not in path.read_text(encoding="utf-8")
