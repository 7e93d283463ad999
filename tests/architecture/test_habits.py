"""What the repository offers to whoever works on it holds: targets, hooks, and the commands of CONTRIBUTING.md."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hushmeter.patience import PATIENCE_S
from tests.coverage_report import lines_about

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```\n(.*?)```", CONTRIBUTING, re.DOTALL)
    for line in block.splitlines()
]
IN_FULL = {"make", 'make test ARGS="tests/unit/test_time.py"'}
"""Commands that are run to their end; of the others `make` says what it would do."""


def made(command: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of `make` with the environment of these tests, as if its virtual environment had just been made."""
    name, *arguments = shlex.split(command)
    here = [f"VENV={sys.prefix}", f"--old-file={sys.prefix}/.ready"]
    # Where `make` runs these tests, another one would speak as its part.
    environment = {variable: value for variable, value in os.environ.items() if not variable.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        [name, *options, *here, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_for_contributors_work(command: str) -> None:
    """Each command of CONTRIBUTING.md does what it says, or is one that `make` knows."""
    ran = made(command) if command in IN_FULL else made(command, "--dry-run")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout


def test_what_is_run_in_full_is_shown() -> None:
    """The commands that are run are those of the page."""
    assert set(COMMANDS) >= IN_FULL


def test_make_alone_lists_every_target() -> None:
    """Whoever types `make` sees each target that can be made by name, with a line about it."""
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    listed = [line.split(maxsplit=2) for line in made("make").stdout.splitlines()]
    assert sorted(words[1] for words in listed) == sorted(phony[1].split())
    assert all(words[0] == "make" and words[2] for words in listed)


def test_hooks_are_what_check_runs() -> None:
    """The pre-commit hooks are the parts of `make check`, all of them and no other."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    parts = re.search(r"^check: (.*?) *##", MAKEFILE, re.MULTILINE)
    assert parts is not None
    assert [hook["entry"] for hook in hooks] == [f"make {part}" for part in parts[1].split()]
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in hooks)


def test_what_is_covered_too_little_is_listed() -> None:
    """The report of `make coverage` has the whole in its first line, and below each module under 90 %, worst first."""
    files = {
        f"src/hushmeter/{name}.py": {"summary": {"percent_covered": p}} for name, p in (("a", 90.0), ("b", 89.9), ("c", 5))
    }
    totals = {"percent_covered": 61.6, "covered_branches": 3, "num_branches": 4}
    assert list(lines_about({"totals": totals, "files": files})) == [
        "61.6 % of lines and branches, 3 of 4 branches",
        "2 of 3 modules are below 90 %",
        "  5.0 %  c.py",
        " 89.9 %  b.py",
    ]
