"""The payload of a release: what is decoded is what was encoded, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hushmeter.errors import Failure, InvariantError
from hushmeter.model.measurement import MeasurementName, Mechanism
from hushmeter.model.release import NoisyVector, PartitionKey
from hushmeter.storage.state.release_payload import decode_vectors, encode_vectors

POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)
TOKENS = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["", "1.0", "\x00", "\U0001f600" * 64])
KEYS = st.sets(st.tuples(st.integers(0, 2**20), TOKENS), max_size=9).map(lambda keys: tuple(sorted(keys)))


@st.composite
def noisy(draw: st.DrawFn, partitions: int) -> NoisyVector:
    """A vector of any columns, any int64 and any noise, of any mechanism."""
    mechanism = draw(st.sampled_from(Mechanism))
    return NoisyVector(
        draw(npst.arrays(np.int64, (partitions, draw(st.integers(1, 5))))),
        mechanism,
        draw(POSITIVE),
        draw(POSITIVE),
        draw(st.floats(0, 1)),
        draw(st.integers(-(2**63), 2**63)) if mechanism.selects else None,
        draw(st.none() | st.binary(min_size=16, max_size=16)),
    )


@st.composite
def payloads(draw: st.DrawFn) -> tuple[dict[MeasurementName, NoisyVector], tuple[PartitionKey, ...] | None]:
    """Vectors over 0 to 9 partitions, public ones or private ones with their keys."""
    keys = draw(st.none() | KEYS)
    partitions = draw(st.integers(0, 9)) if keys is None else len(keys)
    names = draw(st.lists(st.sampled_from(MeasurementName), min_size=1, unique=True))
    return {name: draw(noisy(partitions)) for name in names}, keys


@given(payloads())
def test_round_trip(made: tuple[dict[MeasurementName, NoisyVector], tuple[PartitionKey, ...] | None]) -> None:
    """Values, noise, salts and keys come back exactly, read-only, in the table's order; equal vectors give equal bytes."""
    vectors, keys = made
    payload = encode_vectors(vectors, keys)
    found, found_keys = decode_vectors(payload)
    assert found_keys == keys
    assert list(found) == [name for name in MeasurementName if name in vectors]
    for name, vector in vectors.items():
        np.testing.assert_array_equal(found[name].values, vector.values)
        assert found[name].values.dtype == np.int64
        assert found[name].values.shape == vector.values.shape
        assert not found[name].values.flags.writeable
        assert replace(found[name], values=vector.values) == vector
    assert encode_vectors(dict(reversed(vectors.items())), keys) == payload


def plain(values: np.ndarray) -> NoisyVector:
    return NoisyVector(values, Mechanism.DISCRETE_GAUSSIAN, 1.0, 1.0)


def test_strided_values() -> None:
    """Vectors that are views of a larger array are written as their values."""
    whole = np.arange(24, dtype=np.int64).reshape(4, 6)
    found, keys = decode_vectors(encode_vectors({MeasurementName.WEIGHTS: plain(whole[::2, ::-2])}))
    np.testing.assert_array_equal(found[MeasurementName.WEIGHTS].values, whole[::2, ::-2])
    assert keys is None


def test_partitions_differ() -> None:
    """Vectors of one release that do not have the same partitions are a defect, and so are none at all."""
    two, three = (plain(np.zeros((n, 1), np.int64)) for n in (2, 3))
    with pytest.raises(InvariantError, match="same partitions"):
        encode_vectors({MeasurementName.UNITS: two, MeasurementName.SUM: three})
    with pytest.raises(InvariantError, match="same partitions"):
        encode_vectors({MeasurementName.UNITS: two}, ((0, "a"),))
    with pytest.raises(InvariantError, match="holds something"):
        encode_vectors({})


def test_damaged() -> None:
    """A payload that was cut or overwritten is a failure that says so, never half a release."""
    vectors = {MeasurementName.UNITS: plain(np.ones((50, 2), np.int64))}
    for keys in (None, tuple((0, f"{i:02}") for i in range(50))):
        payload = encode_vectors(vectors, keys)
        for damaged in (b"", payload[:100], payload[: len(payload) // 2], b"x" * 400):
            with pytest.raises(Failure, match="damaged"):
                decode_vectors(damaged)
