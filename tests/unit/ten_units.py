"""Releases of ten units for every kind of metric, with and without noise, and questions about them."""

from __future__ import annotations

import dataclasses
import datetime as dt
from fractions import Fraction

import numpy as np

from hushmeter.ledger.pricing import PriceList
from hushmeter.model.arrays import Int64
from hushmeter.model.ledger import PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency, MeasurementName
from hushmeter.model.plan import Metric
from hushmeter.model.release import Release
from hushmeter.model.tally import Tally
from hushmeter.model.time import Window
from hushmeter.plan.reading import parse_plan
from hushmeter.query.answering import Question, ReleaseAnswer, answer, check_question
from hushmeter.release.measuring import measure
from hushmeter.sealing.statistics import contribution
from hushmeter.testing.mechanisms import ExactMechanisms
from hushmeter.testing.tallies import empty_tally
from tests.plans import plan_text

TODAY = dt.date(2026, 3, 2)
TEXT = plan_text(
    """
  calls:
    kind: counter
    unit: calls
    dimensions: {platform: {values: [ios, android, web], scope: unit}}
    views: [[], [platform]]
    per_unit: {range: [0, 20]}
    statistics: [units, sum]
  balance:
    <<: *common
    at: [1d]
    per_unit: {range: [-10, 10], max_windows: {1d: 3}}
    statistics: [mean, variance]
  call_setup:
    <<: *common
    kind: distribution
    unit: ms
    edges: [100, 200, 400, 800, 1600, 3200]
    dimensions:
      platform: {values: [ios, android, web], scope: unit}
      version: {open: true, max_length: 8, pattern: '[0-9.]+', expected_values: 9}
    views: [[], [platform], [version], [platform, version]]
    at: [1d]
    per_unit: {range: [0, 10000], max_events: 50, max_partitions: 2}
    statistics: [units, mean, histogram, {quantiles: [0.2, 0.5]}, clamped]
  talk:
    <<: *common
    kind: distribution
    unit: s
    resolution: 0.5
    edges: [5, 10]
    weighting: event
    bounding: shared
    dimensions: {platform: {values: [ios, android, web]}, net: {values: [wifi, wire]}}
    views: [[], [platform], [platform, net]]
    at: [1d]
    per_unit: {range: [0, 50], max_events: 9, max_partitions: 2}
    statistics: [units, events, sum, mean, variance, histogram]
  call_dropped:
    <<: *common
    kind: flag
    unit: ''
    dimensions: {}
    views: [[]]
    at: [1d]
    per_unit: {}
    statistics: [rate]
  codec:
    <<: *common
    kind: choice
    unit: ''
    options: [opus, aac, g711]
    dimensions: {}
    views: [[]]
    at: [1d]
    per_unit: {}
    statistics: [rate, {top_k: 2}]
  stalls:
    <<: *common
    kind: ratio
    unit: ms/s
    dimensions: {}
    views: [[]]
    at: [1d]
    per_unit: {range: [0, 1000], max_denominator: 100}
    statistics: [ratio, numerator, denominator]
""",
    expires="2026-06-30",
    category="performance",
    purposes="tuning: Tune., research: Learn.",
    unit="account",
    expected_units=50000,
)
PLAN = parse_plan(TEXT, TODAY)
BUDGETS = {
    Currency.ZCDP: PrivacyBudget(4.0, 1e-8, Currency.ZCDP, PrivacyLoss(Fraction(1, 4), Fraction(1e-8) / 2)),
    Currency.PURE: PrivacyBudget(4.0, 1e-8, Currency.PURE, PrivacyLoss(Fraction(4), Fraction(1e-8))),
}
PRICES = {c: PriceList.of(PLAN, budget, ExactMechanisms()) for c, budget in BUDGETS.items()}
DAYS = PLAN.resolution("1d").span.tiles(PLAN.privacy.period.window_of(1_772_500_000_000))
END = 2**62
UNITS = {
    "calls": [[7]] * 10,
    "balance": [[2]] * 5 + [[-4]] * 5,
    "call_setup": [[3, 0, 0, 0, 0, 0, 0, 300]] * 4 + [[0, 1, 0, 0, 0, 0, 0, 150]] * 6,
    "talk": [[2, 1, 0, 70, 2_100]] * 10,
    "call_dropped": [[1, 0]] * 4 + [[0, 1]] * 6,
    "codec": [[1, 0, 0]] * 4 + [[0, 2, 0]] * 6,
    "stalls": [[100, 2_000]] * 5 + [[100, 4_000]] * 5,
}
"""What ten units report each, in steps, all in a view's first partition."""
VERSIONS = {(0, "1.0"): 4, (0, "1.1"): 2, (0, "2"): 3, (2, "1.0"): 5, (2, "9"): 1}
"""Units by private partition; the last one has one alone."""


def added(name: MeasurementName, metric: Metric, resolution: str) -> Int64:
    """What the ten units of a metric add to a partition; int64[columns]."""
    if name is MeasurementName.CAPPED:
        return np.array([2, 8], np.int64)
    if metric.name not in UNITS:
        return np.array([10], np.int64)
    totals = np.array(UNITS[metric.name], np.int64)
    none_dropped = np.zeros(len(totals), bool)
    return contribution(name, metric, metric.bounds[resolution], totals, none_dropped).sum(axis=0)


def ten_units_tally(window: Window) -> Tally:
    """The ten units in each public view's first partition, and versions in the open ones."""
    empty = empty_tally(PLAN, window)
    vectors, keys = dict(empty.vectors), {}
    for key, vector in empty.vectors.items():
        metric = PLAN.metric(key.metric)
        if not metric.open_dimension(key.view):
            vector[0] = added(key.name, metric, window.resolution)
            continue
        held = VERSIONS if "platform" in key.view else {(0, "1.0"): 9, (0, "1.1"): 2, (0, "2"): 3, (0, "9"): 1}
        keys[key.metric, key.view] = tuple(held)
        table = np.zeros((len(held), vector.shape[1]), np.int64)
        table[:, 0] = list(held.values())
        vectors[key] = table
    return Tally(window, vectors, keys, empty.kept)


def released(
    window: Window = DAYS[0], *, currency: Currency = Currency.ZCDP, mechanisms: ExactMechanisms | None = None
) -> tuple[Release, ...]:
    """The releases of a window, without noise where none is given."""
    charge = PRICES[currency].charge(window, ())
    return measure(ten_units_tally(window), charge, mechanisms or ExactMechanisms(), plan=PLAN, completeness=1.0)


EXACT = {day: released(day) for day in DAYS}


def of(releases: tuple[Release, ...], metric: str, view: tuple[str, ...], number: int = 1) -> list[tuple[int, Release]]:
    return [(number, r) for r in releases if (r.key.metric, r.key.view) == (metric, view)]


def ask(metric: str, **changes: object) -> Question:
    return dataclasses.replace(Question(metric, (), "1d", 0, END), **changes)  # type: ignore[arg-type]


def answered(question: Question, releases: tuple[Release, ...] = EXACT[DAYS[0]]) -> ReleaseAnswer:
    """The answer from one window, with its other views."""
    checked = check_question(PLAN, question)
    others = {view: of(releases, question.metric, view) for view in checked.other_views}
    (found,) = answer(checked, of(releases, question.metric, checked.view), others)
    return found
