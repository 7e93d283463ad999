"""What the register of consent keeps, what it costs, and which part of it a bucket gets."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest

from hushmeter.consent import register, subjects
from hushmeter.consent.register import ConsentRegister, bucket_of, buckets_of
from hushmeter.ingest.identity import pseudonyms_of
from hushmeter.model.arrays import UInt64
from hushmeter.model.consent import ConsentTable, Decision, PurposeState
from hushmeter.model.plan import Purpose

PURPOSES = (Purpose("tuning", "Tune models."), Purpose("research", "Do research."))
HALF = 2**63
# A unit on each side of each border between four buckets, none of which a float64 tells from its neighbour.
HIGH = [0, 2**62 - 1, 2**62, HALF - 1, HALF, HALF + 1, HALF + 2**62 - 1, HALF + 2**62, 2**64 - 1]
BUCKETS = [0, 0, 1, 1, 2, 2, 2, 3, 3]


def granted(numbers: Sequence[int]) -> list[Decision]:
    return [Decision(n.to_bytes(16), "tuning", True, 5, PURPOSES[0].text_hash) for n in numbers]


def test_a_decision_says_nothing_of_another_purpose() -> None:
    """A unit that decided on one purpose stands on another where a unit stands that nobody has heard of."""
    consent, many = ConsentRegister(PURPOSES), 2 * register.FIRST_ROWS + 1
    consent.take(many, granted(range(many)))
    for number in (0, register.FIRST_ROWS - 1, register.FIRST_ROWS, many - 1):
        assert consent.states(number.to_bytes(16)) == {"tuning": PurposeState(5), "research": PurposeState()}
    assert set(consent.states(many.to_bytes(16)).values()) == {PurposeState()}


def test_pseudonyms_of_so_many_periods_are_kept() -> None:
    """One period more, and the pseudonyms of that which was asked for longest ago are forgotten."""
    consent, asked = ConsentRegister(PURPOSES), list[int]()
    consent.take(1, granted([1]))

    def table(period: int) -> None:
        def pseudonyms(units: Sequence[bytes]) -> Sequence[bytes]:
            asked.append(period)
            return pseudonyms_of(bytes(32), units)

        consent.table(period, pseudonyms)

    periods = list(range(register.PERIODS_MAX))
    for period in (*periods, *periods):
        table(period)
    assert asked == periods
    table(100)
    for period in periods[1:]:
        table(period)
    assert asked == [*periods, 100]
    table(0)
    assert asked == [*periods, 100, 0]


def table_of(high: Sequence[int]) -> ConsentTable:
    # The low words fall where the high ones rise.
    pairs = np.array([(word, 2**64 - 1 - word) for word in high], np.uint64).reshape(len(high), 2)
    return ConsentTable(("tuning",), pairs, np.arange(len(high), dtype=np.int64)[:, np.newaxis])


@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize("after", range(5))
def test_buckets_hold_the_units_between_their_borders(first: int, after: int) -> None:
    """A range of buckets holds every unit whose pseudonym starts with one of them, with its consent, and no other unit."""
    if first <= after:
        part = buckets_of(table_of(HIGH), first, after, 2)
        expected = [n for n, bucket in enumerate(BUCKETS) if first <= bucket < after]
        assert part.given_since_ms[:, 0].tolist() == expected
        assert part.pseudonyms[:, 0].tolist() == [HIGH[n] for n in expected]
        assert part.purposes == ("tuning",)


@pytest.mark.parametrize("bits", [0, 1, 2, 8])
def test_each_unit_is_in_one_bucket(bits: int) -> None:
    """However many buckets there are, one after another they hold the whole table."""
    parts = [bucket_of(table_of(HIGH), bucket, bits).given_since_ms[:, 0] for bucket in range(2**bits)]
    assert np.concatenate(parts).tolist() == list(range(len(HIGH)))
    assert not len(buckets_of(table_of([]), 0, 2**bits, bits).pseudonyms)


def drawn(count: int) -> UInt64:
    return np.random.default_rng(3).integers(0, 2**64, (count, 2), np.uint64)


def filled(pairs: UInt64) -> subjects.SubjectRows:
    table = subjects.SubjectRows()
    for part in np.array_split(pairs, 3):
        table.add(part)
    return table


@pytest.mark.parametrize("count", [subjects.FIRST_SLOTS // 2, 8 * subjects.FIRST_SLOTS])
def test_what_a_subject_costs(count: int) -> None:
    """Where subjects are a power of two in number, a table takes 24 bytes for each: its own 16, and two slots of 4."""
    pairs = drawn(count)
    filled(pairs)  # numpy allocates what it keeps for itself.
    tracemalloc.start()
    try:
        table = filled(pairs)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == count
    assert 24 * count <= taken < 28 * count


def test_one_more_subject_costs_the_same_in_a_large_table() -> None:
    """Adding one subject goes through none of those that are there: it needs less memory than a byte for each."""
    count = 8 * subjects.FIRST_SLOTS
    pairs = drawn(count + 2)
    table = filled(pairs[: count + 1])
    tracemalloc.start()
    try:
        assert table.add(pairs[count + 1 :]).tolist() == [count + 1]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < count


def test_subjects_that_differ_in_their_last_bits_have_slots_of_their_own() -> None:
    """The last bits choose the slot, all of them: subjects that differ there are found at the first look."""
    table, count = subjects.SubjectRows(), subjects.FIRST_SLOTS
    pairs = np.column_stack((drawn(count)[:, 0], np.arange(7, 7 + count, dtype=np.uint64)))
    assert sorted(table._first_slots(pairs).tolist()) == list(range(count))


def test_a_full_table_of_one_slot_ends_its_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all subjects come to one slot, every other slot is reached from it: each is found, and a stranger is not."""
    monkeypatch.setattr(subjects, "FIRST_SLOTS", 16)
    table = subjects.SubjectRows()
    pairs = np.array([(n, 6) for n in range(9)], np.uint64)
    assert table.add(pairs[:8]).tolist() == list(range(8))
    assert table.find(pairs).tolist() == [*range(8), -1]
