"""A `RehearsedService` without noise, with a plan of every kind of metric, and what most tests do with it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from hushmeter.api.ingest.v1.ingest_pb2 import PlanDescription
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.clock import ReplayClock
from hushmeter.model.time import HOUR_MS
from hushmeter.ports import Mechanisms
from hushmeter.rehearsal.service import RehearsedService
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.opening import open_context
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.plans import plan_text

FOUNDED_MS = 1_772_409_600_000
"""Monday, 2 March 2026, midnight UTC."""

PLAN = plan_text(
    """
  starts:
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
""",
    asks="model_tuning",
    purposes="model_tuning: Tune models., research: Do research.",
)


class Running(RehearsedService):
    """A running service, and what a test does with it.

    Attributes:
        plan: as it was told at the start.
    """

    plan: PlanDescription

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.plan = self.client.plan()
        except BaseException:
            # A service that cannot say its plan would otherwise go on, and the test would never end.
            self.__exit__(None, None, None)
            raise
        return self

    def consent(self, *units: str, **decisions: bool) -> None:
        """One after another, in this order; `decide` tells many at once."""
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

    def sums(self, resolution: str, view: Sequence[str] = (), metric: str = "starts") -> dict[int, float]:
        """The sum of starts by window start, in hours since the foundation; zeros left out."""
        rows = self.analyst.releases(metric, view, resolution=resolution, statistics=["sum"]).to_pylist()
        hours = {int(r["window_start"].timestamp() * 1000 - FOUNDED_MS) // HOUR_MS: r["value"] for r in rows}
        return {hour: value for hour, value in hours.items() if value}


@contextmanager
def running(
    state_dir: Path,
    *,
    clock: ReplayClock | None = None,
    parts: Mapping[str, object] | None = None,
    plan: str = PLAN,
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
    clock = clock or ReplayClock(FOUNDED_MS)
    context = open_context(Config(state_dir=state_dir), clock, mechanisms or ExactMechanisms(), plan, serves=not joins)
    with Running(dataclasses.replace(context, **(parts or {})), clock) as service:  # type: ignore[arg-type]
        yield service
