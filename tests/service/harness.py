"""A plan with more to go wrong, served as `running` does it, and what is sent to such a service and read of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import grpc
import pytest

from hushmeter.api.ingest.v1 import ingest_pb2 as pb
from hushmeter.api.ingest.v1 import ingest_pb2_grpc
from hushmeter.api.report.v1.report_pb2 import RejectionReason, Report
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS
from hushmeter.patience import PATIENCE_S
from hushmeter.sdk import Recorder
from tests.plans import plan_text
from tests.service.running_service import FOUNDED_MS, Running, running

H = FOUNDED_MS

PLAN = plan_text(
    """
  joins:
    kind: counter
    dimensions: {platform: {values: [ios, android, web], scope: unit}, network: {values: [wifi, cellular]}}
    views: [[], [platform], [platform, network]]
    per_unit: {range: [0, 100], max_partitions: 2}
    statistics: [units, sum]
  setup:
    <<: *common
    kind: distribution
    unit: ms
    resolution: 0.5
    edges: [10, 100]
    per_unit: {range: [0, 1000], max_events: 10}
    views: [[], [platform]]
    weighting: event
    statistics: [units, events, sum, histogram]
  drift:
    <<: *common
    unit: ms
    per_unit: {range: [-50, 40]}
    views: [[]]
    statistics: [sum]
  crashed:
    <<: *common
    kind: flag
    purposes: [tuning, research]
    per_unit: {}
    views: [[]]
    statistics: [units, rate]
  theme:
    <<: *common
    kind: choice
    options: [light, dark]
    dimensions: {}
    views: [[]]
    at: [1d]
    per_unit: {}
    statistics: [units, rate]
  short_lived:
    <<: *common
    views: [[]]
    expires: 2026-03-03
""",
    purposes="tuning: Tune models., research: Do research.",
    unit="account",
)

QUICK_PLAN = PLAN.replace("lateness: 48h", "lateness: 1h")
"""Days end sooner, so that fewer hours are to be sealed before one is released."""

ENDED = H + DAY_MS + HOUR_MS
"""The deadline of the first day, by the quick plan."""


serving = partial(running, plan=PLAN)
"""Serves a deployment of the plan; see `running`."""


def agree(service: Running, *units: str, research: bool = True) -> None:
    """Lets units allow every purpose, or all but research."""
    service.consent(*units, tuning=True, research=research)


def finish(recorder: Recorder, end_ms: int, length_ms: int = 60_000) -> Report:
    """What was recorded, as a report of the time before `end_ms`."""
    report = recorder.report(end_ms - length_ms, end_ms)
    assert report is not None
    return report


def submitted(service: Running, reports: Sequence[Report], target: str | None = None) -> pb.Acknowledgement:
    """Sends reports over a connection of their own, once: no error is tried again."""
    with grpc.insecure_channel(target or service.target) as channel:
        stub = ingest_pb2_grpc.IngestServiceStub(channel)
        return stub.SubmitReports(pb.SubmitReportsRequest(reports=reports), timeout=PATIENCE_S).acknowledgement


def refused(code: grpc.StatusCode, service: Running, reports: Sequence[Report]) -> grpc.RpcError:
    """Sends reports that must be refused as a whole, with a code, and returns the error."""
    with pytest.raises(grpc.RpcError) as caught:
        submitted(service, reports)
    assert caught.value.code() is code, caught.value
    return caught.value


def reasons(answer: pb.Acknowledgement) -> dict[int, str]:
    """Why reports were rejected, by index."""
    return {r.index: RejectionReason.Name(r.reason).removeprefix("REJECTION_REASON_") for r in answer.rejections}


def missed(answer: pb.Acknowledgement) -> dict[str, list[int]]:
    """Which accepted reports came too late for which resolution."""
    return {m.resolution: list(m.indices) for m in answer.missed}


def read(
    service: Running, metric: str, statistic: str, resolution: str, view: Sequence[str] = ()
) -> dict[tuple[object, ...], float]:
    """One statistic by (hour of the window's start, values of the view's dimensions, component); zeros left out."""
    rows = service.analyst.releases(metric, view, resolution=resolution, statistics=[statistic]).to_pylist()
    return {
        (hour_of(row), *(row[name] for name in view), *([row["component"]] if row["component"] else [])): row["value"]
        for row in rows
        if row["value"]
    }


def hour_of(row: Mapping[str, object]) -> int:
    """The start of a row's window, in hours since the foundation."""
    start = row["window_start"]
    return int(start.timestamp() * 1000 - H) // HOUR_MS  # type: ignore[attr-defined]


def states(service: Running, state: WindowState) -> list[tuple[str, int]]:
    """Windows in a state, as (resolution, hours since the foundation)."""
    records = service.context.store.windows([state])
    return [(r.window.resolution, (r.window.start_ms - H) // HOUR_MS) for r in records]
