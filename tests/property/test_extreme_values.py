from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hushmeter.model.measurement import MeasurementName
from hushmeter.plan.measurements import bound_of, columns_of
from hushmeter.sealing.statistics import contribution
from tests.strategies import metrics

INT64 = np.iinfo(np.int64)
EDGES = [0, 1, -1, 2**20, 2**31, 2**40 - 1, 2**40, 2**53, 2**62, INT64.max, INT64.min, INT64.min + 1]


@given(metrics("m"), st.data())
def test_no_totals_leave_the_bound(metric: object, data: st.DataObject) -> None:
    """Whatever int64 totals a unit manages to send, wrapped ones included, its vector stays within its bound (P5, P6)."""
    from hushmeter.model.plan import Metric

    assert isinstance(metric, Metric)
    value = st.one_of(st.sampled_from(EDGES), st.integers(INT64.min, INT64.max), st.integers(-10, 10))
    totals = data.draw(st.lists(value, min_size=len(metric.components), max_size=len(metric.components)))
    bounds = metric.bounds["1d"]
    for name in MeasurementName:
        if name in {MeasurementName.SUM} and metric.kind.value != "counter":
            continue
        if name in {MeasurementName.UNIT_MEAN, MeasurementName.EVENT_SUM} and metric.kind.value not in {
            "counter",
            "distribution",
        }:
            continue
        if metric.kind.value == "counter" and name in {
            MeasurementName.EVENTS,
            MeasurementName.EVENT_SUM,
            MeasurementName.WEIGHTS,
        }:
            continue
        with np.errstate(over="ignore"):
            vector = contribution(name, metric, bounds, np.array([totals], np.int64))
        assert vector.shape == (1, columns_of(metric, name))
        assert sum(int(v) ** 2 for v in vector[0]) <= bound_of(metric, name, bounds) ** 2
