"""An answer has the statistics, the costs and the partitions that its releases have, and says how sure they are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pytest

from hushmeter.model.measurement import Currency, MeasurementName
from hushmeter.model.plan import Statistic
from hushmeter.query.answering import Question
from hushmeter.query.estimates import component_labels, estimate
from hushmeter.query.sums import Sums
from hushmeter.testing.mechanisms import SeededMechanisms
from tests.unit.ten_units import DAYS, EXACT, PLAN, UNITS, answered, ask, of, released


def values(question: Question) -> Mapping[str, list[list[float]]]:
    return {e.statistic.value: np.round(e.values, 6).tolist() for e in answered(question).estimates}


def test_statistics_are_derived_as_the_table_says() -> None:
    """Without noise every statistic of every kind is what the ten units have."""
    assert values(ask("calls")) == {"units": [[10.0]], "sum": [[70.0]]}
    assert values(
        ask("calls", resolution="1h"),
    ) == {"units": [[10.0]], "sum": [[70.0]]}
    assert values(ask("balance")) == {"mean": [[-1.0]], "variance": [[9.0]]}
    assert values(ask("call_setup")) == {
        "units": [[10.0]],
        "mean": [[130.0]],
        "histogram": [[4.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0]],
        "quantiles": [[50.0, 116.666667]],
        "clamped": [[0.0]],
    }
    assert values(ask("talk")) == {
        "units": [[10.0]],
        "events": [[30.0]],
        "sum": [[350.0]],
        "mean": [[11.666667]],
        "variance": [[38.888889]],
        "histogram": [[20.0, 10.0, 0.0]],
    }
    assert values(ask("call_dropped")) == {"rate": [[0.4]]}
    assert values(ask("codec")) == {"rate": [[0.4, 0.6, 0.0]], "top_k": [[4.0, 6.0, 0.0]]}
    assert values(ask("stalls")) == {"ratio": [[30.0]], "numerator": [[30_000.0]], "denominator": [[1_000.0]]}


def test_what_the_service_counts_is_answered_like_any_metric() -> None:
    """Participants are told by purpose, and the share of units that bounded participation left out by metric (P7)."""
    participants = answered(ask("participants", view=("purpose",)))
    assert participants.partitions == (("tuning",), ("research",))
    assert participants.estimates[0].values.tolist() == [[10.0], [0.0]]
    capped = answered(ask("capped", view=("metric",)))
    assert capped.partitions == (("balance",),)
    assert capped.estimates[0].values.tolist() == [[0.2]]


def test_top_options_are_named_in_order() -> None:
    """Top-k names the columns of the largest weights, most frequent first, and as many as the plan says."""
    top = next(e for e in answered(ask("codec")).estimates if e.statistic is Statistic.TOP_K)
    assert top.ranked is not None
    assert [[top.components[column] for column in row] for row in top.ranked.tolist()] == [["aac", "opus"]]


def test_top_options_of_one_weight_stand_in_the_order_of_the_plan() -> None:
    """Options that tie, however many, are ranked as the plan lists them, so that the same release is told alike."""
    metric = dataclasses.replace(PLAN.metric("codec"), options=tuple(f"o{n}" for n in range(64)), top_k=64)
    values = np.tile([[3.0, 5.0]], 32)
    weights = Sums.mapped(np.concatenate([values, -values]), 1.0, 1.0, 2.0)
    ranked = estimate(metric, "1d", {MeasurementName.WEIGHTS: weights}, Statistic.TOP_K).ranked
    assert ranked is not None
    even, odd = list(range(0, 64, 2)), list(range(1, 64, 2))
    assert ranked.tolist() == [odd + even, even + odd]


@pytest.mark.parametrize("currency", Currency)
@pytest.mark.parametrize("metric", UNITS)
def test_answers_say_what_they_cost_and_how_sure_they_are(metric: str, currency: Currency) -> None:
    """Each answer states its loss; each estimate, as far as it is possible, lies in its interval (E3)."""
    releases = released(currency=currency, mechanisms=SeededMechanisms(5))
    for view in PLAN.metric(metric).views:
        told = answered(ask(metric, view=view), releases)
        ((_, release),) = of(releases, metric, view)
        assert told.loss == pytest.approx(math.fsum(v.loss for v in release.vectors.values()))
        assert told.delta == math.fsum(v.delta for v in release.vectors.values())
        assert (told.delta > 0) == told.selected == ("version" in view)
        assert (told.release_id, told.rolled_up_from, told.completeness) == (1, 1, 1.0)
        assert [e.statistic for e in told.estimates] == list(PLAN.metric(metric).statistics)
        for e in (*told.estimates, *told.agreeing.values()):
            assert e.values.shape == e.low.shape == e.high.shape == e.noise_std.shape
            possible = e.values if metric == "balance" else np.maximum(e.values, 0)
            assert (e.low <= possible).all()
            assert (possible <= e.high).all()
            assert (e.noise_std > 0).all()


def test_partitions_without_anybody_have_the_widest_mean() -> None:
    """A mean of nobody is the middle of the range, and its interval is the range."""
    told = answered(ask("call_setup", view=("platform",)))
    assert told.partitions == (("ios",), ("android",), ("web",))
    mean = next(e for e in told.estimates if e.statistic is Statistic.MEAN)
    assert (mean.low[1, 0], mean.values[1, 0], mean.high[1, 0]) == (0.0, 5_000.0, 10_000.0)


def test_private_partitions_are_those_that_were_selected() -> None:
    """Rows of an open view are its selected partitions, in order, with the values of closed dimensions in their place."""
    told = answered(ask("call_setup", view=("version", "platform")))
    assert told.selected
    assert told.view == ("platform", "version")
    assert told.partitions == (("ios", "1.0"), ("ios", "1.1"), ("ios", "2"), ("web", "1.0"))
    assert told.estimates[0].values.tolist() == [[4.0], [2.0], [3.0], [5.0]]
    alone = answered(ask("call_setup", view=("version",), statistics=("units",)))
    assert alone.partitions == (("1.0",), ("1.1",), ("2",))
    assert not answered(ask("call_setup", view=("platform",))).selected


def test_filters_and_statistics_narrow_an_answer() -> None:
    """Filters keep partitions in the plan's order; statistics keep columns."""
    question = ask("call_setup", view=("platform",), filters={"platform": ("web", "ios")}, statistics=("units",))
    told = answered(question)
    assert told.partitions == (("ios",), ("web",))
    assert [e.statistic for e in told.estimates] == [Statistic.UNITS]
    assert told.estimates[0].values.tolist() == [[10.0], [0.0]]


