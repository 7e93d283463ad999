"""Nominal 95 % intervals cover 95 %, for every statistic, with real noise (E4)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from fractions import Fraction

import numpy as np
import pytest

from hushmeter.model.ledger import PrivacyLoss
from hushmeter.model.measurement import MeasurementName, Mechanism
from hushmeter.model.plan import ContributionBounds, Metric, Statistic, Weighting
from hushmeter.model.release import NoisyVector
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.measurements import bound_of, derivation
from hushmeter.plan.reading import parse_plan
from hushmeter.plan.template import plan_template
from hushmeter.query.estimates import estimate
from hushmeter.query.intervals import Z
from hushmeter.query.sums import Sums
from hushmeter.sealing.statistics import contribution

TODAY = dt.date(2026, 3, 2)
PLAN = parse_plan(plan_template(TODAY), TODAY)
RUNS = 4_000
UNITS = 400
MECHANISMS = OpenDPMechanisms()
LARGE = np.random.default_rng(3)


def metric_of(name: str, weighting: Weighting, statistic: Statistic) -> Metric:
    metric = PLAN.metric(name)
    bounds = dict.fromkeys(metric.at, ContributionBounds(1, 0, 500, 3) if name == "call_setup" else metric.bounds["1d"])
    return dataclasses.replace(metric, weighting=weighting, statistics=(statistic,), bounds=bounds)


def totals_of(metric: Metric) -> np.ndarray:
    """Each unit's totals: a few events each, unevenly spread."""
    counts = LARGE.integers(0, 3, (UNITS, len(metric.components)))
    counts[:, 0] += 1
    if metric.name == "call_setup":
        counts[:, -1] = counts[:, :-1].sum(axis=1) * LARGE.integers(50, 600, UNITS)
    return counts.astype(np.int64)


CASES = [
    ("calls", Weighting.UNIT, Statistic.UNITS),
    ("calls", Weighting.UNIT, Statistic.SUM),
    ("calls", Weighting.UNIT, Statistic.MEAN),
    ("call_setup", Weighting.UNIT, Statistic.EVENTS),
    ("call_setup", Weighting.UNIT, Statistic.SUM),
    ("call_setup", Weighting.UNIT, Statistic.MEAN),
    ("call_setup", Weighting.EVENT, Statistic.MEAN),
    ("call_setup", Weighting.EVENT, Statistic.EVENTS),
    ("call_setup", Weighting.UNIT, Statistic.HISTOGRAM),
    ("call_setup", Weighting.EVENT, Statistic.HISTOGRAM),
    ("call_dropped", Weighting.UNIT, Statistic.RATE),
    ("codec", Weighting.EVENT, Statistic.RATE),
]


@pytest.mark.parametrize("noise", [0.02, 0.3], ids=["sharp", "faint"])
@pytest.mark.parametrize(("name", "weighting", "statistic"), CASES, ids=str)
def test_intervals_cover(name: str, weighting: Weighting, statistic: Statistic, noise: float) -> None:
    """Of 4,000 intervals at least 95 % hold the exact bounded value; where the signal is strong, at most 97 %.

    Three standard errors of the binomial are allowed for chance. `noise` is the noise of a count, as a share of it.
    """
    metric = metric_of(name, weighting, statistic)
    bounds = metric.bounds["1d"]
    totals = totals_of(metric)
    if name == "call_dropped":
        totals = np.eye(2, dtype=np.int64)[LARGE.integers(0, 2, UNITS)]
    noisy: dict[MeasurementName, NoisyVector] = {}
    exact: dict[MeasurementName, Sums] = {}
    for measured in derivation(metric, statistic):
        vector = contribution(measured, metric, bounds, totals, np.zeros(len(totals), bool)).sum(axis=0)
        scale = noise * UNITS * bound_of(metric, measured, bounds)
        copies = np.tile(vector, (RUNS, 1))
        noisy[measured] = MECHANISMS.add_noise(
            copies,
            mechanism=Mechanism.DISCRETE_GAUSSIAN,
            scale=scale,
            sensitivity=1.0,
            loss=PrivacyLoss(Fraction(10**6)),
        )
        exact[measured] = Sums(vector[None, :].astype(np.float64), 1e-12, 0.0, Z)
    truth = estimate(metric, "1d", exact, statistic).values
    told = estimate(metric, "1d", {n: Sums.of([v]) for n, v in noisy.items()}, statistic)
    covered = ((told.low <= truth + 1e-9) & (truth - 1e-9 <= told.high)).mean()
    chance = 3 * math.sqrt(0.95 * 0.05 / covered_cells(told.values))
    assert covered >= 0.95 - chance
    if noise < 0.1:
        assert covered <= 0.97 + chance


def covered_cells(values: np.ndarray) -> int:
    """Columns of one run share noise, so only runs count as independent."""
    return values.shape[0]
