"""The README's commands are run as they stand there, but for the port."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from hushmeter.patience import PATIENCE_S
from tests.ports import free_port
from tests.processes import hushmeter_serve

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HUSHMETER = str(Path(sys.executable).parent / "hushmeter")


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HUSHMETER, *arguments], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_make_commands_are_shown() -> None:
    """The README shows the two commands that work on a fresh clone, and the Makefile has them."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_tour_works(tmp_path: Path) -> None:
    """Commands plan init, plan check, serve and the Python snippet do what the README says."""
    assert "hushmeter plan init plan.yaml" in README
    assert run("plan", "init", "plan.yaml", cwd=tmp_path).returncode == 0
    checked = run("plan", "check", "plan.yaml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    for line in ("epsilon    4.000", "epsilon    5.841", "epsilon   10.823", "epsilon   41.269"):
        assert line in checked.stdout
        assert line in README
    with hushmeter_serve(tmp_path, "--plan", "plan.yaml", "--metrics", "") as service:
        target = service.target
        code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
        assert code is not None
        snippet = code[1].replace("127.0.0.1:50551", target)
        told = subprocess.run(
            [sys.executable, "-c", snippet], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert told.stdout.strip() == "1", told.stderr
        asked = run("query", "calls", "--resolution", "1h", "--target", target, cwd=tmp_path)
        assert asked.returncode == 0, asked.stderr
        verified = run("ledger", "verify", "--target", target, cwd=tmp_path)
        assert verified.returncode == 0, verified.stderr
        second = run("serve", "--listen", f"127.0.0.1:{free_port()}", cwd=tmp_path)
        assert second.returncode == 2
        assert "serves hushmeter-state" in second.stderr
