"""Workers and sealer are killed at random while clients stream; nothing that was acknowledged is lost or counted twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import grpc
import numpy as np
import pytest

from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.ledger.entries import verify_budget, verify_chain
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.states import WindowState
from hushmeter.sdk import IngestClient
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.opening import open_context
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.patience import PATIENCE_S, comes_true
from tests.ports import free_port
from tests.service.fast_child import FastClock

SLOTS = 6_000
CLIENTS = 3
KILLS = 7
BETWEEN_KILLS = 40
"""Reports that are acknowledged between two kills at least, however long that takes."""
MINUTES_OLD = (0, 0, 0, 20, 40)
"""How long before it is sent a report's interval ended."""
UNITS = [f"unit-{i}" for i in range(40)]

PLAN = f"""
plan: one-partition-per-report
version: 1
privacy: {{unit: device, period: 1d, epsilon: 4, delta: 1e-8, expected_units: 40}}
resolutions: {{15m: {{lateness: 5m}}, 1h: {{lateness: 30m}}}}
purposes: {{test: Find out whether anything is lost.}}
metrics:
  slots:
    description: Each report counts in a slot of its own.
    owner: test@example.com
    expires: EXPIRES
    category: diagnostic
    purposes: [test]
    kind: counter
    dimensions: {{slot: {{values: [{", ".join(f"s{i}" for i in range(SLOTS))}]}}}}
    views: [[slot]]
    per_unit: {{max_partitions: {SLOTS}, range: [0, 1000]}}
    statistics: [sum]
"""


