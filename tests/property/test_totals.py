"""Totals stand for the rows that they replace, in every window that waits and whatever comes later."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hushmeter.model.arrays import Int64
from hushmeter.model.consent import NEVER, ConsentTable
from hushmeter.model.report import TOTALS, ReportBatch
from hushmeter.model.time import Window
from hushmeter.sealing.totals import totals
from tests.examples import examples
from tests.oracle.rows import rows_of
from tests.oracle.seal import Sealed
from tests.sealing import sealed
from tests.strategies import DAY, HOUR, PURPOSES, RESOLUTIONS, TOKENS, UNITS, Case, batch_of, batches, cases, unkept

SEGMENTS = 2
LATE = RESOLUTIONS[0].deadline_ms(HOUR)


@dataclass(frozen=True)
class Moment:
    """A storage window's rows when they become totals.

    Attributes:
        case: with the rows.
        windows: that wait.
        segments: in which each row is.
        fixed_ms: every row that was received earlier is there.
    """

    case: Case
    windows: tuple[Window, ...]
    segments: Int64
    fixed_ms: int

    def deadlines(self) -> list[tuple[Window, int]]:
        """The windows with their deadlines."""
        return [(window, self.case.plan.resolution(window.resolution).deadline_ms(window)) for window in self.windows]

    def totals(self) -> tuple[ReportBatch, Int64]:
        """The totals of the rows."""
        case = self.case
        deadlines = self.deadlines()
        return totals(case.rows, self.segments, self.fixed_ms, deadlines, case.catalog, case.consent, case.copy_key)


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
def moments(draw: st.DrawFn) -> Moment:
    """Any moment: of a window that has ended, or of a finer one than all that wait."""
    case = draw(cases([HOUR]))
    if draw(st.integers(0, 3)):
        case = replace(case, rows=draw(reports(case)), consent=draw(consents_between()))
    case = replace(case, rows=in_window(case.rows, HOUR))
    segments = np.array([draw(st.integers(0, SEGMENTS - 1)) for _ in range(len(case.rows))], np.int64)
    windows, fixed = draw(st.sampled_from([(DAY,), (HOUR, DAY)])), draw(st.sampled_from([LATE - 1, LATE, LATE + 1]))
    return Moment(case, windows, segments, fixed)


@st.composite
def later_rows(draw: st.DrawFn, moment: Moment) -> ReportBatch:
    """Reports of other ids, others of the same ids, and copies of those that are there, all received later."""
    case = moment.case
    new = in_window(draw(batches(case.catalog, HOUR)), HOUR)
    new = replace(new, report_ids=new.report_ids + np.array([[draw(st.integers(0, 1)), 0]], np.uint64))
    copies = draw(st.lists(st.integers(0, len(case.rows) - 1), max_size=3)) if len(case.rows) else []
    both = ReportBatch.concat([case.rows.take(np.array(copies, np.int64)), new])
    return replace(both, received_at_ms=np.maximum(both.received_at_ms, moment.fixed_ms + draw(st.integers(0, 2))))


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


def shuffled(data: st.DataObject, rows: ReportBatch) -> ReportBatch:
    """The same rows as another order of segments, workers and frames would have them read."""
    return rows.take(np.array(data.draw(st.permutations(range(len(rows)))), np.int64))


@examples(400)
@given(st.data(), moments())
def test_totals_are_sealed_like_their_rows(data: st.DataObject, moment: Moment) -> None:
    """Every waiting window's tally is the same, beside later rows and copies, under later decisions, in any order."""
    case = moment.case
    left, _ = moment.totals()
    later, consent = data.draw(later_rows(moment)), data.draw(later_consent(case.consent))
    both = shuffled(data, ReportBatch.concat([left, later]))
    for window in moment.windows:
        for after in (case.consent, consent):
            before = sealed_in(case, window, ReportBatch.concat([case.rows, later]), after)
            assert sealed_in(case, window, both, after) == before


@examples(200)
@given(st.data(), moments())
def test_totals_of_totals(data: st.DataObject, moment: Moment) -> None:
    """Adding up again, with what came meanwhile and fewer windows that wait, says the same; once more changes nothing."""
    case = moment.case
    later = data.draw(later_rows(moment))
    left, of = moment.totals()
    both = replace(case, rows=ReportBatch.concat([left, later]))
    where = np.concatenate((moment.segments[of], np.full(len(later), SEGMENTS)))
    following = Moment(both, (DAY,), where, moment.fixed_ms + data.draw(st.integers(0, 3)))
    again, of = following.totals()
    raw = ReportBatch.concat([case.rows, later])
    assert sealed_in(case, DAY, again, case.consent) == sealed_in(case, DAY, raw, case.consent)
    once_more, same = replace(following, case=replace(case, rows=again), segments=where[of]).totals()
    assert same.tolist() == list(range(len(again)))
    assert (once_more.plan_versions == again.plan_versions).all()
    assert once_more.values.tolist() == again.values.tolist()


