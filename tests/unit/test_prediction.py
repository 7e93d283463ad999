"""What `hushmeter plan explain` predicts, against noise that is drawn and measured."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import numpy as np
import pytest

from hushmeter.cli.plan.predictions import price
from hushmeter.model.arrays import Int64
from hushmeter.model.measurement import FIXED_POINT, MeasurementName
from hushmeter.model.plan import Metric, Statistic, Weighting
from hushmeter.plan.measurements import derivation
from hushmeter.plan.reading import parse_plan
from hushmeter.query.estimates import estimate
from hushmeter.query.prediction import predict
from hushmeter.query.sums import Sums
from hushmeter.testing.mechanisms import SeededMechanisms, add_noise
from tests.plans import plan_text

FLEET = plan_text(
    """
  calls:
    kind: counter
    unit: calls
    per_unit: {range: [0, 20]}
    statistics: [units, sum, mean]
  setup:
    <<: *common
    kind: distribution
    unit: ms
    edges: [250, 500, 750]
    per_unit: {range: [0, 1000], max_events: 4}
    statistics: [mean, variance, histogram]
  waited:
    <<: *common
    kind: distribution
    unit: ms
    weighting: event
    per_unit: {range: [0, 1000], max_events: 4}
    statistics: [events, sum, mean, variance]
  dropped:
    <<: *common
    kind: flag
    per_unit: {}
    statistics: [rate]
  theme:
    <<: *common
    kind: choice
    options: [light, dark]
    per_unit: {}
    statistics: [rate]
""",
    expires="2026-06-30",
    category="performance",
    resolutions="1d: {lateness: 48h}",
    unit="account",
    expected_units=4000,
    privacy="weights: stated, currency: zcdp",
)
TODAY = dt.date(2026, 3, 2)
DRAWS = 20_000


def typical_vector(metric: Metric, name: MeasurementName, units: int) -> Int64:
    """What a fleet adds up to whose units each send half of the events that count, values spread evenly over the range."""
    bounds = metric.bounds["1d"]
    twice = np.linspace(-bounds.width, bounds.width, units)
    events = bounds.max_events / 2
    each = events if metric.weighting is Weighting.EVENT else 1
    columns = max(1, metric.count_components)
    vectors: dict[MeasurementName, Any] = {
        MeasurementName.UNITS: units,
        MeasurementName.EVENTS: units * events,
        MeasurementName.SUM: units * (bounds.low + bounds.high) / 2,
        MeasurementName.UNIT_MEAN: twice.sum(),
        MeasurementName.EVENT_SUM: events * twice.sum(),
        MeasurementName.SQUARES: each * (2 * twice**2 - bounds.width**2).sum(),
        MeasurementName.WEIGHTS: [units * FIXED_POINT / columns] * columns,
    }
    return np.rint(np.atleast_1d(vectors[name])).astype(np.int64)


@pytest.mark.parametrize("currency", ["zcdp", "pure"])
@pytest.mark.parametrize(
    ("name", "statistic"),
    [
        *(("calls", "units"), ("calls", "sum"), ("calls", "mean")),
        *(("setup", "mean"), ("setup", "histogram"), ("setup", "variance")),
        *(("waited", "events"), ("waited", "sum"), ("waited", "mean"), ("waited", "variance")),
        *(("dropped", "rate"), ("theme", "rate")),
    ],
)
def test_the_predicted_error_is_the_measured_one(name: str, statistic: str, currency: str) -> None:
    """Over 20,000 seeded draws of noise, the root mean square error of an estimate is the predicted one within 3 %."""
    plan = parse_plan(FLEET.replace("currency: zcdp", f"currency: {currency}"), TODAY)
    priced = price(plan)
    metric = plan.metric(name)
    predictions = predict(plan, priced.budget, priced.items)
    predicted = next(p for p in predictions if (p.metric, p.statistic) == (name, statistic))
    mechanisms = SeededMechanisms(11)
    charges = {i.measurement.name: i for i in priced.items if i.measurement.metric == name}
    sums, exact = {}, {}
    for source in derivation(metric, Statistic(statistic)):
        charge, vector = charges[source], typical_vector(metric, source, plan.privacy.expected_units)
        known = {"mechanism": charge.mechanism, "sensitivity": charge.sensitivity, "loss": charge.loss}
        draws = np.tile(vector, (DRAWS, 1))
        sums[source] = Sums.of([add_noise(mechanisms, draws, scale=charge.scale, **known)])
        exact[source] = dataclasses.replace(sums[source], values=vector.reshape(1, -1).astype(np.float64))
    told = estimate(metric, "1d", sums, Statistic(statistic)).values
    truth = estimate(metric, "1d", exact, Statistic(statistic)).values
    measured = float(np.sqrt(np.mean((told - truth) ** 2)))
    assert measured == pytest.approx(predicted.noise_std, rel=0.03)
    assert predicted.relative_error == pytest.approx(predicted.noise_std / size_of(metric, statistic, truth), rel=0.01)


def size_of(metric: Metric, statistic: str, truth: Any) -> float:
    """What an error is compared with: the true value of a typical fleet, or a quarter of the range if that is more."""
    quarter = metric.bounds["1d"].width / 4 if statistic == "mean" else 0
    return max(float(np.abs(truth).max()), quarter)
