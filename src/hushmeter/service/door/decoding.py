"""From bytes of the wire to columns, without visiting values (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from hushmeter import limits
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.api.report.v1.view_pb2 import ReportsView, ReportView
from hushmeter.errors import MalformedMessage
from hushmeter.ingest.raw import NAMED_BY_NO_POINT, SentReports

_PACKED = frozenset({Report.SERIES_FIELD_NUMBER, Report.VALUE_FIELD_NUMBER, Report.POINT_TOKEN_FIELD_NUMBER})


def decode_reports(message: bytes, *, unit_tokens: bool = False) -> SentReports:
    """Decodes a message that carries reports.

    Args:
        message: bytes of a SubmitReportsRequest, StreamReportsRequest or ValidateReportsRequest.
        unit_tokens: whether somebody will read them.

    Returns:
        Its reports; one whose own columns do not fit together is marked malformed, the others are whole.

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
    sent = SentReports()
    for index, report in enumerate(reports):
        series, values, numbers = _column(report.series), _column(report.value), _column(report.point_token)
        table = report.token
        wrong = _what_is_wrong(report, series, values, numbers)
        if table and not wrong:
            wrong = _what_is_wrong_with(table, len(series) // 4)
        if wrong:
            sent.malformed[index] = wrong
            series = values = numbers = b""
        elif table:
            sent.tables[index] = list(table)
        sent.series.append(series)
        sent.values.append(values)
        sent.numbers.append(numbers)
        if unit_tokens and len(report.unit_token) <= limits.UNIT_TOKEN_MAX_BYTES:
            sent.unit_tokens[index] = report.unit_token
        sent.rows.append(
            (report.report_id, report.unit_id, report.interval_start_ms, report.interval_end_ms, report.plan_version)
        )
    return sent


def _column(runs: Sequence[bytes]) -> bytes:
    """A packed column whose runs nearly every encoder sends as one."""
    count = len(runs)
    if count == 1:
        return runs[0]
    return b"".join(runs) if count else b""


def _what_is_wrong(report: ReportView, series: bytes, values: bytes, numbers: bytes) -> str:
    """What does not fit in a report's packed columns; empty where all does."""
    unknown = UnknownFieldSet(report)
    if len(unknown) and any(field.field_number in _PACKED for field in unknown):  # type: ignore[attr-defined]
        return "series, value and point_token must be packed (the default of proto3); this encoder sent them one by one"
    if len(series) % 4 or len(values) % 8:
        return f"packed columns are whole numbers of 4 and 8 bytes, got {len(series)} and {len(values)} bytes"
    if len(series) // 4 != len(values) // 8:
        return f"series and value must be equally long, got {len(series) // 4} and {len(values) // 8}"
    if numbers and len(numbers) != len(series):
        return f"point_token must be absent or as long as series, which has {len(series)} bytes, got {len(numbers)} bytes"
    return ""


def _what_is_wrong_with(table: Sequence[bytes], points: int) -> str:
    """Why a report's table of tokens is none, whichever its points name; empty where it may be one."""
    if len(table) > points:
        return NAMED_BY_NO_POINT
    if len(table) > limits.TOKENS_PER_REPORT_MAX:
        return (
            f"token holds at most {limits.TOKENS_PER_REPORT_MAX} tokens; split the report, each part with its own report_id"
        )
    if len(set(table)) < len(table):
        return "token holds each token once; let point_token name the same entry for each of its points"
    return ""
