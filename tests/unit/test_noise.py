from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import opendp.prelude as dp
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import hushmeter
from hushmeter.errors import InvariantError
from hushmeter.model.arrays import Int64
from hushmeter.model.ledger import PrivacyLoss
from hushmeter.model.measurement import Mechanism, sqrt_up
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.testing.mechanisms import add_noise

MECHANISMS = OpenDPMechanisms()
ENOUGH = PrivacyLoss(Fraction(10**6), Fraction(99, 100))
GAUSSIAN, LAPLACE = Mechanism.DISCRETE_GAUSSIAN, Mechanism.DISCRETE_LAPLACE
families = pytest.mark.parametrize("mechanism", [GAUSSIAN, LAPLACE])
selecting = pytest.mark.parametrize("mechanism", [Mechanism.GAUSSIAN_THRESHOLD, Mechanism.LAPLACE_THRESHOLD])
SCALES = st.floats(1e-3, 1e6)


class Untouchable:
    """Something secret that fails the test when anybody looks at it."""

    def __getattribute__(self, name: str) -> object:
        pytest.fail(f"values were touched: {name}")


def secret() -> Any:
    return Untouchable()


@families
@pytest.mark.parametrize(
    ("scale", "sensitivity", "amount", "told"),
    [
        (0.0, 1.0, Fraction(1), "scale must be positive and finite, got 0.0"),
        (-1.0, 1.0, Fraction(1), "scale must be positive and finite, got -1.0"),
        (math.inf, 1.0, Fraction(1), "scale must be positive and finite, got inf"),
        (math.nan, 1.0, Fraction(1), "scale must be positive and finite, got nan"),
        (1.0, 0.0, Fraction(1), "sensitivity must be positive and finite, got 0.0"),
        (1.0, -2.0, Fraction(1), "sensitivity must be positive and finite, got -2.0"),
        (1.0, math.inf, Fraction(1), "sensitivity must be positive and finite, got inf"),
        (1.0, math.nan, Fraction(1), "sensitivity must be positive and finite, got nan"),
        (1.0, 1.0, Fraction(49, 100), r"costs (0.5|1.0)\d*, 0.49 may be spent"),
        (1.0, 1.0, Fraction(0), r"costs (0.5|1.0)\d*, 0.0 may be spent"),
        (1e-300, 1e300, Fraction(10**6), r"costs inf, 1000000.0 may be spent"),
        (5e-324, 1.0, Fraction(10**6), r"costs inf, 1000000.0 may be spent"),
    ],
)
def test_what_would_not_be_private_is_refused_before_values_are_read(
    mechanism: Mechanism, scale: float, sensitivity: float, amount: Fraction, told: str
) -> None:
    """A scale or sensitivity that is not positive and finite, or a price beyond the charge, touches no value."""
    with pytest.raises(InvariantError, match=told):
        add_noise(MECHANISMS, secret(), mechanism=mechanism, scale=scale, sensitivity=sensitivity, loss=PrivacyLoss(amount))


@selecting
@pytest.mark.parametrize(
    ("scale", "threshold", "l0", "told"),
    [
        (0.0, 20, 1, "scale must be positive and finite, got 0.0"),
        (-1.0, 20, 1, "scale must be positive and finite, got -1.0"),
        (math.inf, 20, 1, "scale must be positive and finite, got inf"),
        (math.nan, 20, 1, "scale must be positive and finite, got nan"),
        (1.0, 1, 1, "threshold must be above what one unit adds, 1, got 1"),
        (1.0, 0, 1, "threshold must be above what one unit adds, 1, got 0"),
        (1.0, -5, 1, "threshold must be above what one unit adds, 1, got -5"),
        (1.0, 2**53, 1, "threshold must be above what one unit adds, 1, got 9007199254740992"),
        (1.0, 20, 0, "in at least one partition, got 0"),
        (1.0, 20, -1, "in at least one partition, got -1"),
        (5e-324, 20, 1, r"costs inf and delta .*, 1.0 and 1e-06 may be spent"),
        (1.0, 20, 9, r"costs (4.5|9.0)\d* and delta .*, 1.0 and 1e-06 may be spent"),
        (1.0, 5, 1, r"and delta 0.0\d*, 1.0 and 1e-06 may be spent"),
    ],
)
def test_what_would_not_hide_a_unit_is_refused_before_counts_are_read(
    mechanism: Mechanism, scale: float, threshold: int, l0: int, told: str
) -> None:
    """A bad scale, a threshold that one unit reaches, or a price in amount or delta beyond the charge touches no count."""
    loss = PrivacyLoss(Fraction(1), Fraction(1e-6))
    with pytest.raises(InvariantError, match=told):
        MECHANISMS.select(secret(), mechanism=mechanism, scale=scale, threshold=threshold, l0=l0, loss=loss)


