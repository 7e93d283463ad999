"""The exact check: neighbouring data sealed in-process, and how far every vector moves, in integers.

Statistics cannot show a fault that moves a vector by one step in a thousand; this check does. The adversary's reports give
each rule that bounds a unit something to bound.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.model.arrays import Int64
from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import Measurement
from hushmeter.model.participation import KeptWindows
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import DAY_MS, Window
from hushmeter.plan.catalog import Catalog, assign_blocks
from hushmeter.plan.measurements import measurements_of
from hushmeter.plan.reading import parse_plan
from hushmeter.rehearsal.audit.evidence import Evidence, checked
from hushmeter.rehearsal.rows import batch_of
from hushmeter.sealing.seal import Participation, seal

_START_MS = 1_772_409_600_000
_UNITS = 24
_SALTS = 5

SENSITIVITY_PLAN = """
plan: audit-sensitivity
version: 1
privacy: {unit: canary, period: 1w, epsilon: 4, delta: 1e-6, expected_units: 1000}
resolutions: {1d: {lateness: 2h}}
purposes: {audit: Find out what releases give away.}
metrics:
  counted: &common
    description: Canaries.
    owner: audit@example.com
    expires: 2026-12-31
    category: service_generated
    purposes: [audit]
    kind: counter
    dimensions: &parts {part: {values: [a, b, c, d]}, half: {values: [x, y]}}
    views: [[], [part], [part, half]]
    per_unit: {range: [-7, 10], max_partitions: 2}
    statistics: [units, sum, mean, variance, clamped]
  shared:
    <<: *common
    bounding: shared
  few:
    <<: *common
    dimensions: {}
    views: [[]]
    per_unit: {range: [0, 10], max_windows: {1d: 2}}
    statistics: [units]
  timed:
    <<: *common
    kind: distribution
    unit: ms
    edges: [10, 20, 30, 40, 50]
    weighting: event
    per_unit: {range: [0, 100], max_events: 5, max_partitions: 2}
    statistics: [events, sum, variance, histogram]
  felt:
    <<: *common
    kind: distribution
    unit: ms
    edges: [10, 20, 30, 40, 50]
    per_unit: {range: [0, 100], max_events: 5, max_partitions: 2}
    statistics: [units, events, mean, variance, histogram]
  chosen:
    <<: *common
    kind: choice
    options: [o0, o1, o2, o3, o4, o5, o6]
    dimensions: {}
    views: [[]]
    per_unit: {}
    statistics: [histogram]
  related:
    <<: *common
    kind: ratio
    unit: ms/s
    dimensions: {}
    views: [[]]
    per_unit: {range: [0, 10], max_denominator: 50}
    statistics: [units, ratio, numerator, denominator]
  named:
    <<: *common
    dimensions: {half: {values: [x, y]}, name: {open: true, max_length: 8, pattern: '[a-z0-9]+'}}
    views: [[name], [half, name]]
    statistics: [units, sum]
"""


def audit_sensitivity() -> Iterator[Evidence]:
    """Seals with and without each of some adversaries, and compares every vector's move with what is claimed."""
    import datetime as dt

    plan = parse_plan(SENSITIVITY_PLAN, dt.date(2026, 3, 2))
    catalog = Catalog.of(plan, assign_blocks(plan))
    claims = {VectorKey(m.metric, m.view, m.name): m for m in measurements_of(plan)}
    fleet = [_reports(catalog, unit) for unit in range(_UNITS)]
    adversary = _adversary(catalog, [r.report_id for reports in fleet for r in reports])
    worst: dict[VectorKey, str] = {}
    for salt in range(_SALTS):
        with_it = _sealed(catalog, [*(r for reports in fleet for r in reports), *adversary], salt)
        without = _sealed(catalog, [r for reports in fleet for r in reports], salt)
        for key, m in claims.items():
            note = _excess(m, _move(with_it, without, key))
            if note:
                worst[key] = note
    for key in claims:
        name = f"sensitivity {key.metric} {key.name} by {', '.join(key.view) or 'nothing'}"
        yield checked(name, worst.get(key, ""), trials=_SALTS)
    yield _caps(catalog, adversary)


def _reports(catalog: Catalog, unit: int) -> list[Report]:
    """A unit that behaves: a few points of each metric."""
    points: list[tuple[int, int, str]] = []
    for index, metric in enumerate(catalog.plan.metrics):
        first = catalog.first_series(index)
        partition = unit % metric.partitions
        token = f"n{unit % 3}" if any(d.open for d in metric.dimensions) else ""
        points.append((first + partition * len(metric.components), 1, token))
    return [_report(unit, 0, points)]


