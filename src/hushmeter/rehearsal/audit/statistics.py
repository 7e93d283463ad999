"""The audit of each mechanism and statistic: one window, thousands of canaries, one slot each.

Every canary sends more than every bound allows, so that after bounding it moves each vector by exactly what a release
claims to hide. Scores come from the answers alone: raw noisy vectors are recovered from means and variances where nothing
was clamped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.model.arrays import Bool, Float64
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.rehearsal.audit.evidence import Evidence, checked, shown_by
from hushmeter.rehearsal.audit.scenario import (
    AUDIT_PURPOSE,
    AUDIT_START_MS,
    BACKGROUND,
    Audited,
    finished,
    flip,
    resent,
    slots_of,
)
from hushmeter.sdk.recorder import Recorder

Values = Mapping[tuple[str, ...], Float64]

_EPSILON = {"zcdp": 52, "pure": 30}
"""Each release then has mu of about 1.5, or epsilon of 1.4, at which noise of half its size is found in every statistic."""
_B = float(BACKGROUND)

STATISTICS_PLAN = """
plan: audit
version: 1
privacy:
  {{unit: canary, period: 1d, epsilon: {epsilon}, delta: 1e-4, currency: {currency}, weights: stated, expected_units: 999}}
resolutions: {{1d: {{lateness: 2h}}}}
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
    per_unit: {{range: [-4, 10]}}
    statistics: [units, sum, mean, variance]
  timed:
    <<: *common
    kind: distribution
    unit: ms
    edges: [50]
    weighting: event
    per_unit: {{range: [0, 100], max_events: 3}}
    statistics: [events, sum, variance, histogram]
  felt:
    <<: *common
    kind: distribution
    unit: ms
    edges: [50]
    per_unit: {{range: [0, 100], max_events: 3}}
    statistics: [units, events, mean, histogram, clamped]
  chosen:
    <<: *common
    kind: choice
    options: [left, right]
    per_unit: {{}}
    statistics: [histogram]
  told:
    <<: *common
    kind: flag
    per_unit: {{}}
    statistics: [rate]
  related:
    <<: *common
    kind: ratio
    unit: ms/s
    weighting: event
    per_unit: {{range: [0, 10], max_denominator: 50}}
    statistics: [numerator, denominator]
  spread:
    <<: *common
    dimensions: {{slot: {{values: *slots, scope: unit}}, part: {{values: [a, b]}}}}
    views: [[slot, part]]
    per_unit: {{range: [0, 10], max_partitions: 1}}
    statistics: [units, sum]
    weight: 1.5
  echo:
    <<: *common
    statistics: [sum]
  named:
    <<: *common
    dimensions: {{slot: {{values: *slots, scope: unit}}, name: {{open: true, max_length: 8, pattern: '[a-z]+'}}}}
    views: [[slot, name]]
    per_unit: {{range: [0, 10]}}
    statistics: [units, sum]
"""


@dataclass(frozen=True, slots=True)
class _Row:
    """One thing to audit: the measurement whose charge is the claim, and how a canary's score follows from the answers."""

    statistic: str
    metric: str
    view: tuple[str, ...]
    measurement: str
    score: Callable[[Values], Float64]
    step: int = 1
    """Of the slots that are tested: 2 for every other one, from the first."""


def audit_statistics(currency: str, count: int, seed: int) -> Iterator[Evidence]:
    """Audits every statistic of one currency's mechanisms.

    Args:
        currency: `zcdp` or `pure`.
        count: how many slots.
        seed: of the coins.
    """
    from hushmeter.rehearsal.audit.scenario import audited

    slots = slots_of(count)
    with audited(STATISTICS_PLAN.format(slots=", ".join(slots), currency=currency, epsilon=_EPSILON[currency])) as service:
        present = flip(count, seed)
        collect(service, slots, present)
        service.advance(AUDIT_START_MS + DAY_MS + 2 * HOUR_MS)
        for row in ROWS:
            values = service.values(row.metric, row.view, slots, resolution="1d")
            claim = service.claim(row.metric, row.view, row.measurement, "1d", row.statistic)
            yield shown_by(claim, row.score(values)[:: row.step], present[:: row.step], tests_in_all())
        yield _singletons(service, slots, present)
        yield from _deterministic(service, slots)


def tests_in_all() -> int:
    """How many statistical tests one whole audit makes: both currencies', and those over a whole period."""
    return 2 * len(ROWS) + 8


