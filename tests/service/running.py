"""A whole service on a loopback port, with a clock that the test moves and no noise."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hushmeter.analyst import AnalystClient
from hushmeter.api.ingest.v1.ingest_pb2 import PlanDescription
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.clock import ReplayClock
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS
from hushmeter.ports import Mechanisms
from hushmeter.sdk import IngestClient
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.processes.embedded import serving
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.patience import comes_true

FOUNDED_MS = 1_772_409_600_000
"""Monday, 2 March 2026, midnight UTC."""

PLAN = """
plan: test
version: 1
privacy: {unit: device, period: 1w, epsilon: 4, delta: 1e-8, expected_units: 100}
resolutions: {1h: {lateness: 10m}, 1d: {lateness: 48h}}
purposes: {model_tuning: Tune models., research: Do research.}
metrics:
  starts: &common
    description: Starts.
    owner: test@example.com
    expires: 2026-12-31
    category: product_usage
    purposes: [model_tuning]
    kind: counter
    dimensions: {platform: {values: [ios, android], scope: unit}}
    views: [[], [platform]]
    per_unit: {range: [0, 100]}
    statistics: [units, sum]
  latency:
    <<: *common
    kind: distribution
    unit: ms
    edges: [10, 100]
    per_unit: {range: [0, 1000], max_events: 10}
    statistics: [units, mean, histogram]
  crashed:
    <<: *common
    kind: flag
    purposes: [model_tuning, research]
    per_unit: {}
    statistics: [rate]
  theme:
    <<: *common
    kind: choice
    options: [light, dark]
    per_unit: {}
    statistics: [rate]
  short_lived:
    <<: *common
    expires: 2026-03-03
"""


@dataclass
class Running:
    """A running service, and what a test does with it."""

    context: Context
    clock: ReplayClock
    port: int
    client: IngestClient
    analyst: AnalystClient
    plan: PlanDescription

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def consent(self, *units: str, **decisions: bool) -> None:
        for unit in units:
            self.client.set_consent(unit, decisions or {"model_tuning": True})

    def starts(self, unit: str, end_ms: int, count: int = 1, **changes: object) -> Report:
        """A report of `count` starts on ios in the minute before `end_ms`."""
        fields: dict[str, object] = {
            "report_id": os.urandom(16),
            "unit_id": unit,
            "interval_start_ms": end_ms - 60_000,
            "interval_end_ms": end_ms,
            "plan_version": 1,
            "series": [self.plan.metrics[0].first_series],
            "value": [count],
        }
        return Report(**(fields | changes))  # type: ignore[arg-type]

    def advance_to(self, now_ms: int) -> None:
        """Moves the clock and waits until every window whose deadline has passed has ended."""
        self.clock.advance_to(now_ms)
        if not comes_true(self._settled):
            store = self.context.store
            waiting = [f"{r.window} {r.state}" for r in store.windows([WindowState.CLOSING, WindowState.FIXED])]
            pytest.fail(f"windows did not end: {waiting}; beats {store.beats()}")

    def _settled(self) -> bool:
        store, resolutions = self.context.store, self.context.plan.resolutions
        newest = [store.last_window_start(r.name) for r in resolutions]
        begun = all(self._begun(column, start) for column, start in enumerate(newest))
        return begun and not store.windows([WindowState.CLOSING, WindowState.FIXED])

    def _begun(self, column: int, newest: int | None) -> bool:
        resolution = self.context.plan.resolutions[column]
        first = int(self.context.first_starts[column])
        following = first if newest is None else resolution.span.end_of(newest)
        return resolution.deadline_ms(resolution.span.window_from(following)) > self.clock.now_ms()

    def sums(self, resolution: str, view: Sequence[str] = (), metric: str = "starts") -> dict[int, float]:
        """The sum of starts by window start, in hours since the foundation; zeros left out."""
        rows = self.analyst.releases(metric, view, resolution=resolution, statistics=["sum"]).to_pylist()
        hours = {int(r["window_start"].timestamp() * 1000 - FOUNDED_MS) // HOUR_MS: r["value"] for r in rows}
        return {hour: value for hour, value in hours.items() if value}


def await_true(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds that another thread brings about."""
    if not comes_true(condition):
        pytest.fail("waited in vain")


@contextmanager
def running(
    state_dir: Path,
    *,
    clock: ReplayClock | None = None,
    parts: Mapping[str, object] | None = None,
    plan: str | None = None,
    mechanisms: Mechanisms | None = None,
    joins: bool = False,
) -> Iterator[Running]:
    """Founds or opens a deployment and serves it for as long as the block lasts.

    Args:
        state_dir: of the deployment.
        clock: the test's; a new one stands at the foundation.
        parts: attributes of the context to replace, for example a log on a faulty disk.
        plan: text of the plan; `PLAN` by default.
        mechanisms: noise; none by default.
        joins: a deployment that is served already, as one more of its processes.
    """
    import dataclasses

    clock = clock or ReplayClock(FOUNDED_MS)
    context = open_context(
        Config(state_dir=state_dir), clock, mechanisms or ExactMechanisms(), plan or PLAN, serves=not joins
    )
    context = dataclasses.replace(context, **(parts or {}))  # type: ignore[arg-type]
    with serving(context) as port:
        target = f"127.0.0.1:{port}"
        with IngestClient(target) as client, AnalystClient(target) as analyst:
            yield Running(context, clock, port, client, analyst, client.plan())