class Fleet:
    """Two workers and a sealer as processes, which can be killed and started again."""

    ROLES: ClassVar = {"worker-0": "worker", "worker-1": "worker", "sealer": "sealer"}

    def __init__(self, config: Config, origin_ms: int) -> None:
        self._config = config
        self._origin_ms = origin_ms
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in self.ROLES:
            self.start(name)

    def start(self, name: str) -> None:
        command = [sys.executable, "-m", "tests.service.fast_child", self.ROLES[name], str(self._origin_ms)]
        self._processes[name] = subprocess.Popen(
            [*command, self._config.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
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


class Sender(threading.Thread):
    """A client that reports without pause, tries again until it has an answer, and remembers what it was told."""

    def __init__(self, port: int, clock: FastClock, slots: range, seed: int) -> None:
        super().__init__(name=f"sender-{seed}")
        self._port = port
        self._clock = clock
        self._slots = slots
        self._random = random.Random(seed)
        self.stop = threading.Event()
        self.missed: dict[int, frozenset[str]] = {}
        """Slot of each acknowledged report, to the resolutions that it came too late for."""
        self.resent: set[int] = set()
        """Slots that were sent again: the copy that was durable before a kill may have been in time, and then it counts."""
        self.ends: dict[int, int] = {}
        self.rejected: Counter[int] = Counter()

    def run(self) -> None:
        with IngestClient(f"127.0.0.1:{self._port}") as client:
            plan = None
            slots = iter(self._slots)
            while not self.stop.is_set():
                try:
                    plan = plan or client.plan()
                    self._send(client, plan.metrics[0].first_series, [s for _, s in zip(range(4), slots, strict=False)])
                except grpc.RpcError:
                    continue

    def _send(self, client: IngestClient, first_series: int, slots: list[int]) -> None:
        if not slots:
            self.stop.set()
            return
        now = self._clock.now_ms()
        reports = []
        for slot in slots:
            # Some arrive too late for their quarter of an hour, and some of those in the last moment of the hour.
            end = now - self._random.choice(MINUTES_OLD) * 60_000
            self.ends[slot] = end
            reports.append(
                Report(
                    report_id=self._random.randbytes(16),
                    unit_id=self._random.choice(UNITS),
                    interval_start_ms=end - 1_000,
                    interval_end_ms=end,
                    plan_version=1,
                    series=[first_series + slot],
                    value=[1],
                )
            )
        while not self.stop.is_set():
            try:
                acknowledgement = client.submit(reports)
            except grpc.RpcError:
                self.resent.update(slots)
                continue
            rejected = {r.index: r.reason for r in acknowledgement.rejections}
            for index, slot in enumerate(slots):
                if index in rejected:
                    self.rejected[rejected[index]] += 1
                    continue
                missed = frozenset(m.resolution for m in acknowledgement.missed if index in m.indices)
                self.missed[slot] = missed
            return


@pytest.fixture
def founded(tmp_path: Path) -> tuple[Config, FastClock, int]:
    port = free_port()
    origin_ms = time.time_ns() // 1_000_000
    config = Config(state_dir=tmp_path / "state", listen=f"127.0.0.1:{port}", metrics="")
    clock = FastClock(origin_ms)
    expires = time.strftime("%Y-%m-%d", time.gmtime(origin_ms / 1000 + 200 * 86_400))
    context = open_context(config, clock, ExactMechanisms(), PLAN.replace("EXPIRES", expires))
    context.store.close()
    return config, clock, port


def test_acknowledged_reports_survive_kills(
    founded: tuple[Config, FastClock, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each acknowledged report is in one tally per resolution it was accepted for; each window is released once."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(founded[0].state_dir))
    config, clock, port = founded
    seed = int(os.environ.get("HUSHMETER_KILL_SEED", "20261123"))
    chance = random.Random(seed)
    fleet = Fleet(config, clock._origin_ms)
    _consent(port, clock)
    per_client = SLOTS // CLIENTS
    senders = [Sender(port, clock, range(i * per_client, (i + 1) * per_client), seed + i) for i in range(CLIENTS)]
    for sender in senders:
        sender.start()
    for kill in range(KILLS):
        _pause(chance.uniform(0.2, 3.8))
        enough = (kill + 1) * BETWEEN_KILLS
        assert comes_true(
            lambda enough=enough: (
                sum(len(s.missed) for s in senders) >= enough  # type: ignore[misc]
                or not any(s.is_alive() for s in senders)
            )
        )
        names = list(fleet.ROLES)
        name = names[kill] if kill < len(names) else chance.choice(names)
        fleet.kill(name)
        fleet.start(name)
    for sender in senders:
        sender.stop.set()
        sender.join()
    streamed_until = clock.now_ms()
    try:
        context = open_context(config, clock, ExactMechanisms(), serves=False)
        _await_all_ended(context, streamed_until)
    finally:
        fleet.stop()
    _judge(context, senders)
    context.store.close()


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _consent(port: int, clock: FastClock) -> None:
    with IngestClient(f"127.0.0.1:{port}") as client, ThreadPoolExecutor(8) as pool:
        assert comes_true(lambda: _answers(client))
        list(pool.map(lambda unit: client.set_consent(unit, {"test": True}), UNITS))
    # Intervals that begin before the decision are refused.
    decided_ms = clock.now_ms()
    assert comes_true(lambda: clock.now_ms() > decided_ms + (max(MINUTES_OLD) + 1) * 60_000)


def _answers(client: IngestClient) -> bool:
    try:
        client.plan()
    except grpc.RpcError:
        return False
    return True


def _await_all_ended(context: Context, until_ms: int) -> None:
    def ended() -> bool:
        newest = {r.name: context.store.last_window_start(r.name) for r in context.plan.resolutions}
        waiting = context.store.windows([WindowState.CLOSING, WindowState.FIXED])
        pending = [r for r in waiting if r.window.start_ms <= until_ms]
        return not pending and all(start is not None and start >= until_ms for start in newest.values())

    assert comes_true(ended), "windows did not end"


def _judge(context: Context, senders: list[Sender]) -> None:
    missed = {slot: m for sender in senders for slot, m in sender.missed.items()}
    ends = {slot: end for sender in senders for slot, end in sender.ends.items()}
    resent = set[int]().union(*(sender.resent for sender in senders))
    assert len(missed) > 200, "the clients got too little through for the test to mean anything"
    assert not context.store.windows([WindowState.LOST])
    for column, resolution in enumerate(context.plan.resolutions):
        releases = list(context.store.releases("slots", ("slot",), resolution.name, 0, 2**62))
        starts = [r.key.window_start_ms for _, r in releases]
        expected = list(range(int(context.first_starts[column]), starts[-1] + 1, resolution.span.length_ms))
        assert starts == expected, f"{resolution.name}: every window has exactly one release"
        counts = np.array([r.vectors[MeasurementName.SUM].values[:, 0] for _, r in releases])
        totals = counts.sum(axis=0)
        assert totals.max() <= 1, f"{resolution.name}: a report was counted twice"
        for slot, late in missed.items():
            if resolution.name in late:
                assert totals[slot] == 0 or slot in resent, f"{resolution.name}: a report that came too late was counted"
            else:
                assert totals[slot] == 1, f"{resolution.name}: an acknowledged report was lost"
                window = resolution.span.window_of(ends[slot])
                assert counts[starts.index(window.start_ms), slot] == 1, f"{resolution.name}: counted in another window"
    assert any(late for late in missed.values()), "no report was late: the test does not reach the deadlines"
    verify_budget(verify_chain(context.store.ledger()), context.deployment.budget)
