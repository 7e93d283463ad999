"""Ratios of noisy numbers against cases that are worked out by hand: value, linearised noise, Fieller's interval."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from hushmeter.model.measurement import FIXED_POINT
from hushmeter.model.plan import ContributionBounds, Weighting
from hushmeter.query.ratios import Estimated, MeanInputs, mean, share_of_total, variance
from hushmeter.query.sums import Sums
from tests.unit.ten_units import PLAN

BOUNDS = ContributionBounds(max_partitions=1, low=-2, high=6, max_events=9)
"""A range of 8 around 2."""


def sums(value: float, variance: float, spread: float, z: float = 1.0) -> Sums:
    return Sums.mapped(np.array([[value]]), variance, spread, z)


def single(found: Estimated) -> tuple[float, ...]:
    """Value, standard deviation, lower and upper end of the only cell."""
    assert all(array.shape == (1, 1) for array in found)
    return tuple(float(array[0, 0]) for array in found)


def inputs(centered: Sums, count: Sums) -> MeanInputs:
    return MeanInputs(PLAN.metric("talk"), BOUNDS, centered, count)


def roots(a: float, b: float, c: float) -> tuple[float, float]:
    """Where `a x^2 - 2 b x + c` is 0."""
    return (b - math.sqrt(b * b - a * c)) / a, (b + math.sqrt(b * b - a * c)) / a


@pytest.mark.parametrize(("z_of_sum", "z_of_count"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.5)])
def test_a_mean_by_hand(z_of_sum: float, z_of_count: float) -> None:
    """S = 16 and N = 4 lie 2 above the middle of the range, which is 2; the interval takes the wider z."""
    value, std, low, high = single(mean(inputs(sums(16, 1.0, 2.0, z_of_sum), sums(4, 0.04, 0.0625, z_of_count))))
    assert value == 4
    assert std == pytest.approx(math.sqrt(0.25 + 2**2 * 0.04) / 4)
    first, second = roots(4**2 - 0.0625, 8 * 4, 8**2 - 0.5)
    assert (low, high) == pytest.approx((2 + first, 2 + second))


def test_a_mean_stays_in_the_range() -> None:
    """An offset beyond half the range is cut to it, and its noise is that of a value at the end."""
    value, std, low, high = single(mean(inputs(sums(-200, 1.0, 2.0), sums(4, 0.04, 0.0625))))
    assert (value, low, high) == (-2, -2, -2)
    assert std == pytest.approx(math.sqrt(0.25 + 4**2 * 0.04) / 4)
    value, std, low, high = single(mean(inputs(sums(200, 1.0, 2.0), sums(4, 0.04, 0.0625))))
    assert (value, low, high) == (6, 6, 6)


def test_a_mean_of_no_positive_count_is_the_middle() -> None:
    """Without a positive count the mean is undefined: the middle of the range, inside its interval."""
    value, std, low, high = single(mean(inputs(sums(1, 1.0, 2.0), sums(0, 0.04, 0.0625))))
    assert value == 2
    assert std == pytest.approx(math.sqrt(0.25 / 0.04))
    assert (low, high) == (-2, 6)
    value, std, low, high = single(mean(inputs(sums(16, 1.0, 2.0), sums(-4, 0.04, 0.0625))))
    assert (value, high) == (2, 2)
    assert low == pytest.approx(2 + roots(4**2 - 0.0625, -8 * 4, 8**2 - 0.5)[0])


@pytest.mark.parametrize(
    ("name", "weighting", "factor"),
    [
        ("calls", Weighting.UNIT, 0.5),
        ("call_setup", Weighting.UNIT, 0.5),
        ("talk", Weighting.EVENT, 0.5),
        ("stalls", Weighting.UNIT, 0.5 / FIXED_POINT),
        ("stalls", Weighting.EVENT, 0.5),
    ],
)
def test_offsets_are_half_of_what_was_centered(name: str, weighting: Weighting, factor: float) -> None:
    """Centered values are twice the offsets; where a ratio's units have their own means, in fixed point."""
    metric = dataclasses.replace(PLAN.metric(name), weighting=weighting)
    offsets = MeanInputs(metric, BOUNDS, sums(96, 16.0, 64.0), sums(4, 1.0, 1.0)).offsets
    assert offsets.values.tolist() == [[96 * factor]]
    assert (offsets.variance, offsets.spread) == pytest.approx((16 * factor**2, 64 * factor**2))


