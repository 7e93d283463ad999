from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter import limits
from hushmeter.consent.register import bucket_of
from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.report import ReportBatch
from hushmeter.model.tally import VectorKey
from hushmeter.model.time import HOUR_MS
from hushmeter.testing.tallies import empty_tally
from tests.examples import examples
from tests.oracle.rows import Unit
from tests.oracle.seal import Sealed
from tests.sealing import (
    assert_sensitivity,
    claims,
    later,
    movement,
    only_unit,
    oracle,
    over_hours,
    said,
    sealed,
    tally_of,
    without_unit,
)
from tests.strategies import DAY, HOUR, UNITS, Case, cases, unkept


def assert_nothing(tally: Sealed) -> None:
    """Fails unless a tally has zeros for every public partition, and no private ones."""
    assert all(not any(row) for cells in tally.vectors.values() for row in cells.values())
    assert all(keys == () for keys in tally.keys.values())
    assert all(units == [] for units in tally.kept.values())


@examples(500)
@given(cases())
def test_the_numpy_core_equals_the_oracle(case: Case) -> None:
    """The fast path and the slow path agree on every vector, every private partition and every kept unit."""
    assert sealed(case) == oracle(case)


@given(cases(), st.integers(1, 3))
def test_more_units_than_int64_is_proven_for(case: Case, most: int) -> None:
    """Units that are summed a few at a time, cut by unit where they come at once, add up to the same."""
    with mock.patch.object(limits, "UNITS_MAX", most):
        parts = sealed(case)
    assert parts == sealed(case)


@examples(300)
@given(cases(), st.sampled_from(UNITS))
def test_one_unit_moves_a_tally_within_its_claim(case: Case, unit: Unit) -> None:
    """Adding or removing one unit's whole record moves each vector by at most the claimed sensitivity (P4-P6)."""
    assert_sensitivity(case, sealed(case), sealed(without_unit(case, unit)))


@given(cases(), st.sampled_from(UNITS))
def test_other_units_are_untouched(case: Case, unit: Unit) -> None:
    """What a unit adds does not depend on any other unit, nor on other units' tokens (P1)."""
    apart = tally_of(without_unit(case, unit)) + tally_of(only_unit(case, unit))
    assert said(apart) == sealed(case)


@given(cases(), st.integers(1, 3))
def test_buckets_add_up(case: Case, bits: int) -> None:
    """Sealing buckets of units one by one and adding is sealing all, in any order."""
    tops = case.rows.pseudonyms[:, 0] >> np.uint64(64 - bits)
    tallies = []
    for bucket in range(2**bits):
        rows = case.rows.take(np.flatnonzero(tops == np.uint64(bucket)))
        tallies.append(tally_of(replace(case, rows=rows, consent=bucket_of(case.consent, bucket, bits))))
    forward, backward = empty_tally(case.plan, case.window), empty_tally(case.plan, case.window)
    for tally in tallies:
        forward += tally
    for tally in reversed(tallies):
        backward = tally + backward
    assert said(forward) == said(backward) == sealed(case)


