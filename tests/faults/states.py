"""Faults of what a state remembers over crashes, restores, copies and damage."""

from __future__ import annotations

from tests.faults.fault import Fault

STATES: tuple[Fault, ...] = (
    Fault(
        "a restore goes on under an older plan",
        "service/deployment/restoring.py",
        "missing = known.plan if lacks(timeline, known.plan) else None",
        "missing = None",
        test="tests/service/test_restore_without_plan.py::test_a_restore_without_the_newest_plan_loses_the_period",
    ),
    Fault(
        "a state that its keys have outrun goes on",
        "pipeline/claims.py",
        "if head not in (record.head, claimed):",
        "if False:",
        test="tests/service/test_restored_state.py::test_an_older_state_is_refused",
    ),
    Fault(
        "two states serve at once",
        "model/ring.py",
        "if self.serving is None or self.serving.epoch != epoch:",
        "if False:",
        test="tests/service/test_who_serves.py::test_who_does_not_serve_acknowledges_nothing",
    ),
    Fault(
        "a withdrawal that was answered is forgotten",
        "pipeline/claims.py",
        "if known.sequence and store.decision_mark(known.sequence) != known:",
        "if False:",
        test="tests/service/test_who_serves.py::test_a_state_that_forgot_a_withdrawal_is_refused",
    ),
    Fault(
        "noise is drawn again after an error",
        "pipeline/window_release.py",
        "        # The mechanisms may have drawn noise already. Nobody draws noise for a window twice.\n        return lose_window(window, ports, claims, cause)",
        "        raise cause",
        test="tests/service/test_claims.py::test_what_cannot_be_drawn_is_lost",
    ),
    Fault(
        "what was acknowledged is noted nowhere",
        "service/intake/open_segments.py",
        "self._context.log.acknowledge(start, self._open[start].segment_id)",
        "pass",
        test="tests/service/test_damage.py::test_a_damaged_segment_is_lost_by_name",
    ),
    Fault(
        "a key that is missing is made anew",
        "storage/keys/known_keys.py",
        "        if self._fingerprint(name) is not None:\n            return self.get(name)\n        key",
        "        key",
        test="tests/service/test_lost_keys.py::test_an_open_hour_without_its_key_is_lost_after_a_restart",
    ),
    Fault(
        "a start that is refused moves the record",
        "service/deployment/opening.py",
        "    if record is None:\n        ring.swap(None, known)",
        "    if record != known:\n        ring.swap(record, known)",
        test="tests/contract/test_migrations.py::test_a_start_that_is_refused_moves_no_record",
    ),
    Fault(
        "a start brings a state to today unasked",
        "storage/state/database.py",
        "        with _opening:\n            if path is not None and not as_it_is:\n                _make_file(path)",
        "        if path is not None and path.exists():\n            cls.migrate(url)\n        with _opening:\n            if path is not None and not as_it_is:\n                _make_file(path)",
        test="tests/contract/test_migrations.py::test_nobody_else_brings_a_state_to_today",
    ),
    Fault(
        "another text than the missing version is recorded",
        "service/deployment/plan_change.py",
        "    if followed is None or not lacks(timeline, followed):",
        "    if True:",
        test="tests/service/test_restore_without_plan.py::test_only_the_very_version_that_is_missing_is_recorded",
    ),
    Fault(
        "a segment is left out because the database says so",
        "pipeline/bucket_jobs.py",
        "if received_ms is not None and received_ms < deadline_ms:",
        "if False:",
        test="tests/service/test_damage.py::test_in_which_windows_a_segment_is_its_rows_know",
    ),
    Fault(
        "decisions are left out because the database says so",
        "pipeline/window_release.py",
        "    if newest > record.decisions_through:",
        "    if False:",
        test="tests/service/test_damage.py::test_decisions_that_a_window_forgets_lose_it",
    ),
    Fault(
        "a set of kept windows that is missing is begun anew",
        "pipeline/participation.py",
        "if store.lacks_kept_windows(metric, *place))",
        "if False)",
        test="tests/service/test_damage.py::test_kept_windows_that_are_missing_close_their_metric",
    ),
)
