from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest

from hushmeter.errors import QueryRefused
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.arrays import Int64
from hushmeter.model.ledger import PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency, MeasurementName
from hushmeter.model.plan import Metric, Statistic
from hushmeter.model.release import Release
from hushmeter.model.tally import Tally
from hushmeter.model.time import Window
from hushmeter.plan.reading import parse_plan
from hushmeter.query.answering import CheckedQuestion, Question, ReleaseAnswer, answer, check_question
from hushmeter.query.estimates import component_labels
from hushmeter.release.measuring import measure
from hushmeter.sealing.statistics import contribution
from hushmeter.testing.mechanisms import ExactMechanisms, SeededMechanisms
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


def tally_of(window: Window) -> Tally:
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
    return measure(tally_of(window), charge, mechanisms or ExactMechanisms(), plan=PLAN, completeness=1.0)


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


def rolled_up(
    question: Question, days: int = 3, currency: Currency = Currency.ZCDP
) -> tuple[ReleaseAnswer, list[ReleaseAnswer]]:
    """The answer over several days, and each day's own."""
    checked = check_question(PLAN, question)
    windows = [released(day, currency=currency) for day in DAYS[:days]]
    stored = [pair for n, window in enumerate(windows, 1) for pair in of(window, question.metric, checked.view, n)]
    (found,) = answer(checked, stored, {})
    return found, [answered(dataclasses.replace(question, roll_up_time=False), window) for window in windows]


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


@pytest.mark.parametrize("currency", Currency)
@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("calls", {"sum": [[210.0]]}),
        ("talk", {"events": [[90.0]], "sum": [[1_050.0]], "histogram": [[60.0, 30.0, 0.0]]}),
        ("stalls", {"numerator": [[90_000.0]], "denominator": [[3_000.0]]}),
    ],
)
def test_additive_statistics_roll_up_over_time(metric: str, told: dict[str, list[list[float]]], currency: Currency) -> None:
    """A rolled-up sum is the sum of its windows, with the noise and the loss of all of them (E2)."""
    total, each = rolled_up(ask(metric, roll_up_time=True), 3, currency)
    assert {e.statistic.value: e.values.tolist() for e in total.estimates} == told
    single = {e.statistic: e for e in each[0].estimates}
    for e in total.estimates:
        assert e.noise_std == pytest.approx(math.sqrt(3) * single[e.statistic].noise_std)
        assert (e.low <= e.values).all()
        assert (e.values <= e.high).all()
    assert total.loss == pytest.approx(math.fsum(one.loss for one in each))
    assert (total.rolled_up_from, total.release_id, total.agreeing) == (3, 0, {})
    assert (total.window_start_ms, total.window_end_ms) == (DAYS[0].start_ms, DAYS[2].end_ms)
    assert total.published_at_ms == each[2].published_at_ms


def test_a_roll_up_of_nothing_has_no_answer() -> None:
    """No releases give no answer, rolled up or not."""
    for roll_up_time in (True, False):
        assert list(answer(check_question(PLAN, ask("calls", roll_up_time=roll_up_time)), [], {})) == []


def test_a_roll_up_says_how_much_of_its_time_was_served() -> None:
    """Completeness of a roll-up is the mean of its windows'."""
    checked = check_question(PLAN, ask("calls", roll_up_time=True))
    ((_, first),), ((_, second),) = (of(EXACT[day], "calls", ()) for day in DAYS[:2])
    (total,) = answer(checked, [(1, first), (2, dataclasses.replace(second, completeness=0.25))], {})
    assert total.completeness == 0.625


def test_plan_versions_do_not_mix() -> None:
    """A roll-up over releases of two plan versions is refused; window by window they are answered."""
    ((_, first),), ((_, second),) = (of(EXACT[day], "calls", ()) for day in DAYS[:2])
    other = dataclasses.replace(second, key=dataclasses.replace(second.key, plan_version=2))
    with pytest.raises(QueryRefused, match="several plan versions"):
        list(answer(check_question(PLAN, ask("calls", roll_up_time=True)), [(1, first), (2, other)], {}))
    told = list(answer(check_question(PLAN, ask("calls")), [(1, first), (2, other)], {}))
    assert [(t.release_id, t.plan_version) for t in told] == [(1, 1), (2, 2)]


def test_bounded_participation_is_told() -> None:
    """An answer says in how many windows of a period a unit counts; 0 where that is all of them (P7)."""
    assert answered(ask("balance")).max_windows == 3
    assert answered(ask("calls")).max_windows == 0


def test_views_with_shared_bounding_agree() -> None:
    """Beside raw estimates, which stay as they are, stand those that add up over views, of additive statistics (E2)."""
    releases = released(mechanisms=SeededMechanisms(3))
    told = {view: answered(ask("talk", view=view), releases) for view in PLAN.metric("talk").views}
    ((_, raw),) = of(releases, "talk", ())
    assert told[()].estimates[2].values.tolist() != [[350.0]], "there is noise"
    assert told[()].estimates[1].values[0, 0] == pytest.approx(raw.vectors[MeasurementName.EVENTS].values.sum())
    additive = {Statistic.EVENTS, Statistic.SUM, Statistic.HISTOGRAM, Statistic.MEAN, Statistic.VARIANCE}
    for answer_ in told.values():
        assert set(answer_.agreeing) == additive
    for statistic in (Statistic.EVENTS, Statistic.SUM, Statistic.HISTOGRAM):
        finest = told["platform", "net"].agreeing[statistic].values.reshape(3, 2, -1)
        coarser = told["platform",].agreeing[statistic].values
        assert finest.sum(axis=1) == pytest.approx(coarser)
        assert coarser.sum(axis=0, keepdims=True) == pytest.approx(told[()].agreeing[statistic].values)
    for one in told.values():
        for e in one.estimates:
            if e.statistic in {Statistic.EVENTS, Statistic.SUM, Statistic.HISTOGRAM}:
                assert (one.agreeing[e.statistic].noise_std < e.noise_std).all()


