"""Totals stand for the rows that they replace, in every window that waits and whatever comes later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hushmeter.model.consent import NEVER, ConsentTable
from hushmeter.model.report import TOTALS, ReportBatch
from hushmeter.model.time import Int64, Window
from hushmeter.sealing.totals import totals
from tests.oracle.seal import Sealed
from tests.sealing import sealed
from tests.strategies import DAY, HOUR, PURPOSES, TOKENS, UNITS, Case, batch_of, batches, cases, unkept

SEGMENTS = 2


def deadlines(case: Case, windows: tuple[Window, ...]) -> list[tuple[Window, int]]:
    """Windows with their deadlines."""
    return [(window, case.plan.resolution(window.resolution).deadline_ms(window)) for window in windows]


def added_up(case: Case, windows: tuple[Window, ...], segments: Int64) -> tuple[ReportBatch, Int64]:
    """The totals of a case's rows for some windows."""
    return totals(case.rows, segments, deadlines(case, windows), case.catalog, case.consent)


def in_window(rows: ReportBatch, window: Window) -> ReportBatch:
    """The rows of the storage window that a window is."""
    return rows.take(np.flatnonzero((rows.interval_end_ms > window.start_ms) & (rows.interval_end_ms <= window.end_ms)))


@st.composite
def reports(draw: st.DrawFn, case: Case) -> ReportBatch:
    """Reports of few units with many borders between them: of consent, of lengths and of deadlines."""
    last = int((case.catalog.firsts + case.catalog.sizes).max()) - 1
    deadline = case.plan.resolution(HOUR.resolution).deadline_ms(HOUR)
    has_open = any(d.open for m in case.plan.metrics for d in m.dimensions)
    token = st.sampled_from([*TOKENS[:2], None]) if has_open else st.none()
    points = st.lists(st.tuples(st.integers(1, last), st.integers(-3, 90), token), max_size=4)
    rows = []
    for _ in range(draw(st.integers(1, 10))):
        start = HOUR.start_ms + draw(st.sampled_from([-1, 9, 10, 11, 20]))
        end = draw(st.sampled_from([HOUR.start_ms + 30, HOUR.end_ms]))
        received = draw(st.sampled_from([HOUR.end_ms, deadline - 1, deadline]))
        unit = draw(st.sampled_from(UNITS[:2]))
        rows.append((unit, draw(st.integers(0, 7)), received, start, end, draw(points)))
    rows += draw(st.lists(st.sampled_from(rows), max_size=2))
    return batch_of(rows, TOKENS if has_open else ())


@st.composite
def consents_between(draw: st.DrawFn) -> ConsentTable:
    """Of the few units, given at some moment between the reports, or not."""
    since = st.sampled_from([0, HOUR.start_ms + 10, HOUR.start_ms + 11, NEVER])
    names = [high.to_bytes(8, "big") + low.to_bytes(8, "big") for high, low in UNITS[:2]]
    return ConsentTable.of(PURPOSES, [(name, (draw(since), draw(since))) for name in names])


@st.composite
def moments(draw: st.DrawFn) -> tuple[Case, tuple[Window, ...], Int64]:
    """A storage window's rows, the windows that wait, and in which segment each row is."""
    case = draw(cases([HOUR]))
    if draw(st.integers(0, 3)):
        case = replace(case, rows=draw(reports(case)), consent=draw(consents_between()))
    case = replace(case, rows=in_window(case.rows, HOUR))
    segments = np.array([draw(st.integers(0, SEGMENTS - 1)) for _ in range(len(case.rows))], np.int64)
    return case, draw(st.sampled_from([(DAY,), (HOUR, DAY)])), segments


@st.composite
def later_rows(draw: st.DrawFn, case: Case) -> ReportBatch:
    """Reports of another id, and copies of those that are there, all received later."""
    new = in_window(draw(batches(case.catalog, HOUR)), HOUR)
    new = replace(new, report_ids=new.report_ids + np.array([[1, 0]], np.uint64))
    copies = draw(st.lists(st.integers(0, len(case.rows) - 1), max_size=3)) if len(case.rows) else []
    after = int(max(case.rows.received_at_ms, default=0)) + draw(st.integers(0, 2))
    copied = case.rows.take(np.array(copies, np.int64))
    both = ReportBatch.concat([copied, new])
    return replace(both, received_at_ms=np.maximum(both.received_at_ms, after))


