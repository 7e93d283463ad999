"""Whatever is wrong with a plan file is told by its path, its value and what is allowed, all of it at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hushmeter.errors import PlanError
from hushmeter.plan.reading import parse_plan
from tests.unit.plan_files import CODEC, RATIO, TEMPLATE, TODAY, M, edited

BAD: list[tuple[tuple[str | int, ...], Any, str, str]] = [
    (("plan",), "Has Spaces", "plan:", "small letters"),
    (("version",), 0, "version:", "greater than or equal to 1"),
    (("version",), ..., "version:", "is missing"),
    (("privacy", "period"), "2d", "privacy.period:", "'1d', '1w' or '1mo'"),
    (("privacy", "epsilon"), 0, "privacy.epsilon:", "greater than 0"),
    (("privacy", "epsilon"), "four", "privacy.epsilon:", "four"),
    (("privacy", "delta"), 0.5, "privacy.delta:", "less than 0.001"),
    (("privacy", "currency"), "gold", "privacy.currency:", "'auto', 'zcdp' or 'pure'"),
    (("privacy", "weights"), "equal", "privacy.weights:", "'auto' or 'stated'"),
    (("privacy", "participants"), "yes", "privacy.participants:", "true or false"),
    (("privacy", "expected_units"), 0, "privacy.expected_units:", "greater than or equal to 1"),
    (("privacy", "epsilonn"), 4, "privacy.epsilonn:", "did you mean epsilon"),
    (("resolutions", "7h"), {"lateness": "1m"}, "resolutions.7h:", "divide"),
    (("resolutions", "1w"), {"lateness": "soon"}, "resolutions.1w.lateness:", "10m or 48h"),
    (("resolutions", "1mo"), {"lateness": "1d"}, "resolutions.1mo:", "no longer than the protection period"),
    (("resolutions", "1m"), {"lateness": "1m"}, "resolutions.1m:", "10080 windows a period; at most 2000"),
    (("resolutions", "1x"), {"lateness": "1m"}, "resolutions.1x:", "such as 15m, 1h"),
    (("resolutions", "1h", "lateness"), "60d", "resolutions.1h.lateness:", "at most 30d"),
    (
        ("resolutions", "1h", "lateness"),
        "3d",
        "resolutions.1h.lateness:",
        "at most 71h: the first window of 1h in one of 1d",
    ),
    (("resolutions", "1h"), None, "resolutions.1h:", "must be a mapping"),
    (("purposes",), {}, "purposes:", "at least 1"),
    ((*M, "category"), "customer_content", "metrics.call_setup.category:", "customer content is never collected"),
    ((*M, "category"), "gossip", "metrics.call_setup.category:", "product_usage"),
    ((*M, "purposes"), ["ads"], "metrics.call_setup.purposes:", "declared under purposes: model_tuning"),
    ((*M, "purposes"), [], "metrics.call_setup.purposes:", "at least 1"),
    ((*M, "owner"), ..., "metrics.call_setup.owner:", "is missing"),
    ((*M, "expires"), dt.date(2026, 3, 1), "metrics.call_setup.expires:", "a day from 2026-03-02"),
    ((*M, "expires"), dt.date(2027, 3, 4), "metrics.call_setup.expires:", "to 2027-03-03"),
    ((*M, "kind"), "gauge", "metrics.call_setup.kind:", "'counter', 'distribution', 'flag', 'choice' or 'ratio'"),
    ((*M, "unit"), "", "metrics.call_setup.unit:", "needs the unit"),
    ((*M, "resolution"), 0, "metrics.call_setup.resolution:", "greater than 0"),
    ((*M, "edges"), [100, 50], "metrics.call_setup.edges:", "must increase"),
    ((*M, "edges"), [100.5], "metrics.call_setup.edges:", "whole multiple of the resolution"),
    ((*M, "edges"), [], "metrics.call_setup.edges:", "histogram need at least one edge"),
    ((*M, "edges"), [], "metrics.call_setup.edges:", "quantiles need at least one edge"),
    ((*M, "options"), ["a", "b"], "metrics.call_setup.options:", "has no options"),
    (("metrics", "codec", "options"), ["opus"], "metrics.codec.options:", "at least two"),
    (("metrics", "codec", "options"), ["opus", True], "metrics.codec.options.1:", "quote it"),
    ((*M, "dimensions", "platform", "values"), ["ios", "ios"], "platform.values:", "each value once"),
    ((*M, "dimensions", "version"), {"open": True}, "dimensions.version.pattern:", "pattern and max_length"),
    ((*M, "dimensions", "version"), {}, "dimensions.version:", "the closed list, or open: true"),
    ((*M, "dimensions", "version"), {"open": True, "values": ["a"]}, "dimensions.version.values:", "keep one of the two"),
    (
        (*M, "dimensions", "version"),
        {"open": True, "pattern": "(", "max_length": 8},
        "dimensions.version.pattern:",
        "not a regular expression",
    ),
    ((*M, "dimensions", "platform"), {"values": ["a"], "pattern": "a"}, "platform.pattern:", "open dimensions alone"),
    ((*M, "views"), [["country"]], "metrics.call_setup.views:", "dimensions of the metric: platform"),
    ((*M, "views"), [["platform"], ["platform"]], "metrics.call_setup.views:", "each view once"),
    ((*M, "at"), ["1y"], "metrics.call_setup.at:", "1h, 1d"),
    ((*M, "per_unit", "range"), [5, 5], "per_unit.range:", "smallest first"),
    ((*M, "per_unit", "range"), ..., "per_unit.range:", "needs the range"),
    ((*M, "per_unit", "range"), [0, 2**33], "per_unit.range:", "within 2147483648"),
    ((*M, "per_unit", "max_events"), 10**6, "per_unit.max_events:", "16384"),
    ((*M, "per_unit", "max_partitions"), 0, "per_unit.max_partitions:", "greater than or equal to 1"),
    ((*M, "per_unit", "max_windows"), {"1d": 8}, "per_unit.max_windows.1d:", "a period has 7 windows of 1d: 1 to 7"),
    ((*M, "per_unit", "max_windows"), {"1d": 0}, "per_unit.max_windows.1d:", "greater than or equal to 1"),
    ((*M, "per_unit", "max_windows"), {"1h": 3}, "per_unit.max_windows.1h:", "one that it is released at: 1d"),
    ((*M, "per_unit", "by_resolution"), {"1h": {}}, "per_unit.by_resolution.1h:", "one that it is released at: 1d"),
    ((*M, "per_unit", "by_resolution"), {"1y": {}}, "per_unit.by_resolution.1y:", "one that it is released at: 1d"),
    ((*M, "per_unit", "by_resolution"), {"1d": {"range": [9, 3]}}, "by_resolution.1d.range:", "smallest first"),
    ((*M, "per_unit", "max_denominator"), 5, "per_unit.max_denominator:", "a distribution has no denominator"),
    ((*M, "weighting"), "votes", "metrics.call_setup.weighting:", "'unit' or 'event'"),
    (("metrics", "calls", "weighting"), "event", "metrics.calls.weighting:", "leave weighting out"),
    (
        (*M, "statistics"),
        ["rate"],
        "metrics.call_setup.statistics:",
        "units, events, sum, mean, variance, histogram, quantiles, clamped",
    ),
    *(
        (
            (*M, "statistics"),
            [{"quantiles": asked}],
            "metrics.call_setup.statistics.quantiles:",
            "1 to 32 different numbers",
        )
        for asked in ([0], [1], [-0.5], [1.5], [0.5, 0.5], [], 0.5, ["half"], [True], None, [i / 100 for i in range(1, 34)])
    ),
    ((*M, "statistics"), ["quantiles"], "metrics.call_setup.statistics.quantiles:", "between 0 and 1, both excluded"),
    ((*M, "statistics"), [{"mean": 3}], "metrics.call_setup.statistics:", "mean takes no numbers; write mean alone"),
    ((*M, "statistics"), [{"mean": None, "units": None}], "metrics.call_setup.statistics:", "has the statistics units"),
    ((*M, "statistics"), [{}], "metrics.call_setup.statistics:", "has the statistics units"),
    *(
        (("metrics", "codec", "statistics"), [{"top_k": k}], "metrics.codec.statistics.top_k:", "options to name, 1 to 3")
        for k in (0, 4, -1, 1.5, True, None, [2])
    ),
    (("metrics", "calls", "statistics"), ["histogram"], "metrics.calls.statistics:", "a counter has the statistics units"),
    (("metrics", "call_dropped", "statistics"), ["mean"], "metrics.call_dropped.statistics:", "a flag has the statistics"),
    ((*M, "edges"), [100, 20000], "metrics.call_setup.edges:", "quantiles need edges inside the range at 1d"),
    ((*M, "edges"), [0, 100], "metrics.call_setup.edges:", "quantiles need edges inside the range at 1d"),
    (("metrics", "calls", "edges"), [1], "metrics.calls.edges:", "a counter has no edges; leave them out"),
    (("metrics", "codec", "options"), ["opus", "aac", "opus"], "metrics.codec.options:", "each option once"),
    ((*M, "purposes"), ["model_tuning", "model_tuning"], "metrics.call_setup.purposes:", "each purpose once"),
    ((*M, "bounding"), "joint", "metrics.call_setup.bounding:", "'separate' or 'shared'"),
    ((*M, "bounding"), "shared", "metrics.call_setup.bounding:", "bounded one by one; write separate"),
    ((*M, "per_unit", "range"), [0.5, 3], "per_unit.range:", "whole multiple of the resolution, 1"),
    ((*M, "per_unit", "range"), [1], "per_unit.range:", "at least 2"),
    ((*M, "dimensions", "app_version", "max_length"), 65, "app_version.max_length:", "less than or equal to 64"),
    (
        (*M, "dimensions", "app_version", "max_length"),
        ...,
        "app_version.max_length:",
        "pattern and max_length of its tokens",
    ),
    ((*M, "dimensions", "app_version", "expected_values"), 0, "app_version.expected_values:", "greater than or equal to 1"),
    ((*M, "dimensions", "app_version", "pattern"), "a)(b", "app_version.pattern:", "not a regular expression that RE2"),
    (
        (*M, "dimensions", "platform", "expected_values"),
        3,
        "platform.expected_values:",
        "open dimensions alone; leave it out",
    ),
    (
        (*M, "dimensions", "platform"),
        {"open": True, "pattern": "a", "max_length": 8},
        "metrics.call_setup.dimensions:",
        "at most one dimension of a metric is open",
    ),
    (("metrics", "participants"), CODEC, "metrics.participants:", "counted by the service itself; take another name"),
    (("metrics", "capped"), CODEC, "metrics.capped:", "participants and capped are counted by the service itself"),
    (("metrics", "codec"), RATIO | {"unit": ""}, "metrics.codec.unit:", "a ratio needs the unit of its values"),
    (("metrics", "codec"), RATIO | {"per_unit": {"range": [0, 9]}}, "per_unit.max_denominator:", "1 to 2147483648"),
    (
        ("metrics", "codec"),
        RATIO | {"per_unit": {"range": [0, 9], "max_denominator": 5, "max_events": 3}},
        "per_unit.max_events:",
        "a ratio has no max_events; write max_denominator alone",
    ),
    (("metrics", "codec"), RATIO | {"per_unit": {"max_denominator": 5}}, "per_unit.range:", "needs the range"),
    (("metrics", "codec"), RATIO | {"edges": [1]}, "metrics.codec.edges:", "a ratio has no edges"),
    (("resolutions", "60m"), {"lateness": "1m"}, "resolutions.60m:", "is as long as 1h; keep one"),
    (("resolutions", "16h"), {"lateness": "1m"}, "resolutions.16h:", "must divide"),
    ((*M, "statistics"), ["mean", "mean"], "metrics.call_setup.statistics:", "each statistic once"),
    ((*M, "weight"), -1, "metrics.call_setup.weight:", "greater than 0"),
    (("metrics", "Calls"), {}, "metrics.Calls", "Calls"),
    (("privacy",), None, "privacy:", "must be a mapping"),
    (("privacy", "epsilon"), "4", "privacy.epsilon:", "must be a number, without quotes (got '4')"),
    (("privacy", "epsilon"), True, "privacy.epsilon:", "must be a number"),
    (("version",), 1.5, "version:", "must be a whole number"),
    (("metrix",), {}, "metrix:", "did you mean metrics?"),
    ((*M, "edge"), [1], "metrics.call_setup.edge:", "did you mean edges?"),
    ((*M, "epsilon"), 1, "metrics.call_setup.epsilon:", "the fields are description, owner"),
    ((*M, "per_unit", "max_event"), 1, "metrics.call_setup.per_unit.max_event:", "did you mean max_events?"),
    ((*M, "expires"), "2026-08-01", "metrics.call_setup.expires:", "must be a day such as 2027-06-30, without quotes"),
    ((*M, "views"), [None], "metrics.call_setup.views.0:", "must be a list"),
    ((*M, "statistics"), [True], "metrics.call_setup.statistics.0:", "must be text; quote it (got True)"),
    ((*M, "statistics"), [{"top_k": 3}], "metrics.call_setup.statistics:", "a distribution has the statistics units"),
    ((*M, "dimensions", "platform", "values"), [1, "a"], "platform.values.0:", "quote it (got 1)"),
    ((*M, "dimensions", "platform", "values"), ["a\x85b"], "platform.values.0:", "none of them a slash or a control"),
    ((*M, "dimensions", "platform", "values"), ["a\n"], "platform.values.0:", "none of them a slash or a control"),
    (("metrics", "a-b"), {}, "metrics.a-b:", "small letters, digits and _"),
    (("metrics", "codec\n"), {}, "metrics.'codec\\n':", "small letters, digits and _"),
]


@pytest.mark.parametrize(("path", "value", "where", "allowed"), BAD, ids=lambda v: str(v)[:40])
def test_what_is_wrong_is_told_with_path_and_what_is_allowed(
    path: tuple[str | int, ...], value: Any, where: str, allowed: str
) -> None:
    """Each mistake is told with its path in the file and what is allowed."""
    with pytest.raises(PlanError) as caught:
        parse_plan(edited(path, value), TODAY)
    lines = [line for line in str(caught.value).splitlines() if where in line]
    assert lines, f"{where} is not in: {caught.value}"
    told = [line for line in lines if allowed in line]
    assert told, f"{allowed!r} is not in: {lines}"
    assert all(shows(line, path, value) for line in told), f"{value!r} is not in: {told}"


def shows(line: str, path: tuple[str | int, ...], value: Any) -> bool:
    """Whether a line ends with what stood in the file, or a part of it; or says that nothing did."""
    got = line.partition(" (got ")[2]
    written = [part.encode("unicode_escape").decode()[:60] for part in (*leaves(value), str(path[-1]))]
    return "is missing" in line or got in {"none)", "neither)"} or any(part in got for part in written)


def leaves(value: Any) -> Iterator[str]:
    """Everything that is written in a value: names, numbers and texts, or that it is empty."""
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    if isinstance(parts, list) and parts:
        for part in parts:
            yield from leaves(part)
    else:
        yield str(value)


def test_all_mistakes_are_told_at_once() -> None:
    """Two mistakes in two metrics make two lines."""
    plan = yaml.safe_load(edited((*M, "unit"), ""))
    plan["metrics"]["codec"]["options"] = ["opus"]
    with pytest.raises(PlanError) as caught:
        parse_plan(yaml.safe_dump(plan), TODAY)
    assert "call_setup.unit" in str(caught.value)
    assert "codec.options" in str(caught.value)


def test_a_problem_is_told_once() -> None:
    """What is wrong at every resolution makes one line, not one for each."""
    with pytest.raises(PlanError) as caught:
        parse_plan(edited(("metrics", "calls", "per_unit"), {}), TODAY)
    assert str(caught.value).count("metrics.calls.per_unit.range: a counter needs the range") == 1


@pytest.mark.parametrize("at", [..., ["1x"]])
def test_a_metric_at_malformed_resolutions_alone_is_told_so(at: Any) -> None:
    """Where no resolution can be read, that is the problem; the metrics that would be released there are not a defect."""
    plan = yaml.safe_load(edited(("resolutions",), {"1x": {"lateness": "soon"}}))
    for metric in plan["metrics"].values():
        metric["at"] = at
        if at is ...:
            del metric["at"]
    with pytest.raises(PlanError) as caught:
        parse_plan(yaml.safe_dump(plan), TODAY)
    told = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in told[:2]] == ["resolutions.1x", "resolutions.1x.lateness"]
    assert all("by_resolution" in line for line in told[2:])


ODD = [None, True, 0, -1, 2.5, 2**63, "", "a", "1d", "1mo", "1x", [], [1], ["a"], [[]], {}, {"a": 1}, {"1d": 3}, {"1x": {}}]
ODD += ["flag", "ratio", "shared", "pure", ["variance"], [{"top_k": 2}], {"open": True, "pattern": "a", "max_length": 3}]
PLACES = [(*M, "per_unit", name) for name in ("max_windows", "by_resolution", "max_denominator", "max_partitions")]
PLACES += [
    ("metrics", "calls", name) for name in ("bounding", "weighting", "resolution", "edges", "options", "at", "per_unit")
]


def places(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value in a file."""
    if path:
        yield path
    parts = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, part in parts:
        yield from places(part, (*path, step))


@given(st.sampled_from([*places(yaml.safe_load(TEMPLATE)), *PLACES]), st.sampled_from([*ODD, ...]))
def test_whatever_stands_in_a_file_is_read_or_refused(path: tuple[str | int, ...], value: Any) -> None:
    """Any value in any place makes a plan or a list of problems, each with what was got: never another exception."""
    text = TEMPLATE if value is ... and path in PLACES else edited(path, value)
    told = ""
    try:
        assert parse_plan(text, TODAY).measured
    except PlanError as error:
        told = str(error)
    assert all("(got " in line or "is missing" in line for line in told.splitlines()[1:])
