"""The table of planted faults stays in step with the code, and the audit catches five of them that change by the day."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.fault import Fault
from tests.faults.planting import ROOT, caught_by, environment_of
from tests.faults.table import FAULTS

AT_ONCE = 5
_DAY = int(os.environ["HUSHMETER_FAULTS_OF_DAY"])
TODAY = [FAULTS[(_DAY * AT_ONCE + i) % len(FAULTS)] for i in range(AT_ONCE)]


def test_every_fault_fits_the_code() -> None:
    """Each text to replace is in its file exactly once, and no two faults have one name."""
    for fault in FAULTS:
        text = Path(ROOT / "src" / "hushmeter" / fault.path).read_text(encoding="utf-8")
        assert text.count(fault.old) == 1, f"{fault.name}: not once in {fault.path}"
    assert len({f.name for f in FAULTS}) == len(FAULTS) >= 40


def test_coverage_does_not_measure_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that runs a copy is not measured, also where coverage measures the processes that tests start."""
    monkeypatch.setenv("COVERAGE_PROCESS_START", str(ROOT / "pyproject.toml"))
    measured = [sys.executable, "-c", "import sys; print('coverage' in sys.modules)"]
    said = [
        subprocess.run(measured, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path).stdout.strip()
        for environment in (dict(os.environ), environment_of(tmp_path))
    ]
    assert said == ["True", "False"]


@pytest.mark.parametrize("fault", TODAY, ids=lambda f: f.name)
def test_it_is_caught(fault: Fault) -> None:
    """The named check of the audit, or the named test, fails on a copy with the fault."""
    failed = caught_by(fault)
    assert any(name.startswith(fault.test or fault.check) for name in failed), failed
