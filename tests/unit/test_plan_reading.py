from __future__ import annotations

import copy
import datetime as dt
import itertools
import re
from decimal import Decimal
from typing import Any

import pytest
import yaml

from hushmeter import limits
from hushmeter.errors import PlanError
from hushmeter.model.plan import Kind, Statistic
from hushmeter.plan.reading import parse_plan
from hushmeter.plan.schema import plan_json_schema
from hushmeter.plan.template import plan_template

TODAY = dt.date(2026, 3, 2)
TEMPLATE = plan_template(TODAY)
M = ("metrics", "call_setup")


def edited(path: tuple[str | int, ...], value: Any) -> str:
    """The template with one field changed; `...` removes it."""
    plan = copy.deepcopy(yaml.safe_load(TEMPLATE))
    place = plan
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return yaml.safe_dump(plan, sort_keys=False)


def test_the_template_is_valid() -> None:
    """What `plan init` writes passes its own check, and means what it says."""
    plan = parse_plan(TEMPLATE, TODAY)
    metric = plan.metric("call_setup")
    assert metric.kind is Kind.DISTRIBUTION
    assert metric.statistics == (Statistic.UNITS, Statistic.MEAN, Statistic.HISTOGRAM)
    assert metric.bounds["1d"].max_events == 50
    assert plan.metric("calls").bounds["1d"].high == 60
    assert plan.metric("calls").bounds["1h"].high == 20
    assert plan.privacy.delta == Decimal("1e-8")
    assert [r.name for r in plan.resolutions] == ["1h", "1d"]