def test_any_token_may_be_asked_for() -> None:
    """A filter on an open dimension is answered alike for a token that was hidden and for one that nobody has."""
    for token in ("9", "no version at all"):
        told = answered(ask("call_setup", view=("platform", "version"), filters={"version": (token,)}))
        assert told.partitions == ()
        assert all(e.values.shape[0] == 0 for e in told.estimates)
    both = ask("call_setup", view=("platform", "version"), filters={"version": ("1.0", "9"), "platform": ("web",)})
    assert answered(both).partitions == (("web", "1.0"),)


def test_an_answer_carries_the_release_that_it_was_made_of() -> None:
    """The release itself stands beside what was estimated from it."""
    ((_, release),) = of(EXACT[DAYS[0]], "calls", ())
    assert answered(ask("calls")).raw is release


def test_bounded_participation_is_told() -> None:
    """An answer says in how many windows of a period a unit counts; 0 where that is all of them (P7)."""
    assert answered(ask("balance")).max_windows == 3
    assert answered(ask("calls")).max_windows == 0


def test_bins_are_named_in_units() -> None:
    """Bins are named by their edges in the metric's unit, upper-inclusive; sides and options by their names."""
    assert component_labels(PLAN.metric("call_setup"))[:2] == ("<= 100", "(100, 200]")
    assert component_labels(PLAN.metric("call_setup"))[-1] == "> 3200"
    assert component_labels(PLAN.metric("talk")) == ("<= 5", "(5, 10]", "> 10")
    assert component_labels(PLAN.metric("codec")) == ("opus", "aac", "g711")
    assert component_labels(PLAN.metric("call_dropped")) == ("true", "false")
