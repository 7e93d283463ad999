"""What is predicted of ten units' plan: typical vectors, errors, texts and advice, each as it is worked out by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import pytest

from hushmeter.model.ledger import MeasurementCharge
from hushmeter.model.measurement import FIXED_POINT, Currency, Measurement, MeasurementName
from hushmeter.model.plan import Metric, Plan, Statistic
from hushmeter.plan.hidden_partitions import hidden_share
from hushmeter.query.prediction import Prediction, _advice, _typical, _typical_size, predict
from tests.unit.ten_units import BUDGETS, PLAN, PRICES

M = MeasurementName
ZCDP, PURE = Currency.ZCDP, Currency.PURE


def items(currency: Currency) -> list[MeasurementCharge]:
    return [item for priced in PRICES[currency].items.values() for item in priced]


def charge(
    metric: str, name: MeasurementName, view: tuple[str, ...] = (), currency: Currency = ZCDP, **changes: object
) -> MeasurementCharge:
    """A priced measurement of a day, some of its fields changed."""
    wanted = (metric, name, view, "1d")
    found = [i for i in items(currency) if measured(i.measurement) == wanted]
    return dataclasses.replace(found[0], measurement=dataclasses.replace(found[0].measurement, **changes))  # type: ignore[arg-type]


def measured(m: Measurement) -> tuple[str, MeasurementName, tuple[str, ...], str]:
    return m.metric, m.name, m.view, m.resolution


def predicted(metric: str, statistic: str, view: tuple[str, ...] = (), plan: Plan = PLAN, **of: Currency) -> Prediction:
    currency = of.get("currency", ZCDP)
    found = predict(plan, BUDGETS[currency], items(currency))
    (one,) = [p for p in found if (p.metric, p.statistic, p.view, p.resolution) == (metric, statistic, view, "1d")]
    return one


def within(metric: str, low: int, high: int) -> Metric:
    """A metric with another range."""
    found = PLAN.metric(metric)
    bounds = {name: dataclasses.replace(b, low=low, high=high) for name, b in found.bounds.items()}
    return dataclasses.replace(found, bounds=bounds)


@pytest.mark.parametrize(
    ("metric", "name", "values"),
    [
        ("calls", M.UNITS, [100]),
        ("calls", M.SUM, [1_000]),
        ("balance", M.UNIT_MEAN, [0]),
        ("balance", M.SQUARES, [-13_333]),
        ("call_setup", M.WEIGHTS, [round(FIXED_POINT * 100 / 7)] * 7),
        ("call_setup", M.CLAMPED, [5, 95]),
        ("talk", M.EVENTS, [450]),
        ("talk", M.EVENT_SUM, [0]),
        ("talk", M.SQUARES, [-1_500_000]),
        ("talk", M.WEIGHTS, [FIXED_POINT * 150] * 3),
        ("call_dropped", M.WEIGHTS, [FIXED_POINT * 50] * 2),
        ("stalls", M.EVENTS, [5_000]),
    ],
)
def test_a_typical_unit_sends_half_of_what_it_may(metric: str, name: MeasurementName, values: list[int]) -> None:
    """A hundred typical units send half of the events that count, spread evenly over bins and the range."""
    assert _typical(PLAN.metric(metric), charge(metric, name), 100).values.tolist() == [values]


def test_typical_participation_is_half_a_period() -> None:
    """Of what bounded participation cuts, a typical fleet loses half."""
    capped = charge("capped", M.CAPPED, ("metric",))
    assert _typical(PLAN.metric("capped"), capped, 100).values.tolist() == [[50, 50]]


def test_a_typical_sum_is_of_values_in_the_middle() -> None:
    """Events in the middle of the range add up; around zero a sum is half of what one unit may add."""
    total = charge("calls", M.SUM)
    talk = dataclasses.replace(total, measurement=dataclasses.replace(total.measurement, metric="talk"))
    assert _typical(PLAN.metric("talk"), talk, 100).values.tolist() == [[4.5 * 50 * 100]]
    assert _typical(within("calls", -20, 20), total, 100).values.tolist() == [[1_000]]
    assert _typical(within("calls", -20, 10), total, 100).values.tolist() == [[-500]]


def test_a_typical_vector_has_the_noise_that_is_charged() -> None:
    """The noise is that of the charge's mechanism and scale."""
    for currency in Currency:
        priced = charge("calls", M.UNITS, currency=currency)
        assert _typical(PLAN.metric("calls"), priced, 100).variance == priced.mechanism.variance(priced.scale)


