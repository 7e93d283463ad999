"""What `hushmeter serve` does with processes that end while it starts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hushmeter.clock import SystemClock
from hushmeter.service.deployment.config import Config
from hushmeter.service.processes.supervisor import STARTS_MAX, Supervisor, _Child

READY, KILLED, REFUSED = "echo ready; cat", "kill -9 $$", "exit 2"


class Scripted(Supervisor):
    """A supervisor whose processes do what the test says, one after another."""

    scripts: list[str]

    def _spawn(self, role: str) -> subprocess.Popen[str]:
        return subprocess.Popen(["sh", "-c", self.scripts.pop(0)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("scripts", "serves", "left"),
    [
        ([READY], True, 0),
        ([KILLED, READY], True, 0),
        ([KILLED] * (STARTS_MAX - 1) + [READY], True, 0),
        ([KILLED] * (STARTS_MAX + 1), False, 1),
        ([REFUSED, READY], False, 1),
    ],
)
def test_a_process_that_is_killed_while_it_starts(tmp_path: Path, scripts: list[str], serves: bool, left: int) -> None:
    """It is started again, a few times; one that says that it will not serve is believed."""
    supervisor = Scripted(Config(state_dir=tmp_path, listen="127.0.0.1:0", metrics=""), SystemClock(), lambda _: None)
    supervisor.scripts = list(scripts)
    child = _Child("worker-0", "worker", supervisor._spawn("worker"))
    supervisor._children = [child]
    assert supervisor._await_ready(child) is serves
    assert len(supervisor.scripts) == left
    supervisor._end_children()
    supervisor.close()
