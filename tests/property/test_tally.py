from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter import limits
from hushmeter.errors import TooManyPartitions
from hushmeter.model.arrays import Int64
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import Span

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


@given(st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=7), st.randoms(use_true_random=False))
def test_sums_are_exact_in_any_order(parts: list[list[int]], random: Random) -> None:
    """However tallies are added up, a cell is their sum over the integers, ended once at the ends of int64."""
    trees = [tally(cells) for cells in parts]
    while len(trees) > 1:
        first, second = (trees.pop(random.randrange(len(trees))) for _ in range(2))
        trees.append(first + second)
    expected = [min(max(sum(column), LOWEST), HIGHEST) for column in zip(*parts, strict=True)]
    found = trees[0].saturated()
    assert cells_of(found, PUBLIC) == cells_of(found, PRIVATE) == expected
    assert not found.overflows


@given(st.lists(CELL, min_size=1, max_size=6), st.integers(0, 6), st.integers(0, 5), st.integers(-BOUND, BOUND))
def test_one_unit_moves_a_full_sum_by_no_more_than_it_adds(others: list[int], before: int, moved: int, added: int) -> None:
    """A unit moves the merged sum by its own contribution at most, also where others are added up in another order (P6)."""
    with_unit = [*others[:before], added, *others[before:]]
    turned = others[moved % len(others) :] + others[: moved % len(others)]
    one, other = (cells_of(merged(buckets), PUBLIC)[0] for buckets in (with_unit, turned))
    assert abs(one - other) <= abs(added)


def test_a_border_that_one_unit_moves() -> None:
    """Sums that pass the end and come back are right: ended after each step they would differ by all that came back."""
    assert cells_of(merged([HIGHEST, 5, -HIGHEST]), PUBLIC) == [5]
    assert cells_of(merged([HIGHEST, -HIGHEST, 5]), PUBLIC) == [5]
    assert cells_of(merged([LOWEST, LOWEST, HIGHEST, HIGHEST, 2]), PUBLIC) == [0]


def test_overflows_meet_on_their_own_partitions() -> None:
    """Private partitions that only some tallies hold keep what int64 did not."""
    sides = [of_private_partitions(first, first + 2, HIGHEST) for first in (0, 1, 1)]
    total = sides[0] + sides[1] + (sides[2] + of_private_partitions(2, 3, LOWEST))
    assert cells_of(total.saturated(), PRIVATE) == [HIGHEST, HIGHEST, HIGHEST - 1]


def test_what_overflows_is_not_measured() -> None:
    """Sums in two words are never taken for numbers: measuring asks for their ends."""
    total = tally([HIGHEST]) + tally([1])
    assert total.overflows
    assert total.without(["m"]).overflows == {}
    assert total.saturated().saturated().overflows == {}


def merged(buckets: list[int]) -> Tally:
    total = tally([0])
    for bucket in buckets:
        total += tally([bucket])
    return total.saturated()


def of_private_partitions(first: int, last: int, value: int = 1) -> Tally:
    keys = tuple((number, "t") for number in range(first, last))
    return Tally(WINDOW, {PRIVATE: np.full((len(keys), 1), value, np.int64)}, {("m", ("open",)): keys})


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
