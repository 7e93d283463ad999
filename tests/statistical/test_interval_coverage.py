"""Nominal 95 % intervals cover at least 95 %, for every statistic, in both currencies, at every scale (E4)."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from hushmeter.model.arrays import Float64
from hushmeter.model.ledger import PrivacyLoss
from hushmeter.model.measurement import MeasurementName, Mechanism
from hushmeter.model.plan import Metric, Statistic
from hushmeter.model.release import NoisyVector
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.query.answering import adds_over_windows
from hushmeter.query.estimates import estimate
from hushmeter.query.intervals import z_of
from hushmeter.query.quantiles import quantiles
from hushmeter.query.ratios import share_of_total
from hushmeter.query.sums import Sums
from hushmeter.testing.mechanisms import add_noise
from tests.statistical import fleet
from tests.statistical.fleet import AT, PLAN, Told, drawn, told
from tests.statistical.harness import ALPHA, DRAWS, noise_of, p_value

RUNS = 20_000
LUCK = 4 * math.sqrt(0.95 * 0.05 / RUNS)
"""Four standard errors: what chance may take from one of about two thousand shares; 0.6 %."""
FAMILIES = [Mechanism.DISCRETE_GAUSSIAN, Mechanism.DISCRETE_LAPLACE]
NOISES = {"tiny": 0.4, "small": 1.0, "strong": 8.0, "fair": 40.0, "faint": 120.0, "hopeless": 1_000.0}
"""Scales of the noise of a number of units, of which there are 400; of other vectors times what one unit can add."""
CASES = [(metric.name, statistic) for metric in PLAN.measured for statistic in metric.statistics]
ADDITIVE = [(name, statistic) for name, statistic in CASES if adds_over_windows(PLAN.metric(name), statistic)]
families = pytest.mark.parametrize("mechanism", FAMILIES)


def check_coverage(covered: Float64, *, strong: bool) -> None:
    """Fails unless every share is at least 95 %, and at most 97 % where the signal is strong, but for chance."""
    assert covered.min() >= 0.95 - LUCK
    if strong:
        assert covered.max() <= 0.97 + LUCK


@families
@pytest.mark.parametrize(("name", "statistic"), CASES, ids=str)
def test_intervals_cover(name: str, statistic: Statistic, mechanism: Mechanism) -> None:
    """Of 20,000 intervals at least 95 % hold the exact bounded value; at a scale of 8 and noise of 2 %, at most 97 %."""
    metric = PLAN.metric(name)
    totals = fleet.totals_of(metric)
    for level, noise in NOISES.items():
        found = told(metric, statistic, totals, mechanism=mechanism, noise=noise, runs=RUNS)
        check_coverage(found.covered(), strong=level == "strong")


@families
@pytest.mark.parametrize("windows", [2, 7, 24])
@pytest.mark.parametrize(("name", "statistic"), ADDITIVE, ids=str)
def test_roll_ups_cover(name: str, statistic: Statistic, windows: int, mechanism: Mechanism) -> None:
    """Intervals of sums over windows hold the exact sum in 95 % of 5,000 runs at any scale, and in at most 97 % at 8."""
    metric, runs = PLAN.metric(name), RUNS // 4
    totals = fleet.totals_of(metric)
    for noise in (0.4, 8.0):
        found = told(metric, statistic, totals, mechanism=mechanism, noise=noise, runs=runs, windows=windows)
        assert found.covered().min() >= 0.95 - 2 * LUCK
        assert found.covered().max() <= 0.97 + 2 * LUCK or noise < 5


@families
def test_the_options_that_are_ranked_cover_unconditionally(mechanism: Mechanism) -> None:
    """An option is ranked with an interval that misses its weight in at most 5 % of all runs; ranks fall by value."""
    metric = PLAN.metric("codec")
    totals = fleet.totals_of(metric)
    for noise in NOISES.values():
        found = told(metric, Statistic.TOP_K, totals, mechanism=mechanism, noise=noise, runs=RUNS)
        ranked = found.runs.ranked
        assert ranked is not None
        assert ranked.shape == (RUNS, metric.top_k)
        shown = np.take_along_axis(found.runs.values, ranked, axis=1)
        assert (np.diff(shown, axis=1) <= 0).all()
        assert (shown[:, -1] >= np.sort(found.runs.values, axis=1)[:, -metric.top_k]).all()
        missed = np.take_along_axis(~found.held(), ranked, axis=1)
        for option in range(len(metric.options)):
            assert (missed & (ranked == option)).any(axis=1).mean() <= 0.05 + LUCK


SHAPES = {
    "skewed": [200, 90, 50, 30, 15, 10, 5],
    "spiky": [1, 2, 300, 0, 0, 95, 2],
    "flat": [60] * 7,
    "ends": [200, 0, 0, 0, 0, 0, 200],
    "one bin": [0, 0, 400, 0, 0, 0, 0],
    "few units": [3, 2, 1, 0, 1, 0, 0],
}
BORDERS = (0, 50, 100, 150, 200, 300, 400, 500)
AT_SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


@families
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise", [0.002, 0.02, 0.1, 0.5, 3.0])
def test_quantiles_of_any_shape_cover(shape: str, noise: float, mechanism: Mechanism) -> None:
    """Intervals hold the exact histogram's quantiles in 95 % of runs, from sharp to hopeless noise; of even shapes in 97 %.

    `noise` is the scale of one bin's, as a share of the units. Where a quantile lies beside empty bins, or the noise
    reaches the ends of the range, the hull of what is not contradicted holds more.
    """
    runs, weights = RUNS // 2, 65_536 * np.array(SHAPES[shape], np.int64)
    curve = np.concatenate([[0], np.cumsum(weights)])
    truth = np.array([np.interp(q * curve[-1], curve, BORDERS) for q in AT_SHARES])
    scale = noise * curve[-1]
    noisy = weights + drawn(mechanism, scale, (runs, len(weights)), np.random.default_rng(5))
    values, _, low, high = quantiles(noisy.astype(float), mechanism.variance(scale), BORDERS, AT_SHARES, z_of(mechanism))
    assert ((low <= values) & (values <= high)).all()
    covered = ((low <= truth + 1e-9) & (truth - 1e-9 <= high)).mean(axis=0)
    assert covered.min() >= 0.95 - 1.5 * LUCK
    if shape in {"skewed", "flat"} and noise < 0.05:
        assert covered.max() <= 0.97 + 1.5 * LUCK


@families
@pytest.mark.parametrize("scale", [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.3, 1.8, 2.5, 5.0])
def test_shares_of_two_counts_cover_exactly(mechanism: Mechanism, scale: float) -> None:
    """From the probabilities alone, whatever the share: noise in whole steps leaves no interval below 95 %."""
    noise = noise_of(mechanism, scale)
    likely = np.flatnonzero(noise.probabilities > 1e-7)
    z = (noise.first + likely).astype(float)
    pairs = np.array(list(itertools.product(z, z)))
    weight = np.outer(noise.probabilities[likely], noise.probabilities[likely]).reshape(-1)
    deviations = z_of(mechanism)
    spread = Sums.of([NoisyVector(np.zeros((1, 2), np.int64), mechanism, scale, 1.0)]).spread
    for first in range(0, 10_001, 500):
        noisy = np.array([first, 10_000 - first]) + pairs
        sums = Sums(noisy, mechanism.variance(scale), 0.0, deviations, spread)
        _, _, low, high = share_of_total(sums, of_each=False)
        held = (low[:, 0] <= first / 10_000 + 1e-9) & (first / 10_000 - 1e-9 <= high[:, 0])
        assert weight[held].sum() >= 0.95 - 1e-4
        if scale >= 5 and 0 < first < 10_000:
            assert weight[held].sum() <= 0.97


@pytest.mark.parametrize("mechanism", [Mechanism.GAUSSIAN_THRESHOLD, Mechanism.LAPLACE_THRESHOLD])
@pytest.mark.parametrize("units", [5, 30, 38, 400])
def test_private_partitions_cover_unconditionally(units: int, mechanism: Mechanism) -> None:
    """A partition is shown with an interval that misses its units, or its mean, in at most 5 % of all runs.

    Given that it is shown, the coverage of a partition far below the threshold is nothing; far above, it is 95 to 97 %.
    The noise is the real one, of 5,000 runs: chance may take six standard errors.
    """
    runs, scale, threshold, metric = RUNS // 4, 8.0, 40, PLAN.metric("calls")
    source, loss = OpenDPMechanisms(), PrivacyLoss(Fraction(10**6), Fraction(1, 2))
    counts = {(0, f"{run:04}"): units for run in range(runs)}
    found = source.select(counts, mechanism=mechanism, scale=scale, threshold=threshold, l0=1, loss=loss)
    totals = fleet.totals_of(metric, units)
    exact = fleet.exact_sums(metric, Statistic.MEAN, totals)[MeasurementName.UNIT_MEAN]
    other = Mechanism.DISCRETE_LAPLACE if mechanism.laplace else Mechanism.DISCRETE_GAUSSIAN
    noisy = add_noise(
        source, np.tile(exact, (len(found.keys), 1)), mechanism=other, scale=scale * 20, sensitivity=1.0, loss=loss
    )
    sums = {MeasurementName.UNITS: Sums.of([found.units]), MeasurementName.UNIT_MEAN: Sums.of([noisy])}
    for statistic in (Statistic.UNITS, Statistic.MEAN):
        truth = fleet.without_noise(metric, statistic, fleet.exact_sums(metric, statistic, totals))
        held = Told(truth, estimate(metric, AT, sums, statistic)).held()
        assert (~held).sum() / runs <= 0.05 + 3 * LUCK
        if units >= 2 * threshold:
            assert len(held) == runs
            assert 0.93 <= held.mean() <= 0.97 + 3 * LUCK
        if units <= threshold / 8 and statistic is Statistic.UNITS:
            assert not held.any()


def test_the_check_catches_wrong_widths() -> None:
    """Intervals a tenth too narrow, or a fifth too wide, fail for every kind of map; the right ones pass."""
    for name, statistic in [("calls", Statistic.SUM), ("codec", Statistic.RATE), ("setup", Statistic.MEAN)]:
        metric = PLAN.metric(name)
        found = told(metric, statistic, fleet.totals_of(metric), mechanism=FAMILIES[0], noise=NOISES["strong"], runs=RUNS)
        check_coverage(found.covered(), strong=True)
        for factor in (0.9, 1.2):
            middle, half = (found.runs.high + found.runs.low) / 2, factor * (found.runs.high - found.runs.low) / 2
            runs = dataclasses.replace(found.runs, low=middle - half, high=middle + half)
            with pytest.raises(AssertionError):
                check_coverage(Told(found.truth, runs).covered(), strong=True)


@families
@pytest.mark.parametrize("scale", [0.4, 8.0, 299.0, 300.0])
def test_the_fast_noise_is_the_noise(mechanism: Mechanism, scale: float) -> None:
    """What these tests add to the fleet has the written-out distribution, on either side of where rounding sets in."""
    noise = drawn(mechanism, scale, (DRAWS,), np.random.default_rng(2))
    assert p_value(noise, noise_of(mechanism, scale)) > ALPHA


def test_the_fleet_exercises_every_statistic() -> None:
    """Every statistic of every kind is among the cases, and every fleet is clamped somewhere, but not mostly."""
    assert {statistic for _, statistic in CASES} == set(Statistic)
    for name, statistic in CASES:
        metric: Metric = PLAN.metric(name)
        if statistic is Statistic.CLAMPED:
            vectors = fleet.exact_sums(metric, statistic, fleet.totals_of(metric))
            assert 0.01 < fleet.without_noise(metric, statistic, vectors)[0, 0] < 0.5
