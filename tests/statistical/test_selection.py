"""Private partitions: how often each is released, with what noise, and that delta is no less than that."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from hushmeter.model.ledger import PrivacyLoss
from hushmeter.model.measurement import Mechanism
from hushmeter.model.release import Selection
from hushmeter.noise.opendp import OpenDPMechanisms
from tests.statistical.harness import ALPHA, DRAWS, noise_of, p_value, p_value_of_share

MECHANISMS = OpenDPMechanisms()
ENOUGH = PrivacyLoss(Fraction(10**6), Fraction(999, 1_000))
COUNTS = (1, 4, 9)
SETTINGS = [
    (Mechanism.GAUSSIAN_THRESHOLD, 0.7, 2),
    (Mechanism.GAUSSIAN_THRESHOLD, 4.0, 8),
    (Mechanism.LAPLACE_THRESHOLD, 0.7, 2),
    (Mechanism.LAPLACE_THRESHOLD, 4.0, 8),
]
Selected = tuple[Mechanism, float, int, Selection]
selecting = pytest.mark.parametrize("mechanism", [Mechanism.GAUSSIAN_THRESHOLD, Mechanism.LAPLACE_THRESHOLD])


@pytest.fixture(scope="module", params=SETTINGS, ids=str)
def selected(request: pytest.FixtureRequest) -> Selected:
    """Twenty thousand partitions of each count, through one selection; the public number of a key is its count."""
    mechanism, scale, threshold = request.param
    counts = {(count, f"t{i}"): count for count in COUNTS for i in range(DRAWS)}
    found = MECHANISMS.select(counts, mechanism=mechanism, scale=scale, threshold=threshold, l0=1, loss=ENOUGH)
    return mechanism, scale, threshold, found


def released_counts(found: Selection, count: int) -> np.ndarray:
    values = found.units.values[:, 0]
    return values[np.array([public == count for public, _ in found.keys])]


def any_of(l0: int, p: float) -> float:
    """1 - (1 - p)^l0, with the digits of small p."""
    return -math.expm1(l0 * math.log1p(-p))


@pytest.mark.parametrize("count", COUNTS)
def test_partitions_are_released_as_often_as_their_noise_says(selected: Selected, count: int) -> None:
    """A partition of c units is released with the probability that noise is at least threshold - c."""
    mechanism, scale, threshold, found = selected
    exact = noise_of(mechanism, scale).from_on(threshold - count)
    assert p_value_of_share(len(released_counts(found, count)), DRAWS, exact) > ALPHA


@pytest.mark.parametrize("count", COUNTS)
def test_released_counts_have_the_noise_that_let_them_through(selected: Selected, count: int) -> None:
    """Given its release, a count's noise is the same noise under the condition that it reaches the threshold."""
    mechanism, scale, threshold, found = selected
    noise = released_counts(found, count) - count
    given = noise_of(mechanism, scale).given_at_least(threshold - count)
    if given(threshold - count) < 0.999:
        assert p_value(noise, given) > ALPHA


def test_no_partition_shows_below_the_threshold_and_their_order_tells_nothing(selected: Selected) -> None:
    """All released counts reach the threshold, some exactly; keys are sorted, each once, whatever order they came in."""
    _, _, threshold, found = selected
    assert found.units.values.min() == threshold
    assert list(found.keys) == sorted(set(found.keys))
    assert len(found.keys) == len(found.units.values)


@selecting
@pytest.mark.parametrize("scale", [0.4, 1.0, 2.0, 5.0, 20.0])
@pytest.mark.parametrize("l0", [1, 3, 50])
def test_delta_covers_partitions_of_one_unit(mechanism: Mechanism, scale: float, l0: int) -> None:
    """What is charged is at least the exact probability that one of a lone unit's l0 partitions shows: 1 - (1 - p)^l0.

    It is the exact one for Laplace noise; of Gaussian noise the map takes the continuous tail, which is larger.
    """
    noise = noise_of(mechanism, scale)
    for delta in (Fraction(1, 1_000), Fraction(1, 10**6), Fraction(1, 10**9)):
        threshold = MECHANISMS.threshold(mechanism, scale=scale, l0=l0, delta=delta)
        loss = PrivacyLoss(Fraction(10**6), delta)
        none = MECHANISMS.select({}, mechanism=mechanism, scale=scale, threshold=threshold, l0=l0, loss=loss)
        exact = any_of(l0, noise.from_on(threshold - 1))
        assert exact * (1 - 1e-9) <= none.units.delta <= delta
        if mechanism.laplace:
            assert none.units.delta == pytest.approx(exact, rel=1e-4)
            if threshold > 2:
                assert any_of(l0, noise.from_on(threshold - 2)) > delta, "the smallest threshold"


@selecting
def test_lone_units_show_no_more_often_than_delta(mechanism: Mechanism) -> None:
    """Units alone in three partitions each show in one of them as often as the exact formula says, at most delta."""
    l0, scale = 3, 2.0
    delta = Fraction(1, 20)
    threshold = MECHANISMS.threshold(mechanism, scale=scale, l0=l0, delta=delta)
    counts = {(place, f"u{unit}"): 1 for unit in range(DRAWS) for place in range(l0)}
    loss = PrivacyLoss(Fraction(10**6), delta)
    found = MECHANISMS.select(counts, mechanism=mechanism, scale=scale, threshold=threshold, l0=l0, loss=loss)
    shown = len({name for _, name in found.keys})
    exact = any_of(l0, noise_of(mechanism, scale).from_on(threshold - 1))
    assert p_value_of_share(shown, DRAWS, exact) > ALPHA
    assert exact <= found.units.delta <= delta