@examples(200)
@given(st.data(), moments())
def test_a_crash_between_segments(data: st.DataObject, moment: Moment) -> None:
    """Where some segments were rewritten and others not yet, nothing counts twice and nothing is missing."""
    case, segments = moment.case, moment.segments
    left, of = moment.totals()
    done = data.draw(st.integers(0, SEGMENTS - 1))
    mixed = ReportBatch.concat(
        [left.take(np.flatnonzero(segments[of] == done)), case.rows.take(np.flatnonzero(segments != done))]
    )
    mixed = shuffled(data, mixed)
    for window in moment.windows:
        assert sealed_in(case, window, mixed, case.consent) == sealed_in(case, window, case.rows, case.consent)


@examples(200)
@given(st.data(), moments())
def test_when_rows_become_totals_decides_nothing(data: st.DataObject, moment: Moment) -> None:
    """Windows that end early, late, one by one or not at all leave the same tallies to those that wait (P2, P9)."""
    case, fixed_ms = moment.case, moment.fixed_ms
    later = data.draw(later_rows(moment))
    raw = ReportBatch.concat([case.rows, later])
    where = np.concatenate((moment.segments, np.full(len(later), SEGMENTS)))
    at_once, _ = Moment(replace(case, rows=raw), (DAY,), where, fixed_ms).totals()
    early, _ = replace(moment, windows=(DAY,), fixed_ms=data.draw(st.sampled_from([0, HOUR.end_ms, fixed_ms]))).totals()
    for rows in (at_once, ReportBatch.concat([early, later])):
        assert sealed_in(case, DAY, shuffled(data, rows), case.consent) == sealed_in(case, DAY, raw, case.consent)


@given(st.data(), moments())
def test_ids_and_receipts_stay(data: st.DataObject, moment: Moment) -> None:
    """Of every report one row is left with its receipt, whatever is allowed; of late rows all are, as they came."""
    case = replace(moment.case, consent=data.draw(later_consent(moment.case.consent)))
    left, of = replace(moment, case=case).totals()
    fixed = case.rows.received_at_ms < moment.fixed_ms
    assert set(np.flatnonzero(~fixed).tolist()) <= set(of.tolist())
    late = left.take(np.flatnonzero(left.received_at_ms >= moment.fixed_ms))
    assert list(rows_of(late)) == list(rows_of(case.rows.take(np.flatnonzero(~fixed))))
    first: dict[object, int] = {}
    for row in rows_of(case.rows.take(np.flatnonzero(fixed))):
        name = row.unit, row.report_id
        first[name] = min(first.get(name, row.received_at_ms), row.received_at_ms)
    summed = rows_of(left.take(np.flatnonzero(left.plan_versions == TOTALS)))
    assert sorted(((row.unit, row.report_id), row.received_at_ms) for row in summed) == sorted(first.items())  # type: ignore[type-var]


@given(moments())
def test_what_is_left_is_little(moment: Moment) -> None:
    """A unit's points are on one row a segment and set of windows, one a series and token; others are ids alone."""
    case = moment.case
    left, of = moment.totals()
    assert set(left.plan_versions.tolist()) <= {TOTALS, 1}
    summed = left.take(totalled := np.flatnonzero(left.plan_versions == TOTALS))
    lengths = np.diff(summed.offsets)
    where = zip(summed.pseudonyms.tolist(), moment.segments[of[totalled]].tolist(), lengths.tolist(), strict=True)
    carriers = [(tuple(unit), segment) for unit, segment, length in where if length]
    assert all(carriers.count(carrier) <= 2 ** len(moment.windows) - 1 for carrier in carriers)
    for row in range(len(summed)):
        points = slice(summed.offsets[row], summed.offsets[row + 1])
        cells = list(zip(summed.series[points].tolist(), summed.token_numbers[points].tolist(), strict=True))
        assert len(set(cells)) == len(cells)
    allowed = {
        tuple(p)
        for p, s in zip(case.consent.pseudonyms.tolist(), case.consent.given_since_ms, strict=True)
        if (s < NEVER).any()
    }
    assert {unit for unit, _ in carriers} <= allowed
    tokens = {left.tokens[n - 1] for n in left.token_numbers.tolist() if n}
    assert set(left.tokens) == tokens
