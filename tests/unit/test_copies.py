"""Which of several copies counts, where rows of different reports, units and contents are told apart closely (P2)."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from hushmeter.model.report import TOTALS, ReportBatch
from hushmeter.model.time import HOUR_MS, Span
from hushmeter.sealing.copies import _same_as_first, copy_key, counting
from hushmeter.sealing.rows import deduplicated
from hushmeter.sealing.totals import first_copies
from tests.strategies import Rows, batch_of

HOUR = Span.parse("1h")
KEY = copy_key(bytes(range(32)))
A_POINT = [(1, 5)]


def rows_said(*said: tuple[int, int, list[tuple[int, int, bytes | None]]], versions: tuple[int, ...] = ()) -> ReportBatch:
    """Rows of one unit and report, of (start, end, points) each, all received in one millisecond."""
    rows: Rows = [((1, 1), 0, 500, start, end, points) for start, end, points in said]
    batch = batch_of(rows, (b"a", b"b"))
    return replace(batch, plan_versions=np.array(versions, np.uint32)) if versions else batch


def of_ids(ids: list[tuple[int, int]], received: list[int], ends: list[int] | None = None) -> ReportBatch:
    """Rows of one unit with whole report ids; the end of each one's interval may be given."""
    rows: Rows = [((1, 1), 0, r, 1, e, A_POINT) for r, e in zip(received, ends or [10] * len(ids), strict=True)]
    return replace(batch_of(rows), report_ids=np.array(ids, np.uint64))


def counted(rows: ReportBatch) -> list[int]:
    """The rows that count, where all belong to the window."""
    return sorted(deduplicated(rows, np.arange(len(rows)), HOUR, KEY).rows.tolist())


@pytest.fixture
def one_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    """All reports of a unit share the bits that tell them apart quickly."""
    monkeypatch.setattr("hushmeter.sealing.rows._FIRST_ODD", np.uint64(0))
    monkeypatch.setattr("hushmeter.sealing.rows._SECOND_ODD", np.uint64(0))


def test_copies_are_told_apart_by_a_secret_of_their_period_alone() -> None:
    """The key of copies is BLAKE2b of nothing, under the period's key and for this use: 32 bytes."""
    period_key = bytes(range(32))
    expected = hashlib.blake2b(b"", key=period_key, person=b"copies", digest_size=32).digest()
    assert copy_key(period_key) == expected
    assert copy_key(bytes(32)) != expected


def test_of_two_copies_the_first_received_counts_also_in_the_last_report() -> None:
    """Reports are counted one by one: a report of one copy, of two, and again of one, at the end."""
    rows = of_ids([(1, 1), (2, 2), (2, 2), (3, 3)], [9, 8, 7, 6])
    begins = np.array([True, True, False, True])
    assert counting(rows, np.arange(4), begins, KEY).tolist() == [True, False, True, True]


def test_a_total_counts_before_an_earlier_report() -> None:
    """A row of totals stands for its report beside a copy that was received before it."""
    rows = replace(of_ids([(1, 1)] * 2, [3, 9]), plan_versions=np.array([1, TOTALS], np.uint32))
    assert counting(rows, np.arange(2), np.array([True, False]), KEY).tolist() == [False, True]


def test_several_ties_are_each_decided_once() -> None:
    """Reports whose copies tie, some saying the same and some not, keep one copy each; a digest tells which."""
    rows = rows_said(
        (1, 9, [(1, 5, None)]),
        (1, 9, [(1, 5, None)]),
        (1, 9, [(1, 6, None)]),
        (1, 9, [(1, 7, None)]),
        (1, 9, [(1, 8, None)]),
        (1, 9, [(1, 8, None)]),
    )
    begins = np.array([True, False, True, False, True, False])
    counts = counting(rows, np.arange(6), begins, KEY)
    assert counts.reshape(3, 2).sum(axis=1).tolist() == [1, 1, 1]
    turned = counting(rows, np.array([1, 0, 3, 2, 5, 4]), begins, KEY)
    assert turned[2:4].tolist() == counts[2:4][::-1].tolist(), "the same copy, in whatever order they are read"


SAID = (1, 9, [(1, 5, b"a"), (2, 6, None)])


