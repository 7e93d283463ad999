"""Faults of consent and erasure: whose rows count, and which of them go."""

from __future__ import annotations

from tests.faults.fault import Fault

CONSENT: tuple[Fault, ...] = (
    Fault(
        "late decisions reach a window that is due",
        "storage/state/consent.py",
        ".where(d.received_at_ms < cutoff_ms)",
        "",
        test="tests/service/test_withdrawal.py::test_at_the_cut_off_is_too_late",
    ),
    Fault(
        "consent of now makes totals",
        "service/sealer/totals_rewriting.py",
        "through = min([max(fixed[w] for w in ended), *(fixed[w] for w in waiting if w in fixed)])",
        "through = context.store.decided().newest",
        test="tests/service/test_withdrawal.py::test_rows_become_totals_with_the_consent_of_before",
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
        "service/sealer/erasures.py",
        "default=END_MS)",
        "default=END_MS) * 0 + END_MS",
        test="tests/service/test_erasure.py::test_rows_of_a_window_that_waits_stay",
    ),
    Fault(
        "only the first page of decisions is read",
        "consent/register.py",
        "if len(decisions) < limits.DECISIONS_PER_PAGE:",
        "if True:",
        test="tests/property/test_consent.py",
    ),
    Fault(
        "load orders decisions",
        "model/consent.py",
        "decision.received_at_ms < self.withdrawn_at_ms",
        "decision.received_at_ms <= self.withdrawn_at_ms",
        test="tests/service/test_load.py::test_load_of_others_does_not_order_decisions",
    ),
    Fault(
        "a purpose that the plan dropped cannot be withdrawn",
        "service/door/consent_service.py",
        "(d.given or d.purpose not in withdrawn_too)",
        "True",
        test="tests/service/test_load.py::test_a_purpose_that_the_plan_dropped_can_be_withdrawn",
    ),
    Fault(
        "a version that is planned makes consent",
        "service/intake/doors.py",
        "return self._registers.allowed(before, subject) | in_force",
        "return in_force | self._registers.allowed(self._eras[-1:], subject)",
        test="tests/service/test_load.py::test_what_a_later_version_will_ask_changes_no_answer",
    ),
)
