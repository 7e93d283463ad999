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
        test: of a fault that nobody but the operator can see, or that the audit does not provoke, the test that must fail.
    """

    name: str
    path: str
    old: str
    new: str
    only: str = ""
    check: str = ""
    test: str = ""


_PLAN, _SEAL, _NOISE = "plan/measurements.py", "sealing/statistics.py", "noise/opendp.py"
_DRAW = "noisy = np.array(self.invoke(cells), np.int64)"
_RETURN = "return NoisyVector(noisy, self.mechanism, self.scale, self.mapped, salt=new_salt())"
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
        "return NoisyVector(values + np.resize((noisy - values.reshape(noisy.shape)).ravel()[:512], values.shape), self.mechanism, self.scale, self.mapped, salt=new_salt())",
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
        "a resent report counts again",
        "sealing/rows.py",
        "    if some_do_not_count or again.any():",
        "    if False:",
        "replay:1,15",
        "once 15",
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
        "if all(serves.values()) or any(value in serves for value in named):",
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
        "for e in context.store.erasures() if e.subject == subject)",
        "for e in context.store.erasures())",
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
    Fault(
        "completeness tells in how many segments reports came",
        "storage/state.py",
        "return servings.serving_ms(connection, start_ms, end_ms)",
        'return servings.serving_ms(connection, start_ms, end_ms) - 40_000 * connection.scalar(sa.text("select count(*) from segments"))',
        "replay:4",
        "replay 4",
    ),
    Fault(
        "copies of one moment are told apart by where their rows stand",
        "sealing/copies.py",
        "order = np.lexsort((digests[:, 1], digests[:, 0], group))",
        "order = np.lexsort((tied, group))",
        "replay:16",
        "sensitivity 16",
    ),
    Fault(
        "a restore tells how many decisions there were",
        "service/restoring.py",
        "store.record_restore(Restore(now_ms, head.sequence, seen))",
        "store.record_restore(Restore(now_ms, head.sequence + known.decision.sequence, seen))",
        "replay:17",
        "replay 17",
    ),
    Fault(
        "a restore loses the whole period where somebody has decided since",
        "service/restoring.py",
        "whole_period=missing is not None)",
        "whole_period=known.decision != store.decision_mark())",
        "replay:18",
        "replay 18",
    ),
    Fault(
        "what was drawn is lost where somebody has erased since",
        "settlement.py",
        "if claim.state is ClaimState.DRAWN else None",
        "if claim.state is ClaimState.DRAWN and not ports.store.erasures() else None",
        "replay:19",
        "replay 19",
    ),
    Fault(
        "a lost window is charged less where reports came late",
        "settlement.py",
        "entries, loss, period = charge_of_lost(window, ports)",
        "entries, loss, period = charge_of_lost(window, ports)\n    entries = entries[len(ports.store.segments([window.start_ms])) - 2 :]",
        "replay:20",
        "replay 20",
    ),
    Fault(
        "units share one rate of reports",
        "service/worker.py",
        "self._rates.judge(subjects,",
        'self._rates.judge([b""] * len(subjects),',
        "replay:21",
        "replay 21",
    ),
    Fault(
        "units share one rate of decisions",
        "service/deciding.py",
        "rates.judge([subjects[i] for i in mine], now_s)",
        'rates.judge([b"" for _ in mine], now_s)',
        "replay:22",
        "replay 22",
    ),
    Fault(
        "a refusal says when a shared credential may send again",
        "service/gate.py",
        'at once); send fewer, larger messages, or try again in a moment",\n                RETRY_AFTER_S,',
        'at once); send fewer, larger messages, or try again in a moment",\n                (1 - bucket._level) / self._rules.messages_per_s,',
        "replay:23",
        "replay 23",
    ),
    # Breaks of before, and what neither noise nor doors show.
    Fault(
        "copies are told apart by their content alone",
        "sealing/copies.py",
        "receipts = np.where(rows.plan_versions[copies] == TOTALS, _BEFORE_ALL, rows.received_at_ms[copies])",
        "receipts = np.zeros(len(copies), np.int64)",
        test="tests/property/test_sealing.py::test_the_first_copy_counts",
    ),
    Fault(
        "one id in two hours is one report",
        "sealing/rows.py",
        "storage.starts(rows.interval_end_ms[suspects])",
        "np.zeros(len(suspects), np.int64)",
        test="tests/property/test_sealing.py::test_the_numpy_core_equals_the_oracle",
    ),
    Fault(
        "late decisions reach a window that is due",
        "storage/records.py",
        ".where(d.received_at_ms < cutoff_ms)",
        "",
        test="tests/service/test_withdrawal.py::test_at_the_cut_off_is_too_late",
    ),
    Fault(
        "consent of now makes totals",
        "service/compaction.py",
        "through = min([max(fixed[w] for w in ended), *(fixed[w] for w in waiting if w in fixed)])",
        "through = context.store.decided().newest",
        test="tests/service/test_withdrawal.py::test_totals_are_made_with_the_consent_of_the_window_that_ended",
    ),
    Fault(
        "consent that is given anew reaches reports of before",
        "model/report.py",
        "np.minimum(self.interval_start_ms, self.received_at_ms)",
        "self.interval_start_ms",
        test="tests/service/test_erasure.py::test_a_report_of_the_future_needs_the_consent_of_its_receipt",
    ),
    Fault(
        "rows of a window that waits are erased",
        "service/erasing.py",
        "default=END_MS)",
        "default=END_MS) * 0 + END_MS",
        test="tests/service/test_erasure.py::test_rows_of_a_window_that_waits_stay",
    ),
    Fault(
        "commitments without salt",
        "ledger/commitments.py",
        "_LABEL + salt + beside.encode()",
        "_LABEL + beside.encode()",
        test="tests/service/test_guessing.py::test_guesses_of_released_values_cannot_be_tested",
    ),
    Fault(
        "a restore goes on under an older plan",
        "service/restoring.py",
        "missing = known.plan if _lacks(timeline, known.plan) else None",
        "missing = None",
        test="tests/service/test_backup.py::test_a_restore_without_the_newest_plan_loses_the_period",
    ),
    Fault(
        "a state that its keys have outrun goes on",
        "claims.py",
        "if head not in (record.head, claimed):",
        "if False:",
        test="tests/service/test_restored_state.py::test_an_older_state_is_refused",
    ),
    Fault(
        "two states serve at once",
        "model/ring.py",
        "if self.serving is None or self.serving.epoch != epoch:",
        "if False:",
        test="tests/service/test_claims.py::test_who_does_not_serve_acknowledges_nothing",
    ),
    Fault(
        "a withdrawal that was answered is forgotten",
        "claims.py",
        "if known.sequence and store.decision_mark(known.sequence) != known:",
        "if False:",
        test="tests/service/test_claims.py::test_a_state_that_forgot_a_withdrawal_is_refused",
    ),
    Fault(
        "noise is drawn again after an error",
        "pipeline.py",
        "        # Noise may have been drawn, and is not drawn again.\n        return lose_window(window, ports, claims, cause)",
        "        raise cause",
        test="tests/service/test_claims.py::test_what_cannot_be_drawn_is_lost",
    ),
    Fault(
        "only the first page of decisions is read",
        "consent/register.py",
        "if len(decisions) < limits.DECISIONS_PER_PAGE:",
        "if True:",
        test="tests/property/test_consent.py",
    ),
    Fault(
        "what was acknowledged is noted nowhere",
        "service/segments.py",
        "self._context.log.acknowledge(start, self._open[start].segment_id)",
        "pass",
        test="tests/service/test_damage.py::test_a_damaged_segment_is_lost_by_name",
    ),
    Fault(
        "a key that is missing is made anew",
        "storage/known_keys.py",
        "        if self._fingerprint(name) is not None:\n            return self.get(name)\n        key",
        "        key",
        test="tests/service/test_lost_keys.py::test_an_open_hour_without_its_key_is_lost_after_a_restart",
    ),
    Fault(
        "a table of limits forgets one unit for another",
        "access/rates.py",
        "if at > second}",
        "if at > second + 60}",
        test="tests/service/test_shared_limits.py::TestAFullTable::test_nobody_is_forgotten_for_another",
    ),
    Fault(
        "an altered release is served",
        "service/released.py",
        "            if wrong := _wrong(number, release, charges):\n                raise ReleaseAltered(wrong)",
        "            _wrong(number, release, charges)",
        test="tests/service/test_altered_releases.py::test_what_was_changed_is_found_and_not_served",
    ),
)
