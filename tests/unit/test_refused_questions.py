"""A question without an honest answer is refused, and the refusal says what to ask instead."""

from __future__ import annotations

import dataclasses

import pytest

from hushmeter.errors import QueryRefused
from hushmeter.query.answering import Question, check_question
from tests.unit.ten_units import PLAN, ask


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
