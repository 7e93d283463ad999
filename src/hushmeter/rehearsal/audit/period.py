"""The audit of a whole protection period: every window and statistic together, and bounded participation.

One matched filter over everything that a canary can move tests composition, bounds and budget at once: the best possible
test of a canary's presence has mu = sqrt(2 rho), where rho is the budget of the whole period.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.model.arrays import Float64
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.rehearsal.audit.evidence import Evidence, shown_by
from hushmeter.rehearsal.audit.scenario import (
    AUDIT_PURPOSE,
    AUDIT_START_MS,
    BACKGROUND,
    Audited,
    audited,
    finished,
    flip,
    resent,
    slots_of,
)
from hushmeter.rehearsal.audit.statistics import tests_in_all
from hushmeter.sdk.recorder import Recorder

_QUARTER_MS = 6 * HOUR_MS
_WINDOWS = 4
_B = float(BACKGROUND)

PERIOD_PLAN = """
plan: audit-period
version: 1
privacy: {{unit: canary, period: 1d, epsilon: 12, delta: 1e-4, currency: zcdp, weights: auto, expected_units: 10000}}
resolutions: {{6h: {{lateness: 1h}}, 1d: {{lateness: 2h}}}}
purposes: {{audit: Find out what releases give away.}}
metrics:
  counted: &common
    description: Canaries.
    owner: audit@example.com
    expires: 2026-12-31
    category: service_generated
    purposes: [audit]
    kind: counter
    dimensions: {{slot: {{values: &slots [{slots}], scope: unit}}}}
    views: [[slot]]
    per_unit: {{range: [0, 10]}}
    statistics: [units, sum]
  timed:
    <<: *common
    kind: distribution
    unit: ms
    edges: [50]
    weighting: event
    per_unit: {{range: [0, 100], max_events: 3}}
    statistics: [events, sum]
  once:
    <<: *common
    at: [6h]
    per_unit: {{range: [0, 10], max_windows: {{6h: 1}}}}
    statistics: [sum]
    weight: 10
"""


def audit_period(count: int, seed: int) -> Iterator[Evidence]:
    """Audits one period of a plan with two resolutions and a metric of bounded participation.

    Args:
        count: how many slots.
        seed: of the coins.
    """
    slots = slots_of(count)
    with audited(PERIOD_PLAN.format(slots=", ".join(slots))) as service:
        present = flip(count, seed)
        canaries = [slot for slot, there in zip(slots, present.tolist(), strict=True) if there]
        _live(service, slots, canaries)
        kept = [
            _window(service, slots, "once", "6h", AUDIT_START_MS + i * _QUARTER_MS)["sum", ""] / 10 for i in range(_WINDOWS)
        ]
        claim = service.claim("once", ("slot",), "sum", "6h", "sums of a unit in four windows that may be in one")
        # The sum of all windows shows best a cap that every withdrawal resets; the sum of two shows one that is off by one.
        yield shown_by(claim, kept[0] + kept[1] + kept[2] + kept[3] - _B / 10, present, tests_in_all())
        claim = service.claim("once", ("slot",), "sum", "6h", "the same, in the first two windows")
        # The background spends its one window on the first.
        yield shown_by(claim, kept[0] + kept[1] - _B / 10, present, tests_in_all())
        claim = service.composition("whole period: matched filter")
        yield shown_by(claim, _matched(service, slots, kept[0]), present, tests_in_all())


def _live(service: Audited, slots: list[str], canaries: list[str]) -> None:
    """Sends four windows of reports; after each of the first three, canaries withdraw their consent and give it again."""
    units = [f"{slot}/{i}" for slot in slots for i in range(BACKGROUND)]
    leaving = [f"{slot}/canary" for slot in canaries]
    service.agree([*units, *leaving])
    for window in range(_WINDOWS):
        start = AUDIT_START_MS + window * _QUARTER_MS
        service.advance(start + HOUR_MS + MINUTE_MS)
        if window:
            service.agree(leaving, given=False)
            service.clock.advance_to(start + HOUR_MS + 2 * MINUTE_MS)
            service.agree(leaving)
        end = start + 2 * HOUR_MS
        service.clock.advance_to(end)
        plan = service.client.plan()
        reports = [
            _background(Recorder(plan, f"{slot}/{i}", [AUDIT_PURPOSE]), slot, end)
            for slot in slots
            for i in range(BACKGROUND)
        ]
        for slot in canaries:
            report = _canary(Recorder(plan, f"{slot}/canary", [AUDIT_PURPOSE]), slot, end)
            reports += [report, resent(report)]
        service.send(reports)
    service.advance(AUDIT_START_MS + DAY_MS + 2 * HOUR_MS)


def _background(recorder: Recorder, slot: str, end_ms: int) -> Report:
    recorder.count("counted", 1, slot=slot)
    recorder.observe("timed", 50, slot=slot)
    recorder.count("once", 1, slot=slot)
    return finished(recorder.report(end_ms - 30 * MINUTE_MS, end_ms))


def _canary(recorder: Recorder, slot: str, end_ms: int) -> Report:
    recorder.count("counted", 10, slot=slot)
    for _ in range(5):
        recorder.observe("timed", 100, slot=slot)
    recorder.count("once", 10, slot=slot)
    return finished(recorder.report(end_ms - 30 * MINUTE_MS, end_ms))


def _window(
    service: Audited, slots: list[str], metric: str, resolution: str, start_ms: int
) -> dict[tuple[str, ...], Float64]:
    return dict(service.values(metric, ("slot",), slots, resolution=resolution, start_ms=start_ms))


def _matched(service: Audited, slots: list[str], once: Float64) -> Float64:
    """The likelihood ratio's score, float64[slots]: all vectors, weighted by mu^2; on average 1 for a canary."""
    scores, weights = np.zeros(len(slots)), 0.0

    def add(values: Float64, base: float, measurement: str, metric: str, resolution: str) -> None:
        nonlocal scores, weights
        mu = service.claim(metric, ("slot",), measurement, resolution, "").mu or 0.0
        scores = scores + mu**2 * (values - base)
        weights += mu**2

    for resolution, starts in (("6h", range(_WINDOWS)), ("1d", range(1))):
        # In a day a background unit sends four reports: all four counts are within its bounds, and three of four events.
        reports = 1 if resolution == "6h" else _WINDOWS
        for i in starts:
            start = AUDIT_START_MS + i * _QUARTER_MS
            counted = _window(service, slots, "counted", resolution, start)
            timed = _window(service, slots, "timed", resolution, start)
            add(counted["units", ""], _B, "units", "counted", resolution)
            add(counted["sum", ""] / 10, reports * _B / 10, "sum", "counted", resolution)
            add(timed["events", ""] / 3, min(reports, 3) * _B / 3, "events", "timed", resolution)
            centered = 2 * (timed["sum", ""] - 50 * timed["events", ""]) / 300
            add(centered, 0.0, "event_sum", "timed", resolution)
    add(once, _B / 10, "sum", "once", "6h")
    return scores / weights
