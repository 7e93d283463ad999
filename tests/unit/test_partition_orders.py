"""In which order a unit's partitions stand (P4): by keyed hashes, ties by number, and nobody else has a say."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from hushmeter.model.plan import Dimension, Metric, OpenValues
from hushmeter.sealing.bounding import _below, _first_pairs, kept, private_partitions, public_grid
from hushmeter.sealing.mixing import partition_marks, scope_marks, token_marks, unit_bases
from tests.oracle.rows import GOLDEN, WORD, mix, token_mark
from tests.strategies import STARTS

SALT = bytes(range(16))
TOKENS = (b"1.0", b"2.0", b"3.0")
MARKS = token_marks(TOKENS, SALT)


def test_marks_and_bases_are_those_of_the_slow_mixer() -> None:
    """Partitions, scopes, tokens and units get the same hashes as in Python's integers, from number 0 on."""
    numbers = [0, 1, 2, 2**40]
    assert partition_marks(np.array(numbers)).tolist() == [mix(n + 1) for n in numbers]
    assert scope_marks(np.array(numbers)).tolist() == [mix(n + GOLDEN) for n in numbers]
    assert token_marks(TOKENS, SALT).tolist() == [0, *(token_mark(token, SALT) for token in TOKENS)]
    high, low = int.from_bytes(SALT[:8], "big"), int.from_bytes(SALT[8:], "big")
    units = [(1, 2), (2**64 - 1, 0)]
    bases = [(mix(a ^ high) + mix(b ^ low)) % WORD for a, b in units]
    assert unit_bases(np.array(units, np.uint64), SALT).tolist() == bases


def opened(*, platform: bool, version: bool) -> Metric:
    """A metric by a closed and an open dimension, each with or without `scope: unit`."""
    return replace(
        STARTS,
        dimensions=(
            Dimension("platform", ("a", "b"), platform),
            Dimension("version", (), version, OpenValues(".*", 8, 10)),
        ),
        views=(("platform", "version"),),
    )


POINTS = np.array([1, 0, 1, 0, 1]), np.array([3, 1, 3, 2, 1])
"""Platform and token number of five points, in four private partitions."""


@pytest.mark.parametrize("platform", [False, True])
@pytest.mark.parametrize("version", [False, True])
def test_private_partitions_are_named_and_marked_by_public_number_and_token(*, platform: bool, version: bool) -> None:
    """Partitions rise by public number and token, and carry a scope exactly where a dimension is unit-scoped."""
    found = private_partitions(opened(platform=platform, version=version), ("platform", "version"), *POINTS, MARKS)
    assert list(zip(found.public.tolist(), found.tokens.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 1), (1, 3)]
    assert found.numbers.tolist() == [3, 0, 3, 1, 2]
    marks = MARKS.tolist()
    pairs = [(0, 1), (0, 2), (1, 1), (1, 3)]
    assert found.grid.marks.tolist() == [mix(mix(p + 1) + marks[t]) for p, t in pairs]
    assert (found.grid.scopes is None) is (found.grid.scope_marks is None) is not (platform or version)
    if found.grid.scopes is None or found.grid.scope_marks is None:
        return
    scopes = [p * platform for p, _ in pairs]
    plain = [mix(s + GOLDEN) for s in scopes]
    assert found.grid.scope_marks.tolist() == [
        mix(mark + marks[t]) if version else mark for mark, (_, t) in zip(plain, pairs, strict=True)
    ]
    told_apart = [s * len(marks) + t if version else s for s, (_, t) in zip(scopes, pairs, strict=True)]
    assert found.grid.scopes.tolist() == told_apart


def test_of_two_tokens_with_one_mark_the_first_by_bytes_is_kept() -> None:
    """Where hashes of a unit's tokens are equal, the lower token counts, whatever order points come in (P1)."""
    metric = opened(platform=False, version=True)
    same = np.zeros(4, np.uint64)
    for tokens in ([2, 1, 3], [3, 2, 1], [1, 3, 2]):
        private = private_partitions(metric, ("version",), np.zeros(3, np.int64), np.array(tokens), same)
        found = kept(np.zeros(3, np.int64), private.numbers, private.grid, np.array([7], np.uint64), 5)
        assert private.tokens[found.partitions].tolist() == [1]
        assert found.dropped.tolist() == [True]


