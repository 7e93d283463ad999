"""Workers and sealer are killed at random while clients stream; nothing that was acknowledged is lost or counted twice."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Container
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import pytest

from hushmeter.model.states import WindowState
from hushmeter.model.time import Window
from hushmeter.patience import PATIENCE_S, await_true
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.opening import open_context
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.ports import free_port
from tests.torture.clients import CLIENTS, SLOTS, Sender, all_ended, judge, lay, let_all_agree
from tests.torture.clockwork import Machine, pause
from tests.torture.process import COMMAND

KILLS = 7
BETWEEN_KILLS = 40
"""Reports that are acknowledged between two kills at least, however long that takes."""
ROOT = Path(__file__).parents[2]


class Fleet:
    """Two workers and a sealer as processes, which can be killed and started again."""

    ROLES: ClassVar = {"worker-0": "worker", "worker-1": "worker", "sealer": "sealer"}

    def __init__(self, config: Config, machine: Machine, log: Path) -> None:
        self._config = config
        self._log = log
        self._machine = machine
        self._clock = machine.clock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in self.ROLES:
            self.start(name)

    def start(self, name: str) -> None:
        command = [*COMMAND, self.ROLES[name], *map(json.dumps, (asdict(self._machine), asdict(self._clock.anchor())))]
        with self._log.open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*command, self._config.model_dump_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=ROOT,
            )

    def kill(self, name: str) -> None:
        process = self._processes[name]
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def stop(self) -> None:
        for name in self.ROLES:
            self._processes[name].terminate()
        for process in self._processes.values():
            process.wait(PATIENCE_S)
            if process.stdin is not None:
                process.stdin.close()


def test_acknowledged_reports_survive_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each acknowledged report is in one tally per resolution it was accepted for; each window is released once.

    A sealer that is killed between its claim and its drawing leaves a window that is lost, and only then (C7).
    """
    port, machine = free_port(), Machine.new(tmp_path / "clock")
    config = Config(state_dir=tmp_path / "state", listen=f"127.0.0.1:{port}", metrics="")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(config.state_dir))
    lay(config, machine)
    seed = int(os.environ.get("HUSHMETER_KILL_SEED", "20261123"))
    chance = random.Random(seed)
    fleet = Fleet(config, machine, log := tmp_path / "log")
    let_all_agree(port, machine)
    per_client = SLOTS // CLIENTS
    senders = [Sender(port, machine, range(i * per_client, (i + 1) * per_client), seed + i) for i in range(CLIENTS)]
    for sender in senders:
        sender.start()
    killed: list[str] = []
    for kill in range(KILLS):
        pause(chance.uniform(0.2, 3.8))
        enough = (kill + 1) * BETWEEN_KILLS
        await_true(
            lambda enough=enough: (
                sum(len(s.missed) for s in senders) >= enough  # type: ignore[misc]
                or not any(s.is_alive() for s in senders)
            )
        )
        names = list(fleet.ROLES)
        name = names[kill] if kill < len(names) else chance.choice(names)
        fleet.kill(name)
        killed.append(name)
        fleet.start(name)
    for sender in senders:
        sender.stop.set()
        sender.join()
    streamed_until = machine.now_ms()
    try:
        context = open_context(config, machine.clock(), ExactMechanisms(), serves=False)
        await_true(lambda: all_ended(context, streamed_until), lambda: "windows did not end")
    finally:
        fleet.stop()
    lost = {record.window for record in context.store.windows([WindowState.LOST])}
    assert len(lost) <= killed.count("sealer"), "a kill of the sealer costs at most the window that it had claimed (C7)"
    said = [line for line in log.read_text().splitlines() if "a window is lost" in line]
    assert all("a process ended in between" in line for line in said), "a window was lost for another cause than a kill"
    _ensure_it_meant_something(context, senders, lost)
    judge(context, senders, lost)
    context.store.close()


def _ensure_it_meant_something(context: Context, senders: list[Sender], lost: Container[Window]) -> None:
    missed = [late for sender in senders for late in sender.missed.values()]
    assert len(missed) > 200, "the clients got too little through for the test to mean anything"
    assert any(missed), "no report was late: the test does not reach the deadlines"
    for column, resolution in enumerate(context.plan.resolutions):
        starts = [r.key.window_start_ms for _, r in context.store.releases("slots", ("slot",), resolution.name, 0, 2**62)]
        first = range(int(context.first_starts[column]), starts[-1] + 1, resolution.span.length_ms)
        expected = [start for start in first if resolution.span.window_of(start) not in lost]
        assert starts == expected, f"{resolution.name}: every window that is not lost has exactly one release"