@families
@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 2)),
        np.zeros((2, 2), np.int32),
        np.zeros((2, 2), np.uint64),
        np.zeros(2, np.int64),
        np.zeros((1, 1, 1), int),
    ],
    ids=lambda v: f"{v.dtype}[{v.ndim}]",
)
def test_noise_is_added_to_tables_of_integers_alone(mechanism: Mechanism, values: Int64) -> None:
    """Floats, narrow or unsigned integers and other shapes are refused: nothing is rounded or wrapped on the way."""
    with pytest.raises(InvariantError, match=r"values are int64\[partitions, columns\]"):
        add_noise(MECHANISMS, values, mechanism=mechanism, scale=5.0, sensitivity=1.0, loss=ENOUGH)


def test_each_mechanism_runs_through_its_own_door() -> None:
    """Vectors cannot be released through selection, nor private partitions without it, nor have a threshold without it."""
    for mechanism in (Mechanism.GAUSSIAN_THRESHOLD, Mechanism.LAPLACE_THRESHOLD):
        with pytest.raises(InvariantError, match="selects partitions; `select` runs it"):
            add_noise(MECHANISMS, secret(), mechanism=mechanism, scale=5.0, sensitivity=1.0, loss=ENOUGH)
    for mechanism in (GAUSSIAN, LAPLACE):
        with pytest.raises(InvariantError, match="does not select partitions; it adds noise to vectors"):
            MECHANISMS.select(secret(), mechanism=mechanism, scale=5.0, threshold=50, l0=1, loss=ENOUGH)


@families
def test_values_survive_at_the_edges_of_int64(mechanism: Mechanism) -> None:
    """Shape and type stay, results are read-only, and values near the ends of int64 saturate instead of wrapping."""
    values = np.array([[np.iinfo(np.int64).max, np.iinfo(np.int64).min, 0]], np.int64)
    noisy = add_noise(MECHANISMS, values, mechanism=mechanism, scale=5.0, sensitivity=1.0, loss=ENOUGH)
    assert noisy.values.shape == (1, 3)
    assert noisy.values.dtype == np.int64
    assert not noisy.values.flags.writeable
    assert noisy.values[0, 0] > 2**62
    assert noisy.values[0, 1] < -(2**62)
    assert noisy.loss == pytest.approx(1 / 50 if mechanism is GAUSSIAN else 1 / 5)
    assert (noisy.mechanism, noisy.scale, noisy.delta, noisy.threshold) == (mechanism, 5.0, 0.0, None)


@families
def test_no_partitions_give_no_rows(mechanism: Mechanism) -> None:
    """A table without rows comes back without rows, at the same price."""
    none = add_noise(MECHANISMS, np.zeros((0, 3), np.int64), mechanism=mechanism, scale=5.0, sensitivity=1.0, loss=ENOUGH)
    one = add_noise(MECHANISMS, np.zeros((1, 3), np.int64), mechanism=mechanism, scale=5.0, sensitivity=1.0, loss=ENOUGH)
    assert none.values.shape == (0, 3)
    assert none.loss == one.loss


def exact_loss(mechanism: Mechanism, sensitivity: Fraction, scale: float) -> Fraction:
    """(sensitivity / sigma)^2 / 2 of a Gaussian, sensitivity / b of a Laplace."""
    ratio = sensitivity / Fraction(scale)
    return ratio if mechanism.laplace else ratio**2 / 2


@families
@given(SCALES, st.floats(1e-3, 1e6))
def test_the_recorded_loss_is_the_map_s_and_covers_the_formula(
    mechanism: Mechanism, scale: float, sensitivity: float
) -> None:
    """What is recorded is OpenDP's own map, at least the exact formula; a charge a hair below the map is refused."""
    space = dp.vector_domain(dp.atom_domain(T="i64"))
    made = (
        dp.m.make_laplace(space, dp.l1_distance(T="f64"), scale)
        if mechanism.laplace
        else dp.m.make_gaussian(space, dp.l2_distance(T="f64"), scale)
    )
    mapped = Fraction(made.map(sensitivity))
    values = np.zeros((1, 1), np.int64)
    noisy = add_noise(
        MECHANISMS, values, mechanism=mechanism, scale=scale, sensitivity=sensitivity, loss=PrivacyLoss(mapped)
    )
    assert Fraction(noisy.loss) == mapped >= exact_loss(mechanism, Fraction(sensitivity), scale)
    less = PrivacyLoss(mapped * (1 - Fraction(1, 2**60)))
    with pytest.raises(InvariantError, match="may be spent"):
        add_noise(MECHANISMS, secret(), mechanism=mechanism, scale=scale, sensitivity=sensitivity, loss=less)


