"""From bytes of the wire to columns, without visiting values (DESIGN 4)."""

from __future__ import annotations

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from hushmeter import limits
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.api.report.v1.view_pb2 import ReportsView, ReportView
from hushmeter.errors import MalformedMessage
from hushmeter.ingest.raw import RawReports

_PACKED = frozenset({Report.SERIES_FIELD_NUMBER, Report.VALUE_FIELD_NUMBER})


def decode_reports(message: bytes) -> RawReports:
    """Decodes a message that carries reports.

    Args:
        message: bytes of a SubmitReportsRequest, StreamReportsRequest or ValidateReportsRequest.

    Returns:
        Its reports as columns; a report whose own columns do not fit together is marked malformed, the others are whole.

    Raises:
        MalformedMessage: it is not protobuf of this schema, or holds too many reports.
    """
    try:
        reports = ReportsView.FromString(message).reports
    except DecodeError:
        text = "the message is not a valid protobuf message of this method; nothing of it was taken"
        raise MalformedMessage(text) from None
    if len(reports) > limits.REPORTS_PER_MESSAGE_MAX:
        raise MalformedMessage(
            f"the message holds {len(reports)} reports, at most {limits.REPORTS_PER_MESSAGE_MAX} are taken; send several"
        )
    malformed: dict[int, str] = {}
    series: list[bytes] = []
    values: list[bytes] = []
    lengths = np.zeros(len(reports) + 1, np.int64)
    for index, report in enumerate(reports):
        report_series, report_values = b"".join(report.series), b"".join(report.value)
        wrong = _what_is_wrong(report, report_series, report_values)
        if wrong:
            malformed[index] = wrong
            continue
        series.append(report_series)
        values.append(report_values)
        lengths[index + 1] = len(report_values) // 8
    return RawReports(
        [r.report_id for r in reports],
        [r.unit_id for r in reports],
        np.array([r.interval_start_ms for r in reports], np.int64),
        np.array([r.interval_end_ms for r in reports], np.int64),
        np.array([r.plan_version for r in reports], np.int64),
        malformed,
        np.cumsum(lengths),
        np.frombuffer(b"".join(series), "<u4").astype(np.uint32, copy=False),
        np.frombuffer(b"".join(values), "<i8").astype(np.int64, copy=False),
    )


def _what_is_wrong(report: ReportView, series: bytes, values: bytes) -> str:
    """What does not fit in a report's packed columns; empty where all does."""
    if any(field.field_number in _PACKED for field in UnknownFieldSet(report)):  # type: ignore[attr-defined]
        return "series and value must be packed (the default of proto3); this encoder sent them one by one"
    if len(series) % 4 or len(values) % 8:
        return f"packed columns are whole numbers of 4 and 8 bytes, got {len(series)} and {len(values)} bytes"
    if len(series) // 4 != len(values) // 8:
        return f"series and value must be equally long, got {len(series) // 4} and {len(values) // 8}"
    return ""