@given(cases(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(case: Case, random: Random) -> None:
    """A tally is a function of the set of reports, not of their order of arrival (P2, P9)."""
    order = list(range(len(case.rows)))
    random.shuffle(order)
    assert sealed(replace(case, rows=case.rows.take(np.array(order, np.int64)))) == sealed(case)


@given(cases(), st.sampled_from(UNITS), st.randoms(use_true_random=False))
def test_no_unit_decides_which_copies_of_others_count(case: Case, unit: Unit, random: Random) -> None:
    """With or without one unit's record, read in any order, the others' reports count the same copies (P2, P9)."""
    others = without_unit(case, unit)
    order = list(range(len(case.rows)))
    random.shuffle(order)
    beside = tally_of(replace(case, rows=case.rows.take(np.array(order, np.int64))))
    assert said(beside) == said(tally_of(others) + tally_of(only_unit(case, unit)))


@given(cases(), st.randoms(use_true_random=False))
def test_the_first_copy_counts(case: Case, random: Random) -> None:
    """Copies that come later, whatever they say and wherever they are read, change no tally (P2)."""
    rows = case.rows
    order = list(range(len(rows)))
    random.shuffle(order)
    after = max(rows.received_at_ms, default=0) + 1
    changed = replace(rows.take(np.array(order, np.int64)), received_at_ms=np.full(len(rows), after, np.int64))
    changed = replace(changed, values=changed.values[::-1].copy(), interval_start_ms=changed.interval_start_ms - 1)
    for both in ([rows, changed], [changed, rows]):
        assert sealed(replace(case, rows=ReportBatch.concat(both))) == sealed(case)


@given(cases())
def test_reports_that_share_a_digit_are_told_apart(case: Case) -> None:
    """Where report ids have the bits in common that tell them apart quickly, the same reports count (P2)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hushmeter.sealing.rows._FIRST_ODD", np.uint64(0))
        patch.setattr("hushmeter.sealing.rows._SECOND_ODD", np.uint64(0))
        assert sealed(case) == oracle(case)


@given(cases(), st.randoms(use_true_random=False))
def test_numbers_of_tokens_do_not_matter(case: Case, random: Random) -> None:
    """Another order of the dictionary, and tokens in it that no point has, change nothing (P1, P9)."""
    tokens = [*case.rows.tokens, b"0", b"nobody has this"]
    random.shuffle(tokens)
    numbers = np.array([0, *(tokens.index(token) + 1 for token in case.rows.tokens)], np.uint32)
    rows = replace(case.rows, tokens=tuple(tokens), token_numbers=numbers[case.rows.token_numbers])
    assert sealed(replace(case, rows=rows)) == sealed(case)


@given(cases())
def test_private_partitions_are_sorted_and_somebodys(case: Case) -> None:
    """Private partitions stand in rising order, and each is kept by at least one unit (R1)."""
    tally = sealed(case)
    for (metric, view), keys in tally.keys.items():
        assert list(keys) == sorted(set(keys))
        assert all(units >= 1 for (units,) in tally.vectors[VectorKey(metric, view, MeasurementName.UNITS)].values())


@given(cases())
def test_everything_twice_counts_once(case: Case) -> None:
    """Duplicates of (pseudonym, report_id) count once, also when every row is there twice (P2)."""
    twice = replace(case, rows=ReportBatch.concat([case.rows, case.rows]))
    assert sealed(twice) == sealed(case)


@given(cases())
def test_nobody_is_zeros(case: Case) -> None:
    """A window without rows, or without consent, has a tally of zeros for every vector (T3, P8)."""
    nobody = ConsentTable.of(case.consent.purposes, [])
    for empty in (replace(case, rows=ReportBatch.empty()), replace(case, consent=nobody)):
        tally = sealed(empty)
        assert tally.vectors.keys() == claims(case.plan, case.window.resolution).keys()
        assert_nothing(tally)
        assert tally == said(empty_tally(case.plan, case.window))


@given(cases((HOUR,)))
def test_a_late_row_misses_its_hour_and_is_in_its_day(case: Case) -> None:
    """A report that arrives after the hour's deadline changes no tally of the hour, and counts in the day (T2)."""
    late = replace(case.rows, received_at_ms=np.full(len(case.rows), HOUR.end_ms + 6 * HOUR_MS, np.int64))
    assert_nothing(sealed(replace(case, rows=late)))
    in_time = replace(case.rows, received_at_ms=np.full(len(case.rows), HOUR.end_ms, np.int64))
    day = replace(case, window=DAY, participation=unkept(case.plan, DAY))
    assert sealed(replace(day, rows=late)) == sealed(replace(day, rows=in_time))


@given(cases())
def test_a_kept_window_can_be_sealed_again(case: Case) -> None:
    """What a window kept does not count against it when it is sealed once more: kept windows are a set (P7)."""
    first = tally_of(case)
    again = {
        metric: replace(before, earlier=before.earlier.keeping(first.kept[metric], before.index))
        for metric, before in case.participation.items()
    }
    assert sealed(replace(case, participation=again)) == said(first)


@examples(100)
@given(cases((HOUR,)), st.lists(st.integers(0, 3), min_size=4, max_size=4), st.sampled_from(UNITS))
def test_a_unit_is_in_as_many_windows_as_claimed(case: Case, drops: list[int], unit: Unit) -> None:
    """Over hours of one period a unit is kept in its first `max_windows`, and moves each vector in no more (P7)."""
    hours = []
    for hour, drop in enumerate(drops):
        rows = case.rows.take(np.flatnonzero(np.arange(len(case.rows)) % 4 >= drop))
        hours.append(later(replace(case, rows=rows), hour))
    whole, without = over_hours(hours, sealed), over_hours([without_unit(c, unit) for c in hours], sealed)
    for key, claim in claims(case.plan, HOUR.resolution).items():
        moved = [bool(movement(a, b, key)) for a, b in zip(whole, without, strict=True)]
        assert sum(moved) <= claim.windows
    for metric in whole[0].kept:
        most = case.plan.metric(metric).bounds[HOUR.resolution].max_windows
        unbounded = [sealed(replace(c, participation=unkept(c.plan, HOUR))).kept[metric] for c in hours]
        present = Counter(u for units in unbounded for u in units)
        kept = Counter(u for tally in whole for u in tally.kept[metric])
        assert kept == {u: min(count, most or 0) for u, count in present.items()}
