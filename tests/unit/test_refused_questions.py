"""A question without an honest answer is refused, and the refusal says what to ask instead."""

from __future__ import annotations

import dataclasses

import pytest

from hushmeter.errors import QueryRefused
from hushmeter.model.plan import Plan
from hushmeter.query.answering import Question, check_question
from tests.unit.ten_units import PLAN, ask

METRICS = "calls, balance, call_setup, talk, call_dropped, codec, stalls, participants, capped"
ADDED_UP = "of several windows cannot be added up: the same unit may be in many of them. Of"


def refusal(question: Question, plan: Plan = PLAN) -> str:
    """The whole text that an analyst reads."""
    with pytest.raises(QueryRefused) as refused:
        check_question(plan, question)
    return str(refused.value)


def plan_of(metric: str, **changes: object) -> Plan:
    """A plan of one metric, with other fields."""
    changed = dataclasses.replace(PLAN.metric(metric), **changes)  # type: ignore[arg-type]
    return dataclasses.replace(PLAN, metrics=(changed,))


@pytest.mark.parametrize(
    ("question", "told"),
    [
        (ask("cals"), f"there is no metric 'cals'; did you mean calls? The plan has {METRICS}"),
        (ask("zzz"), f"there is no metric 'zzz'. The plan has {METRICS}"),
        (ask("calls", resolution="1w"), "resolution '1w': calls is released at 1h, 1d"),
        (ask("calls", view=("country",)), "dimension 'country': calls has platform"),
        (ask("talk", view=("net", "country")), "dimension 'country': talk has platform, net"),
        (ask("codec", view=("platform",)), "dimension 'platform': codec has no dimensions"),
        (ask("calls", from_ms=5, to_ms=5), "time range '5 to 5': it must begin before it ends"),
        (ask("calls", statistics=("mean",)), "statistic 'mean': calls releases units, sum"),
        (
            ask("calls", filters={"platform": ("ios",)}),
            "filter on 'platform': only dimensions of the view [] can be filtered",
        ),
        (
            ask("talk", view=("net", "platform"), filters={"country": ("de",)}),
            "filter on 'country': only dimensions of the view [platform, net] can be filtered",
        ),
        (
            ask("calls", view=("platform",), filters={"platform": ("amiga",)}),
            "platform 'amiga': its values are ios, android, web",
        ),
        (ask("calls", roll_up_time=True, statistics=("units",)), f"units {ADDED_UP} calls, sum can"),
        (
            ask("calls", resolution="1h", roll_up_time=True, statistics=("sum", "units")),
            f"units {ADDED_UP} calls, sum can; ask for resolution 1d, which measures it",
        ),
        (ask("calls", roll_up_time=True, statistics=("sum", "units")), f"units {ADDED_UP} calls, sum can"),
        (ask("balance", roll_up_time=True), f"mean, variance {ADDED_UP} balance, none of its statistics can"),
        (
            ask("call_setup", roll_up_time=True),
            f"units, mean, histogram, quantiles, clamped {ADDED_UP} call_setup, none of its statistics can",
        ),
        (
            ask("talk", roll_up_time=True, statistics=("mean",)),
            f"mean {ADDED_UP} talk, events, sum, histogram can",
        ),
        (
            ask("capped", view=("metric",), roll_up_time=True),
            f"rate {ADDED_UP} capped, none of its statistics can",
        ),
    ],
    ids=str,
)
def test_refusals_say_what_to_ask_instead(question: Question, told: str) -> None:
    """A question without an honest answer is refused with what is allowed."""
    assert refusal(question) == told


def test_private_partitions_do_not_roll_up() -> None:
    """Windows of an open view show different partitions, so that not even sums of them are added up."""
    plan = plan_of("calls", dimensions=PLAN.metric("call_setup").dimensions, views=(("version",),))
    question = ask("calls", view=("version",), roll_up_time=True)
    told = (
        "calls by [version] cannot be added up over time: each window shows the private partitions that its own noisy "
        "counts select"
    )
    assert refusal(question, plan) == told
    assert refusal(dataclasses.replace(question, resolution="1h"), plan) == (
        f"{told}; ask for resolution 1d, which measures it"
    )


def test_every_longer_resolution_is_named() -> None:
    """Who may not roll up is told every resolution whose windows are longer."""
    bounds = PLAN.metric("calls").bounds
    plan = plan_of("calls", at=("1h", "1d", "1w"), bounds={**bounds, "1w": bounds["1d"]})
    question = ask("calls", resolution="1h", roll_up_time=True, statistics=("units",))
    assert refusal(question, plan) == f"units {ADDED_UP} calls, sum can; ask for resolution 1d or 1w, which measures it"


def test_views_are_not_added_up() -> None:
    """A coarser view than was released is refused with the reason and the views that there are (E2)."""
    dimensions = PLAN.metric("talk").dimensions
    plan = plan_of("calls", dimensions=dimensions, views=(("platform",), ("platform", "net")))
    assert refusal(ask("calls"), plan) == (
        "calls is not released by []; its views are [platform]; [platform, net]. It cannot be added up from [platform]: a "
        "unit may stand in several partitions there, and each view is bounded on its own. Add the view to the plan to have "
        "it measured."
    )


def test_a_finer_view_than_was_released_is_no_sum_of_any() -> None:
    """A view that no released one holds is refused with the views that there are, and nothing about adding up."""
    plan = plan_of("calls", dimensions=PLAN.metric("talk").dimensions, views=((), ("net",)))
    assert refusal(ask("calls", view=("platform", "net")), plan) == (
        "calls is not released by [platform, net]; its views are []; [net]."
    )


@pytest.mark.parametrize(("count", "end"), [(20, "v18, v19"), (21, "v18, v19, ...")])
def test_a_refused_filter_shows_twenty_values(count: int, end: str) -> None:
    """Of a long list of values a refusal shows the first 20, and says that there are more."""
    (platform,) = PLAN.metric("calls").dimensions
    longer = dataclasses.replace(platform, values=tuple(f"v{n}" for n in range(count)))
    question = ask("calls", view=("platform",), filters={"platform": ("amiga",)})
    first = ", ".join(f"v{n}" for n in range(18))
    assert refusal(question, plan_of("calls", dimensions=(longer,))) == f"platform 'amiga': its values are {first}, {end}"


def test_a_refusal_repeats_eighty_characters_of_what_was_asked() -> None:
    """However long a name is, its refusal stays short."""
    assert refusal(ask("calls", resolution="h" * 81)) == f"resolution '{'h' * 80}': calls is released at 1h, 1d"
    assert refusal(ask("m" * 81)).startswith(f"there is no metric '{'m' * 80}'.")