def _adversary(catalog: Catalog, others: Sequence[bytes]) -> list[Report]:
    """Reports of one unit beyond every bound: all partitions, uneven counts, large sums, many tokens, copied report ids."""
    points: list[tuple[int, int, str]] = []
    for index, metric in enumerate(catalog.plan.metrics):
        first, components = catalog.first_series(index), len(metric.components)
        tokens = [f"t{i}" for i in range(40)] if any(d.open for d in metric.dimensions) else [""]
        for partition in range(metric.partitions):
            for component in range(components):
                # Counts of 1 in all but one bin: shares of a weight that do not divide evenly.
                count = component < metric.count_components
                value = int(component > 0) if count and metric.count_components > 1 else 10_000
                points += [(first + partition * components + component, value, token) for token in tokens]
    reports = [_report(_UNITS, number, points) for number in range(2)]
    for other in others:
        copied = _report(_UNITS, 99, points[:1])
        copied.report_id = other
        reports.append(copied)
    return reports


def _report(unit: int, number: int, points: Sequence[tuple[int, int, str]]) -> Report:
    names = sorted({token for _, _, token in points if token})
    return Report(
        report_id=hashlib.blake2b(f"{unit}/{number}".encode(), digest_size=16).digest(),
        unit_id=str(unit),
        interval_start_ms=_START_MS + 1,
        interval_end_ms=_START_MS + 2,
        plan_version=1,
        series=[series for series, _, _ in points],
        value=[value for _, value, _ in points],
        token=names,
        point_token=[names.index(token) + 1 if token else 0 for _, _, token in points],
    )


def _pseudonyms() -> dict[str, bytes]:
    return {str(u): hashlib.blake2b(str(u).encode(), digest_size=16).digest() for u in range(_UNITS + 1)}


def _sealed(
    catalog: Catalog, reports: Sequence[Report], salt: int, *, day: int = 0, kept: KeptWindows | None = None
) -> Tally:
    pseudonyms = _pseudonyms()
    consent = ConsentTable.of(catalog.plan.purpose_names, ((p, (0,)) for p in pseudonyms.values()))
    window = Window("1d", _START_MS + day * DAY_MS, _START_MS + (day + 1) * DAY_MS)
    moved = []
    for report in reports:
        later = Report()
        later.CopyFrom(report)
        later.interval_start_ms += day * DAY_MS
        later.interval_end_ms += day * DAY_MS
        moved.append(later)
    before = Participation(kept or KeptWindows.none(7), day)
    batch = batch_of(moved, pseudonyms)
    keys = {"salt": bytes([salt]) * 16, "copy_key": bytes([salt]) * 32}
    return seal(batch, window, catalog=catalog, consent=consent, participation={"few": before}, **keys)


def _move(one: Tally, other: Tally, key: VectorKey) -> Int64:
    """How far a vector moves, int64[cells]; a private partition of one side alone counts as 0 on the other."""
    a, b = one.vectors[key], other.vectors[key]
    view = (key.metric, key.view)
    if view not in one.keys:
        return (a - b).ravel()
    rows = dict(zip(one.keys[view], a, strict=True))
    before = dict(zip(other.keys[view], b, strict=True))
    nothing = np.zeros(a.shape[1], np.int64)
    moves = [rows.get(k, nothing) - before.get(k, nothing) for k in {*rows, *before}]
    return np.concatenate(moves) if moves else nothing


def _excess(m: Measurement, move: Int64) -> str:
    """What is wrong with a move; empty where it is within the claim in both norms."""
    steps = [int(x) for x in move]
    l1, l2_squared = sum(abs(x) for x in steps), sum(x * x for x in steps)
    if l1 > m.l1:
        return f"one unit moves it by {l1} in the L1 norm; {m.l1} is claimed"
    if l2_squared > m.l2_squared:
        return f"one unit moves it by the square {l2_squared} in the L2 norm; {m.l2_squared} is claimed"
    return ""


def _caps(catalog: Catalog, adversary: Sequence[Report]) -> Evidence:
    """Over a period one unit is in at most `max_windows` windows of a series."""
    kept, moved = KeptWindows.none(7), 0
    key = next(k for m in measurements_of(catalog.plan) if m.metric == "few" for k in [VectorKey("few", (), m.name)])
    for day in range(4):
        tally = _sealed(catalog, adversary, 0, day=day, kept=kept)
        kept = kept.keeping(tally.kept["few"], day)
        moved += int(np.abs(tally.vectors[key]).sum() > 0)
    note = "" if moved == 2 else f"one unit was in {moved} windows of a period; it may be in 2"
    return checked("max_windows", note, trials=4)
