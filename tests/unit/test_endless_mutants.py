"""A mutant that loops for ever is found by the first test that meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.limit import TEST_CPU_S

LOOP = """
def test_that_ends():
    pass

def test_that_does_not():
    while True:
        try:
            {inside}
        except Exception:
            continue
"""
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("inside", ["sum(range(1000))", "raise ValueError"])
def test_an_endless_loop_is_a_failure(inside: str, tmp_path: Path) -> None:
    (tmp_path / "test_loop.py").write_text(LOOP.format(inside=inside))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.mutation.limit", "-p", "no:cacheprovider", str(tmp_path)]
    environment = os.environ | {TEST_CPU_S: "0.3", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED


def test_without_a_limit_tests_have_none(tmp_path: Path) -> None:
    (tmp_path / "test_quick.py").write_text("def test_quick():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.mutation.limit", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != TEST_CPU_S} | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert run.returncode == pytest.ExitCode.OK