def test_points_that_count_nowhere_are_never_looked_at() -> None:
    """Only points of units are taken: all of them where no unit has many, and else those in their unit's first share."""
    units, top = np.array([0, 2, 1, 2, 0]), 2**64 - 1
    order = np.array([top, 0, 5, 1, 2**62], np.uint64)
    assert _below(order, units, np.array([1.0, 1.0])).tolist() == [0, 2, 4]
    assert _below(order, units, np.array([0.5, 1.0])).tolist() == [2, 4]
    assert _below(order, units, np.array([0.25, 0.5])).tolist() == [2, 4], "the limit itself is in the share"
    assert _below(order, units, np.array([0.125, 1.0])).tolist() == [2]


@pytest.mark.parametrize("l0", [1, 3, 100])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_planted_ties_are_ordered_by_whole_hashes_and_then_by_number(l0: int, width: int) -> None:
    """Hashes that share their first 16 bits, and whole ones too, give each unit the order that plain sorting gives."""
    generator = np.random.default_rng(width)
    points, units, partitions = 600, 20, 12
    of_units, of_partitions = generator.integers(0, units, points), generator.integers(0, partitions, points)
    digits, rests = generator.integers(0, width, (units, partitions)), generator.integers(0, 3, (units, partitions))
    order = (digits.astype(np.uint64) << np.uint64(48) | rests.astype(np.uint64))[of_units, of_partitions]
    found = _first_pairs(np.arange(points), of_units, np.ones(units), order, of_partitions, l0)

    expected, members = [], defaultdict[tuple[int, int], list[int]](list)
    for point, pair in enumerate(zip(of_units.tolist(), of_partitions.tolist(), strict=True)):
        members[pair].append(point)
    for unit in range(units):
        mine = sorted((int(order[members[u, p][0]]), p) for u, p in members if u == unit)
        expected += [(unit, partition) for _, partition in mine[:l0]]
    assert list(zip(found.units.tolist(), found.partitions.tolist(), strict=True)) == expected
    held = defaultdict[tuple[int, int], list[int]](list)
    for point, pair_number in zip(found.points.tolist(), found.pairs.tolist(), strict=True):
        held[expected[pair_number]].append(point)
    assert {pair: sorted(some) for pair, some in held.items()} == {pair: members[pair] for pair in expected}
    assert found.had.tolist() == [len({p for u, p in members if u == unit}) for unit in range(units)]


def test_one_tie_among_runs_without_one_moves_nothing_else() -> None:
    """A run of equal digits at the start, in the middle or at the end is ordered, and its neighbours stay."""
    for tied in range(3):
        digits = [run for run in range(3) for _ in range(2 if run == tied else 1)]
        order = np.array([d << 48 | 9 - i for i, d in enumerate(digits)], np.uint64)
        found = _first_pairs(np.arange(4), np.zeros(4, np.int64), np.ones(1), order, np.arange(4), 4)
        assert found.points.tolist() == np.argsort(order, kind="stable").tolist()
        assert found.partitions.tolist() == found.points.tolist()


def test_the_first_share_of_many_partitions_is_the_start_of_the_whole_order() -> None:
    """A unit in hundreds of partitions keeps the first ones of its whole order, though only a share of them is sorted."""
    metric = replace(STARTS, dimensions=(Dimension("platform", tuple(f"v{i}" for i in range(300))),))
    grid, bases = public_grid(metric, ("platform",)), unit_bases(np.array([[1, 1], [1, 2], [2, 1]], np.uint64), SALT)
    few = np.arange(0, 300, 7)
    units = np.concatenate((np.zeros(300, np.int64), np.ones(len(few), np.int64), np.full(2, 2)))
    partitions = np.concatenate((np.arange(300), few, [5, 6]))
    for l0 in (1, 2, 20):
        found = kept(units, partitions, grid, bases, l0)
        for unit, base in enumerate(bases.tolist()):
            mine = sorted(partitions[units == unit].tolist(), key=lambda p: mix(base + mix(p + 1)))
            assert sorted(found.partitions[found.units == unit].tolist()) == sorted(mine[:l0])
        assert found.dropped.tolist() == [True, True, l0 < 2]
