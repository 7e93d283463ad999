"""Which entries say what a stored release is, those of before salts too, and what differs (C2, R1)."""

from __future__ import annotations

import dataclasses
import hashlib
import struct

import numpy as np
import pytest

from hushmeter.errors import LedgerBroken
from hushmeter.ledger.commitments import charged_releases, differences, name_of
from hushmeter.model.measurement import MeasurementName, Mechanism
from hushmeter.model.release import NoisyVector, PartitionKey, Release, ReleaseKey
from tests.unit.chains import chained, content_with

UNITS, SUM = MeasurementName.UNITS, MeasurementName.SUM
VALUES = "values, salt, completeness or time of publication"
"""What a release is said to differ in where its values do not hold."""
OPEN = ((0, "é"), (3, ""))


def release_of(keys: tuple[PartitionKey, ...] | None = OPEN, salt: bytes | None = None) -> Release:
    """A release of two counts, as it is stored."""
    vector = NoisyVector(np.array([[1], [-2]], np.int64), Mechanism.DISCRETE_GAUSSIAN, 3.0, 0.01, salt=salt)
    return Release(ReleaseKey(3, "calls", ("platform",), "1d", 0), 86_400_000, 90_000_000, 1.0, {UNITS: vector}, keys)


def differing(release: Release, *contents: str) -> tuple[str, ...]:
    """What a release differs in from entries of these contents."""
    return differences(release, charged_releases(chained(contents))[name_of(release)])


def digest(partitions: str) -> str:
    """What an entry of before salts holds of the release's values: written out as docs/data_model.md says."""
    return hashlib.sha256(partitions.encode() + b"\0" + struct.pack("<2q", 1, -2)).hexdigest()


@pytest.mark.parametrize(("keys", "partitions"), [(OPEN, '[[0,"é"],[3,""]]'), (None, "null")], ids=["open", "public"])
def test_a_release_of_before_salts_holds_against_its_plain_digest(
    keys: tuple[PartitionKey, ...] | None, partitions: str
) -> None:
    """Its values and partitions are what the old entry digests; other values, partitions, or a salt are told."""
    release, content = release_of(keys), content_with(values_sha256=digest(partitions))
    assert differing(release, content) == ()
    other = dataclasses.replace(release.vectors[UNITS], values=np.array([[1], [2]], np.int64))
    for changed in (
        dataclasses.replace(release, vectors={UNITS: other}),
        dataclasses.replace(release, keys=((0, "e"), (3, ""))),
        release_of(keys, bytes(range(16))),
    ):
        assert differing(changed, content) == (f"units differs in {VALUES}",)
    assert differing(release, content_with()) == (f"units differs in {VALUES}",)


def test_every_field_that_differs_is_told() -> None:
    """A text names all fields of a measurement that differ, in one list, and the entry's own hash where that is wrong."""
    release = release_of()
    told = {"window_end_ms": 5, "mechanism": "gone", "scale": 2.0, "threshold": 4, "mapped_loss": 0.2, "mapped_delta": 0.1}
    (entry,) = chained([content_with(values_sha256=digest('[[0,"é"],[3,""]]'), **told)])
    charges = charged_releases([entry])[name_of(release)]
    assert differences(release, charges) == (f"units differs in {', '.join(told)}",)
    charges = charged_releases([dataclasses.replace(entry, previous_hash=bytes([1]) * 32)])[name_of(release)]
    assert differences(release, charges) == (f"units differs in {', '.join(told)}, the entry's own hash",)


def test_measurements_that_one_side_lacks_are_told() -> None:
    """A stored vector without an entry, and an entry whose vector is gone, each differ by name."""
    release, content = release_of(None), content_with(values_sha256=digest("null"))
    both = dataclasses.replace(release, vectors={UNITS: release.vectors[UNITS], SUM: release.vectors[UNITS]})
    assert differing(both, content) == ("sum stands in no entry",)
    more = content_with(values_sha256=digest("null"), measurement="sum")
    assert differing(release, more, content) == ("sum is missing",)
    assert differing(both, more, content) == ()


def test_lost_measurements_are_passed_over_and_later_ones_are_not() -> None:
    """An entry of which nothing was released says nothing of a release; those after it do."""
    lost, units = content_with(mechanism="lost", measurement="sum"), content_with()
    found = charged_releases(chained([lost, units]))
    assert [list(charges) for charges in found.values()] == [["units"]]
    with pytest.raises(LedgerBroken, match="entry 2 does not say what it charges"):
        charged_releases(chained([lost, "{}"]))