def opendp_selection(mechanism: Mechanism, scale: float, threshold: int) -> Any:
    """OpenDP's own mechanism, with releases from `threshold` on and a map of what lies above it."""
    domain = dp.map_domain(dp.atom_domain(T=str), dp.atom_domain(T="i64"))
    distance = dp.absolute_distance(T="f64")
    if mechanism.laplace:
        return dp.m.make_laplace_threshold(domain, dp.l01inf_distance(distance), scale, threshold)
    return dp.m.make_gaussian_threshold(domain, dp.l02inf_distance(distance), scale, threshold)


@selecting
@given(st.floats(0.3, 200), st.integers(1, 60), st.floats(1e-12, 1e-3))
def test_the_recorded_delta_is_the_map_s_of_a_threshold_one_lower(
    mechanism: Mechanism, scale: float, l0: int, delta: float
) -> None:
    """Amount and delta are OpenDP's map of `threshold - 1`, because a count that equals the threshold is shown."""
    allowed = Fraction(delta)
    threshold = MECHANISMS.threshold(mechanism, scale=scale, l0=l0, delta=allowed)
    norm = float(l0) if mechanism.laplace else sqrt_up(l0)
    amount, mapped = (Fraction(f) for f in opendp_selection(mechanism, scale, threshold - 1).map((l0, norm, 1.0)))
    exact = PrivacyLoss(amount, mapped)
    found = MECHANISMS.select({}, mechanism=mechanism, scale=scale, threshold=threshold, l0=l0, loss=exact).units
    assert (Fraction(found.loss), Fraction(found.delta)) == (amount, mapped)
    assert amount >= exact_loss(mechanism, Fraction(norm), scale)
    assert mapped <= allowed, "the threshold keeps what it was asked to keep"
    assert mapped >= Fraction(opendp_selection(mechanism, scale, threshold).map((l0, norm, 1.0))[1])
    if threshold > 2:
        lower = opendp_selection(mechanism, scale, threshold - 2).map((l0, norm, 1.0))[1]
        assert Fraction(lower) > allowed, "and is the smallest that does"
    hair = 1 - Fraction(1, 2**60)
    for less in (PrivacyLoss(amount * hair, mapped), PrivacyLoss(amount, mapped * hair), PrivacyLoss(amount)):
        with pytest.raises(InvariantError, match="may be spent"):
            MECHANISMS.select(secret(), mechanism=mechanism, scale=scale, threshold=threshold, l0=l0, loss=less)


KEYS = st.tuples(st.integers(0, 5), st.text(alphabet="/,é\x00a1.", max_size=3))


@selecting
@example({(0, "a"): 1_101, (0, "a\x00"): 1, (0, "a\x00b"): 2**40, (0, "a\x00c"): 1_101, (1, "/"): 1_101})
@given(st.dictionaries(KEYS, st.sampled_from([1, 2, 899, 1_101, 2**40]), max_size=12))
def test_selection_shows_what_reaches_the_threshold_in_order(
    mechanism: Mechanism, counts: dict[tuple[int, str], int]
) -> None:
    """Counts far above the threshold are shown, far below it never, sorted, each with its own noisy count.

    Noise beyond 100 has a probability below 1e-40 at scale 1.
    """
    found = MECHANISMS.select(counts, mechanism=mechanism, scale=1.0, threshold=1_000, l0=1, loss=ENOUGH)
    assert list(found.keys) == sorted(key for key, count in counts.items() if count > 1_000)
    assert found.units.values.shape == (len(found.keys), 1)
    assert not found.units.values.flags.writeable
    for key, (noisy,) in zip(found.keys, found.units.values.tolist(), strict=True):
        assert abs(noisy - counts[key]) <= 100
    assert found.units.threshold == 1_000


@selecting
@pytest.mark.parametrize("count", [0, -3])
def test_partitions_of_nobody_cannot_be_selected(mechanism: Mechanism, count: int) -> None:
    """A private partition without a unit is a defect: that it is known at all would tell."""
    with pytest.raises(InvariantError, match="holds at least one unit"):
        MECHANISMS.select({(0, "a"): count}, mechanism=mechanism, scale=1.0, threshold=50, l0=1, loss=ENOUGH)


