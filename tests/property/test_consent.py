"""The fold of decisions beside its definition, and what sealing reads of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from unittest import mock

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from hushmeter import limits
from hushmeter.consent import subjects
from hushmeter.consent.register import ConsentRegister
from hushmeter.ingest.identity import pseudonyms_of
from hushmeter.model.consent import NEVER, Decision
from hushmeter.model.plan import Purpose

PURPOSES = (Purpose("tuning", "Tune models."), Purpose("research", "Do research."))
UNITS = [bytes([n]) * 16 for n in range(5)]
HASHES = st.sampled_from([PURPOSES[0].text_hash, PURPOSES[1].text_hash, Purpose("tuning", "An older text.").text_hash, b""])
SEQUENCES = st.lists(
    st.builds(
        Decision,
        st.sampled_from(UNITS),
        st.sampled_from(["tuning", "research", "not in the plan"]),
        st.booleans(),
        st.integers(0, 6),
        HASHES,
    ),
    max_size=40,
)
CUTS = st.lists(st.integers(0, 40), max_size=5).map(sorted)


def by_definition(sequence: Sequence[Decision], unit: bytes, purpose: Purpose) -> tuple[int, bool]:
    """Since when a unit allows a purpose, and whether it agreed to another text instead.

    A grant holds if nothing was withdrawn after it in the sequence, and nothing before it with a later receipt.
    """
    mine = [d for d in sequence if (d.subject, d.purpose) == (unit, purpose.name)]
    holding = [
        d
        for n, d in enumerate(mine)
        if d.given
        and all(later.given for later in mine[n:])
        and all(earlier.given or earlier.received_at_ms <= d.received_at_ms for earlier in mine[:n])
    ]
    to_this_text = [d.received_at_ms for d in holding if d.text_hash == purpose.text_hash]
    return (to_this_text[0], False) if to_this_text else (NEVER, bool(holding))


@given(SEQUENCES, CUTS)
def test_the_fold_is_its_definition(sequence: Sequence[Decision], cuts: Sequence[int]) -> None:
    """However the sequence is cut into pages, a unit allows what its grants for the text in force say, and nothing else."""
    register = ConsentRegister(PURPOSES)
    borders = [0, *(min(cut, len(sequence)) for cut in cuts), len(sequence)]
    for first, last in pairwise(borders):
        register.take(last, sequence[first:last])
    since = register.given_since(UNITS)
    for number, unit in enumerate(UNITS):
        states = register.states(unit)
        for column, purpose in enumerate(PURPOSES):
            state, expected = states[purpose.name], by_definition(sequence, unit, purpose)
            assert (state.given_since_ms, state.outdated) == expected
            assert since[number, column] == expected[0]
            about = [d for d in sequence if (d.subject, d.purpose) == (unit, purpose.name)]
            assert state.undecided == (not about)


@given(SEQUENCES, CUTS, st.integers(1, 5))
def test_every_page_is_read(sequence: Sequence[Decision], cuts: Sequence[int], page: int) -> None:
    """What a store tells in pages is followed to its end, or through the decision that was asked for, and no further."""

    def decisions_after(after: int, through: int | None) -> tuple[int, Sequence[Decision]]:
        found = sequence[after:through][:page]
        end = len(sequence) if through is None else through
        return (after + len(found) if found else end), found

    register, at_once = ConsentRegister(PURPOSES), ConsentRegister(PURPOSES)
    with mock.patch.object(limits, "DECISIONS_PER_PAGE", page):
        for through in [*(min(cut, len(sequence)) for cut in cuts), None]:
            until, before = len(sequence) if through is None else through, register.sequence
            assert register.follow(decisions_after, through) == (until > before)
            assert register.sequence == until
    at_once.take(len(sequence), sequence)
    assert (register.given_since(UNITS) == at_once.given_since(UNITS)).all()


@given(SEQUENCES, CUTS)
def test_tables_follow_the_sequence(sequence: Sequence[Decision], cuts: Sequence[int]) -> None:
    """A table that grew with the register is the one that a new register makes, in each of two periods in turn."""
    register, first = ConsentRegister(PURPOSES), 0
    for cut in [*cuts, len(sequence)]:
        register.take(max(first, cut), sequence[first:cut])
        first = max(first, cut)
        fresh = ConsentRegister(PURPOSES)
        fresh.take(first, sequence[:first])
        for period in (0, 1):
            key = bytes([period]) * 32
            grown = register.table(period, lambda subjects, key=key: pseudonyms_of(key, subjects))
            anew = fresh.table(period, lambda subjects, key=key: pseudonyms_of(key, subjects))
            assert np.array_equal(grown.pseudonyms, anew.pseudonyms)
            assert np.array_equal(grown.given_since_ms, anew.given_since_ms)
        allowing = [u for u in UNITS if any(s.given for s in register.states(u).values())]
        assert len(grown.pseudonyms) == len(allowing)


def test_pseudonyms_are_hashed_once_and_forgotten_with_their_period() -> None:
    """A period's pseudonyms are asked for once a unit, and again only after the register was told to forget them (P3)."""
    register, asked = ConsentRegister(PURPOSES), []

    def pseudonyms(subjects: Sequence[bytes]) -> Sequence[bytes]:
        asked.append(len(subjects))
        return pseudonyms_of(bytes(32), subjects)

    yes = [Decision(unit, "tuning", True, 1, PURPOSES[0].text_hash) for unit in UNITS]
    register.take(3, yes[:3])
    register.table(0, pseudonyms)
    register.take(4, [Decision(UNITS[0], "tuning", False, 2)])
    assert len(register.table(0, pseudonyms).pseudonyms) == 2
    register.take(6, yes[3:])
    assert len(register.table(0, pseudonyms).pseudonyms) == 4
    register.keep([0])
    register.table(0, pseudonyms)
    assert asked == [3, 2]
    register.keep([1])
    register.table(0, pseudonyms)
    assert asked == [3, 2, 5]