def collect(service: Audited, slots: list[str], present: Bool) -> None:
    """Sends the background of every slot and the canaries that are present, late copies included."""
    canaries = [slot for slot, there in zip(slots, present.tolist(), strict=True) if there]
    units = [f"{slot}/{i}" for slot in slots for i in range(BACKGROUND)]
    service.agree([*units, *(f"{slot}/canary" for slot in canaries)])
    service.clock.advance_to(AUDIT_START_MS + HOUR_MS)
    plan = service.client.plan()
    background = {
        slot: [_background(Recorder(plan, f"{slot}/{i}", [AUDIT_PURPOSE]), slot) for i in range(BACKGROUND)]
        for slot in slots
    }
    service.send([report for reports in background.values() for report in reports])
    greedy: list[Report] = []
    for slot in canaries:
        report = _canary(Recorder(plan, f"{slot}/canary", [AUDIT_PURPOSE]), slot)
        # Sent twice as it is, again under another id, and under the ids of other units: only the first two bind.
        greedy += [report, report, resent(report)]
        for other in background[slot]:
            stolen = resent(report)
            stolen.report_id = other.report_id
            greedy.append(stolen)
    service.send(greedy)
    # Within the day's lateness, but after the period's border: the same units, not new ones.
    service.clock.advance_to(AUDIT_START_MS + DAY_MS + HOUR_MS)
    service.send([resent(greedy[i]) for i in range(0, len(greedy), 3 + BACKGROUND)])


def _background(recorder: Recorder, slot: str) -> Report:
    recorder.count("counted", 3, slot=slot)
    recorder.observe("timed", 50, slot=slot)
    recorder.observe("felt", 50, slot=slot)
    recorder.choose("chosen", "left", slot=slot)
    recorder.flag("told", value=False, slot=slot)
    recorder.relate("related", 50, 10, slot=slot)
    recorder.count("spread", 1, slot=slot, part="a")
    recorder.count("echo", 10, slot=slot)
    recorder.count("named", 2, slot=slot, name="known")
    return finished(recorder.report(AUDIT_START_MS + MINUTE_MS, AUDIT_START_MS + HOUR_MS))


def _canary(recorder: Recorder, slot: str) -> Report:
    """More than every bound allows, all of it at the far end of each range."""
    recorder.count("counted", 10, slot=slot)
    for _ in range(8):
        recorder.observe("timed", 100, slot=slot)
        recorder.observe("felt", 100, slot=slot)
    recorder.choose("chosen", "right", slot=slot)
    recorder.flag("told", value=True, slot=slot)
    recorder.relate("related", 2_000, 200, slot=slot)
    recorder.count("spread", 10, slot=slot, part="a")
    recorder.count("spread", 10, slot=slot, part="b")
    # In every other slot the canary is in a private partition of its own.
    recorder.count("named", 10, slot=slot, name="alone" if int(slot[1:]) % 2 else "known")
    return finished(recorder.report(AUDIT_START_MS + MINUTE_MS, AUDIT_START_MS + HOUR_MS))


def _linear(key: tuple[str, ...], base: float, bound: float) -> Callable[[Values], Float64]:
    return lambda v: (v[key] - base) / bound


def _offsets(v: Values, middle: float, *, per_unit: bool) -> tuple[Float64, Float64]:
    """S (twice the sum of centered values) and N of a mean or of a sum, as they were released."""
    if per_unit:
        n = v["units", ""]
        return 2 * n * (v["mean", ""] - middle), n
    n = v["events", ""]
    return 2 * (v["sum", ""] - n * middle), n


def _centered(middle: float, bound: float, *, per_unit: bool) -> Callable[[Values], Float64]:
    return lambda v: _offsets(v, middle, per_unit=per_unit)[0] / bound


def _squares(middle: float, width: float, bound: float, *, per_unit: bool) -> Callable[[Values], Float64]:
    """The noisy centered squares: `V = 8 (variance N + (S/2)^2 / N) - N R^2`."""

    def score(v: Values) -> Float64:
        s, n = _offsets(v, middle, per_unit=per_unit)
        safe = np.where(np.abs(n) < 0.5, 0.5, n)
        squares = 8 * (v["variance", ""] * n + s**2 / 4 / safe) - n * width**2
        return (squares + _B * width**2) / bound

    return score


def _parts(statistic: str, bound: float) -> Callable[[Values], Float64]:
    return lambda v: (v[statistic, "a", ""] + v[statistic, "b", ""] - _B) / bound


def _lost(v: Values) -> Float64:
    """The part of the background's sum that is missing, over what a canary could take with copies of report ids."""
    return (10 * _B - v["sum", ""]) / 10


def _known(statistic: str, base: float, bound: float) -> Callable[[Values], Float64]:
    return lambda v: (v.get((statistic, "known", ""), np.zeros(0)) - base) / bound


