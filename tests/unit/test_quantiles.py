"""Quantiles are those of the nearest rising curve, and their intervals hold every value that noise does not rule out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

import hushmeter.query.quantiles as module
from hushmeter.query.quantiles import isotonic, quantiles


def pooled(weights: Sequence[float]) -> list[float]:
    """The nearest rising curve by pooling neighbours that fall, and never below 0."""
    blocks: list[list[float]] = []
    for point in np.cumsum(weights).tolist():
        blocks.append([point])
        while len(blocks) > 1 and np.mean(blocks[-2]) >= np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    return [0.0, *(max(0.0, float(np.mean(block))) for block in blocks for _ in block)]


def hull(weights: Sequence[float], reach: float, borders: Sequence[float], q: float) -> tuple[float, float]:
    """The first and the last value that is not surely another quantile, between 17 places of every bin."""
    below, above = [], []
    for j, (left, right) in enumerate(itertools.pairwise(borders)):
        for t in (step / 16 for step in range(17)):
            coefficients = [(1.0 if i < j else t if i == j else 0.0) - q for i in range(len(weights))]
            found = sum(c * weight for c, weight in zip(coefficients, weights, strict=True))
            width = reach * math.sqrt(sum(c * c for c in coefficients))
            below.append((left + t * (right - left), found + width))
            above.insert(0, (left + t * (right - left), width - found))
    return crossed(below), crossed(above)


def crossed(bound: Sequence[tuple[float, float]]) -> float:
    """The place where a bound first reaches 0, on a straight line from the place before; the first where it never does."""
    first = next((i for i, (_, height) in enumerate(bound) if height >= 0), 0)
    if first == 0:
        return bound[0][0]
    (before, low), (after, high) = bound[first - 1 : first + 1]
    return before + (after - before) * low / (low - high)


@pytest.mark.parametrize(
    ("weights", "curve"),
    [
        ([1, 2, 3], [0, 1, 3, 6]),
        ([1, 2, -3, 4], [0, 1, 1.5, 1.5, 4]),
        ([2, 2, -1, 4], [0, 2, 3.5, 3.5, 7]),
        ([-2, 1, 3], [0, 0, 0, 2]),
        ([-1, -1], [0, 0, 0]),
        ([5, -2, -2], [0, 3, 3, 3]),
    ],
)
def test_the_curve_is_the_nearest_that_rises(weights: list[int], curve: list[float]) -> None:
    """A noisy cumulative curve is fitted by means of the stretches that fall, and starts at 0."""
    assert isotonic(np.array([weights], np.float64)).tolist() == [pytest.approx(curve)]


def test_parts_of_one_unit_have_quantiles() -> None:
    """Curves that rise by less than one, or end below it, are inverted like any."""
    values, _, _, _ = quantiles(np.array([[0.5, 0.25], [0.5, 4.0]]), 1.0, [0, 1, 2], [0.1, 0.25], 2.0)
    assert values == pytest.approx(np.array([[0.15, 0.375], [0.9, 1.15625]]))


def test_every_row_is_fitted_by_itself() -> None:
    """The max-min formula gives in every row what pooling neighbours gives."""
    weights = np.random.default_rng(5).integers(-9, 12, (60, 7)).astype(np.float64)
    for row, curve in zip(weights.tolist(), isotonic(weights).tolist(), strict=True):
        assert curve == pytest.approx(pooled(row))


def test_a_quantile_lies_where_the_curve_reaches_its_share() -> None:
    """Values are spread evenly inside each bin; of nobody, every quantile is the middle of the range."""
    bins = np.array([[4.0, 6.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [-3.0, 1.0, -1.0], [0.0, 0.0, 5.0]])
    values, _, _, _ = quantiles(bins, 1.0, [10, 20, 40, 100], [0.2, 0.4, 0.7, 0.9], 2.0)
    assert values == pytest.approx(
        np.array(
            [
                [15, 20, 30, 110 / 3],
                [14, 18, 64, 88],
                [55, 55, 55, 55],
                [55, 55, 55, 55],
                [52, 64, 82, 94],
            ]
        )
    )


@pytest.mark.parametrize("z", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("variance", [1.0, 9.0])
def test_an_interval_holds_what_the_noise_does_not_rule_out(variance: float, z: float) -> None:
    """Ends are those of the hull of all values whose share may be the quantile's; widths give the deviations."""
    borders = [-5.0, 0.0, 10.0, 12.0, 20.0]
    bins = np.random.default_rng(3).integers(-4, 30, (6, 4)).astype(np.float64)
    bins[0] = [40, 30, 20, 10]
    bins[1] = -bins[0]
    at = [0.1, 0.5, 0.75]
    values, stds, lows, highs = quantiles(bins, variance, borders, at, z)
    band_low, band_high = np.zeros_like(values), np.zeros_like(values)
    for row, column in np.ndindex(values.shape):
        found = hull(bins[row].tolist(), z * math.sqrt(variance), borders, at[column])
        band_low[row, column], band_high[row, column] = found
    assert lows == pytest.approx(np.minimum(band_low, values))
    assert highs == pytest.approx(np.maximum(band_high, values))
    assert stds == pytest.approx((band_high - band_low) / (2 * z))


def test_one_bin_is_ruled_out_up_to_its_quantile_or_not_at_all() -> None:
    """In a single bin of weight n, noise of z deviations below n leaves one place, and above n all of them."""
    _, stds, lows, highs = quantiles(np.array([[9.0], [2.0]]), 4.0, [0, 16], [0.25], 1.5)
    assert lows.tolist() == [[4.0], [0.0]]
    assert highs.tolist() == [[4.0], [16.0]]
    assert stds.tolist() == [[0.0], [16 / 3]]


def test_bands_between_steps_are_straight() -> None:
    """Where no step of a bin is the end itself, the end is interpolated."""
    _, _, lows, highs = quantiles(np.array([[3e6, 3e6]]), 1.0, [0, 1, 2], [0.3], 2.0)
    assert lows[0, 0] == pytest.approx(0.6, abs=1e-5)
    assert highs[0, 0] == pytest.approx(0.6, abs=1e-5)


def test_groups_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are taken in groups to bound the memory; each row's answer is the same in any."""
    bins = np.random.default_rng(8).integers(-4, 30, (11, 3)).astype(np.float64)
    whole = quantiles(bins, 4.0, [0, 1, 2, 3], [0.25, 0.5], 2.0)
    for cells in (1, 3 * 17 * 4):
        monkeypatch.setattr(module, "_CELLS_MAX", cells)
        for one, other in zip(whole, quantiles(bins, 4.0, [0, 1, 2, 3], [0.25, 0.5], 2.0), strict=True):
            assert one.tolist() == other.tolist()
