"""Many vectors at once, in parts, on all cores: each comes back whole, in order, with noise of its own, or nothing does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import opendp.mod
import pytest

from hushmeter.errors import InvariantError
from hushmeter.model.arrays import Int64
from hushmeter.model.ledger import MeasurementCharge, PrivacyLoss
from hushmeter.model.measurement import Measurement, MeasurementName, Mechanism
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.testing.mechanisms import add_noise

MECHANISMS = OpenDPMechanisms()
UNITS = Measurement("calls", (), "1h", MeasurementName.UNITS, 1, 1, 1, 1, Fraction(1), 1)
SELECTING = Measurement("calls", ("v",), "1h", MeasurementName.UNITS, 1, 1, 1, 1, Fraction(1), 1, selects=True)
SILENT = 1e-3
"""A scale whose noise is zero but with a probability below 1e-400."""
families = pytest.mark.parametrize("mechanism", [Mechanism.DISCRETE_GAUSSIAN, Mechanism.DISCRETE_LAPLACE])
PARTS = 512
"""Cells that are passed at once."""


class Untouchable:
    """Something secret that fails the test when anybody looks at it."""

    def __getattribute__(self, name: str) -> object:
        pytest.fail(f"values were touched: {name}")


def secret() -> Any:
    return Untouchable()


def priced(mechanism: Mechanism, scale: float, amount: Fraction = Fraction(10**6)) -> MeasurementCharge:
    return MeasurementCharge(UNITS, mechanism, 1.0, PrivacyLoss(amount), scale)


def selecting(threshold: int = 100, amount: Fraction = Fraction(10**6)) -> MeasurementCharge:
    loss = PrivacyLoss(amount, Fraction(1, 10))
    return MeasurementCharge(SELECTING, Mechanism.GAUSSIAN_THRESHOLD, 1.0, loss, 1.0, threshold)


def numbered(*shape: int) -> Int64:
    """Cells that tell their place."""
    return np.arange(np.prod(shape), dtype=np.int64).reshape(shape) + 10**12


@pytest.fixture
def invoked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What OpenDP's mechanisms are given, call by call."""
    given: list[Any] = []
    invoke: Callable[[Any, Any], Any] = opendp.mod.Measurement.__call__

    def watched(measurement: Any, values: Any) -> Any:
        given.append(values)
        return invoke(measurement, values)

    monkeypatch.setattr(opendp.mod.Measurement, "__call__", watched)
    return given


@families
@pytest.mark.parametrize("cells", [0, 1, PARTS - 1, PARTS, PARTS + 1, 2 * PARTS, 7 * PARTS + 3])
def test_every_cell_comes_back_in_its_place(mechanism: Mechanism, cells: int) -> None:
    """Of any number of cells on either side of a part's end, each stands where it stood, whatever the memory's order."""
    narrow, wide = numbered(cells, 1), numbered(cells, 3)
    tables = [narrow, wide, np.asfortranarray(wide), wide[::-2], wide[:, 1:2], numbered(2, cells).T]
    noisy, chosen = MECHANISMS.draw([(table, priced(mechanism, SILENT)) for table in tables])
    assert chosen == []
    for table, found in zip(tables, noisy, strict=True):
        assert found.values.dtype == np.int64
        assert not found.values.flags.writeable
        np.testing.assert_array_equal(found.values, table)
        alone = add_noise(
            MECHANISMS, table, mechanism=mechanism, scale=SILENT, sensitivity=1.0, loss=PrivacyLoss(Fraction(10**6))
        )
        np.testing.assert_array_equal(alone.values, table)
        assert (found.mechanism, found.scale, found.loss) == (alone.mechanism, alone.scale, alone.loss)


@families
def test_each_vector_has_the_noise_of_its_own_charge(mechanism: Mechanism) -> None:
    """Vectors that are drawn at once keep their order, mechanism and scale; their spread is that of their scale."""
    scales = [300.0, SILENT, 3.0]
    charges = [priced(mechanism, scale) for scale in scales]
    noisy, _ = MECHANISMS.draw([(np.full((3 * PARTS, 2), 7, np.int64), charge) for charge in charges])
    assert [(v.mechanism, v.scale) for v in noisy] == [(mechanism, scale) for scale in scales]
    wide, none, little = (float(v.values.std()) for v in noisy)
    assert 250 < wide < 500
    assert none == 0
    assert 2.5 < little < 5


