from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from hushmeter.errors import QueryRefused
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.measurement import FIXED_POINT, MeasurementName
from hushmeter.model.plan import Statistic
from hushmeter.model.release import Release
from hushmeter.model.time import DAY_MS
from hushmeter.query.answering import Question, answer, check_question
from hushmeter.query.estimates import component_labels
from hushmeter.release.measuring import measure
from hushmeter.sealing.seal import empty_tally
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.unit.test_plan_check import BUDGET, PLAN

DAY = PLAN.resolution("1d").span.window_of(1_772_500_000_000)
END = 2**62


def released(days: int = 1) -> list[tuple[int, Release]]:
    """Releases of so many days without noise: 10 units, in each view's first partition."""
    found = []
    for day in range(days):
        window = DAY if day == 0 else PLAN.resolution("1d").span.window_of(DAY.end_ms + day * DAY_MS)
        tally = empty_tally(PLAN, window)
        for key, vector in tally.vectors.items():
            vector[0, 0] = {
                MeasurementName.UNITS: 10,
                MeasurementName.SUM: 70,
                MeasurementName.UNIT_MEAN: 10 * (2 * 300 - 10_000),
                MeasurementName.WEIGHTS: 4 * FIXED_POINT,
            }[key.name]
            if key.name is MeasurementName.WEIGHTS:
                vector[0, 1] = 6 * FIXED_POINT
        charge = PriceList.of(PLAN, BUDGET).charge(window, Fraction(0))
        found += enumerate(measure(tally, charge, ExactMechanisms(), plan=PLAN, completeness=1.0), 100 * day + 1)
    return found


def of(metric: str, view: tuple[str, ...], days: int = 1) -> list[tuple[int, Release]]:
    return [(n, r) for n, r in released(days) if (r.key.metric, r.key.view) == (metric, view)]


def ask(metric: str, **changes: object) -> Question:
    return dataclasses.replace(Question(metric, (), "1d", 0, END), **changes)  # type: ignore[arg-type]


def values(question: Question, days: int = 1) -> dict[str, list[list[float]]]:
    checked = check_question(PLAN, question)
    (answered,) = answer(PLAN, checked, of(question.metric, checked.view, days))
    return {e.statistic.value: e.values.tolist() for e in answered.estimates}


def test_statistics_are_derived_as_the_table_says() -> None:
    """Without noise, units, sum, mean, histogram and rate are what was put in."""
    assert values(ask("calls")) == {"units": [[10.0]], "sum": [[70.0]]}
    setup = values(ask("call_setup"))
    assert setup["units"] == [[10.0]]
    assert setup["mean"] == [[300.0]]
    assert setup["histogram"] == [[4.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    assert values(ask("call_dropped"))["rate"] == [[0.4]]
    assert values(ask("codec"))["rate"] == [[0.4, 0.6, 0.0]]


def test_answers_say_what_they_cost_and_how_sure_they_are() -> None:
    """Each answer states its loss; each estimate's interval holds it; partitions without anybody have the widest mean."""
    checked = check_question(PLAN, ask("call_setup", view=("platform",)))
    (answered,) = answer(PLAN, checked, of("call_setup", ("platform",)))
    assert answered.rho > 0
    assert answered.partitions[0] == ("ios",)
    assert answered.rolled_up_from == 1
    for e in answered.estimates:
        assert (e.low <= e.values).all()
        assert (e.values <= e.high).all()
        assert (e.noise_std > 0).all()
    mean = next(e for e in answered.estimates if e.statistic is Statistic.MEAN)
    assert (mean.low[1, 0], mean.values[1, 0], mean.high[1, 0]) == (0.0, 5_000.0, 10_000.0)


def test_filters_and_statistics_narrow_an_answer() -> None:
    """Filters keep partitions in the plan's order; statistics keep columns."""
    question = ask("call_setup", view=("platform",), filters={"platform": ("web", "ios")}, statistics=("units",))
    checked = check_question(PLAN, question)
    (answered,) = answer(PLAN, checked, of("call_setup", ("platform",)))
    assert answered.partitions == (("ios",), ("web",))
    assert [e.statistic for e in answered.estimates] == [Statistic.UNITS]


def test_additive_statistics_roll_up_over_time() -> None:
    """A rolled-up sum is the sum of its windows, with the noise and the loss of all of them (E2)."""
    checked = check_question(PLAN, ask("calls", roll_up_time=True))
    (answered,) = answer(PLAN, checked, of("calls", (), 3))
    (one,) = answer(PLAN, check_question(PLAN, ask("calls", statistics=("sum",))), of("calls", ()))
    (total,) = answered.estimates
    assert total.statistic is Statistic.SUM
    assert total.values.tolist() == [[210.0]]
    assert total.noise_std[0, 0] == pytest.approx(np.sqrt(3) * one.estimates[0].noise_std[0, 0])
    assert answered.rho == pytest.approx(3 * one.rho)
    assert (answered.rolled_up_from, answered.release_id) == (3, 0)
    assert list(answer(PLAN, checked, [])) == []


def test_plan_versions_do_not_mix() -> None:
    """A roll-up over releases of two plan versions is refused."""
    (a, first), (b, second) = of("calls", (), 2)
    other = dataclasses.replace(second, key=dataclasses.replace(second.key, plan_version=2))
    with pytest.raises(QueryRefused, match="several plan versions"):
        list(answer(PLAN, check_question(PLAN, ask("calls", roll_up_time=True)), [(a, first), (b, other)]))


@pytest.mark.parametrize(
    ("question", "told"),
    [
        (ask("cals"), "did you mean calls"),
        (ask("calls", resolution="1w"), "released at 1h, 1d"),
        (ask("calls", view=("country",)), "has platform"),
        (ask("codec", view=("platform",)), "no dimensions"),
        (ask("calls", from_ms=5, to_ms=5), "must begin before it ends"),
        (ask("calls", statistics=("mean",)), "releases units, sum"),
        (ask("calls", filters={"platform": ("ios",)}), "only dimensions of the view"),
        (ask("calls", view=("platform",), filters={"platform": ("amiga",)}), "its values are ios, android"),
        (ask("calls", roll_up_time=True, statistics=("units",)), "the same unit may be in many of them"),
        (ask("calls", roll_up_time=True, statistics=("units",)), "ask for resolution 1h, which measures it"),
        (ask("call_setup", roll_up_time=True), "none of its statistics can"),
    ],
    ids=str,
)
def test_refusals_say_what_to_ask_instead(question: Question, told: str) -> None:
    """A question without an honest answer is refused with what is allowed."""
    with pytest.raises(QueryRefused, match=told):
        check_question(PLAN, question)


def test_views_are_not_added_up() -> None:
    """A coarser view than was released is refused with the reason and the views that there are (E2)."""
    calls = PLAN.metric("calls")
    narrowed = dataclasses.replace(calls, views=(("platform",),))
    plan = dataclasses.replace(PLAN, metrics=(narrowed,))
    with pytest.raises(QueryRefused, match=r"its views are \[platform\].*cannot be added up"):
        check_question(plan, ask("calls"))


def test_bins_are_named_in_units() -> None:
    """Bins are named by their edges in the metric's unit, upper-inclusive."""
    assert component_labels(PLAN.metric("call_setup"))[:2] == ("<= 100", "(100, 200]")
    assert component_labels(PLAN.metric("call_setup"))[-1] == "> 3200"
