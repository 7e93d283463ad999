"""Faults of how much one unit moves a tally, and of which copy of a report counts."""

from __future__ import annotations

from tests.faults.fault import Fault

_SEAL = "sealing/statistics.py"

BOUNDS: tuple[Fault, ...] = (
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
)

COPIES: tuple[Fault, ...] = (
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
        "load chooses which copy counts",
        "ingest/copies.py",
        "if not (ordered[1:] == ordered[:-1]).any():",
        "if True:",
        test="tests/service/test_load.py::test_load_of_others_does_not_choose_copies",
    ),
    Fault(
        "a copy that did not become durable is the first",
        "service/intake/doors.py",
        "        return self._copies.rows(admission.batch, admission.storage_starts, now_ms)",
        "        rows = self._copies.rows(admission.batch, admission.storage_starts, now_ms)\n        self._copies.settle()\n        return rows",
        test="tests/service/test_load.py::test_a_copy_that_did_not_become_durable_is_not_the_first",
    ),
    Fault(
        "a border of versions reorders copies",
        "ingest/by_version.py",
        "arrival = np.argsort(admitted)",
        "arrival = np.arange(len(admitted))",
        test="tests/service/test_load.py::test_a_border_of_versions_does_not_reorder",
    ),
    Fault(
        "an erasure leaves copies of what goes known",
        "ingest/copies.py",
        "[d.subject for d in decisions if d.source == ERASURE] if len(self._taken) else []",
        "[]",
        test="tests/service/test_races.py::test_an_erasure_forgets_its_own_copies_alone",
    ),
    Fault(
        "an erasure makes everybody's copies unknown",
        "ingest/copies.py",
        "self._taken = self._taken[~same]",
        "self._taken = _NONE",
        test="tests/service/test_races.py::test_an_erasure_forgets_its_own_copies_alone",
    ),
)