@families
def test_no_part_repeats_another_s_noise(mechanism: Mechanism) -> None:
    """Parts of one vector, and those of vectors that are drawn at once, have noise of their own."""
    charge = priced(mechanism, 50.0)
    noisy, _ = MECHANISMS.draw([(np.zeros((8 * PARTS, 1), np.int64), charge) for _ in range(2)])
    parts = np.concatenate([v.values for v in noisy]).reshape(-1, PARTS)
    assert len({part.tobytes() for part in parts}) == len(parts) == 16


def test_a_selection_is_one_invocation_and_a_vector_many(invoked: list[Any]) -> None:
    """Private partitions are never cut up: delta covers all partitions of a unit in one invocation."""
    counts = {(0, f"t{i:05}"): 10**6 + i for i in range(5 * PARTS)}
    noisy, (chosen,) = MECHANISMS.draw(
        [(numbered(5 * PARTS, 1), priced(Mechanism.DISCRETE_GAUSSIAN, SILENT))], [(counts, selecting())]
    )
    assert sorted(len(values) for values in invoked) == [PARTS] * 5 + [5 * PARTS]
    assert list(chosen.keys) == sorted(counts)
    assert abs(chosen.units.values[:, 0] - list(counts.values())).max() < 100
    np.testing.assert_array_equal(noisy[0].values, numbered(5 * PARTS, 1))


def test_nothing_is_drawn_where_one_price_is_too_high(invoked: list[Any]) -> None:
    """A vector or selection beyond its charge, wherever it stands among others, touches no value of any of them."""
    gaussian = Mechanism.DISCRETE_GAUSSIAN
    fine, dear = priced(gaussian, 5.0), priced(gaussian, 5.0, Fraction(1, 10**6))
    for vectors, selections in (
        ([fine, dear], []),
        ([dear, fine], [selecting()]),
        ([fine], [selecting(), selecting(amount=Fraction(1, 4))]),
        ([fine], [selecting(threshold=2)]),
    ):
        with pytest.raises(InvariantError, match="may be spent"):
            MECHANISMS.draw([(secret(), c) for c in vectors], [(secret(), c) for c in selections])
    with pytest.raises(InvariantError, match="threshold must be above what one unit adds, 1, got 1"):
        MECHANISMS.draw([(secret(), fine)], [(secret(), selecting(threshold=1))])
    floats: Any = np.zeros((2, 2))
    with pytest.raises(InvariantError, match=r"values are int64\[partitions, columns\]"):
        MECHANISMS.draw([(numbered(PARTS, 1), fine), (floats, fine)], [({(0, "a"): 1}, selecting())])
    assert invoked == []


@pytest.mark.parametrize("failing", [1, 4, 10])
def test_one_part_that_fails_fails_the_whole(monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """Where any invocation fails, its error comes out, no result does, and no thread works on."""
    invoke: Callable[[Any, Any], Any] = opendp.mod.Measurement.__call__
    lock, count = threading.Lock(), 0

    def faulty(measurement: Any, values: Any) -> Any:
        nonlocal count
        with lock:
            count += 1
            mine = count
        if mine == failing:
            raise opendp.mod.OpenDPException("FailedFunction", "no entropy")
        return invoke(measurement, values)

    monkeypatch.setattr(opendp.mod.Measurement, "__call__", faulty)
    before = set(threading.enumerate())
    with pytest.raises(opendp.mod.OpenDPException, match="no entropy"):
        MECHANISMS.draw([(numbered(5 * PARTS, 1), priced(Mechanism.DISCRETE_LAPLACE, 5.0))] * 2, [({}, selecting())])
    # Threads of earlier tests may end meanwhile.
    assert set(threading.enumerate()) <= before


def test_a_part_that_loses_cells_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not have noise in every cell never becomes a noisy vector."""
    monkeypatch.setattr(opendp.mod.Measurement, "__call__", lambda _, values: list(values)[:-1])
    with pytest.raises(InvariantError, match="noise was added to every cell"):
        MECHANISMS.draw([(numbered(2, 1), priced(Mechanism.DISCRETE_LAPLACE, 5.0))])
