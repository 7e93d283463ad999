from __future__ import annotations

import datetime as dt
import itertools
import re
from decimal import Decimal
from typing import Any

import pytest
import yaml

from hushmeter import limits
from hushmeter.errors import PlanError
from hushmeter.model.measurement import Currency
from hushmeter.model.plan import Asking, ContributionBounds, Kind, OpenValues, Statistic
from hushmeter.plan.reading import parse_plan, parse_recorded
from hushmeter.plan.schema import plan_json_schema
from tests.unit.plan_files import CODEC, RATIO, TEMPLATE, TODAY, M, edited

S = Statistic


def test_the_template_is_valid() -> None:
    """What `plan init` writes passes its own check, and means what it says."""
    plan = parse_plan(TEMPLATE, TODAY)
    metric = plan.metric("call_setup")
    assert metric.kind is Kind.DISTRIBUTION
    assert metric.statistics == (S.UNITS, S.MEAN, S.HISTOGRAM, S.QUANTILES, S.CLAMPED)
    assert metric.quantiles == (Decimal("0.5"), Decimal("0.9"), Decimal("0.99"))
    assert metric.dimension("app_version").open == OpenValues("[0-9]+([.][0-9]+)*", 16, 20)
    assert metric.bounds["1d"].max_events == 50
    assert plan.metric("calls").bounds["1d"].high == 60
    assert plan.metric("calls").bounds["1h"].high == 20
    assert plan.privacy.delta == Decimal("1e-8")
    assert [r.name for r in plan.resolutions] == ["1h", "1d"]


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
        (TEMPLATE.replace("2026-08-29", "2026-02-31", 1), "line 30: '2026-02-31' is not a day"),
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


def test_a_plan_without_lists_keeps_its_hash() -> None:
    """A plan that says nothing about what stands beside decisions lists nothing, and has the hash that it had before."""
    loaded = yaml.safe_load(TEMPLATE)
    del loaded["consent"]
    silent = parse_plan(yaml.safe_dump(loaded, sort_keys=False), TODAY)
    loaded["consent"] = {"languages": []}
    empty = parse_plan(yaml.safe_dump(loaded, sort_keys=False), TODAY)
    assert silent.asking == empty.asking == Asking()
    assert silent.plan_hash == empty.plan_hash != parse_plan(TEMPLATE, TODAY).plan_hash
    assert parse_plan(TEMPLATE, TODAY).asking == Asking(("en", "de"), ("onboarding", "settings"))


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("languages", ["en", "en"], "consent.languages.*stands twice"),
        ("languages", ["EN"], "consent.languages"),
        ("languages", ["a letter"], "consent.languages"),
        ("languages", [f"a{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(limits.LANGUAGES_MAX + 1)], "at most 64"),
        ("sources", ["settings", "settings"], "consent.sources.*stands twice"),
        ("sources", ["erasure"], "erasures bring"),
        ("sources", ["two words"], "consent.sources"),
        ("sources", [f"s{n}" for n in range(limits.SOURCES_MAX + 1)], "at most 16"),
    ],
)
def test_lists_beside_decisions_are_checked(field: str, value: list[str], told: str) -> None:
    """Languages are tags in one spelling, sources names; both are few, each stands once, and one word is taken."""
    with pytest.raises(PlanError, match=told):
        parse_plan(edited(("consent", field), value), TODAY)


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
    ((*M, "edges"), list(range(1, 257)), list(range(1, 258))),
    ((*M, "edges"), [1, 10000], [1, 10001]),
    ((*M, "edges"), [1], [0]),
    ((*M, "statistics"), [{"quantiles": [1e-9]}], [{"quantiles": [0]}]),
    ((*M, "statistics"), [{"quantiles": [0.999999]}], [{"quantiles": [1]}]),
    (
        (*M, "statistics"),
        [{"quantiles": [i / 100 for i in range(1, 33)]}],
        [{"quantiles": [i / 100 for i in range(1, 34)]}],
    ),
    (("metrics", "codec", "statistics"), [{"top_k": 1}], [{"top_k": 0}]),
    (("metrics", "codec", "statistics"), [{"top_k": 3}], [{"top_k": 4}]),
    ((*M, "weight"), 1000, 1000.5),
    ((*M, "weight"), "1e-30", "1e-31"),
    ((*M, "per_unit", "range"), [0, limits.RANGE_MAX], [0, limits.RANGE_MAX + 1]),
    (("metrics", "calls", "per_unit", "range"), [-limits.RANGE_MAX, 0], [-limits.RANGE_MAX - 1, 0]),
    (("metrics", "calls", "per_unit", "range"), [5, 6], [5, 5]),
    ((*M, "per_unit", "max_events"), limits.EVENTS_PER_UNIT_MAX, limits.EVENTS_PER_UNIT_MAX + 1),
    ((*M, "per_unit", "max_partitions"), limits.PARTITIONS_PER_METRIC_MAX, limits.PARTITIONS_PER_METRIC_MAX + 1),
    ((*M, "per_unit", "max_windows"), {"1d": 7}, {"1d": 8}),
    ((*M, "per_unit", "max_windows"), {"1d": 1}, {"1d": 0}),
    ((*M, "dimensions", "app_version", "max_length"), limits.TOKEN_MAX_LENGTH, limits.TOKEN_MAX_LENGTH + 1),
    ((*M, "dimensions", "app_version", "expected_values"), limits.TOKENS_PER_WINDOW_MAX, limits.TOKENS_PER_WINDOW_MAX + 1),
    ((*M, "dimensions", "app_version", "pattern"), "a" * limits.TEXT_MAX_LENGTH, "a" * (limits.TEXT_MAX_LENGTH + 1)),
    (("resolutions", "1h", "lateness"), "71h", "72h"),
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


