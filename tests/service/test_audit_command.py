"""`hushmeter audit` says what it tried and what it found, for people and as JSON; its status says whether all holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hushmeter.cli.app import run
from hushmeter.model.ledger import PrivacyBudget, PrivacyLoss
from hushmeter.model.plan import Plan
from hushmeter.ports import Mechanisms
from hushmeter.rehearsal.audit import run as audit_run
from hushmeter.rehearsal.audit.plans import AUDIT_PLANS
from hushmeter.service.deployment.budget import budget_of

PLANS = Path(__file__).parents[1] / "data" / "plans"
PRICES = ["audit", "--only", "prices"]
CHECKS = 5
"""How many checks of prices there are."""


@pytest.fixture
def overspending(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that spends a hundredth more than its epsilon pays for."""

    def more(plan: Plan, mechanisms: Mechanisms) -> PrivacyBudget:
        budget = budget_of(plan, mechanisms)
        return replace(budget, loss=PrivacyLoss(budget.loss.amount * 101 / 100, budget.loss.delta))

    monkeypatch.setattr(audit_run, "budget_of", more)


def test_the_parts_without_a_service_hold(tmp_path: Path) -> None:
    """Prices, noise and sensitivity of a plan end with status 0; the JSON lists every check with its rules."""
    plan, out = tmp_path / "plan.yaml", tmp_path / "audit.json"
    plan.write_text(AUDIT_PLANS[0])
    only = [word for part in ("prices", "noise", "sensitivity") for word in ("--only", part)]
    assert run(["audit", "--plan", str(plan), "--json", str(out), "--quick", *only]) == 0
    rows: list[dict[str, Any]] = json.loads(out.read_text())
    assert {r["part"] for r in rows} == {"prices", "noise", "sensitivity"}
    assert all(r["rules"] and r["trials"] and not r["note"] for r in rows)


@pytest.mark.parametrize("name", ["open_dimensions", "max_windows", "one_currency zcdp", "one_currency pure"])
def test_plans_of_other_shapes_hold(tmp_path: Path, name: str) -> None:
    """Prices, noise and who may read what hold on private partitions, bounded participation and both currencies."""
    file, _, currency = name.partition(" ")
    plan = tmp_path / "plan.yaml"
    plan.write_text((PLANS / f"{file}.yaml").read_text().replace("CURRENCY", currency))
    only = [word for part in ("prices", "noise", "replay:0") for word in ("--only", part)]
    assert run(["audit", "--plan", str(plan), "--quick", *only]) == 0


def test_what_was_tried_and_would_have_been_seen_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """The full audit has a line for each check as it is made, then what it tried, a table and the verdict."""
    assert run(PRICES) == 0
    said = capsys.readouterr().out
    assert said.count("prices: sensitivity of each charge: holds") == len(AUDIT_PLANS)
    part = next(p for p in audit_run.PARTS if p.name == "prices")
    assert f"Tried: {part.tried}." in said
    assert f"Would have been seen: {part.seen}." in said
    assert f"{CHECKS * len(AUDIT_PLANS)} checks, statistical ones at a familywise level of 1e-06: all hold" in said


@pytest.mark.usefixtures("overspending")
def test_what_does_not_hold_is_said_and_is_the_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A check that fails is named with what was found, in the table, in the JSON and in the verdict; the status is 1."""
    out = tmp_path / "audit.json"
    assert run([*PRICES, "--quick", "--json", str(out)]) == 1
    said = capsys.readouterr().out
    assert said.count("exceeded epsilon of the budget: ") == len(AUDIT_PLANS)
    assert f"{len(AUDIT_PLANS)} do not hold" in said
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert len(rows) == CHECKS * len(AUDIT_PLANS)
    notes = [row["note"] for row in rows if row["note"]]
    assert len(notes) == len(AUDIT_PLANS)
    assert all(f"exceeded epsilon of the budget: {note}" in said for note in notes)


@pytest.mark.usefixtures("overspending")
def test_it_ends_at_the_first_check_that_fails(tmp_path: Path) -> None:
    """With `--stop-at-first` nothing is tried after a failure: the second plan is not looked at."""
    out = tmp_path / "audit.json"
    assert run([*PRICES, "--stop-at-first", "--json", str(out)]) == 1
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert len(rows) <= CHECKS
    assert [bool(row["note"]) for row in rows] == [False] * (len(rows) - 1) + [True]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the JSON cannot be written, the command says where it was to go."""
    out = tmp_path / "nowhere" / "audit.json"
    assert run([*PRICES, "--quick", "--json", str(out)]) == 2
    assert f"cannot write {out}: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("guesses", "no part of the audit is called guesses; there are prices, noise, sensitivity, replay, canaries"),
        ("replay:one", "'replay:one' names no part of the audit; write replay, or replay:4,8 for two of its neighbours"),
    ],
)
def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str], part: str, words: str) -> None:
    """A part that there is not is named, with those that there are."""
    assert run(["audit", "--only", part]) == 2
    assert words in capsys.readouterr().err
