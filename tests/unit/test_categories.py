"""Customer content has no way into a plan, whichever way the plan comes; owner, description and expiry are mandatory."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hushmeter.cli.app import run
from hushmeter.errors import InvariantError, PlanError
from hushmeter.model.plan import Category
from hushmeter.plan.reading import parse_plan, parse_recorded
from hushmeter.plan.schema import plan_json_schema
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.opening import open_context
from hushmeter.testing.clock import FakeClock
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.service.running_service import FOUNDED_MS
from tests.unit.plan_files import TEMPLATE, TODAY, M, edited

CATEGORIES = ["product_usage", "diagnostic", "performance", "service_generated"]
VARIANTS = [
    "customer_content",
    "CUSTOMER_CONTENT",
    "Customer_Content",
    " customer_content",
    "customer_content ",
    "customer_content\n",
    "customer-content",
    "customer content",
    "customer_content\u200b",
    "custome\u0433_content",
    "\u0441ustomer_content",
    "customer\uff3fcontent",
    "\uff43ustomer_content",
    "customer_cont\u00e9nt",
    "customer_content,diagnostic",
]
UNKNOWN = ["", " ", "gossip", "Diagnostic", "diagnostic ", "d\u0456agnostic", "\u200bdiagnostic", "diagnostic\0", "content"]
ODD = [None, True, 0, ["diagnostic"], ["diagnostic", "customer_content"], {"diagnostic": "customer_content"}]


def refused(text: str, *, in_force: bool = False) -> str:
    """The line about the category of a plan that must be refused, read as a new one or as one that is in force."""
    with pytest.raises(PlanError) as caught:
        _ = parse_recorded(text) if in_force else parse_plan(text, TODAY)
    (line,) = [line for line in str(caught.value).splitlines() if "call_setup.category" in line]
    return line


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_four_categories(category: str) -> None:
    """A metric is of one of four categories, and of no other."""
    plan = parse_plan(edited((*M, "category"), category), TODAY)
    assert plan.metric("call_setup").category is Category(category)
    assert [c.value for c in Category] == CATEGORIES


@pytest.mark.parametrize("category", [*VARIANTS, *UNKNOWN, *ODD], ids=ascii)
@pytest.mark.parametrize("in_force", [False, True])
def test_no_other(category: Any, in_force: bool) -> None:
    """Customer content and unknown categories are refused however they are written, in a recorded plan too."""
    line = refused(edited((*M, "category"), category), in_force=in_force)
    assert all(name in line for name in CATEGORIES)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("category: diagnostic", 'category: "customer\\u005fcontent"'),
        ("category: diagnostic", 'category: "\\x63ustomer_content"'),
        ("category: diagnostic", "category: !!str customer_content"),
        ("category: diagnostic", "category: &c customer_content"),
        ("category: diagnostic", "category: >-\n      customer_content"),
        ("category: diagnostic", "<<: {category: customer_content}"),
        ("category: diagnostic", "<<: [{category: customer_content}, {category: diagnostic}]"),
    ],
)
def test_spellings_of_yaml(old: str, new: str) -> None:
    """Escapes, tags, anchors, folded text and merged mappings are read before the category is judged."""
    head, found, rest = TEMPLATE.partition("  call_setup:")
    assert old in rest
    assert "customer content is never collected" in refused(head + found + rest.replace(old, new, 1))


def test_other_ways_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`plan check`, the foundation, a plan that is offered again and a hand-made metric refuse it as well."""
    bad, good = edited((*M, "category"), "customer_content"), parse_plan(TEMPLATE, TODAY).metric("call_setup")
    (tmp_path / "plan.yaml").write_text(bad)
    assert run(["plan", "check", str(tmp_path / "plan.yaml")]) == 2
    assert "customer content is never collected" in capsys.readouterr().err
    clock, mechanisms, config = FakeClock(FOUNDED_MS), ExactMechanisms(), Config(state_dir=tmp_path / "state")
    with pytest.raises(PlanError, match="customer content is never collected"):
        open_context(config, clock, mechanisms, bad)
    open_context(config, clock, mechanisms, TEMPLATE).store.close()
    with pytest.raises(PlanError, match="customer content is never collected"):
        open_context(config, clock, mechanisms, bad)
    for category in (*VARIANTS, *UNKNOWN, *CATEGORIES, None):
        with pytest.raises(InvariantError, match="no category that may be collected"):
            dataclasses.replace(good, category=category)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["owner", "description", "expires", "category", "purposes"])
