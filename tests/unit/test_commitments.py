"""The ledger's commitments: what they are over, that each has a salt of its own, and what a checkpoint stands for (R1)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import random
import secrets
import struct
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter.errors import InvariantError, LedgerBroken
from hushmeter.ledger.checkpoint import checkpoint_of, head_commitment, is_checkpoint, releases_commitment
from hushmeter.ledger.commitments import charged_releases, differences, name_of, values_commitment
from hushmeter.ledger.entries import checkpoint_after, entries_of, verify_chain
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.arrays import Int64
from hushmeter.model.ledger import GENESIS, LedgerEntry, PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency, MeasurementName, Mechanism
from hushmeter.model.release import NoisyVector, Release
from hushmeter.model.tally import Tally
from hushmeter.noise import opendp
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.reading import parse_plan
from hushmeter.plan.template import plan_template
from hushmeter.release.measuring import measure
from hushmeter.testing.tallies import empty_tally
from tests.unit.chains import chained

TODAY = dt.date(2026, 3, 2)
PLAN = parse_plan(plan_template(TODAY), TODAY)
BUDGET = PrivacyBudget(4.0, 1e-8, Currency.ZCDP, PrivacyLoss(Fraction(1, 4), Fraction(1e-8) / 2))
MECHANISMS = OpenDPMechanisms()
DAY = PLAN.resolution("1d").span.tiles(PLAN.privacy.period.window_of(1_772_500_000_000))[0]
CHARGE = PriceList.of(PLAN, BUDGET, MECHANISMS).charge(DAY, ())
SALT = bytes(range(16))


def with_tokens(tally: Tally) -> Tally:
    """A tally whose open view holds two partitions that every selection shows."""
    view = next(iter(tally.keys))
    vectors = {
        key: np.full((2, vector.shape[1]), 10**6, np.int64) if (key.metric, key.view) == view else vector
        for key, vector in tally.vectors.items()
    }
    return dataclasses.replace(tally, vectors=vectors, keys={view: ((0, "1.0"), (0, "2.0"))})


def measured() -> tuple[Release, ...]:
    """Releases of nobody's data but in one open view, with real noise and salts."""
    return measure(with_tokens(empty_tally(PLAN, DAY)), CHARGE, MECHANISMS, plan=PLAN, completeness=0.5)


def charged(releases: tuple[Release, ...] | None) -> list[str]:
    """Contents of the window's entries."""
    return [draft.content for draft in entries_of(PLAN, "d" * 32, CHARGE, releases)]


def test_what_a_commitment_is_over() -> None:
    """It is SHA-256 over what docs/data_model.md says, written out here."""
    values = np.array([[1, -2], [3, 4]], np.int64)
    told = '{"completeness":0.25,"keys":[[0,"é"],[3,""]],"published_at_ms":600000,"shape":[2,2]}'.encode()
    by_hand = hashlib.sha256(b"hushmeter released values 1\0" + SALT + told + b"\0" + struct.pack("<4q", 1, -2, 3, 4))
    keys = [(0, "é"), (3, "")]
    made = values_commitment(SALT, values, keys=keys, completeness=0.25, published_at_ms=600_000)
    assert made == by_hand.hexdigest()


TABLES = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4)
BESIDE = st.tuples(st.none() | st.just([(0, "a")]), st.floats(0, 1), st.integers(0, 2**60))


@given(
    st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), TABLES, TABLES, st.booleans(), BESIDE, BESIDE
)
def test_a_commitment_binds_all_of_it(
    salt: bytes, other_salt: bytes, cells: list[int], others: list[int], column: bool, beside: object, told: object
) -> None:
    """Two commitments are equal only where salt, values, shape, partitions, completeness and time are."""

    def made(salt: bytes, cells: list[int], column: bool, beside: object) -> tuple[str, str]:
        keys, completeness, published = beside  # type: ignore[misc]
        values: Int64 = np.array(cells, np.int64).reshape((-1, 1) if column else (1, -1))
        of = values_commitment(salt, values, keys=keys, completeness=completeness, published_at_ms=published)
        return of, repr((salt, values.tolist(), beside))

    one = made(salt, cells, column, beside)
    for other in (
        made(other_salt, cells, column, beside),
        made(salt, others, column, beside),
        made(salt, cells, not column, beside),
        made(salt, cells, column, told),
        made(other_salt, others, not column, told),
    ):
        assert (one[0] == other[0]) == (one[1] == other[1])


