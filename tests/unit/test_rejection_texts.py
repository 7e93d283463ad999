"""What the text of each rejection says: what was wrong, and what to do about it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hushmeter.api.report.v1.report_pb2 import RejectionReason as WireReason
from hushmeter.ingest.admission import Admission, Door, admit, rejections_of
from hushmeter.ingest.columns import PlanColumns
from hushmeter.ingest.raw import RawReports, SentReports
from hushmeter.model.report import RejectionReason
from hushmeter.plan.catalog import Catalog, assign_blocks
from tests.unit.ten_units import PLAN

ANSWERED = sorted(set(WireReason.values()) - {WireReason.Value("REJECTION_REASON_UNSPECIFIED")})
"""Every reason on the wire that the server may answer."""
SAID = {
    RejectionReason.MALFORMED: ("must be 16 random bytes", "draw them once for each report"),
    RejectionReason.BAD_UNIT_ID: ("unit_id must be 1 to 128 bytes", "send a stable identifier"),
    RejectionReason.BAD_INTERVAL: ("must start before it ends", "report more often"),
    RejectionReason.IN_FUTURE: ("after the server's clock", "correct the client's clock"),
    RejectionReason.TOO_LATE: ("deadline of every window", "drop it"),
    RejectionReason.UNKNOWN_PLAN_VERSION: ("plan version unknown", "call GetPlan"),
    RejectionReason.UNKNOWN_SERIES: ("a series number that", "call GetPlan"),
    RejectionReason.VALUE_OUT_OF_RANGE: ("outside its metric's range", "clamp before sending"),
    RejectionReason.TOO_LARGE: ("more than 4096 points", "split it in parts"),
    RejectionReason.NO_CONSENT: ("has not allowed every purpose", "ask for consent"),
    RejectionReason.EXPIRED_METRIC: ("has passed its expiry date", "stop sending it"),
    RejectionReason.BAD_TOKEN: ("names one of the report's tokens", "that GetPlan states"),
    RejectionReason.BAD_UNIT_TOKEN: ("unit_token is missing, expired, damaged", "fetch a new one"),
    RejectionReason.RATE_LIMITED: ("more reports than one unit may", "send the report again unchanged"),
}
"""What was wrong, and what to do, in the text of each."""


def malformed(report_id: bytes, points: int) -> Admission:
    """What becomes of one report with some points of series 1."""
    columns = PlanColumns.of(Catalog.of(PLAN, assign_blocks(PLAN)))
    sent = SentReports([(report_id, b"unit", 1, 2, PLAN.version)], [bytes(4 * points)], [bytes(8 * points)], [b""])
    firsts = np.zeros(len(PLAN.resolutions), np.int64)
    door = Door(columns, firsts, list, lambda units: np.zeros((len(units), 1), np.int64), lambda _, units: list(units))
    return admit(RawReports.of([sent]), door, 3)


@pytest.mark.parametrize("number", ANSWERED, ids=WireReason.Name)
def test_every_reason_says_what_was_wrong_and_what_to_do(number: int) -> None:
    """A report that is rejected for any reason of the wire gets a text with both, and with no gap left to fill in."""
    reason = RejectionReason(number)
    refused = dataclasses.replace(malformed(bytes(15), 1), reasons=np.array([number], np.int64))
    (rejection,) = rejections_of(refused, 0, 1, PLAN)
    wrong, to_do = SAID[reason]
    assert rejection.reason is reason
    assert rejection.message.find(to_do) > rejection.message.find(wrong) >= 0, rejection.message
    assert not set("{}") & set(rejection.message)


def test_reports_without_points_are_told_so() -> None:
    """A report without points is malformed, whatever its id, and its text says what to send."""
    refused = malformed(bytes(16), 0)
    assert refused.reasons.tolist() == [RejectionReason.MALFORMED]
    (rejection,) = rejections_of(refused, 0, 1, PLAN)
    assert rejection.message == "the report has no points; send only those that have some"
