from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter import limits
from hushmeter.errors import TooManyPartitions
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import Int64, Span

LOWEST, HIGHEST = -(2**63), 2**63 - 1
WINDOW = Span.parse("1d").window_of(1_770_000_000_000)
PUBLIC, PRIVATE = VectorKey("m", (), MeasurementName.SUM), VectorKey("m", ("open",), MeasurementName.SUM)
CELL = st.one_of(st.sampled_from([LOWEST, LOWEST + 1, -1, 0, 1, HIGHEST - 1, HIGHEST]), st.integers(LOWEST, HIGHEST))
BOUND = 10


def tally(cells: list[int]) -> Tally:
    vector: Int64 = np.array(cells, np.int64)[:, None]
    return Tally(
        WINDOW, {PUBLIC: vector, PRIVATE: vector}, {("m", ("open",)): tuple((0, f"t{i}") for i in range(len(cells)))}
    )


def cells_of(found: Tally, key: VectorKey) -> list[int]:
    return [int(cell) for cell in found.vectors[key][:, 0]]


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4))
def test_sums_end_at_the_ends_of_int64(pairs: list[tuple[int, int]]) -> None:
    """Tallies add up exactly, and where int64 does not reach to its end, of public and of private partitions."""
    added = tally([a for a, _ in pairs]) + tally([b for _, b in pairs])
    expected = [min(max(a + b, LOWEST), HIGHEST) for a, b in pairs]
    assert cells_of(added, PUBLIC) == cells_of(added, PRIVATE) == expected


@given(st.lists(CELL, min_size=1, max_size=6), st.integers(0, 5), st.integers(-BOUND, BOUND))
def test_one_unit_moves_a_full_sum_by_no_more_than_it_adds(others: list[int], bucket: int, added: int) -> None:
    """Whatever the other buckets hold, a unit in one of them moves the merged sum by at most its own contribution (P6)."""
    place = bucket % len(others)
    without = others.copy()
    without[place] = min(max(without[place], LOWEST + BOUND), HIGHEST - BOUND)
    with_unit = without.copy()
    with_unit[place] += added
    one, other = (cells_of(merged(buckets), PUBLIC)[0] for buckets in (with_unit, without))
    assert abs(one - other) <= abs(added)


def merged(buckets: list[int]) -> Tally:
    total = tally([0])
    for bucket in buckets:
        total += tally([bucket])
    return total


def of_private_partitions(first: int, last: int) -> Tally:
    keys = tuple((number, "t") for number in range(first, last))
    return Tally(WINDOW, {PRIVATE: np.ones((len(keys), 1), np.int64)}, {("m", ("open",)): keys})


def test_a_view_holds_so_many_private_partitions_and_no_more() -> None:
    """As many as the limit add up, also where both sides hold some; one more, whosever it is, fails the window by name."""
    most = limits.TOKENS_PER_WINDOW_MAX
    full = of_private_partitions(0, most - 10) + of_private_partitions(most - 20, most)
    assert len(full.keys["m", ("open",)]) == most
    assert int(full.vectors[PRIVATE].sum()) == most + 10
    with pytest.raises(TooManyPartitions, match=str(most)):
        full + of_private_partitions(most, most + 1)


@given(st.lists(CELL, min_size=1, max_size=4))
def test_a_tally_shows_no_number(cells: list[int]) -> None:
    """What a tally says of itself is the same whatever is in it, so that none reaches a log by accident (R2)."""
    shown = {repr(tally(cells)), str(tally(cells)), f"{tally(cells)}"}
    assert shown == {repr(tally([0] * len(cells)))} == {repr(tally([0]))}