@pytest.mark.parametrize(
    "other",
    [
        (2, 9, SAID[2]),
        (1, 8, SAID[2]),
        (1, 9, SAID[2][:1]),
        (1, 9, [*SAID[2], (2, 6, None)]),
        (1, 9, [(3, 5, b"a"), (2, 6, None)]),
        (1, 9, [(1, 4, b"a"), (2, 6, None)]),
        (1, 9, [(1, 5, b"b"), (2, 6, None)]),
        (1, 9, [(1, 5, b"a"), (2, 6, b"a")]),
        (1, 9, [(1, 5, b"a"), (2, 7, None)]),
        (1, 9, SAID[2][::-1]),
        (1, 9, []),
    ],
)
def test_a_copy_says_the_same_only_where_all_of_it_is(other: tuple[int, int, list[tuple[int, int, bytes | None]]]) -> None:
    """Another start, end, number of points, series, value, token or order of points is another report."""
    rows = rows_said(SAID, SAID, other, SAID)
    same = _same_as_first(rows, np.arange(4), np.array([True, False, False, False]))
    assert same.tolist() == [True, True, False, True]
    groups = _same_as_first(rows, np.array([2, 2, 0, 1, 3, 2]), np.array([True, False, True, False, False, False]))
    assert groups.tolist() == [True, True, True, True, True, False], "the first of each group is what others are held to"


def test_a_copy_under_another_plan_version_says_something_else() -> None:
    """Plan versions differ, and nothing else."""
    rows = rows_said(SAID, SAID, versions=(1, 2))
    assert _same_as_first(rows, np.arange(2), np.array([True, False])).tolist() == [True, False]


@pytest.mark.usefixtures("one_digit")
@pytest.mark.parametrize(
    "ids",
    [
        [(7, 1), (7, 2), (7, 1)],
        [(1, 7), (2, 7), (1, 7)],
        [(1, 2), (2, 1), (1, 2)],
        [(1, 1), (2, 2), (1, 1)],
    ],
)
def test_ids_that_differ_in_either_half_are_two_reports(ids: list[tuple[int, int]]) -> None:
    """Where a quick look does not tell reports apart, whole ids do: the other report counts, and one of the copies."""
    assert counted(of_ids(ids, [9, 5, 8])) == [1, 2]
    assert counted(of_ids(ids, [8, 9, 9])) == [0, 1]


@pytest.mark.usefixtures("one_digit")
def test_two_reports_side_by_side_both_count() -> None:
    """Two reports whose ids have no half in common count both, also where nothing else shares their digit."""
    assert counted(of_ids([(1, 1), (2, 2)], [9, 5])) == [0, 1]


@pytest.mark.usefixtures("one_digit")
def test_one_id_in_two_storage_windows_is_two_reports() -> None:
    """The storage window of a report's end is part of its name; copies are looked for within it (P2)."""
    ends = [HOUR_MS, HOUR_MS + 1, HOUR_MS, HOUR_MS + 1]
    assert counted(of_ids([(1, 1)] * 4, [9, 9, 8, 8], ends)) == [2, 3]


@pytest.mark.usefixtures("one_digit")
@pytest.mark.parametrize(
    ("ids", "ends"), [([(1, 1), (1, 1), (2, 2), (1, 1)], [10] * 4), ([(1, 1)] * 4, [10, 10, 10 + HOUR_MS, 10])]
)
def test_what_another_unit_sent_makes_no_copy(ids: list[tuple[int, int]], ends: list[int]) -> None:
    """Two reports of a unit both count, where another unit has copies with the id and storage window of one (P1)."""
    rows = of_ids(ids, [9, 8, 7, 6], ends)
    rows = replace(rows, pseudonyms=np.array([(1, 1), (1, 1), (1, 2), (1, 2)], np.uint64))
    assert counted(rows) == [1, 2, 3]


@pytest.mark.usefixtures("one_digit")
def test_copies_are_found_among_many_reports_of_many_units() -> None:
    """Units, storage windows, both halves of ids and receipts in any mixture: as a dictionary finds the first copies."""
    drawn = np.random.default_rng(5).integers(0, 3, (200, 4))
    rows: Rows = [((1, u), 0, i, 1, 10 + w * HOUR_MS, A_POINT) for i, (u, _, _, w) in enumerate(drawn.tolist())]
    batch = replace(batch_of(rows), report_ids=drawn[:, 1:3].astype(np.uint64))
    order = np.random.default_rng(6).permutation(len(rows))
    first: dict[tuple[int, ...], int] = {}
    for i, name in enumerate(map(tuple, drawn.tolist())):
        first.setdefault(name, i)
    found = order[deduplicated(batch.take(order), np.arange(len(rows)), HOUR, KEY).rows]
    assert sorted(found.tolist()) == sorted(first.values())


def test_totals_tell_reports_apart_by_unit_and_whole_id() -> None:
    """Of a unit's report the copy received first is left, also where ids share one half or units share ids."""
    ids = [(1, 7), (2, 7), (1, 7), (7, 1), (7, 2), (7, 1), (1, 7)]
    rows = of_ids(ids, [9, 8, 7, 6, 5, 4, 3])
    units = np.array([0, 0, 0, 0, 0, 0, 1], np.int64)
    assert first_copies(rows, np.arange(7), units, KEY).tolist() == [1, 2, 4, 5, 6]
    assert first_copies(rows, np.array([0, 1, 3]), units, KEY).tolist() == [0, 1, 3], "among those that are chosen"