@pytest.mark.parametrize("z", [(1.0, 1.0, 1.0), (0.5, 0.5, 1.0), (0.5, 1.0, 0.5), (1.0, 0.5, 0.5)])
def test_a_variance_by_hand(z: tuple[float, float, float]) -> None:
    """V = -64, S = 16 and N = 4 have B = 8, nu = 2 and A = -8 + 32 - 16: a variance of 2.

    Its noise is that of V/8 - 4 B + 10 N. The interval takes V/8 - 4 B + 12 N, whose variance is 2 + 8 + 9, and the square
    of the noise of nu beyond the upper end.
    """
    squares, centered, count = sums(-64, 64.0, 128.0, z[0]), sums(16, 1.0, 2.0, z[1]), sums(4, 0.04, 0.0625, z[2])
    value, std, low, high = single(variance(inputs(centered, count), squares))
    assert value == 2
    assert std == pytest.approx(math.sqrt(1 + 4 + 4) / 4)
    first, second = roots(4**2 - 0.0625, 8 * 4 - 12 * 0.0625, 8**2 - 19)
    assert low == pytest.approx(first)
    assert high == pytest.approx(second + (0.5 + 2**2 * 0.0625) / 4**2)


def test_a_variance_far_from_the_middle_by_hand() -> None:
    """V = 256, S = 24 and N = 4 have B = 12, nu = 3 and A = 32 + 32 - 36: a variance of 7.

    Its noise is that of V/8 - 6 B + 10 N. The interval takes V/8 - 6 B + 17 N, whose variance is 2 + 18 + 289/16.
    """
    found = variance(inputs(sums(24, 1.0, 2.0), sums(4, 0.04, 0.0625)), sums(256, 64.0, 128.0))
    value, std, low, high = single(found)
    assert value == 7
    assert std == pytest.approx(math.sqrt(1 + 9 + 4) / 4)
    first, second = roots(4**2 - 0.0625, 28 * 4 - 17 * 0.0625, 28**2 - 20 - 289 / 16)
    assert low == pytest.approx(first)
    assert high == pytest.approx(second + (0.5 + 3**2 * 0.0625) / 4**2)


def test_a_variance_of_two_deviations() -> None:
    """Both parts of the interval grow with z: Fieller's, and the noise of nu by its square."""
    squares, centered, count = sums(-64, 64.0, 128.0, 2.0), sums(16, 1.0, 2.0, 2.0), sums(4, 0.04, 0.0625, 2.0)
    _, _, low, high = single(variance(inputs(centered, count), squares))
    second = roots(4**2 - 4 * 0.0625, 8 * 4 - 4 * 12 * 0.0625, 8**2 - 4 * 19)[1]
    assert low == 0
    assert high == pytest.approx(second + 4 * (0.5 + 2**2 * 0.0625) / 4**2)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_variance_takes_no_mean_beyond_the_range(sign: int) -> None:
    """Where nu would lie outside the range it is cut to the range's end, 4 from the middle."""
    value, std, _, _ = single(variance(inputs(sums(80 * sign, 1.0, 2.0), sums(4, 0.04, 0.0625)), sums(1_088, 64.0, 128.0)))
    assert value == (136 + 32 - 160) / 4
    assert std == pytest.approx(math.sqrt(1 + 4 * 16 * 0.25 + (8 + 16 - 2) ** 2 * 0.04) / 4)


def test_a_variance_stays_between_none_and_a_quarter_of_the_squared_range() -> None:
    """No values in a range of 8 have a variance below 0 or above 16."""
    mean_of = inputs(sums(0, 1.0, 2.0), sums(4, 0.04, 0.0625))
    value, _, low, high = single(variance(mean_of, sums(-6_400, 64.0, 128.0)))
    assert (value, low) == (0, 0)
    assert high == pytest.approx(0.5 / 4**2)
    value, _, low, high = single(variance(mean_of, sums(6_400, 64.0, 128.0)))
    assert (value, low, high) == (16, 16, 16)