BAD: list[tuple[tuple[str | int, ...], Any, str, str]] = [
    (("plan",), "Has Spaces", "plan:", "small letters"),
    (("version",), 0, "version:", "greater than or equal to 1"),
    (("version",), ..., "version:", "is missing"),
    (("privacy", "period"), "2d", "privacy.period:", "'1d', '1w' or '1mo'"),
    (("privacy", "epsilon"), 0, "privacy.epsilon:", "greater than 0"),
    (("privacy", "epsilon"), "four", "privacy.epsilon:", "four"),
    (("privacy", "delta"), 0.5, "privacy.delta:", "less than 0.001"),
    (("privacy", "currency"), "pure", "privacy.currency:", "not available yet"),
    (("privacy", "epsilonn"), 4, "privacy.epsilonn:", "did you mean epsilon"),
    (("resolutions", "7h"), {"lateness": "1m"}, "resolutions.7h:", "divide"),
    (("resolutions", "1w"), {"lateness": "soon"}, "resolutions.1w:", "10m or 48h"),
    (("resolutions", "1mo"), {"lateness": "1d"}, "resolutions.1mo:", "no longer than the protection period"),
    (("resolutions", "1m"), {"lateness": "1m"}, "resolutions.1m:", "10080 windows a period; at most 2000"),
    (("resolutions", "1x"), {"lateness": "1m"}, "resolutions.1x:", "such as 15m, 1h"),
    (("resolutions", "1h", "lateness"), "60d", "resolutions.1h.lateness:", "at most 30d"),
    (("resolutions", "1h", "lateness"), "20d", "resolutions.1h.lateness:", "must not close after"),
    (("purposes",), {}, "purposes:", "at least 1"),
    ((*M, "category"), "customer_content", "metrics.call_setup.category:", "customer content is never collected"),
    ((*M, "category"), "gossip", "metrics.call_setup.category:", "product_usage"),
    ((*M, "purposes"), ["ads"], "metrics.call_setup.purposes:", "declared under purposes: model_tuning"),
    ((*M, "purposes"), [], "metrics.call_setup.purposes:", "at least 1"),
    ((*M, "owner"), ..., "metrics.call_setup.owner:", "is missing"),
    ((*M, "expires"), dt.date(2026, 3, 1), "metrics.call_setup.expires:", "a day from 2026-03-02"),
    ((*M, "expires"), dt.date(2027, 3, 4), "metrics.call_setup.expires:", "to 2027-03-03"),
    ((*M, "kind"), "gauge", "metrics.call_setup.kind:", "'counter', 'distribution', 'flag' or 'choice'"),
    ((*M, "unit"), "", "metrics.call_setup.unit:", "needs the unit"),
    ((*M, "resolution"), 0, "metrics.call_setup.resolution:", "greater than 0"),
    ((*M, "edges"), [100, 50], "metrics.call_setup.edges:", "must increase"),
    ((*M, "edges"), [100.5], "metrics.call_setup.edges:", "whole multiple of the resolution"),
    ((*M, "edges"), [], "metrics.call_setup.edges:", "at least one edge"),
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
    ((*M, "per_unit", "max_windows"), {"1d": 3}, "max_windows.1d:", "not available yet"),
    ((*M, "per_unit", "by_resolution"), {"1y": {}}, "per_unit.by_resolution:", "1h, 1d"),
    ((*M, "weighting"), "votes", "metrics.call_setup.weighting:", "'unit' or 'event'"),
    (("metrics", "calls", "weighting"), "event", "metrics.calls.weighting:", "leave weighting out"),
    ((*M, "statistics"), ["rate"], "metrics.call_setup.statistics:", "units, events, sum, mean, histogram"),
    ((*M, "statistics"), [{"quantiles": [0.5]}], "metrics.call_setup.statistics:", "not available yet"),
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
    ((*M, "statistics"), ["variance"], "metrics.call_setup.statistics:", "not available yet"),
    ((*M, "statistics"), [{"top_k": 3}], "metrics.call_setup.statistics:", "not available yet"),
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
    assert any(allowed in line for line in lines), f"{allowed!r} is not in: {lines}"


def test_all_mistakes_are_told_at_once() -> None:
    """Two mistakes in two metrics make two lines."""
    plan = yaml.safe_load(edited((*M, "unit"), ""))
    plan["metrics"]["codec"]["options"] = ["opus"]
    with pytest.raises(PlanError) as caught:
        parse_plan(yaml.safe_dump(plan), TODAY)
    assert "call_setup.unit" in str(caught.value)
    assert "codec.options" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must be a mapping"),
        ("- a\n- b\n", "must be a mapping"),
        ("plan: [", "not valid YAML"),
        (TEMPLATE + "\nversion: 2\n", "'version' stands twice"),
        ("#" * (limits.PLAN_FILE_MAX_BYTES + 1), "at most 1048576"),
        (TEMPLATE.replace("epsilon: 4", "epsilon: .nan"), "not a finite number"),
        (TEMPLATE.replace("kind: flag", "kind: !!python/object:os.system x"), "not valid YAML"),
        (TEMPLATE.replace("2026-08-29", "2026-02-31", 1), "line 27: '2026-02-31' is not a day"),
        (TEMPLATE.replace("[0, 10000]", "[0, 010]"), "'010' is not a plain number: write .* without a leading zero"),
        (TEMPLATE.replace("[0, 10000]", "[0, 1:30]"), "'1:30' is not a plain number"),
        (TEMPLATE.replace("weight: 2", "weight: " + "9" * 5000), "is not a plain number: write at most 30 decimal digits"),
        (TEMPLATE.replace("delta: 1e-8", "delta: 1e-999999"), "privacy.delta: .* no more than 30 digits"),
        ("a: &a\n  b: *a\n", "line 1: this anchor holds an alias of itself"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("plan: \ud800", "not valid YAML"),
    ],
    ids=[
        *("empty", "list", "broken", "twice", "large", "nan", "object"),
        *("no day", "octal", "sexagesimal", "long number", "small number", "recursive", "deep", "surrogate"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(text: str, told: str) -> None:
    """Text that is not YAML, not a mapping, or too large is refused with a sentence, never a traceback."""
    with pytest.raises(PlanError, match=told):
        parse_plan(text, TODAY)


def test_the_hash_is_of_the_meaning() -> None:
    """Comments, spaces and written-out defaults leave the plan's hash as it is; a changed number does not."""
    plan = parse_plan(TEMPLATE, TODAY)
    assert parse_plan(TEMPLATE.replace("# A hushmeter", "#  Another"), TODAY).plan_hash == plan.plan_hash
    assert parse_plan(edited((*M, "resolution"), 1.0), TODAY).plan_hash == plan.plan_hash
    assert parse_plan(edited(("privacy", "epsilon"), 3), TODAY).plan_hash != plan.plan_hash


def test_the_hash_does_not_depend_on_the_order_of_fields() -> None:
    """Fields and resolutions in another order are the same plan; values in another order are another one."""
    plan = parse_plan(TEMPLATE, TODAY)
    loaded = yaml.safe_load(TEMPLATE)
    turned = dict(reversed(loaded.items()))
    turned["resolutions"] = dict(reversed(loaded["resolutions"].items()))
    turned["metrics"] = {name: dict(reversed(metric.items())) for name, metric in loaded["metrics"].items()}
    assert parse_plan(yaml.safe_dump(turned, sort_keys=False), TODAY) == plan
    codecs = edited(("metrics", "codec", "options"), ["aac", "opus", "g711"])
    assert parse_plan(codecs, TODAY).plan_hash != plan.plan_hash


@pytest.mark.parametrize("levels", [2, 20])
def test_aliases_stand_for_no_more_than_a_file_may_hold(levels: int) -> None:
    """Aliases are welcome; a few lines of them that stand for millions of values are refused before they are built."""
    lines = ["x0: &x0 [v, v, v, v, v, v, v, v, v]"]
    lines += [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]" for i in range(1, levels)]
    with pytest.raises(PlanError, match="aliases stand for" if levels > 2 else "x0: is not a field here"):
        parse_plan("\n".join(lines), TODAY)
    shared = TEMPLATE.replace("values: [ios", "values: &platforms [ios", 1)
    head, _, tail = shared.rpartition("[ios, android, mac, windows, linux, web]")
    assert parse_plan(f"{head}*platforms{tail}", TODAY) == parse_plan(TEMPLATE, TODAY)


NAMES = [f"n{i}" for i in range(1001)]
CODEC = yaml.safe_load(TEMPLATE)["metrics"]["codec"]
SIX = {name: {"values": ["a"]} for name in NAMES[:6]}
VIEWS = [list(view) for length in range(7) for view in itertools.combinations(SIX, length)]
LENGTHS = ["15m", "30m", "1h", "2h", "4h", "8h", "1d", "1w", "12h"]


def taken(lengths: list[str]) -> dict[str, Any]:
    """Resolutions without lateness."""
    return {length: {"lateness": "0"} for length in lengths}


LIMITS: list[tuple[tuple[str | int, ...], Any, Any]] = [
    (("plan",), "a" * 64, "a" * 65),
    (("version",), 2**31 - 1, 2**31),
    (("privacy", "epsilon"), 100, 100.1),
    (("privacy", "delta"), 0.0009, 0.001),
    (("privacy", "expected_units"), limits.UNITS_MAX, limits.UNITS_MAX + 1),
    (("resolutions", "1d", "lateness"), "30d", "31d"),
    (("purposes",), dict.fromkeys(["model_tuning", *NAMES[:63]], "x"), dict.fromkeys(["model_tuning", *NAMES[:64]], "x")),
    (("purposes", "model_tuning"), "x" * limits.TEXT_MAX_LENGTH, "x" * (limits.TEXT_MAX_LENGTH + 1)),
    ((*M, "expires"), dt.date(2027, 3, 3), dt.date(2027, 3, 4)),
    ((*M, "expires"), dt.date(2026, 3, 2), dt.date(2026, 3, 1)),
    ((*M, "unit"), "m" * limits.NAME_MAX_LENGTH, "m" * (limits.NAME_MAX_LENGTH + 1)),
    ((*M, "edges"), list(range(256)), list(range(257))),
    ((*M, "edges"), [limits.RANGE_MAX], [limits.RANGE_MAX + 1]),
    ((*M, "edges"), [-limits.RANGE_MAX], [-limits.RANGE_MAX - 1]),
    ((*M, "weight"), 1000, 1000.5),
    ((*M, "weight"), "1e-30", "1e-31"),
    ((*M, "per_unit", "range"), [0, limits.RANGE_MAX], [0, limits.RANGE_MAX + 1]),
    ((*M, "per_unit", "range"), [-limits.RANGE_MAX, 0], [-limits.RANGE_MAX - 1, 0]),
    ((*M, "per_unit", "max_events"), limits.EVENTS_PER_UNIT_MAX, limits.EVENTS_PER_UNIT_MAX + 1),
    ((*M, "per_unit", "max_partitions"), limits.PARTITIONS_PER_METRIC_MAX, limits.PARTITIONS_PER_METRIC_MAX + 1),
    ((*M, "per_unit", "max_windows"), {"1d": 7}, {"1d": 6}),
    ((*M, "dimensions", "platform", "values"), ["v" * 64], ["v" * 65]),
    (
        (*M, "dimensions", "platform", "values"),
        [f"v{i}" for i in range(limits.DIMENSION_VALUES_MAX)],
        [f"v{i}" for i in range(limits.DIMENSION_VALUES_MAX + 1)],
    ),
    (("metrics", "codec", "options"), [f"o{i}" for i in range(256)], [f"o{i}" for i in range(257)]),
    (
        ("metrics", "codec", "dimensions"),
        {n: {"values": ["a"]} for n in NAMES[:8]},
        {n: {"values": ["a"]} for n in NAMES[:9]},
    ),
    (
        ("metrics", "codec"),
        CODEC | {"dimensions": SIX, "views": VIEWS[:32]},
        CODEC | {"dimensions": SIX, "views": VIEWS[:33]},
    ),
    (("metrics",), dict.fromkeys(NAMES[:1000], CODEC), dict.fromkeys(NAMES, CODEC)),
    (("resolutions",), taken(LENGTHS[:8]), taken(LENGTHS)),
    (("resolutions",), taken(["6m", "1h", "1d"]), taken(["5m", "1h", "1d"])),
]


@pytest.mark.parametrize(("path", "most", "more"), LIMITS, ids=lambda v: str(v)[:40])
def test_limits_hold_on_both_sides(path: tuple[str | int, ...], most: Any, more: Any) -> None:
    """The last lawful value of each field is read, and the first unlawful one is refused with its path."""
    assert parse_plan(edited(path, most), TODAY).metrics
    with pytest.raises(PlanError, match=re.escape(".".join(map(str, path)))):
        parse_plan(edited(path, more), TODAY)


def test_a_file_may_be_as_large_as_its_limit() -> None:
    """A plan of just the largest size is read; one byte more is not."""
    padded = TEMPLATE + "#" * (limits.PLAN_FILE_MAX_BYTES - len(TEMPLATE.encode()))
    assert parse_plan(padded, TODAY) == parse_plan(TEMPLATE, TODAY)
    with pytest.raises(PlanError, match="at most 1048576"):
        parse_plan(padded + "#", TODAY)


def test_combinations_of_values_hold_on_both_sides() -> None:
    """A metric may have 2^20 partitions; 2^20 and a few more are refused."""
    sizes = {"a": 1024, "b": 1024}
    dimensions = {n: {"values": [f"v{i}" for i in range(size)]} for n, size in sizes.items()}
    assert parse_plan(edited(("metrics", "codec", "dimensions"), dimensions), TODAY).metric("codec").partitions == 2**20
    dimensions["b"]["values"].append("one more")
    with pytest.raises(PlanError, match=r"metrics\.codec\.dimensions: at most 1048576"):
        parse_plan(edited(("metrics", "codec", "dimensions"), dimensions), TODAY)


def test_numbers_are_exact() -> None:
    """A resolution of a tenth makes whole steps of decimal edges and ranges; no float is in between."""
    text = edited((*M, "resolution"), 0.1).replace("- 100\n", "- 100.1\n")
    metric = parse_plan(text, TODAY).metric("call_setup")
    assert metric.edges[0] == 1001
    assert metric.bounds["1d"].high == 100_000


def test_a_plan_in_force_may_have_expired() -> None:
    """A recorded plan is read again after its metrics have expired, when expiry is not asked about."""
    later = dt.date(2028, 1, 1)
    with pytest.raises(PlanError, match="expires"):
        parse_plan(TEMPLATE, later)
    assert parse_plan(TEMPLATE, later, check_expiry=False).plan_hash == parse_plan(TEMPLATE, TODAY).plan_hash


def test_the_schema_describes_every_field() -> None:
    """The JSON Schema is closed and has a description for each field of a metric."""
    schema = plan_json_schema()
    metric = schema["$defs"]["MetricFile"]
    assert metric["additionalProperties"] is False
    for part in (schema, *schema["$defs"].values()):
        for name, field in part["properties"].items():
            assert "description" in field or "$ref" in field, name
    assert metric["properties"]["resolution"]["type"] == "number"
    assert metric["properties"]["resolution"]["default"] == 1
    assert '"string"' not in str(schema["$defs"]["PrivacyFile"]["properties"]["epsilon"])
