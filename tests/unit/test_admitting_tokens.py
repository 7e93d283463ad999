"""From the wire to admitted columns: what is kept of tokens, and which are lawful."""

from __future__ import annotations

import re
import unicodedata
from datetime import date

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hushmeter import limits
from hushmeter.api.ingest.v1.ingest_pb2 import SubmitReportsRequest
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.ingest.admission import Door, admit
from hushmeter.ingest.columns import PlanColumns
from hushmeter.ingest.raw import NO_TEXT, RawReports
from hushmeter.ingest.tokens import lawful
from hushmeter.model.plan import OpenValues
from hushmeter.model.report import RejectionReason
from hushmeter.plan.catalog import Catalog, assign_blocks
from hushmeter.plan.reading import parse_plan
from hushmeter.service.door.decoding import decode_reports
from tests.plans import OPEN_DIMENSIONS
from tests.service.running_service import FOUNDED_MS


def decoded(*tables: tuple[list[str], list[int]]) -> RawReports:
    """One report for each table and its points' numbers, all of a metric's first series."""
    reports = [
        Report(
            report_id=bytes([i] * 16),
            unit_id="unit",
            interval_start_ms=FOUNDED_MS + 1,
            interval_end_ms=FOUNDED_MS + 2,
            plan_version=1,
            series=[1] * len(numbers),
            value=[1] * len(numbers),
            token=table,
            point_token=numbers,
        )
        for i, (table, numbers) in enumerate(tables)
    ]
    return RawReports.of([decode_reports(SubmitReportsRequest(reports=reports).SerializeToString())])


def named(raw: RawReports) -> list[bytes | None]:
    """The token of each point."""
    return [[None, *raw.tokens][number] for number in raw.token_numbers.tolist()]


def test_tables_become_one_dictionary() -> None:
    """Each token stands in the dictionary once, whatever numbers it has in its reports."""
    raw = decoded((["a", "b"], [2, 1, 0, 2]), ([], [0]), (["c", "a"], [1, 2]))
    assert named(raw) == [b"b", b"a", None, b"b", None, b"c", b"a"]
    assert sorted(raw.tokens) == [b"a", b"b", b"c"]
    assert not raw.malformed


def test_what_no_plan_allows_is_not_kept() -> None:
    """A token of as many bytes as any plan can allow is kept; of a longer one, and of one that is not there, nothing is."""
    longest = "x" * limits.TOKEN_MAX_BYTES
    raw = decoded(([longest], [1]), ([longest + "x"], [1]), (["a"], [2, 1]), ([], [7]))
    assert named(raw) == [longest.encode(), NO_TEXT, NO_TEXT, b"a", NO_TEXT]
    assert sorted(raw.tokens) == [b"a", longest.encode(), NO_TEXT]


def test_an_idle_token_is_kept_of_no_report() -> None:
    """A report with a token that no point names is malformed, alone, and the token is not kept."""
    raw = decoded((["a", "idle"], [1, 1]), (["a"], [1]), (["a", "idle", "idler"], [1]))
    assert raw.malformed.keys() == {0, 2}
    assert raw.tokens == (b"a",)


def test_tokens_of_rejected_reports_go_no_further() -> None:
    """Admitted columns hold the tokens of admitted reports alone."""
    plan = parse_plan(OPEN_DIMENSIONS, date(2026, 3, 2))
    columns = PlanColumns.of(Catalog.of(plan, assign_blocks(plan)))
    firsts = np.array([FOUNDED_MS], np.int64)
    door = Door(columns, firsts, list, lambda units: [(0,)] * len(units), lambda _, units: [u.ljust(16) for u in units])
    admission = admit(decoded((["1.0", "x"], [1, 2]), (["2.0"], [1]), (["3.0"], [1, 0])), door, FOUNDED_MS + 3)
    assert admission.reasons.tolist() == [RejectionReason.BAD_TOKEN, 0, RejectionReason.BAD_TOKEN]
    assert (admission.batch.tokens, admission.batch.token_numbers.tolist()) == ((b"2.0",), [1])


TOKEN = st.text(st.sampled_from("a1.\n\x7f\u0085\u200dä") | st.characters(codec="utf-8"), max_size=6)


@given(
    st.lists(TOKEN.map(str.encode) | st.binary(max_size=4)),
    st.integers(1, 5),
    st.sampled_from([r"[a1ä]+", r"^\d*$", r"a|1.", ".*"]),
)
def test_lawful_tokens_are_those_of_a_slow_judge(tokens: list[bytes], max_length: int, pattern: str) -> None:
    """UTF-8, no control character, not too long and wholly matched: as Python judges them one by one."""

    def slow(token: bytes) -> bool:
        try:
            text = token.decode()
        except UnicodeDecodeError:
            return False
        plain = not any(unicodedata.category(c) == "Cc" for c in text)
        return plain and len(text) <= max_length and re.fullmatch(pattern, text, re.ASCII) is not None

    assert lawful(tokens, OpenValues(pattern, max_length, 1)).tolist() == [slow(token) for token in tokens]
