"""What a plan change means: each change has its line, its concern and its moment; no change has none."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from typer.testing import CliRunner

from hushmeter.cli.app import app
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.changes import Concern, When
from hushmeter.model.plan import Plan
from hushmeter.plan.changes import changes_of, earliest, stopped, without_stopped
from hushmeter.plan.reading import parse_plan
from hushmeter.service.deployment.budget import budget_of
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.unit.any_plans import any_plans
from tests.unit.plan_files import CODEC, TEMPLATE, TODAY, M, edited

BASE = parse_plan(TEMPLATE, TODAY)
C = ("metrics", "codec")
D = (*M, "dimensions")

NOW, WINDOW, PERIOD, NEVER = When.AT_ONCE, When.NEXT_WINDOW, When.NEXT_PERIOD, When.NEVER

MUTATIONS: list[tuple[tuple[str | int, ...], Any, Concern, When, str]] = [
    (("plan",), "another", Concern.DEPLOYMENT, NEVER, "another plan"),
    (("privacy", "unit"), "device", Concern.DEPLOYMENT, NEVER, "each device"),
    (("privacy", "period"), "1d", Concern.DEPLOYMENT, NEVER, "1d instead of 1w"),
    (("privacy", "epsilon"), 5, Concern.BUDGET, PERIOD, "more budget"),
    (("privacy", "epsilon"), 3, Concern.RELEASE, PERIOD, "less budget"),
    (("privacy", "delta"), 1e-7, Concern.BUDGET, PERIOD, "more budget"),
    (("privacy", "currency"), "pure", Concern.RELEASE, PERIOD, "pure instead of auto"),
    (("privacy", "weights"), "stated", Concern.RELEASE, PERIOD, "divided"),
    (("privacy", "participants"), False, Concern.RELEASE, PERIOD, "no more"),
    (("privacy", "expected_units"), 60_000, Concern.RELEASE, PERIOD, "60,000"),
    (("resolutions", "1d"), {"lateness": "72h"}, Concern.RETENTION, PERIOD, "4d instead of 3d"),
    (("resolutions", "1d"), {"lateness": "24h"}, Concern.RELEASE, PERIOD, "2d instead of 3d"),
    (("resolutions", "1h"), {"lateness": "20m"}, Concern.RELEASE, PERIOD, "as long as before"),
    (("resolutions", "1w"), {"lateness": "48h"}, Concern.DEPLOYMENT, NEVER, "1h, 1d, 1w"),
    (("purposes", "research"), "Do research.", Concern.PURPOSE, PERIOD, "a new purpose"),
    (("purposes", "model_tuning"), "Tune.", Concern.PURPOSE, WINDOW, "asked again"),
    (("consent", "languages"), ["en", "de", "fr"], Concern.TEXT, WINDOW, "en, de, fr instead of en, de"),
    (("consent", "sources"), [], Concern.TEXT, WINDOW, "none instead of onboarding, settings"),
    (("metrics", "extra"), CODEC, Concern.DATA, PERIOD, "new data is collected"),
    (C, ..., Concern.STOP, NOW, "removed"),
    (C, ..., Concern.RELEASE, PERIOD, "goes to the others"),
    ((*M, "description"), "Something.", Concern.TEXT, NOW, "'Something.'"),
    ((*M, "owner"), "else@example.com", Concern.TEXT, NOW, "else@example.com"),
    ((*M, "expires"), dt.date(2026, 4, 1), Concern.STOP, NOW, "until 2026-04-01"),
    ((*M, "expires"), dt.date(2027, 2, 1), Concern.DATA, WINDOW, "for longer, until 2027-02-01"),
    ((*M, "category"), "service_generated", Concern.DATA, WINDOW, "a new category"),
    ((*M, "category"), "performance", Concern.TEXT, WINDOW, "performance instead of diagnostic"),
    ((*M, "unit"), "s", Concern.RELEASE, PERIOD, "'s'"),
    ((*M, "resolution"), 0.5, Concern.DATA, PERIOD, "finer"),
    ((*M, "edges"), [100, 200, 300, 400, 800, 1600, 3200], Concern.DATA, PERIOD, "more of them"),
    ((*M, "edges"), [100, 200], Concern.RELEASE, PERIOD, "bins end at 100, 200"),
    ((*C, "options"), ["opus", "aac", "g711", "vp9"], Concern.DATA, PERIOD, "vp9"),
    ((*C, "options"), ["opus", "aac"], Concern.RELEASE, PERIOD, "g711"),
    ((*C, "options"), ["aac", "opus", "g711"], Concern.RELEASE, PERIOD, "another order"),
    ((*D, "country"), {"values": ["de", "fr"]}, Concern.DATA, PERIOD, "de, fr"),
    ((*D, "platform", "values"), ["ios", "android", "mac", "windows", "linux", "web", "tv"], Concern.DATA, PERIOD, "tv"),
    ((*D, "platform", "values"), ["ios", "android"], Concern.RELEASE, PERIOD, "mac, windows"),
    ((*D, "platform", "scope"), "event", Concern.DATA, PERIOD, "several values"),
    ((*D, "app_version", "max_length"), 20, Concern.DATA, PERIOD, "20 characters"),
    ((*D, "app_version", "pattern"), "[0-9]+", Concern.DATA, PERIOD, "look like"),
    ((*D, "app_version", "expected_values"), 30, Concern.RELEASE, PERIOD, "30 different"),
    ((*M, "views"), [[], ["platform"]], Concern.RELEASE, PERIOD, "by app_version no more"),
    ((*M, "at"), ["1d", "1h"], Concern.RELEASE, PERIOD, "1h too"),
    ((*M, "per_unit", "range"), [0, 20_000], Concern.DATA, PERIOD, "wider"),
    ((*M, "per_unit", "range"), [0, 5_000], Concern.RELEASE, PERIOD, "0 to 5000"),
    ((*M, "per_unit", "max_events"), 60, Concern.DATA, PERIOD, "60 instead of 50"),
    ((*M, "per_unit", "max_partitions"), 1, Concern.RELEASE, PERIOD, "1 instead of 2"),
    ((*M, "per_unit", "max_windows"), {"1d": 3}, Concern.RELEASE, PERIOD, "3 windows"),
    ((*M, "weighting"), "event", Concern.RELEASE, PERIOD, "each event counts"),
    ((*M, "weight"), 3, Concern.RELEASE, PERIOD, "weight 3"),
    ((*M, "statistics"), ["units", "variance"], Concern.DATA, PERIOD, "sum of squares"),
    ((*M, "statistics"), ["units"], Concern.RELEASE, PERIOD, "mean"),
    ((*M, "bounding"), "shared", Concern.RELEASE, PERIOD, "bounded as one"),
]


def same_but_for_its_name(plan: Plan) -> Plan:
    return dataclasses.replace(plan, version=1, plan_hash="")


@pytest.mark.parametrize(("path", "value", "concern", "when", "words"), MUTATIONS)
def test_each_change_has_its_line_its_concern_and_its_moment(
    path: tuple[str | int, ...], value: Any, concern: Concern, when: When, words: str
) -> None:
    if path[-1] == "bounding":
        plan = yaml.safe_load(TEMPLATE)
        del plan["metrics"]["call_setup"]["dimensions"]["app_version"]
        plan["metrics"]["call_setup"]["views"] = [[], ["platform"]]
        base = parse_plan(yaml.safe_dump(plan, sort_keys=False), TODAY)
        plan["metrics"]["call_setup"]["bounding"] = value
        changed = parse_plan(yaml.safe_dump(plan, sort_keys=False), TODAY)
    else:
        base, changed = BASE, parse_plan(edited(path, value), TODAY)
    changes = changes_of(base, changed)
    assert any(
        c.concern is concern and c.when is when and words in c.text and c.path.startswith(".".join(map(str, path[:1])))
        for c in changes
    ), changes


def test_a_changed_purpose_of_a_metric_is_told() -> None:
    plan = yaml.safe_load(TEMPLATE)
    plan["purposes"]["research"] = "Do research."
    one = parse_plan(yaml.safe_dump(plan, sort_keys=False), TODAY)
    plan["metrics"]["codec"]["purposes"] = ["model_tuning", "research"]
    two = parse_plan(yaml.safe_dump(plan, sort_keys=False), TODAY)
    (more,), (less,) = changes_of(one, two), changes_of(two, one)
    assert (more.concern, more.when, less.concern) == (Concern.PURPOSE, PERIOD, Concern.PURPOSE)
    assert "research too" in more.text
    assert "is not used for research" in less.text


@pytest.mark.parametrize("names", [("metrics",), ("purposes",), ("metrics", "call_setup", "dimensions")])
def test_another_order_is_told(names: tuple[str, ...]) -> None:
    plan = yaml.safe_load(TEMPLATE)
    plan["purposes"]["research"] = "Do research."
    base = parse_plan(yaml.safe_dump(plan, sort_keys=False), TODAY)
    place = plan
    for name in names[:-1]:
        place = place[name]
    place[names[-1]] = dict(reversed(place[names[-1]].items()))
    (change,) = (c for c in changes_of(base, parse_plan(yaml.safe_dump(plan, sort_keys=False), TODAY)) if "order" in c.text)
    assert change.when is PERIOD


@given(any_plans())
def test_a_plan_does_not_differ_from_itself(plan: Plan) -> None:
    assert changes_of(plan, copy.deepcopy(plan)) == ()
    assert earliest(()) is When.AT_ONCE


@given(any_plans(), any_plans())
def test_only_plans_that_are_alike_have_no_change(one: Plan, two: Plan) -> None:
    assert (changes_of(one, two) == ()) == (same_but_for_its_name(one) == same_but_for_its_name(two))


@pytest.mark.parametrize(
    "mutation", [m for m in MUTATIONS if m[3] in {NOW, WINDOW}], ids=lambda m: ".".join((*map(str, m[0]), m[4]))
)
def test_what_may_change_before_the_period_ends_costs_the_same(
    mutation: tuple[tuple[str | int, ...], Any, Concern, When, str],
) -> None:
    changed = parse_plan(edited(mutation[0], mutation[1]), TODAY)
    if earliest(changes_of(BASE, changed)) is PERIOD:
        assert mutation[0] == C, "only what removal leaves to others is priced"
        return
    mechanisms = ExactMechanisms()
    assert budget_of(changed, mechanisms) == budget_of(BASE, mechanisms)
    before, after = (PriceList.of(p, budget_of(p, mechanisms), mechanisms) for p in (BASE, changed))
    assert before.items == after.items


def test_what_is_removed_or_expires_earlier_stops() -> None:
    removed = parse_plan(edited(C, ...), TODAY)
    assert stopped(BASE, removed, 123) == {"codec": 123}
    assert without_stopped(BASE, {"codec": 123}).metric("codec").expires_ms == 123
    sooner = parse_plan(edited((*C, "expires"), dt.date(2026, 4, 1)), TODAY)
    assert stopped(BASE, sooner, 123) == {"codec": sooner.metric("codec").expires_ms}
    assert stopped(BASE, BASE, 123) == {}


def test_the_command_says_it_in_plain_words_and_can_fail_a_build(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(TEMPLATE)
    new.write_text(edited(("privacy", "epsilon"), 5))
    run = CliRunner().invoke
    said = run(app, ["plan", "diff", str(old), str(new)])
    assert said.exit_code == 0
    assert "For people" in said.output
    assert "next period" in said.output
    assert run(app, ["plan", "diff", str(old), str(old)]).output.count("Nothing changes") == 1
    told = json.loads(run(app, ["plan", "diff", str(old), str(new), "--json"]).output)
    assert told["earliest"] == "next period"
    assert [(c["path"], c["concern"], c["for"]) for c in told["changes"]] == [("privacy.epsilon", "budget", "people")]
    assert run(app, ["plan", "diff", str(old), str(new), "--fail-on", "data"]).exit_code == 0
    assert run(app, ["plan", "diff", str(old), str(new), "--fail-on", "data", "--fail-on", "budget"]).exit_code == 1
    assert run(app, ["plan", "diff", str(old), str(tmp_path)]).exit_code != 0
