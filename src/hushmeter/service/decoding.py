"""From bytes of the wire to columns, without visiting values (DESIGN 4)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from hushmeter import limits
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.api.report.v1.view_pb2 import ReportsView, ReportView
from hushmeter.errors import MalformedMessage
from hushmeter.ingest.raw import NO_TEXT, RawReports
from hushmeter.model.report import UInt32, no_token_numbers, pruned_tokens
from hushmeter.model.time import Int64

_PACKED = frozenset({Report.SERIES_FIELD_NUMBER, Report.VALUE_FIELD_NUMBER, Report.POINT_TOKEN_FIELD_NUMBER})
_IDLE = "token holds an entry that no point names; point_token is 1 + the index of the point's token"


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
    numbers: list[bytes] = []
    tables: dict[int, Sequence[bytes]] = {}
    lengths = np.zeros(len(reports), np.int64)
    for index, report in enumerate(reports):
        columns = _column(report.series), _column(report.value), _column(report.point_token)
        table = report.token
        wrong = _what_is_wrong(report, *columns) or (_what_is_wrong_with(table, len(columns[0]) // 4) if table else "")
        if wrong:
            malformed[index] = wrong
            continue
        series.append(columns[0])
        values.append(columns[1])
        numbers.append(columns[2])
        lengths[index] = len(columns[1]) // 8
        if table:
            tables[index] = list(table)
    tokens, token_numbers, idle = _one_dictionary(tables, _token_column(numbers, series), lengths)
    malformed |= dict.fromkeys(
        idle, "token holds an entry that no point names; point_token is 1 + a token's index in token"
    )
    return RawReports(
        [r.report_id for r in reports],
        [r.unit_id for r in reports],
        np.array([r.interval_start_ms for r in reports], np.int64),
        np.array([r.interval_end_ms for r in reports], np.int64),
        np.array([r.plan_version for r in reports], np.int64),
        malformed,
        np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        np.frombuffer(b"".join(series), "<u4").astype(np.uint32, copy=False),
        np.frombuffer(b"".join(values), "<i8").astype(np.int64, copy=False),
        tokens,
        token_numbers,
    )


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
        return _IDLE
    if len(table) > limits.TOKENS_PER_REPORT_MAX:
        return (
            f"token holds at most {limits.TOKENS_PER_REPORT_MAX} tokens; split the report, each part with its own report_id"
        )
    if len(set(table)) < len(table):
        return "token holds each token once; let point_token name the same entry for each of its points"
    return ""


def _token_column(numbers: Sequence[bytes], series: Sequence[bytes]) -> UInt32:
    """The column of all reports; empty where none has one. Where one report's is absent, its numbers are 0."""
    if not any(numbers):
        return no_token_numbers()
    # A number is as wide as a series.
    runs = [own or bytes(len(beside)) for own, beside in zip(numbers, series, strict=True)]
    return np.frombuffer(b"".join(runs), "<u4").astype(np.uint32, copy=False)


def _one_dictionary(
    tables: Mapping[int, Sequence[bytes]], numbers: UInt32, lengths: Int64
) -> tuple[tuple[bytes, ...], UInt32, Sequence[int]]:
    """Turns numbers of each report's own table into numbers of one dictionary.

    Args:
        tables: by report, where it has one.
        numbers: uint32[m], 0 or 1 + an index, which may be beyond the report's table; empty where all are 0.
        lengths: int64[n], how many points each report has.

    Returns:
        The dictionary; uint32[m], numbers of its entries, or empty; the reports whose tables hold entries that no point
        names: nothing may come in that no point says.
    """
    if not len(numbers):
        return (), numbers, list(tables)
    sizes = np.zeros(len(lengths), np.int64)
    sizes[list(tables)] = [len(table) for table in tables.values()]
    # One entry before all tables, which every index beyond a table is taken to.
    entries = [NO_TEXT, *itertools.chain.from_iterable(tables.values())]
    size, start = np.repeat(sizes, lengths), np.repeat(np.cumsum(sizes) - sizes, lengths)
    entry = np.where(numbers <= size, start + numbers, 0)[numbers > 0]
    idle = np.ones(len(entries), np.bool_)
    idle[entry] = False
    merged: dict[bytes, int] = {}
    numbered = [merged.setdefault(e if len(e) <= limits.TOKEN_MAX_BYTES else NO_TEXT, len(merged) + 1) for e in entries]
    found = np.zeros(len(numbers), np.uint32)
    found[numbers > 0] = np.array(numbered, np.uint32)[entry]
    return *pruned_tokens(tuple(merged), found), np.unique(np.repeat(np.arange(len(sizes)), sizes)[idle[1:]]).tolist()