def test_what_is_mandatory(field: str) -> None:
    """A metric without any of these is refused, and so is one where it is empty."""
    for value in (..., None, ""):
        with pytest.raises(PlanError, match=rf"metrics\.call_setup\.{field}: "):
            parse_plan(edited((*M, field), value), TODAY)


@pytest.mark.parametrize("blank", [" ", "\t\n", "\u00a0", "\u200b", "-", "...", "?"], ids=ascii)
def test_words_say_something(blank: str) -> None:
    """Owner, description and the text of a purpose hold words, not blanks."""
    for path in ((*M, "owner"), (*M, "description"), ("purposes", "model_tuning")):
        with pytest.raises(PlanError, match=rf"{'.'.join(path)}: must be said in words"):
            parse_plan(edited(path, blank), TODAY)
    with pytest.raises(InvariantError, match="lacks an owner or a description"):
        dataclasses.replace(parse_plan(TEMPLATE, TODAY).metric("call_setup"), owner=" ")


@pytest.mark.parametrize("expires", ["never", "2026-08-01", 20260801, 0, True, "2026-08-01T12:00:00Z"])
def test_expiry_is_a_day(expires: Any) -> None:
    """What is no day is no expiry."""
    with pytest.raises(PlanError, match=r"metrics\.call_setup\.expires: "):
        parse_plan(edited((*M, "expires"), expires), TODAY)


def test_expiry_is_no_moment() -> None:
    """A moment within a day is refused, so that a day always ends at midnight UTC."""
    text = yaml.safe_dump(yaml.safe_load(TEMPLATE), sort_keys=False)
    day = f"expires: {yaml.safe_load(TEMPLATE)['metrics']['call_setup']['expires']}"
    for moment in (day + "T23:59:59Z", day + " 12:30:00"):
        with pytest.raises(PlanError, match=r"metrics\.call_setup\.expires: "):
            parse_plan(text.replace(day, moment), TODAY)


def test_editors_know() -> None:
    """The JSON Schema makes all of these mandatory, and says of customer content that it is refused."""
    metric = plan_json_schema()["$defs"]["MetricFile"]
    assert {"owner", "description", "expires", "category", "purposes"} <= set(metric["required"])
    assert "always refused" in metric["properties"]["category"]["description"]


@pytest.mark.parametrize(
    ("pattern", "max_length", "taken"),
    [
        (".*", 64, ["an e-mail address", "a web address", "words of a sentence", "encoded text"]),
        (".*", 6, ["an e-mail address", "words of a sentence"]),
        (".*", 2, []),
        (r"\S+", 64, ["an e-mail address", "a web address", "encoded text"]),
        ("[a-z ]+", 16, ["words of a sentence"]),
        ("[0-9]+([.][0-9]+)*", 16, []),
        ("[A-Z]{3}", 3, []),
    ],
)
def test_lax_patterns_are_cautioned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pattern: str, max_length: int, taken: list[str]
) -> None:
    """`plan check` says which open dimensions take what looks like content, and nothing of careful ones."""
    word = {"open": True, "max_length": max_length, "pattern": pattern}
    expired = str(yaml.safe_load(TEMPLATE)["metrics"]["call_setup"]["expires"])
    lasting = str((dt.datetime.now(dt.UTC) + dt.timedelta(days=90)).date())
    (tmp_path / "plan.yaml").write_text(edited((*M, "dimensions", "app_version"), word).replace(expired, lasting))
    assert run(["plan", "check", str(tmp_path / "plan.yaml"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["cautions"]
    place = "metrics.call_setup.dimensions.app_version.pattern"
    assert [line.partition(":")[0] for line in told] == ([f"{place} takes {', '.join(taken)}"] if taken else [])
    assert run(["plan", "check", str(tmp_path / "plan.yaml")]) == 0
    assert ("Caution:" in capsys.readouterr().out) == bool(taken)
