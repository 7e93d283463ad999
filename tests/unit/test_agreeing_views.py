"""Views with shared bounding are made to agree, each window and plan version by itself, beside their raw estimates."""

from __future__ import annotations

import dataclasses
import math

import pytest

from hushmeter.model.measurement import Currency, MeasurementName
from hushmeter.model.plan import Statistic
from hushmeter.model.release import Release
from hushmeter.query.answering import CheckedQuestion, Question, answer, check_question
from hushmeter.query.intervals import z_of
from hushmeter.testing.mechanisms import SeededMechanisms
from tests.unit.ten_units import DAYS, EXACT, PLAN, answered, ask, of, released


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


@pytest.mark.parametrize("currency", Currency)
def test_an_interval_of_agreeing_views_reaches_half_a_step_beyond_the_noise(currency: Currency) -> None:
    """A consistent count's interval is z deviations of least squares and half a step, for whole steps of noise (E4)."""
    releases = released(currency=currency, mechanisms=SeededMechanisms(3))
    found = answered(ask("talk"), releases).agreeing[Statistic.EVENTS]
    vectors = [of(releases, "talk", view)[0][1].vectors[MeasurementName.EVENTS] for view in PLAN.metric("talk").views]
    cells = [1, 3, 6]
    variance = 1 / sum(1 / (cells * vector.variance) for cells, vector in zip(cells, vectors, strict=True))
    z = z_of(vectors[0].mechanism)
    assert found.noise_std[0, 0] == pytest.approx(math.sqrt(variance))
    assert found.high[0, 0] - found.values[0, 0] == pytest.approx(z * math.sqrt(variance) + 0.5)
    assert found.low[0, 0] == pytest.approx(max(0, found.values[0, 0] - z * math.sqrt(variance) - 0.5))