def test_a_salt_is_the_operating_systems_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each vector has 16 bytes that were asked of it once, and they are all of its salt."""
    asked: list[bytes] = []

    def token_bytes(size: int) -> bytes:
        asked.append(hashlib.sha256(str(len(asked)).encode()).digest()[:size])
        return asked[-1]

    monkeypatch.setattr(opendp.secrets, "token_bytes", token_bytes)
    releases = measured()
    salts = [vector.salt for release in releases for vector in release.vectors.values()]
    assert Counter(salts) == Counter(asked)
    assert {len(salt) for salt in asked} == {16}
    monkeypatch.undo()
    assert opendp.secrets is secrets


def test_a_salt_never_comes_again() -> None:
    """The same values, prices and seeds of every other generator have other salts each time, of even bits."""
    salts = []
    for _ in range(300):
        random.seed(7)
        np.random.seed(7)
        releases = measured() if len(salts) < 100 else ()
        salts += [vector.salt or b"" for release in releases for vector in release.vectors.values()]
        salts.append(opendp.new_salt())
    assert len(set(salts)) == len(salts) > 300
    bits = np.unpackbits(np.frombuffer(b"".join(salts), np.uint8).reshape(-1, 16), axis=1)
    # Within six standard deviations of one half, each of 128 bits.
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 6 * 0.5 / np.sqrt(len(salts))


def resalted(releases: tuple[Release, ...], salt: bytes | None) -> tuple[Release, ...]:
    """The same releases, every vector with this salt."""
    return tuple(
        dataclasses.replace(r, vectors={n: dataclasses.replace(v, salt=salt) for n, v in r.vectors.items()})
        for r in releases
    )


def test_nothing_is_charged_without_salts() -> None:
    """A vector without a salt, and two with the same, are defects before anything is written."""
    for salt in (None, SALT):
        with pytest.raises(InvariantError, match="a salt of its own"):
            charged(resalted(measured(), salt))
    with pytest.raises(InvariantError, match="a salt is 16 bytes"):
        NoisyVector(np.zeros((1, 1), np.int64), Mechanism.DISCRETE_GAUSSIAN, 1.0, 1.0, salt=b"short")
    assert "salt" not in repr(measured())


def test_a_release_is_what_its_entries_say() -> None:
    """As it was published it differs in nothing; each changed field is told, of private partitions too."""
    releases = measured()
    charges = charged_releases(chained(charged(releases)))
    assert all(differences(r, charges[name_of(r)]) == () for r in releases)
    opened = next(r for r in releases if r.keys)
    units = MeasurementName.UNITS
    names = sorted(name.value for name in opened.vectors)
    for changed in (
        dataclasses.replace(opened, keys=((0, "1.0"), (0, "9.0"))),
        dataclasses.replace(opened, keys=None),
        dataclasses.replace(opened, completeness=0.51),
        dataclasses.replace(opened, published_at_ms=opened.published_at_ms + 1),
    ):
        found = differences(changed, charges[name_of(opened)])
        assert found == tuple(f"{name} differs in values, salt, completeness or time of publication" for name in names)
    for field, value in (("threshold", 3), ("scale", 1.5), ("mechanism", Mechanism.LAPLACE_THRESHOLD)):
        vector = dataclasses.replace(opened.vectors[units], **{field: value})  # type: ignore[arg-type]
        changed = dataclasses.replace(opened, vectors={**opened.vectors, units: vector})
        assert differences(changed, charges[name_of(opened)]) == (f"units differs in {field}",)
    with pytest.raises(LedgerBroken, match="entry 1 does not say what it charges"):
        charged_releases(chained(['{"mechanism":"discrete_gaussian"}']))


def test_an_entry_commits_with_the_salt_of_its_own_vector() -> None:
    """Each entry's commitment is over its vector's salt and values, and over what its release tells beside them."""
    releases = measured()
    charges = charged_releases(chained(charged(releases)))
    for release in releases:
        beside = {"completeness": 0.5, "keys": release.keys, "published_at_ms": release.published_at_ms}
        for name, vector in release.vectors.items():
            assert vector.salt is not None
            made = values_commitment(vector.salt, vector.values, **beside)  # type: ignore[arg-type]
            assert charges[name_of(release)][name.value].fields["values_commitment"] == made


OLD = chained([json.dumps(json.loads(c) | {"values_sha256": "00" * 32}, sort_keys=True) for c in charged(measured())])


def with_checkpoint(later: int = 3) -> tuple[list[LedgerEntry], LedgerEntry]:
    """A ledger of before salts, its checkpoint, and some entries after that."""
    checkpoint = checkpoint_after("d" * 32, OLD, SALT, "ab" * 32)
    assert checkpoint is not None
    after = chained(charged(None)[:later], checkpoint.sequence + 1, checkpoint.entry_hash)
    return [*OLD, checkpoint, *after], checkpoint


def test_a_checkpoint_stands_for_what_comes_before() -> None:
    """The whole chain verifies with its salt, the public one without; both cost the same, and a checkpoint nothing."""
    entries, checkpoint = with_checkpoint()
    whole = verify_chain(entries, {checkpoint.sequence: SALT})
    public = verify_chain(entries[len(OLD) :])
    assert (whole.first, whole.count) == (1, len(entries))
    assert (public.first, public.count) == (checkpoint.sequence, 4)
    assert whole.by_period == public.by_period
    assert whole.head_hash == public.head_hash
    before, past = verify_chain(OLD), checkpoint_of(checkpoint).past
    assert verify_chain([checkpoint]).by_period == before.by_period
    assert (past.charged_until_ms, past.released_from_ms) == (DAY.end_ms, DAY.end_ms)
    assert checkpoint.previous_hash == GENESIS
    assert OLD[-1].entry_hash.hex() not in checkpoint.content
    assert checkpoint_after("d" * 32, [], SALT, "ab" * 32) is None


def test_a_checkpoint_that_stands_for_something_else_is_found() -> None:
    """Another salt or none, another history, other sums, another place, and another text break the ledger."""
    entries, checkpoint = with_checkpoint()
    at = checkpoint.sequence
    for salts, told in (({}, "salt of checkpoint"), ({at: bytes(16)}, "does not stand for")):
        with pytest.raises(LedgerBroken, match=told):
            verify_chain(entries, salts)
    other = chained([content.replace("template", "other") for content in (e.content for e in OLD)])
    other[-1] = LedgerEntry.following(at - 1, OLD[-2].entry_hash, OLD[-1].content.replace("00" * 32, "11" * 32))
    with pytest.raises(LedgerBroken, match="does not stand for"):
        verify_chain([*OLD[:-1], other[-1], *entries[len(OLD) :]], {at: SALT})
    said = json.loads(checkpoint.content)["checkpoint"]
    for changed, told in (
        ({"spent": said["spent"][1:]}, "does not stand for"),
        ({"charged_until_ms": 5}, "does not stand for"),
        ({"released_from_ms": None}, "does not stand for"),
        ({"through": at}, "no checkpoint that hushmeter wrote"),
        ({"through": True}, "no checkpoint that hushmeter wrote"),
        ({"spent": [[0, "s", 0, "1/2", "0/1", 1]]}, "no checkpoint that hushmeter wrote"),
        ({"spent": [[0, "s", 1, "1e9", "0/1", 1]]}, "no checkpoint that hushmeter wrote"),
        ({"spent": [[0, "s", 1, "1/2", "0/1", -1]]}, "no checkpoint that hushmeter wrote"),
        ({"more": 1}, "no checkpoint that hushmeter wrote"),
    ):
        content = json.dumps({"checkpoint": said | changed}, sort_keys=True, separators=(",", ":"))
        forged = LedgerEntry.following(at, GENESIS, content)
        assert is_checkpoint(forged)
        with pytest.raises(LedgerBroken, match=told):
            verify_chain([*OLD, forged], {at: SALT})
    with pytest.raises(LedgerBroken, match="was altered"):
        verify_chain([dataclasses.replace(checkpoint, content=checkpoint.content.replace('"cd"', '"ce"') + " ")])
    with pytest.raises(LedgerBroken, match=f"entry {at + 1} is missing"):
        verify_chain([checkpoint, *entries[at + 1 :]])


def test_what_a_checkpoint_commits_to() -> None:
    """Number and hash of the entry before it, and what is told of the releases of before; each with the salt."""
    head = OLD[-1].entry_hash
    by_hand = hashlib.sha256(b"hushmeter checkpoint head 1\0" + SALT + b"7\0" + head).hexdigest()
    assert head_commitment(SALT, 7, head) == by_hand
    told = [(1, 600_000, 0.5), (2, 700_000, 1.0)]
    rows = f"1,600000,{(0.5).hex()}\n2,700000,{(1.0).hex()}\n".encode()
    by_hand = hashlib.sha256(b"hushmeter checkpoint releases 1\0" + SALT + rows).hexdigest()
    assert releases_commitment(SALT, told) == by_hand
    with pytest.raises(InvariantError, match="16 bytes"):
        head_commitment(b"", 7, head)
