"""The payload of a release: what is decoded is what was encoded, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hushmeter.errors import Failure, InvariantError
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.release import NoisyVector
from hushmeter.storage.release_payload import decode_vectors, encode_vectors

POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)


@st.composite
def vectors(draw: st.DrawFn) -> dict[MeasurementName, NoisyVector]:
    """Vectors over 0 to 9 partitions, each with its own columns, any int64 and any noise."""
    partitions = draw(st.integers(0, 9))
    names = draw(st.lists(st.sampled_from(MeasurementName), min_size=1, unique=True))
    return {
        name: NoisyVector(
            draw(npst.arrays(np.int64, (partitions, draw(st.integers(1, 5))))), draw(POSITIVE), draw(POSITIVE)
        )
        for name in names
    }


@given(vectors())
def test_round_trip(made: dict[MeasurementName, NoisyVector]) -> None:
    """Values, scale and rho come back exactly, read-only, in the table's order, and equal vectors give equal bytes."""
    payload = encode_vectors(made)
    found = decode_vectors(payload)
    assert list(found) == [name for name in MeasurementName if name in made]
    for name, vector in made.items():
        np.testing.assert_array_equal(found[name].values, vector.values)
        assert found[name].values.dtype == np.int64
        assert found[name].values.shape == vector.values.shape
        assert not found[name].values.flags.writeable
        assert (found[name].scale, found[name].rho) == (vector.scale, vector.rho)
    assert encode_vectors(dict(reversed(made.items()))) == payload


def test_strided_values() -> None:
    """Vectors that are views of a larger array are written as their values."""
    whole = np.arange(24, dtype=np.int64).reshape(4, 6)
    made = {MeasurementName.WEIGHTS: NoisyVector(whole[::2, ::-2], 1.0, 1.0)}
    np.testing.assert_array_equal(decode_vectors(encode_vectors(made))[MeasurementName.WEIGHTS].values, whole[::2, ::-2])


def test_partitions_differ() -> None:
    """Vectors of one release that do not have the same partitions are a defect, and so are none at all."""
    two, three = (NoisyVector(np.zeros((n, 1), np.int64), 1.0, 1.0) for n in (2, 3))
    with pytest.raises(InvariantError, match="same partitions"):
        encode_vectors({MeasurementName.UNITS: two, MeasurementName.SUM: three})
    with pytest.raises(InvariantError, match="holds something"):
        encode_vectors({})


def test_damaged() -> None:
    """A payload that was cut or overwritten is a failure that says so, never half a release."""
    payload = encode_vectors({MeasurementName.UNITS: NoisyVector(np.ones((50, 2), np.int64), 1.0, 1.0)})
    for damaged in (b"", payload[:100], payload[: len(payload) // 2], b"x" * 400):
        with pytest.raises(Failure, match="damaged"):
            decode_vectors(damaged)
