"""The command line as a whole: its version, its help, and how every command ends that cannot do what it was asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import hushmeter
from hushmeter.cli.app import run
from hushmeter.errors import ConfigError
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.opening import open_context
from hushmeter.testing.clock import FakeClock
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.service.deployment_by_hand import PLAN, H, of_today


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """`hushmeter --version` prints the version and nothing else."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"{hushmeter.__version__}\n"


def test_without_a_command_it_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever types `hushmeter` alone reads the names of all commands."""
    run([])
    said = "".join(capsys.readouterr())
    for command in ("serve", "plan", "query", "audit", "demo", "erase", "ledger", "transparency"):
        assert f" {command} " in said


def test_a_command_that_there_is_not_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt command is named."""
    assert run(["sevre"]) == 2
    assert "sevre" in capsys.readouterr().err


def test_an_error_is_a_sentence_and_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What people can mend ends with status 2 and its text after the program's name."""
    missing = tmp_path / "no-plan.yaml"
    assert run(["plan", "check", str(missing)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"hushmeter: cannot read the plan {missing}")
    assert said.count("\n") == 1


def test_a_command_without_its_package_says_which_extra_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package that is missing once the command runs is named with its extra, with status 2."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(of_today(PLAN), encoding="utf-8")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(["plan", "explain", str(plan), "--chart", str(tmp_path / "chart.png")]) == 2
    assert "needs the package 'matplotlib', which comes with: pip install 'hushmeter[plot]'" in capsys.readouterr().err
    assert not (tmp_path / "chart.png").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["ledger", "verify", "--state-dir"],
        ["credential", "create", "--role", "ingest", "--name", "app", "--state-dir"],
        ["plan", "check", "PLAN", "--against"],
        ["retention", "--state-dir"],
    ],
    ids=" ".join,
)
def test_a_state_that_was_never_founded_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """A start without a plan leaves an empty state; commands about it say how it is founded."""
    state, plan = tmp_path / "state", tmp_path / "plan.yaml"
    plan.write_text(of_today(PLAN), encoding="utf-8")
    with pytest.raises(ConfigError, match="no plan was given"):
        open_context(Config(state_dir=state), FakeClock(H), ExactMechanisms())
    assert run([str(plan) if word == "PLAN" else word for word in command] + [str(state)]) == 2
    assert capsys.readouterr().err == (
        f"hushmeter: {state} has not been founded yet; start it with hushmeter serve --plan FILE\n"
    )
