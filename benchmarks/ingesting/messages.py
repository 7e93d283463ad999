"""Encoded requests, each report with an id of its own, and how long encoding one takes."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Sequence

import numpy as np

from hushmeter.api.ingest.v1 import ingest_pb2 as pb
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.sdk.recorder import Recorder

PLAN = """
plan: ingest
version: 1
privacy: {unit: device, period: 1w, epsilon: 2, delta: 1e-6, expected_units: 10000, participants: false}
resolutions: {1h: {lateness: 1h}}
purposes: {measuring: Measure what taking reports in costs.}
metrics:
  calls:
    description: Calls by endpoint.
    owner: benchmarks@example.com
    expires: EXPIRES
    category: product_usage
    purposes: [measuring]
    kind: counter
    unit: calls
    dimensions: {endpoint: {values: [VALUES]}}
    views: [[endpoint]]
    per_unit: {max_partitions: 20, range: [0, 100]}
    statistics: [units, sum]
"""
PURPOSE = "measuring"
ENDPOINTS = 200
VALUES = 10
"""Of each report."""
UNITS = 2_000


def plan_text(expires: str) -> str:
    """The plan; metrics expire at a date."""
    return PLAN.replace("EXPIRES", expires).replace("VALUES", ", ".join(f"e{i}" for i in range(ENDPOINTS)))


def unit_ids() -> list[str]:
    """The units that report."""
    return [f"unit-{i:06}" for i in range(UNITS)]


class Messages:
    """Makes requests for a plan.

    Args:
        plan: as the server describes it.
        now_ms: the server's clock; intervals end a moment before.
        seed: of units, partitions and values.
    """

    def __init__(self, plan: pb.PlanDescription, now_ms: int, seed: int) -> None:
        self._first = plan.metrics[0].first_series
        self._version = plan.version
        self._end_ms = now_ms - 1_000
        self._rng = np.random.default_rng(seed)
        self._units = unit_ids()

    def made(self, messages: int, reports: int) -> list[bytes]:
        """So many messages with so many reports each; a message is the same for every method."""
        return [
            pb.SubmitReportsRequest(reports=[self._report() for _ in range(reports)]).SerializeToString()
            for _ in range(messages)
        ]

    def _report(self) -> Report:
        return Report(
            report_id=secrets.token_bytes(16),
            unit_id=self._units[int(self._rng.integers(UNITS))],
            interval_start_ms=self._end_ms - 60_000,
            interval_end_ms=self._end_ms,
            plan_version=self._version,
            series=(self._first + self._rng.choice(ENDPOINTS, VALUES, replace=False)).tolist(),
            value=self._rng.integers(1, 50, VALUES).tolist(),
        )


def encoding_us(plan: pb.PlanDescription, reports: int) -> float:
    """Microseconds that the client takes to encode one report of `VALUES` values, recording not included."""
    names: Sequence[str] = [f"e{i}" for i in range(VALUES)]
    taken: list[float] = []
    for _ in range(reports):
        recorder = Recorder(plan, "unit-000000", [PURPOSE])
        for name in names:
            recorder.count("calls", 3, endpoint=name)
        start = time.perf_counter()
        report = recorder.report(1_700_000_000_000, 1_700_000_060_000)
        assert report is not None
        report.SerializeToString()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e6