def test_a_prediction_says_what_a_private_partition_will_be_like() -> None:
    """A ninth of 50,000 units, in the middle of a range of 10 s: half of the noise of S, over as many units."""
    mean, count = (charge("call_setup", name, ("version",)) for name in (M.UNIT_MEAN, M.UNITS))
    units, std = 50_000 / 9, mean.scale / 2 / round(50_000 / 9)
    found = predicted("call_setup", "mean", ("version",))
    share = sum(c.loss.amount * c.measurement.windows for c in (mean, count)) / BUDGETS[ZCDP].loss.amount
    assert found == Prediction(
        metric="call_setup",
        view=("version",),
        resolution="1d",
        statistic="mean",
        unit="ms",
        mechanism="discrete_gaussian",
        scale=mean.scale,
        threshold=count.threshold,
        units=units,
        noise_std=pytest.approx(std),
        relative_error=pytest.approx(std / 5_000),
        smallest_partition=math.ceil(units * std / 5_000 / 0.1),
        share=pytest.approx(float(share)),
        hidden_share=hidden_share(PLAN, count),
        advice="half the range, or weight x 4",
    )


def test_a_public_partition_has_no_threshold_and_hides_nobody() -> None:
    """Of the total, nothing is selected."""
    found, count = predicted("calls", "units"), charge("calls", M.UNITS)
    assert (found.threshold, found.hidden_share, found.scale) == (None, 0.0, count.scale)
    assert (found.units, found.noise_std) == (50_000.0, pytest.approx(count.scale))
    assert found.relative_error == pytest.approx(count.scale / 50_000)
    assert found.smallest_partition == math.ceil(count.scale / 0.1)


def test_a_number_without_error_is_useful_from_one_unit() -> None:
    """No partition is smaller than one unit."""
    exact = dataclasses.replace(charge("calls", M.UNITS), scale=1e-6)
    assert predict(PLAN, BUDGETS[ZCDP], [exact, charge("calls", M.SUM)])[0].smallest_partition == 1


def test_the_error_of_several_numbers_is_that_of_the_worst() -> None:
    """Of several quantiles the noisiest counts, against the largest of them."""
    found = predicted("call_setup", "quantiles")
    alone = []
    for q in PLAN.metric("call_setup").quantiles:
        metric = dataclasses.replace(PLAN.metric("call_setup"), quantiles=(q,))
        others = tuple(m for m in PLAN.metrics if m.name != metric.name)
        alone.append(predicted("call_setup", "quantiles", plan=dataclasses.replace(PLAN, metrics=(*others, metric))))
    assert found.noise_std == max(one.noise_std for one in alone)
    assert found.noise_std > min(one.noise_std for one in alone)
    assert found.relative_error == pytest.approx(found.noise_std / 2_500)


def test_an_error_is_compared_with_the_distance_from_zero() -> None:
    """Values below zero are as large as those above, and values around it count as a quarter of the range."""
    others = tuple(m for m in PLAN.metrics if m.name != "balance")
    for low, high, size in ((-30, -10, 20), (-10, 10, 5), (10, 30, 20)):
        plan = dataclasses.replace(PLAN, metrics=(*others, within("balance", low, high)))
        found = predicted("balance", "mean", plan=plan)
        assert found.relative_error == pytest.approx(found.noise_std / size)


@pytest.mark.parametrize(
    ("statistic", "value", "size"),
    [
        (Statistic.MEAN, 12.0, 12.5),
        (Statistic.QUANTILES, 12.0, 12.5),
        (Statistic.RATIO, 13.0, 13.0),
        (Statistic.VARIANCE, 2.0, 2.0),
        (Statistic.SUM, 0.0, 1.0),
        (Statistic.SUM, 0.5, 0.5),
    ],
)
def test_what_an_error_is_compared_with(statistic: Statistic, value: float, size: float) -> None:
    """Means, quantiles and ratios are at least a quarter of the range, 50 s; of a sum of nothing an error is absolute."""
    assert _typical_size(PLAN.metric("talk"), "1d", statistic, value) == size