@selecting
def test_a_delta_that_no_threshold_keeps_is_refused(mechanism: Mechanism) -> None:
    """Noise too wide for any threshold, and deltas that are none, are refused with what was asked."""
    with pytest.raises(InvariantError, match=r"no threshold keeps delta 1e-09 at scale 1e\+300"):
        MECHANISMS.threshold(mechanism, scale=1e300, l0=1, delta=Fraction(1, 10**9))
    for delta in (Fraction(0), Fraction(1), Fraction(-1)):
        with pytest.raises(InvariantError, match=f"not a delta: {float(delta)}"):
            MECHANISMS.threshold(mechanism, scale=1.0, l0=1, delta=delta)


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [(0.0, 1e-8), (-1.0, 1e-8), (math.inf, 1e-8), (math.nan, 1e-8), (1.0, 0.0), (1.0, 1.0), (1.0, math.nan)],
)
def test_what_is_no_budget_is_refused(epsilon: float, delta: float) -> None:
    """Epsilon and delta are checked before anything is converted."""
    with pytest.raises(InvariantError, match=f"not a budget: epsilon {epsilon}, delta {delta}"):
        MECHANISMS.zcdp_budget(epsilon, delta)


def test_the_budget_of_the_promise() -> None:
    """Epsilon 4 at delta 1e-8 is rho 0.23259, rounded down."""
    rho = MECHANISMS.zcdp_budget(4.0, 1e-8)
    assert float(rho) == pytest.approx(0.23259, abs=5e-6)
    assert MECHANISMS.epsilon_of(rho, 1e-8) <= 4.0
    assert MECHANISMS.epsilon_of(Fraction(math.nextafter(float(rho), 1)), 1e-8) > 4.0


@pytest.mark.parametrize(("units", "times"), [(2, 2.2), (5, 6.4), (10, 15.8)])
def test_several_units_of_one_person_cost_what_the_promise_says(units: int, times: float) -> None:
    """N units have n^2 times the rho of one, and more than n times its epsilon."""
    rho = MECHANISMS.zcdp_budget(4.0, 1e-8)
    assert MECHANISMS.epsilon_of(units**2 * rho, 1e-8) / 4 == pytest.approx(times, abs=0.06)


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


class FreeOfCharge:
    """What OpenDP never makes: a measurement whose map states what the test says, and that must not be run."""

    def __init__(self, stated: object) -> None:
        self._stated = stated

    def map(self, _distance: object) -> object:
        return self._stated

    def __call__(self, _values: object) -> object:
        pytest.fail("values were touched")


@families
def test_noise_that_would_cost_nothing_is_refused(mechanism: Mechanism, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map that states no loss at all is not believed: nothing private is free."""
    monkeypatch.setattr("hushmeter.noise.opendp._noise", lambda *_: FreeOfCharge(0.0))
    with pytest.raises(InvariantError, match=r"^the mechanism costs 0\.0, 1000000\.0 may be spent$"):
        add_noise(MECHANISMS, secret(), mechanism=mechanism, scale=1.0, sensitivity=1.0, loss=ENOUGH)


@selecting
@pytest.mark.parametrize("stated", [(0.0, 1e-9), (0.5, 0.0)])
def test_a_selection_that_would_cost_nothing_is_refused(
    mechanism: Mechanism, stated: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map that states no loss, or no delta, is not believed."""
    monkeypatch.setattr("hushmeter.noise.opendp._selection", lambda *_: FreeOfCharge(stated))
    told = f"selection costs {stated[0]} and delta {stated[1]}, 1000000.0 and 0.99 may be spent"
    with pytest.raises(InvariantError, match=f"^{re.escape(told)}$"):
        MECHANISMS.select(secret(), mechanism=mechanism, scale=1.0, threshold=50, l0=1, loss=ENOUGH)


@selecting
@pytest.mark.parametrize("threshold", [0, None])
def test_a_charge_without_a_threshold_shows_nothing(mechanism: Mechanism, threshold: int | None) -> None:
    """A charge whose threshold is 0 or left out is refused before any count is read, and the text says 0."""
    charge: Any = SimpleNamespace(
        mechanism=mechanism, scale=1.0, threshold=threshold, loss=ENOUGH, measurement=SimpleNamespace(l0=1)
    )
    with pytest.raises(InvariantError, match=r"^the threshold must be above what one unit adds, 1, got 0$"):
        MECHANISMS.draw([], [(secret(), charge)])