_SLOT = ("slot",)
ROWS = (
    _Row("units", "counted", _SLOT, "units", _linear(("units", ""), _B, 1)),
    _Row("sum of a counter", "counted", _SLOT, "sum", _linear(("sum", ""), 3 * _B, 10)),
    _Row("mean of a counter", "counted", _SLOT, "unit_mean", _centered(3, 14, per_unit=True)),
    _Row("variance of a counter", "counted", _SLOT, "squares", _squares(3, 14, 14**2, per_unit=True)),
    _Row("events, beside a histogram by events", "timed", _SLOT, "events", _linear(("events", ""), _B, 3)),
    _Row("histogram, by events", "timed", _SLOT, "weights", _linear(("histogram", "> 50"), 0, 3)),
    _Row("sum of events", "timed", _SLOT, "event_sum", _centered(50, 300, per_unit=False)),
    _Row("variance, by events", "timed", _SLOT, "squares", _squares(50, 100, 3 * 100**2, per_unit=False)),
    _Row("events", "felt", _SLOT, "events", _linear(("events", ""), _B, 3)),
    _Row("mean, by units", "felt", _SLOT, "unit_mean", _centered(50, 100, per_unit=True)),
    _Row("histogram, by units", "felt", _SLOT, "weights", _linear(("histogram", "> 50"), 0, 1)),
    _Row("clamped", "felt", _SLOT, "clamped", _linear(("clamped", ""), 0, 1 / (_B + 1))),
    _Row("histogram of a choice", "chosen", _SLOT, "weights", _linear(("histogram", "right"), 0, 1)),
    _Row("rate of a flag", "told", _SLOT, "weights", _linear(("rate", ""), 0, 1 / (_B + 1))),
    _Row("denominator of a ratio", "related", _SLOT, "events", _linear(("denominator", ""), 10 * _B, 50)),
    _Row(
        "numerator of a ratio",
        "related",
        _SLOT,
        "event_sum",
        lambda v: 2 * (v["numerator", ""] - 5 * v["denominator", ""]) / 500,
    ),
    _Row("units, of a unit in two partitions that may be in one", "spread", ("slot", "part"), "units", _parts("units", 1)),
    _Row("sums, of a unit in two partitions that may be in one", "spread", ("slot", "part"), "sum", _parts("sum", 10)),
    _Row("sums of others, whose report ids a canary copies", "echo", _SLOT, "sum", _lost),
    _Row("units of private partitions", "named", ("slot", "name"), "units", _known("units", _B, 1), 2),
    _Row("sum on private partitions", "named", ("slot", "name"), "sum", _known("sum", 2 * _B, 10), 2),
)


def _singletons(service: Audited, slots: list[str], present: Bool) -> Evidence:
    """A private partition of one unit alone is shown with a probability that delta covers."""
    from hushmeter.rehearsal.audit.evidence import FAMILYWISE_ALPHA, rate_at_most

    values = service.values("named", ("slot", "name"), slots, resolution="1d")
    shown = int(np.count_nonzero(values.get(("units", "alone", ""), np.zeros(len(slots)))))
    claim = service.claim("named", ("slot", "name"), "units", "1d", "")
    trials = int(present[1::2].sum())
    at_least = 1 - rate_at_most(trials - shown, trials, FAMILYWISE_ALPHA / tests_in_all())
    note = (
        f"{shown} of {trials} partitions of one unit were shown; delta is {claim.delta:.2g}"
        if at_least > claim.delta
        else ""
    )
    return checked("singletons", note, mechanism=claim.mechanism, trials=trials)


def _deterministic(service: Audited, slots: list[str]) -> Iterator[Evidence]:
    """Exact checks: answers repeat, a window without reports has noise, and a late report changes no release."""
    before = service.values("counted", _SLOT, slots, resolution="1d")
    again = service.values("counted", _SLOT, slots, resolution="1d")
    same = all(np.array_equal(before[key], again[key]) for key in before)
    yield checked("redraw", "" if same else "asking twice gave other numbers")
    plan, late = service.client.plan(), f"{slots[0]}/0"
    recorder = Recorder(plan, late, [AUDIT_PURPOSE])
    recorder.count("counted", 10, slot=slots[0])
    service.send([finished(recorder.report(AUDIT_START_MS + MINUTE_MS, AUDIT_START_MS + HOUR_MS))])
    service.advance(AUDIT_START_MS + 2 * DAY_MS + 2 * HOUR_MS)
    merged = service.values("counted", _SLOT, slots, resolution="1d")
    same = all(np.array_equal(before[key], merged[key]) for key in before)
    yield checked("late merge", "" if same else "a report after the deadline changed what was published")
    empty = service.values("counted", _SLOT, slots, resolution="1d", start_ms=AUDIT_START_MS + DAY_MS)
    noisy = bool(empty) and bool(np.count_nonzero(empty["sum", ""]))
    yield checked(
        "empty window", "" if noisy else "a window that received nothing was released without noise, or not at all"
    )