def test_units_are_those_of_the_metric_where_values_are_told() -> None:
    """Counts and shares have no unit, variances have its square."""
    told: Mapping[tuple[str, str], str] = {
        (p.metric, p.statistic): p.unit for p in predict(PLAN, BUDGETS[ZCDP], items(ZCDP)) if p.unit
    }
    assert told == {
        ("calls", "sum"): "calls",
        ("balance", "mean"): "calls",
        ("balance", "variance"): "calls^2",
        ("call_setup", "mean"): "ms",
        ("call_setup", "quantiles"): "ms",
        ("talk", "sum"): "s",
        ("talk", "mean"): "s",
        ("talk", "variance"): "s^2",
        ("stalls", "ratio"): "ms/s",
        ("stalls", "numerator"): "ms/s",
    }
    unnamed = dataclasses.replace(PLAN.metric("balance"), unit="")
    plan = dataclasses.replace(PLAN, metrics=(*(m for m in PLAN.metrics if m.name != "balance"), unnamed))
    assert predicted("balance", "variance", plan=plan).unit == ""


@pytest.mark.parametrize(
    ("metric", "statistic", "view", "currency", "told"),
    [
        ("calls", "units", (), ZCDP, "twice the units, or weight x 4"),
        ("calls", "units", (), PURE, "twice the units, or weight x 2"),
        ("calls", "units", ("platform",), ZCDP, "a dimension less, or weight x 4"),
        ("calls", "sum", ("platform",), ZCDP, "half the range, or weight x 4"),
        ("balance", "variance", (), ZCDP, "half the range, or weight x 4"),
        ("call_setup", "mean", ("version",), ZCDP, "half the range, or weight x 4"),
        ("call_setup", "mean", ("version",), PURE, "max_partitions 1 instead of 2, or weight x 2"),
        ("call_setup", "histogram", (), ZCDP, "twice the units, or weight x 4"),
        ("talk", "events", (), ZCDP, "max_events 4 instead of 9, or weight x 4"),
        ("stalls", "ratio", (), ZCDP, "half the range, or weight x 4"),
        ("stalls", "numerator", (), ZCDP, "half the range, or weight x 4"),
        ("stalls", "denominator", (), PURE, "max_denominator 50 instead of 100, or weight x 2"),
        ("participants", "units", ("purpose",), ZCDP, "twice the units"),
        ("capped", "rate", ("metric",), PURE, "twice the units"),
    ],
)
def test_the_advice_is_what_halves_the_error(
    metric: str, statistic: str, view: tuple[str, ...], currency: Currency, told: str
) -> None:
    """The advice names what moves the error most: partitions, then the range, then events, then dimensions or units."""
    assert predicted(metric, statistic, view, currency=currency).advice == told


def test_partitions_are_advised_about_where_they_can_be_divided() -> None:
    """Gaussian noise needs a fourth of the partitions, so that there must be four."""
    units = charge("calls", M.UNITS, l0=4), charge("calls", M.UNITS, l0=3)
    told = [_advice(PLAN.metric("calls"), one, Statistic.UNITS) for one in units]
    assert told == ["max_partitions 1 instead of 4, or weight x 4", "twice the units, or weight x 4"]


def test_what_cannot_be_halved_is_not_advised_about() -> None:
    """A range of one step stays; so do events where one counts, and two become one."""
    assert _advice(within("calls", 0, 1), charge("calls", M.SUM), Statistic.SUM) == "twice the units, or weight x 4"
    assert _advice(within("calls", 0, 2), charge("calls", M.SUM), Statistic.SUM) == "half the range, or weight x 4"
    for most, told in ((1, "twice the units, or weight x 4"), (2, "max_events 1 instead of 2, or weight x 4")):
        bounds = dataclasses.replace(PLAN.metric("talk").bounds["1d"], max_events=most)
        metric = dataclasses.replace(PLAN.metric("talk"), bounds={"1d": bounds})
        assert _advice(metric, charge("talk", M.EVENTS, bound=most), Statistic.EVENTS) == told


@pytest.mark.parametrize(
    ("relative", "hidden", "told"),
    [
        (1.0, 0.5, ""),
        (1.26, 0.0, "the expected error is 1.3 times the value itself"),
        (1.26, 0.9, "the expected error is 1.3 times the value itself"),
        (0.1, 0.516, "52% of units are expected to be in partitions that stay hidden"),
    ],
)
def test_what_is_wrong_is_told_in_words(relative: float, hidden: float, told: str) -> None:
    """Errors beyond the value, and partitions of which most stay hidden, are warned of."""
    found = dataclasses.replace(predicted("calls", "units"), relative_error=relative, hidden_share=hidden)
    assert found.warning == told