@st.composite
def later_consent(draw: st.DrawFn, before: ConsentTable) -> ConsentTable:
    """What decisions after the storage window's end can make of a table: it stays, is withdrawn, or is given again."""
    since = before.given_since_ms.copy()
    for place in np.ndindex(since.shape):
        since[place] = draw(st.sampled_from([int(since[place])] * 2 + [NEVER, HOUR.end_ms + 1]))
    return replace(before, given_since_ms=since)


def sealed_in(case: Case, window: Window, rows: ReportBatch, consent: ConsentTable) -> Sealed:
    """What the core says of some rows in one window."""
    participation = unkept(case.plan, window)
    return sealed(replace(case, window=window, rows=rows, consent=consent, participation=participation))


@settings(max_examples=400)
@given(st.data(), moments())
def test_totals_are_sealed_like_their_rows(data: st.DataObject, moment: tuple[Case, tuple[Window, ...], Int64]) -> None:
    """Every waiting window's tally is the same, beside later rows and copies, and under later decisions."""
    case, windows, segments = moment
    left, _ = added_up(case, windows, segments)
    later, consent = data.draw(later_rows(case)), data.draw(later_consent(case.consent))
    for window in windows:
        for after in (case.consent, consent):
            before = sealed_in(case, window, ReportBatch.concat([case.rows, later]), after)
            assert sealed_in(case, window, ReportBatch.concat([left, later]), after) == before


@settings(max_examples=200)
@given(st.data(), moments())
def test_totals_of_totals(data: st.DataObject, moment: tuple[Case, tuple[Window, ...], Int64]) -> None:
    """Adding up again, with what came meanwhile and fewer windows that wait, says the same; once more changes nothing."""
    case, windows, segments = moment
    later = data.draw(later_rows(case))
    left, of = added_up(case, windows, segments)
    both = replace(case, rows=ReportBatch.concat([left, later]))
    where = np.concatenate((segments[of], np.full(len(later), SEGMENTS)))
    again, of = added_up(both, (DAY,), where)
    raw = ReportBatch.concat([case.rows, later])
    assert sealed_in(case, DAY, again, case.consent) == sealed_in(case, DAY, raw, case.consent)
    once_more, same = added_up(replace(case, rows=again), (DAY,), where[of])
    assert same.tolist() == list(range(len(again)))
    assert (once_more.plan_versions == again.plan_versions).all()
    assert once_more.values.tolist() == again.values.tolist()


@settings(max_examples=200)
@given(st.data(), moments())
def test_a_crash_between_segments(data: st.DataObject, moment: tuple[Case, tuple[Window, ...], Int64]) -> None:
    """Where some segments were rewritten and others not yet, nothing counts twice and nothing is missing."""
    case, windows, segments = moment
    left, of = added_up(case, windows, segments)
    done = data.draw(st.integers(0, SEGMENTS - 1))
    mixed = ReportBatch.concat(
        [left.take(np.flatnonzero(segments[of] == done)), case.rows.take(np.flatnonzero(segments != done))]
    )
    for window in windows:
        assert sealed_in(case, window, mixed, case.consent) == sealed_in(case, window, case.rows, case.consent)


@given(moments())
def test_what_is_left_is_little(moment: tuple[Case, tuple[Window, ...], Int64]) -> None:
    """A unit's points are on one row a segment and set of windows, one a series and token; others are ids alone."""
    case, windows, segments = moment
    left, of = added_up(case, windows, segments)
    assert set(left.plan_versions.tolist()) <= {TOTALS, 1}
    summed = left.take(totalled := np.flatnonzero(left.plan_versions == TOTALS))
    lengths = np.diff(summed.offsets)
    where = zip(summed.pseudonyms.tolist(), segments[of[totalled]].tolist(), lengths.tolist(), strict=True)
    carriers = [(tuple(unit), segment) for unit, segment, length in where if length]
    assert all(carriers.count(carrier) <= 2 ** len(windows) - 1 for carrier in carriers)
    for row in range(len(summed)):
        points = slice(summed.offsets[row], summed.offsets[row + 1])
        cells = list(zip(summed.series[points].tolist(), summed.token_numbers[points].tolist(), strict=True))
        assert len(set(cells)) == len(cells)
    allowed = {
        tuple(p)
        for p, s in zip(case.consent.pseudonyms.tolist(), case.consent.given_since_ms, strict=True)
        if (s < NEVER).any()
    }
    assert {tuple(p) for p in summed.pseudonyms.tolist()} <= allowed
    tokens = {left.tokens[n - 1] for n in left.token_numbers.tolist() if n}
    assert set(left.tokens) == tokens