def test_more_units_than_rows() -> None:
    """The register's columns grow without losing what they held."""
    register = ConsentRegister(PURPOSES)
    units = [n.to_bytes(16) for n in range(5_000)]
    register.take(5_000, [Decision(u, "tuning", True, n, PURPOSES[0].text_hash) for n, u in enumerate(units)])
    since = register.given_since([*units, bytes(15) + b"x", bytes([9]) * 16])
    assert since[:, 0].tolist()[:5_000] == list(range(5_000))
    assert since[-1].tolist() == [NEVER, NEVER]
    assert (since[:, 1] == NEVER).all()


# Few low words, so that subjects share slots, and some that differ in one word alone.
_WORDS = st.sampled_from([0, 1, 2, 3, subjects.FIRST_SLOTS - 1, subjects.FIRST_SLOTS, 2**63, 2**64 - 1])
_GROUPS = st.lists(st.lists(st.tuples(_WORDS | st.integers(0, 200), _WORDS), max_size=60), max_size=8)


@given(_GROUPS, st.sampled_from([2, 8, 2_048]))
def test_subjects_are_numbered(groups: list[list[tuple[int, int]]], slots: int) -> None:
    """Each subject keeps the number that it was first given, in order, however the table grows; others have none."""
    expected: dict[tuple[int, int], int] = {}
    with mock.patch.object(subjects, "FIRST_SLOTS", slots):
        table = subjects.SubjectRows()
    for group in groups:
        asked = np.array(group, np.uint64).reshape(len(group), 2)
        assert table.find(asked).tolist() == [expected.get(pair, -1) for pair in group]
        assert table.add(asked).tolist() == [expected.setdefault(pair, len(expected)) for pair in group]
    assert len(table) == len(expected)
    assert [tuple(pair) for pair in table.since(0).tolist()] == list(expected)
    assert [tuple(pair) for pair in table.since(len(expected) // 2).tolist()] == list(expected)[len(expected) // 2 :]


def test_many_subjects_are_found_again() -> None:
    """In a table that has grown many times every subject has its own row, and no other is found."""
    rng = np.random.default_rng(7)
    pairs = rng.integers(0, 2**64, (300_000, 2), np.uint64)
    table = subjects.SubjectRows()
    for part in np.array_split(pairs[:200_000], 23):
        table.add(part)
    assert (table.find(pairs) == np.where(np.arange(300_000) < 200_000, np.arange(300_000), -1)).all()
