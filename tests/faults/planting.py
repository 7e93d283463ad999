"""Plants a fault in a copy of the source tree, and runs the audit there: `python -m tests.faults.planting [NAME...]`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.table import FAULTS

ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 900
_COVERAGE = frozenset({"COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"})
"""Variables by which coverage measures each process that starts with them."""


def planted(fault: Fault, copy: Path) -> None:
    """Copies the source tree, and changes the one place; the table fails where the text is not there exactly once."""
    shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / "hushmeter" / fault.path
    text = file.read_text(encoding="utf-8")
    assert text.count(fault.old) == 1, f"{fault.name}: the text to replace is {text.count(fault.old)} times in {fault.path}"
    file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")


def caught_by(fault: Fault, *, whole: bool = False) -> list[str]:
    """Runs the audit on a copy with the fault; names of the checks that failed.

    Args:
        fault: to plant.
        whole: run all of the quick audit, not only the part that is enough.
    """
    with tempfile.TemporaryDirectory(prefix="hushmeter-fault-") as directory:
        copy = Path(directory) / "src"
        planted(fault, copy)
        if fault.test:
            return [fault.test] if _test_fails(fault.test, copy) else []
        command = [sys.executable, "-m", "hushmeter", "audit", "--quick"]
        command += [] if whole else ["--only", fault.only]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env=environment_of(copy),
            timeout=_TIMEOUT_S,
            cwd=directory,
        )
    failed = [line.removeprefix("exceeded ") for line in done.stdout.splitlines() if line.startswith("exceeded ")]
    return failed if done.returncode == 1 else []


def environment_of(copy: Path) -> dict[str, str]:
    """The variables of a process that runs a copy; coverage does not measure the process, as the copy is gone at its end."""
    return {name: value for name, value in os.environ.items() if name not in _COVERAGE} | {"PYTHONPATH": str(copy)}


def _test_fails(test: str, copy: Path) -> bool:
    """Whether a test fails with the code of a copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment_of(copy), timeout=_TIMEOUT_S, cwd=ROOT
    )
    # Status 1 says that tests ran and failed; whatever else it is, nothing was caught.
    return done.returncode == 1


def main(names: list[str]) -> int:
    """Plants every fault, or those whose name holds a word; prints what caught each. Status 1 where one was not."""
    chosen = [f for f in FAULTS if not names or any(name in f.name for name in names)]
    missed = 0
    with ThreadPoolExecutor(2) as pool:
        for fault, failed in zip(chosen, pool.map(lambda f: caught_by(f, whole=not names), chosen), strict=True):
            by = next((f for f in failed if f.startswith(fault.test or fault.check)), "")
            missed += not by
            print(f"{fault.name:56} {by[:100] or 'NOT CAUGHT'}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} faults were caught")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