@pytest.mark.parametrize("sign", [1, -1])
def test_edges_lie_where_a_range_may_be(sign: int) -> None:
    """A histogram's edges reach up to the largest range on either side of zero, and not beyond."""
    plan = yaml.safe_load(edited((*M, "statistics"), ["histogram"]))
    metric = plan["metrics"]["call_setup"]
    metric["edges"] = [sign * limits.RANGE_MAX]
    assert parse_plan(yaml.safe_dump(plan), TODAY).metric("call_setup").edges == (sign * limits.RANGE_MAX,)
    metric["edges"] = [sign * (limits.RANGE_MAX + 1)]
    with pytest.raises(PlanError, match=rf"edges: within 2147483648 steps of zero \(got -?{limits.RANGE_MAX + 1}\)"):
        parse_plan(yaml.safe_dump(plan), TODAY)


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
    assert parse_recorded(TEMPLATE).plan_hash == parse_plan(TEMPLATE, TODAY).plan_hash


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


def test_what_the_service_counts_by_itself_belongs_to_a_plan() -> None:
    """Participants are counted unless the plan says otherwise; capped shares where a metric bounds its windows."""
    assert [m.name for m in parse_plan(TEMPLATE, TODAY).built_in] == ["participants"]
    assert parse_plan(edited(("privacy", "participants"), value=False), TODAY).built_in == ()
    participants, capped = parse_plan(edited((*M, "per_unit", "max_windows"), {"1d": 3}), TODAY).built_in
    assert (participants.name, participants.at, participants.dimensions[0].values) == (
        *("participants", ("1h", "1d")),
        ("model_tuning",),
    )
    assert (capped.name, capped.at, capped.dimensions[0].values) == ("capped", ("1d",), ("call_setup",))


def test_what_a_metric_asks_for_is_read() -> None:
    """Quantiles are sorted, top_k counts, shared bounding, a ratio's denominators and other bounds at a resolution hold."""
    quantiles = parse_plan(edited((*M, "statistics"), [{"quantiles": [0.9, 0.5]}]), TODAY).metric("call_setup")
    assert quantiles.quantiles == (Decimal("0.5"), Decimal("0.9"))
    assert parse_plan(edited(("metrics", "codec", "statistics"), [{"top_k": 2}]), TODAY).metric("codec").top_k == 2
    assert parse_plan(edited(("metrics", "calls", "bounding"), "shared"), TODAY).metric("calls").shared_bounding
    ratio = parse_plan(edited(("metrics", "codec"), RATIO), TODAY).metric("codec")
    assert ratio.bounds == {"1d": ContributionBounds(1, 0, 9, 5)}
    special = {"1d": {"max_events": 7, "max_partitions": 3, "range": [-5, 5000]}}
    special_at = parse_plan(edited((*M, "per_unit", "by_resolution"), special), TODAY).metric("call_setup")
    assert special_at.bounds == {"1d": ContributionBounds(3, -5, 5000, 7)}
    capped = parse_plan(edited((*M, "per_unit", "max_windows"), {"1d": 3}), TODAY).metric("call_setup")
    assert capped.bounds == {"1d": ContributionBounds(2, 0, 10_000, 50, 3)}
    for currency, meant in (("auto", None), ("zcdp", Currency.ZCDP), ("pure", Currency.PURE)):
        assert parse_plan(edited(("privacy", "currency"), currency), TODAY).privacy.currency is meant
    assert not parse_plan(edited(("privacy", "weights"), "stated"), TODAY).privacy.auto_weights