def test_other_views_are_asked_for_where_they_help_alone() -> None:
    """Other views are read where bounding is shared, for additive statistics, and not for a roll-up."""

    def others(question: Question) -> tuple[tuple[str, ...], ...]:
        return check_question(PLAN, question).other_views

    assert others(ask("talk", view=("platform",))) == ((), ("platform", "net"))
    assert others(ask("talk", statistics=("units",))) == ()
    assert others(ask("talk", roll_up_time=True)) == ()
    assert others(ask("calls")) == ()


def joined(checked: CheckedQuestion, stored: list[tuple[int, Release]], other: list[tuple[int, Release]]) -> list[bool]:
    """Whether each release of a view was made to agree with the other one."""
    return [bool(told.agreeing) for told in answer(checked, stored, {("platform",): other})]


def test_views_agree_within_their_own_window_and_plan_version() -> None:
    """A release is joined with those of its own window and plan version; windows without one are answered raw."""
    checked = check_question(PLAN, ask("talk"))
    stored = [pair for n, day in enumerate(DAYS[:4]) for pair in of(EXACT[day], "talk", (), n)]
    other = [pair for n, day in enumerate(DAYS[:5]) for pair in of(EXACT[day], "talk", ("platform",), n)]
    assert joined(checked, stored, other) == [True, True, True, True]
    assert joined(checked, stored, other[1:3]) == [False, True, True, False]
    assert joined(checked, stored[2:], other) == [True, True]
    assert joined(checked, stored, []) == [False] * 4
    number, release = other[1]
    renewed = dataclasses.replace(release, key=dataclasses.replace(release.key, plan_version=2))
    assert joined(checked, stored, [other[0], (number, renewed), *other[2:]]) == [True, False, True, True]


@pytest.mark.parametrize(
    ("question", "told"),
    [
        (ask("cals"), "did you mean calls"),
        (ask("zzz"), r"there is no metric 'zzz'\. The plan has calls, .*, participants, capped"),
        (ask("calls", resolution="1w"), "released at 1h, 1d"),
        (ask("calls", view=("country",)), "has platform"),
        (ask("codec", view=("platform",)), "no dimensions"),
        (ask("calls", from_ms=5, to_ms=5), "must begin before it ends"),
        (ask("calls", statistics=("mean",)), "releases units, sum"),
        (ask("calls", filters={"platform": ("ios",)}), "only dimensions of the view"),
        (ask("calls", view=("platform",), filters={"platform": ("amiga",)}), "its values are ios, android"),
        (ask("calls", roll_up_time=True, statistics=("units",)), "the same unit may be in many of them"),
        (ask("calls", resolution="1h", roll_up_time=True, statistics=("sum", "units")), "ask for resolution 1d, which"),
        (ask("calls", roll_up_time=True, statistics=("sum", "units")), "Of calls, sum can$"),
        (ask("balance", roll_up_time=True), "none of its statistics can$"),
        (ask("call_setup", roll_up_time=True), "none of its statistics can"),
        (ask("talk", roll_up_time=True, statistics=("mean",)), "Of talk, events, sum, histogram can"),
        (ask("capped", view=("metric",), roll_up_time=True), "none of its statistics can"),
    ],
    ids=str,
)
def test_refusals_say_what_to_ask_instead(question: Question, told: str) -> None:
    """A question without an honest answer is refused with what is allowed."""
    with pytest.raises(QueryRefused, match=told):
        check_question(PLAN, question)


def test_private_partitions_do_not_roll_up() -> None:
    """Windows of an open view show different partitions, so that not even sums of them are added up."""
    calls = PLAN.metric("calls")
    setup = PLAN.metric("call_setup")
    opened = dataclasses.replace(calls, dimensions=setup.dimensions, views=(("version",),))
    plan = dataclasses.replace(PLAN, metrics=(opened,))
    question = ask("calls", view=("version",), roll_up_time=True)
    with pytest.raises(QueryRefused, match=r"calls by \[version\] cannot be added up over time.*counts select$"):
        check_question(plan, question)
    with pytest.raises(QueryRefused, match="counts select; ask for resolution 1d, which measures it"):
        check_question(plan, dataclasses.replace(question, resolution="1h"))


def test_views_are_not_added_up() -> None:
    """A coarser view than was released is refused with the reason and the views that there are (E2)."""
    narrowed = dataclasses.replace(PLAN.metric("calls"), views=(("platform",),))
    plan = dataclasses.replace(PLAN, metrics=(narrowed,))
    with pytest.raises(QueryRefused, match=r"its views are \[platform\].*cannot be added up"):
        check_question(plan, ask("calls"))


def test_bins_are_named_in_units() -> None:
    """Bins are named by their edges in the metric's unit, upper-inclusive; sides and options by their names."""
    assert component_labels(PLAN.metric("call_setup"))[:2] == ("<= 100", "(100, 200]")
    assert component_labels(PLAN.metric("call_setup"))[-1] == "> 3200"
    assert component_labels(PLAN.metric("talk")) == ("<= 5", "(5, 10]", "> 10")
    assert component_labels(PLAN.metric("codec")) == ("opus", "aac", "g711")
    assert component_labels(PLAN.metric("call_dropped")) == ("true", "false")
