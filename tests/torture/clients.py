"""Clients of a service whose processes are killed: what they report, what they are told, and how a test waits for them."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.ledger.entries import verify_budget, verify_chain
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.states import WindowState
from hushmeter.model.time import Window
from hushmeter.patience import await_true
from hushmeter.sdk import IngestClient
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.opening import open_context
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.plans import plan_text
from tests.torture.clockwork import Machine

SLOTS = 6_000
CLIENTS = 3
MINUTES_OLD = (0, 0, 0, 20, 40)
"""How long before it is sent a report's interval ended."""
UNITS = [f"unit-{i}" for i in range(40)]
_EXPIRES_DAYS = 200

PLAN = plan_text(
    f"""
  slots:
    kind: counter
    dimensions: {{slot: {{values: [{", ".join(f"s{i}" for i in range(SLOTS))}]}}}}
    views: [[slot]]
    per_unit: {{max_partitions: {SLOTS}, range: [0, 1000]}}
    statistics: [sum]
""",
    expires="EXPIRES",
    asks="test",
    purposes="test: Find out whether anything is lost.",
    resolutions="15m: {lateness: 5m}, 1h: {lateness: 30m}",
    period="1d",
    expected_units=40,
)
"""Each report counts in a slot of its own."""


class Broken(Exception):
    """A promise did not hold; the text says which."""


def ensure(condition: object, message: str) -> None:
    """Raises `Broken` unless a promise holds."""
    if not condition:
        raise Broken(message)


def lay(config: Config, machine: Machine) -> None:
    """Founds a deployment of the plan, whose metrics expire a while after the machine's today."""
    expires = time.strftime("%Y-%m-%d", time.gmtime(machine.origin_ms / 1000 + _EXPIRES_DAYS * 86_400))
    open_context(config, machine.clock(), ExactMechanisms(), PLAN.replace("EXPIRES", expires)).store.close()


def let_all_agree(port: int, machine: Machine) -> None:
    """Waits until a service answers, and lets every unit agree; the oldest reports of then are covered."""
    with IngestClient(f"127.0.0.1:{port}") as client, ThreadPoolExecutor(8) as pool:
        await_true(lambda: answers(client), lambda: "the service did not come up")
        list(pool.map(lambda unit: client.set_consent(unit, {"test": True}), UNITS))
    # Intervals that begin before the decision are refused.
    covered_ms = machine.now_ms() + (max(MINUTES_OLD) + 1) * 60_000
    await_true(lambda: machine.now_ms() > covered_ms, lambda: "the machine's time stands still")


def answers(client: IngestClient) -> bool:
    """Whether a service answers."""
    with contextlib.suppress(grpc.RpcError):
        client.plan()
        return True
    return False


def all_ended(context: Context, until_ms: int) -> bool:
    """Whether every window that began until a moment is released or lost."""
    newest = [context.store.last_window_start(r.name) for r in context.plan.resolutions]
    waiting = context.store.windows([WindowState.CLOSING, WindowState.FIXED])
    begun = all(start is not None and start >= until_ms for start in newest)
    return begun and not [r for r in waiting if r.window.start_ms <= until_ms]


class Sender(threading.Thread):
    """A client that reports without pause, tries again until it has an answer, and remembers what it was told."""

    def __init__(self, port: int, machine: Machine, slots: range, seed: int) -> None:
        super().__init__(name=f"sender-{seed}")
        self._port = port
        self._machine = machine
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
        now = self._machine.now_ms()
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


def judge(context: Context, senders: Sequence[Sender], lost: Container[Window] = ()) -> None:
    """Every report counts as its client was told, once; and the ledger holds.

    Args:
        context: a deployment in which every window of the reports has ended.
        senders: the clients, which have stopped.
        lost: windows that ended without a release.

    Raises:
        Broken: a report is missing, or counts twice, too late or elsewhere.
    """
    missed = {slot: m for sender in senders for slot, m in sender.missed.items()}
    ends = {slot: end for sender in senders for slot, end in sender.ends.items()}
    resent = set[int]().union(*(sender.resent for sender in senders))
    for resolution in context.plan.resolutions:
        found = [r for _, r in context.store.releases("slots", ("slot",), resolution.name, 0, 2**62)]
        counts = {r.key.window_start_ms: r.vectors[MeasurementName.SUM].values[:, 0] for r in found}
        ensure(len(found) == len(counts), f"{resolution.name}: a window was released twice")
        totals = np.sum(list(counts.values()), axis=0)
        ensure(totals.max() <= 1, f"{resolution.name}: a report was counted twice")
        for slot, late in missed.items():
            window = resolution.span.window_of(ends[slot])
            if resolution.name in late:
                # What was durable before a kill, and is sent again later, counts as it came first.
                too_late = totals[slot] and slot not in resent
                ensure(not too_late, f"{resolution.name}: a report that came too late was counted")
            elif window in lost:
                ensure(totals[slot] == 0, f"{resolution.name}: a report of a lost window was released")
            else:
                ensure(totals[slot] == 1, f"{window}: acknowledged report {slot} is missing, and nobody says so")
                ensure(counts[window.start_ms][slot] == 1, f"{window}: report {slot} counted in another window")
    verify_budget(verify_chain(context.store.ledger()), context.deployment.budget)
