"""What is added up over time: additive statistics of one plan version, with the noise and the loss of all windows."""

from __future__ import annotations

import dataclasses
import math

import pytest

from hushmeter.errors import QueryRefused
from hushmeter.model.measurement import Currency
from hushmeter.query.answering import Question, ReleaseAnswer, answer, check_question
from tests.unit.ten_units import DAYS, EXACT, PLAN, answered, ask, of, released


def rolled_up(
    question: Question, days: int = 3, currency: Currency = Currency.ZCDP
) -> tuple[ReleaseAnswer, list[ReleaseAnswer]]:
    """The answer over several days, and each day's own."""
    checked = check_question(PLAN, question)
    windows = [released(day, currency=currency) for day in DAYS[:days]]
    stored = [pair for n, window in enumerate(windows, 1) for pair in of(window, question.metric, checked.view, n)]
    (found,) = answer(checked, stored, {})
    return found, [answered(dataclasses.replace(question, roll_up_time=False), window) for window in windows]


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
    assert (total.rolled_up_from, total.release_id, total.agreeing, total.raw) == (3, 0, {}, None)
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
