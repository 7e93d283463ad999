"""Servers to be measured, each a process tree of its own, and what it has used of the processor.

A `RehearsedService` would not do: its clients would count as the server.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hushmeter.sdk.client import IngestClient

_WHOLE_PROCESS = 2
"""`CPUCLOCK_SCHED` of Linux: what the scheduler has counted, in nanoseconds; /proc tells hundredths of a second."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Attributes:
        target: host and port.
        pid: of the tree's first process.
    """

    target: str
    pid: int

    def cpu_s(self) -> float:
        """Processor seconds, user and system, of the whole tree up to now."""
        return sum(map(_cpu_s, _tree(self.pid)))


@contextmanager
def bare() -> Iterator[Running]:
    """The server that throws the bytes away."""
    command = [sys.executable, "-m", "benchmarks.ingesting.bare"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Running(f"127.0.0.1:{int(process.stdout.readline())}", process.pid)
        process.communicate()


@contextmanager
def hushmeter(state: Path, plan: Path, workers: int) -> Iterator[Running]:
    """`hushmeter serve`, as an operator starts it."""
    command = [sys.executable, "-m", "hushmeter", "serve", "--state-dir", str(state), "--plan", str(plan)]
    command += ["--listen", "127.0.0.1:0", "--metrics", "", "--workers", str(workers), "--log-format", "json"]
    log = state.with_suffix(".log")
    with log.open("wb") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        assert process.stdout is not None
        announced = process.stdout.readline()
        assert " on " in announced, f"the server did not start; see {log}"
        yield Running(announced.partition(" on ")[2].split()[0], process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0, f"the server did not end well; see {log}"


def allow(target: str, units: list[str], purpose: str) -> None:
    """Has every unit allow a purpose."""
    with IngestClient(target) as client:
        for unit in units:
            client.set_consent(unit, {purpose: True})


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            yield from _tree(int(child))


def _cpu_s(pid: int) -> float:
    # The clock of a process, as clock_getcpuclockid(3) makes it.
    return time.clock_gettime(~pid << 3 | _WHOLE_PROCESS)