@pytest.mark.parametrize("count", [1.0, 0.5])
def test_the_smallest_positive_count_is_divided_by(count: float) -> None:
    """One event, or the part of one that noise leaves, is a count."""
    value, std, _, _ = single(
        variance(inputs(sums(0, 1.0, 2.0), sums(count, 0.04, 0.0625)), sums(-32 * count, 64.0, 128.0))
    )
    assert value == 4
    assert std == pytest.approx(math.sqrt(1 + (8 - 4) ** 2 * 0.04) / count)
    value, std, _, _ = single(mean(inputs(sums(2 * count, 1.0, 2.0), sums(count, 0.04, 0.0625))))
    assert value == 3
    assert std == pytest.approx(math.sqrt(0.25 + 0.04) / count)


def test_a_variance_of_no_positive_count_is_the_middle() -> None:
    """Without a positive count the variance is undefined: half of what is possible, inside its interval."""
    value, std, low, high = single(variance(inputs(sums(16, 1.0, 2.0), sums(-4, 0.04, 0.0625)), sums(-64, 64.0, 128.0)))
    assert value == 8
    assert std == pytest.approx(math.sqrt(1 / 0.04))
    first, second = roots(4**2 - 0.0625, 40 * 4 - 8 * 0.0625, 40**2 - 2 - 64 * 0.0625)
    assert low == pytest.approx(min(first, 8))
    assert high == pytest.approx(second)
    value, _, low, high = single(variance(inputs(sums(16, 1.0, 2.0), sums(0, 0.04, 0.0625)), sums(-8, 64.0, 128.0)))
    assert (value, low, high) == (8, 0, 16)


def test_a_share_has_part_of_its_noise_in_the_total() -> None:
    """The first of 30 and 10 has 3/4 of them, with the noise of (1 - 3/4) of one and 3/4 of the other."""
    weights = Sums.mapped(np.array([[30.0, 10.0]]), 16.0, 25.0, 2.0)
    value, std, low, high = single(share_of_total(weights, of_each=False))
    assert value == 0.75
    assert std == pytest.approx(math.sqrt(16 * (0.25**2 + 0.75**2)) / 40)
    first, second = roots(40**2 - 4 * 50, 30 * 40 - 4 * 25, 30**2 - 4 * 25)
    assert (low, high) == pytest.approx((first, second))


def test_every_share_is_of_the_same_total() -> None:
    """Shares of all columns are those of each, add up to 1, and a column without anybody has the share 0."""
    weights = Sums.mapped(np.array([[30.0, 10.0, 0.0, -8.0], [1.0, 1.0, 1.0, 1.0]]), 16.0, 25.0, 2.0)
    values, stds, _, _ = share_of_total(weights, of_each=True)
    assert values.tolist() == [[30 / 32, 10 / 32, 0, 0], [0.25] * 4]
    assert stds[1] == pytest.approx([math.sqrt(16 * (0.75**2 + 3 * 0.25**2)) / 4] * 4)
    assert stds[0, 2] == pytest.approx(4 / 32)
    for column in range(4):
        alone = Sums.mapped(np.roll(weights.values, -column, axis=1), 16.0, 25.0, 2.0)
        first = share_of_total(alone, of_each=False)
        for one, other in zip(first, share_of_total(weights, of_each=True), strict=True):
            assert one[:, 0] == pytest.approx(other[:, column])


def test_a_share_of_nothing_is_an_equal_one() -> None:
    """Without a positive total each of three columns has a third, and the interval is the whole range."""
    weights = Sums.mapped(np.array([[2.0, -1.0, -1.0]]), 16.0, 25.0, 2.0)
    value, std, low, high = single(share_of_total(weights, of_each=False))
    assert value == pytest.approx(1 / 3)
    assert std == pytest.approx(math.sqrt(16 * (4 / 9 + 2 / 9)) / math.sqrt(48))
    assert (low, high) == (0, 1)
