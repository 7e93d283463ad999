"""Planted faults: each changes one place of the code, and the part of the audit that is named must catch it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        name: what is wrong, in a few words.
        path: of the file below `src/hushmeter`.
        old: text that is there exactly once.
        new: what it is replaced by.
        only: the part of the audit that is enough, as `--only` takes it.
        check: how the name of the check begins that must fail.
    """

    name: str
    path: str
    old: str
    new: str
    only: str
    check: str


_PLAN, _SEAL, _NOISE = "plan/measurements.py", "sealing/statistics.py", "noise/opendp.py"
_DRAW = "noisy = np.array(self.invoke(cells), np.int64)"
_RETURN = "return NoisyVector(noisy, self.mechanism, self.scale, self.mapped)"
_VECTORS = "vectors = {_key_of(item): vector for item, vector in zip(public, noisy, strict=True)}"
_CALLER = "if caller is None:\n            return question"
_WHO = "who may call which method"
_WHAT = "who may read which metric"

FAULTS: tuple[Fault, ...] = (
    # Noise.
    Fault("noise of 0.9 of its scale", _NOISE, _DRAW, f"{_DRAW} * 9 // 10 + cells // 10", "noise", "size of noise"),
    Fault("noise of 0.7 of its scale", _NOISE, _DRAW, f"{_DRAW} * 7 // 10 + cells * 3 // 10", "noise", "size of noise"),
    Fault("noise of twice its scale", _NOISE, _DRAW, f"{_DRAW} * 2 - cells", "noise", "size of noise"),
    Fault("no noise at all", _NOISE, _DRAW, "noisy = np.array(cells, np.int64)", "noise", "noise 1h: every vector has it"),
    Fault(
        "parts share their noise",
        _NOISE,
        _RETURN,
        "return NoisyVector(values + np.resize((noisy - values.reshape(noisy.shape)).ravel()[:512], values.shape), self.mechanism, self.scale, self.mapped)",
        "noise",
        "noise in parts",
    ),
    Fault(
        "cells of one vector share their noise", _NOISE, _DRAW, f"{_DRAW}[:1] - cells[:1] + cells", "noise", "size of noise"
    ),
    Fault(
        "small counts are not moved",
        _NOISE,
        _DRAW,
        "noisy = np.where(cells < 100, cells, np.array(self.invoke(cells), np.int64))",
        "noise",
        "size of noise",
    ),
    Fault(
        "a threshold that is one too low",
        _NOISE,
        "_selection(mechanism, scale, threshold - 1).map(",
        "_selection(mechanism, scale, threshold).map(",
        "prices",
        "delta of each threshold",
    ),
    Fault(
        "selection by a lower threshold than is charged",
        _NOISE,
        "released = _selection(mechanism, scale, threshold)(names)",
        "released = _selection(mechanism, scale, threshold - 9)(names)",
        "noise",
        "selection at scale",
    ),
    Fault(
        "exact counts of selected partitions",
        _NOISE,
        "values = np.array([noisy for _, noisy in found], np.int64)",
        "values = np.array([counts[key] for key, _ in found], np.int64)",
        "noise",
        "selection at scale",
    ),
    Fault(
        "capped is released without noise",
        "release/measuring.py",
        _VECTORS,
        'vectors = {_key_of(i): vector if i.measurement.name != "capped" else NoisyVector(tally.vectors[_key_of(i)], vector.mechanism, vector.scale, vector.loss) for i, vector in zip(public, noisy, strict=True)}',
        "noise",
        "noise 1h: every vector has it",
    ),
    Fault(
        "participants are released without noise",
        "release/measuring.py",
        _VECTORS,
        'vectors = {_key_of(i): vector if i.measurement.metric != "participants" else NoisyVector(tally.vectors[_key_of(i)], vector.mechanism, vector.scale, vector.loss) for i, vector in zip(public, noisy, strict=True)}',
        "noise",
        "noise 1h: every vector has it",
    ),
    Fault(
        "sums on private partitions without noise",
        "release/measuring.py",
        "return found | {_key_of(item): vector for item, vector in zip(others, noisy, strict=True)}",
        "return found | {_key_of(i): NoisyVector(tally.vectors[_key_of(i)][rows[_view_of(i)]], v.mechanism, v.scale, v.loss) for i, v in zip(others, noisy, strict=True)}",
        "noise",
        "noise 1h: every vector has it",
    ),
    # Prices.
    Fault(
        "rho of twice the epsilon",
        "service/founding.py",
        "mechanisms.zcdp_budget(epsilon, conversion)",
        "mechanisms.zcdp_budget(2 * epsilon, conversion)",
        "prices",
        "epsilon of the budget",
    ),
    Fault(
        "all of delta for the conversion, and half of it again",
        "service/founding.py",
        "conversion = delta / 2 if selecting else delta",
        "conversion = delta",
        "prices",
        "epsilon of the budget",
    ),
    Fault(
        "each window spends all of delta",
        "ledger/pricing.py",
        "delta = budget.loss.delta / max(1, selecting)",
        "delta = budget.loss.delta",
        "prices",
        "the period costs",
    ),
    Fault(
        "half of the sensitivity",
        "ledger/pricing.py",
        "sensitivity = Fraction(measurement.sensitivity(currency))",
        "sensitivity = Fraction(measurement.sensitivity(currency)) / 2",
        "prices",
        "loss of each charge",
    ),
    Fault(
        "a period of one window",
        _PLAN,
        "windows = min(bounds.max_windows or most, most)",
        "windows = 1",
        "prices",
        "the period costs",
    ),
    Fault(
        "squares by the range, not by its square",
        _PLAN,
        "_M.SQUARES: width**2 *",
        "_M.SQUARES: width *",
        "prices",
        "sensitivity of each charge",
    ),
    Fault(
        "sums of events by one event",
        _PLAN,
        "_M.EVENT_SUM: most * width",
        "_M.EVENT_SUM: width",
        "prices",
        "sensitivity of each charge",
    ),
    Fault(
        "weights by one event",
        _PLAN,
        "_M.WEIGHTS: FIXED_POINT * (1 if per_unit else most)",
        "_M.WEIGHTS: FIXED_POINT",
        "prices",
        "sensitivity of each charge",
    ),
    Fault(
        "L0 of one, whatever the view",
        "model/plan.py",
        "return min(most, math.prod(d.size for d in self.view_dimensions(view) if not d.per_unit))",
        "return 1",
        "prices",
        "sensitivity of each charge",
    ),
    Fault(
        "L0 of an open view of one",
        "model/plan.py",
        "if any(d.open and not d.per_unit for d in self.view_dimensions(view)):\n            return most",
        "if any(d.open and not d.per_unit for d in self.view_dimensions(view)):\n            return 1",
        "prices",
        "sensitivity of each charge",
    ),
    # Bounds.
    Fault(
        "one event too many",
        _SEAL,
        "return np.minimum(_events(metric, totals), bounds.max_events)",
        "return np.minimum(_events(metric, totals), bounds.max_events + 1)",
        "sensitivity",
        "sensitivity felt events",
    ),
    Fault(
        "a total clamped one step too far",
        _SEAL,
        "np.clip(totals, bounds.low, bounds.high)",
        "np.clip(totals, bounds.low, bounds.high + 1)",
        "sensitivity",
        "sensitivity counted sum",
    ),
    Fault(
        "shares rounded up",
        _SEAL,
        "shares: Int64 = FIXED_POINT * counts // np.maximum(events, 1)",
        "shares: Int64 = -(-FIXED_POINT * counts // np.maximum(events, 1))",
        "sensitivity",
        "sensitivity chosen weights",
    ),
    Fault(
        "event sums that are not centered",
        _SEAL,
        "centered: Int64 = 2 * total - kept * (bounds.low + bounds.high)",
        "centered: Int64 = 2 * total",
        "sensitivity",
        "sensitivity timed event_sum",
    ),
    Fault(
        "a mean that is not clamped",
        _SEAL,
        "mean = np.clip(whole * steps + rest * steps // np.maximum(events, 1), low * steps, high * steps)",
        "mean = whole * steps + rest * steps // np.maximum(events, 1)",
        "sensitivity",
        "sensitivity felt unit_mean",
    ),
    Fault(
        "one partition too many",
        "sealing/views.py",
        "pairs = kept(points.units, numbers, grid, points.bases, l0)",
        "pairs = kept(points.units, numbers, grid, points.bases, l0 + 1)",
        "sensitivity",
        "sensitivity counted units",
    ),
    Fault(
        "one window too many",
        "sealing/seal.py",
        "admitted_units(units, carried.earlier, carried.index, most or 0)",
        "admitted_units(units, carried.earlier, carried.index, (most or 0) + 1)",
        "sensitivity",
        "max_windows",
    ),
    Fault(
        "a resent report counts again", "sealing/rows.py", "    if again.any():", "    if False:", "replay:1,15", "once 15"
    ),
    # Who may read what.
    Fault(
        "clients that send may read the ledger",
        "access/roles.py",
        '"query.v1.QueryService/GetLedger": frozenset({Role.ANALYST})',
        '"query.v1.QueryService/GetLedger": frozenset({Role.ANALYST, Role.INGEST})',
        "replay:0",
        _WHO,
    ),
    Fault(
        "analysts may read what is held on a unit",
        "access/roles.py",
        '"consent.v1.ConsentService/GetUnit": frozenset({Role.CONSENT})',
        '"consent.v1.ConsentService/GetUnit": frozenset({Role.CONSENT, Role.ANALYST})',
        "replay:0",
        _WHO,
    ),
    Fault(
        "clients that send may issue tokens",
        "access/roles.py",
        '"consent.v1.ConsentService/IssueUnitToken": frozenset({Role.CONSENT})',
        '"consent.v1.ConsentService/IssueUnitToken": frozenset({Role.CONSENT, Role.INGEST})',
        "replay:0",
        _WHO,
    ),
    Fault(
        "nobody needs a credential to query",
        "access/roles.py",
        '"/grpc.health.v1.Health/Watch", RECORD}',
        '"/grpc.health.v1.Health/Watch", RECORD, _PACKAGE + "query.v1.QueryService/QueryReleases"}',
        "replay:0",
        _WHO,
    ),
    Fault(
        "a roll-up of another purpose's metric",
        "service/querying.py",
        _CALLER,
        _CALLER.replace("None:", "None or question.roll_up_time:"),
        "replay:0",
        _WHAT,
    ),
    Fault(
        "statistics by name of another purpose's metric",
        "service/querying.py",
        _CALLER,
        _CALLER.replace("None:", "None or question.statistics:"),
        "replay:0",
        _WHAT,
    ),
    Fault(
        "a filtered question about another purpose's metric",
        "service/querying.py",
        _CALLER,
        _CALLER.replace("None:", "None or question.filters:"),
        "replay:0",
        _WHAT,
    ),
    Fault(
        "participants of other purposes are told",
        "service/querying.py",
        "if not serves or any(value in serves for value in named):",
        "if True:",
        "replay:0",
        _WHAT,
    ),
    Fault(
        "a named participant of another purpose is told",
        "service/querying.py",
        "parts += [purposes[value] for value in named if value in purposes]",
        "parts += []",
        "replay:0",
        _WHAT,
    ),
    Fault(
        "whoever has any purpose has all",
        "service/gate.py",
        "any(p in mine.purposes for p in purposes)",
        "bool(mine.purposes)",
        "replay:0",
        _WHAT,
    ),
    # Neighbours.
    Fault(
        "a withdrawal is not heard",
        "consent/register.py",
        "self._since[row, column] = state.given_since_ms",
        "self._since[row, column] = min(self._since[row, column], state.given_since_ms)",
        "replay:10",
        "absent 10",
    ),
    Fault(
        "a stranger's waiting erasure is told",
        "service/holdings.py",
        "min(waiting, default=None),",
        "min((e.at_ms for e in context.store.erasures()), default=None),",
        "replay:8",
        "replay 8",
    ),
    Fault(
        "everybody's decisions are counted",
        "service/holdings.py",
        "context.store.count_decisions(subject)",
        "context.store.decisions_after(0)[0]",
        "replay:14,1",
        "replay 1",
    ),
    Fault(
        "published times tell how many reported",
        "release/measuring.py",
        "published = plan.resolution(window.resolution).deadline_ms(window)",
        "published = plan.resolution(window.resolution).deadline_ms(window) + int(sum(int(v.sum()) for v in tally.vectors.values())) % 1000",
        "replay:1",
        "replay 1",
    ),
    Fault(
        "completeness tells how many reported",
        "release/measuring.py",
        "yield Release(key, window.end_ms, published, completeness, found, keys)",
        "yield Release(key, window.end_ms, published, completeness - int(sum(abs(int(v.sum())) for v in tally.vectors.values())) % 97 / 100, found, keys)",
        "replay:1",
        "replay 1",
    ),
)
