from __future__ import annotations

import datetime as dt
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter.errors import InvariantError
from hushmeter.model.states import WINDOW_TRANSITIONS, WindowEvent, WindowState, transition
from hushmeter.model.time import DAY_MS, HOUR_MS, Span, duration_text, iso, parse_duration_ms

SPANS = [Span.parse(s) for s in ("1s", "15m", "1h", "6h", "1d", "1w", "1mo")]
MOMENTS = st.integers(0, 4_102_444_800_000)


@given(MOMENTS, st.sampled_from(SPANS))
def test_a_window_holds_what_ends_in_it(moment: int, span: Span) -> None:
    """A window begins before each of its moments and ends at or after it; its end is its own, its start is not."""
    window = span.window_of(moment)
    assert window.start_ms < moment <= window.end_ms
    assert span.window_of(window.end_ms) == window
    assert span.window_of(window.start_ms + 1) == window
    assert span.window_of(window.start_ms).end_ms == window.start_ms
    assert span.ends(span.starts(np.array([moment], np.int64))).tolist() == [window.end_ms]


@given(MOMENTS)
def test_weeks_begin_on_monday_and_months_on_the_first(moment: int) -> None:
    """Weeks are ISO weeks and months calendar months, UTC (T1)."""
    week = dt.datetime.fromtimestamp(Span.parse("1w").window_of(moment).start_ms / 1000, dt.UTC)
    month = dt.datetime.fromtimestamp(Span.parse("1mo").window_of(moment).start_ms / 1000, dt.UTC)
    assert (week.weekday(), week.hour, week.minute) == (0, 0, 0)
    assert (month.day, month.hour, month.minute) == (1, 0, 0)


@given(MOMENTS, st.sampled_from([(a, b) for a in SPANS for b in SPANS if a.divides(b)]))
def test_windows_tile_coarser_ones(moment: int, pair: tuple[Span, Span]) -> None:
    """Where one span divides another, its windows tile each of the other's without gap or overlap."""
    finer, coarser = pair
    outer = coarser.window_of(moment)
    if finer.length_ms < HOUR_MS < coarser.length_ms:
        return
    tiles = finer.tiles(outer)
    assert tiles[0].start_ms == outer.start_ms
    assert tiles[-1].end_ms == outer.end_ms
    assert len(tiles) <= finer.most_in(coarser)
    assert all(a.end_ms == b.start_ms for a, b in itertools.pairwise(tiles))


@pytest.mark.parametrize(
    ("finer", "coarser", "divides"),
    [
        ("1h", "1d", True),
        ("5h", "1d", False),
        ("2d", "1w", False),
        ("1d", "1mo", True),
        ("1w", "1mo", False),
        ("1mo", "1w", False),
    ],
)
def test_spans_divide_or_not(finer: str, coarser: str, divides: bool) -> None:
    """A span divides another where every one of the other's windows is a whole number of its own."""
    assert Span.parse(finer).divides(Span.parse(coarser)) is divides


@pytest.mark.parametrize("text", ["", "1", "h", "0h", "-1h", "1.5h", "2mo", "1y", "1 h"])
def test_other_lengths_are_refused(text: str) -> None:
    """Text that is not a window length is refused with examples."""
    with pytest.raises(ValueError, match="such as 15m, 1h"):
        Span.parse(text)


@given(MOMENTS, st.sampled_from([(a, b) for a in SPANS for b in SPANS if a.length_ms >= HOUR_MS]))
def test_only_spans_that_divide_tile(moment: int, pair: tuple[Span, Span]) -> None:
    """A window is cut by a finer span's borders alone exactly where that span divides its own."""
    finer, coarser = pair
    if finer.divides(coarser):
        outer = coarser.window_of(moment)
        assert finer.window_of(outer.start_ms + 1).start_ms == outer.start_ms
        assert finer.window_of(outer.end_ms).end_ms == outer.end_ms
    else:
        windows = [coarser.window_of(moment + i * coarser.length_ms) for i in range(8)]
        assert any(finer.window_of(w.end_ms).end_ms != w.end_ms for w in windows)


@given(MOMENTS)
def test_months_are_those_of_the_calendar(moment: int) -> None:
    """A month's window holds what ends after its first midnight, up to the next month's first midnight."""
    inside = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(milliseconds=moment - 1)
    first = dt.datetime(inside.year, inside.month, 1, tzinfo=dt.UTC)
    following = (first + dt.timedelta(days=31)).replace(day=1)
    window = Span.parse("1mo").window_of(moment)
    assert (window.start_ms, window.end_ms) == (first.timestamp() * 1000, following.timestamp() * 1000)
    days = Span.parse("1d").tiles(window)
    assert len(days) == (following - first).days <= Span.parse("1d").most_in(Span.parse("1mo"))


@pytest.mark.parametrize(("year", "days"), [(1972, 29), (2000, 29), (2100, 28), (2023, 28), (2024, 29)])
def test_february_is_as_long_as_its_year_says(year: int, days: int) -> None:
    """February has 29 days in leap years, of which 2100 is none."""
    middle = int(dt.datetime(year, 2, 14, tzinfo=dt.UTC).timestamp() * 1000)
    window = Span.parse("1mo").window_of(middle)
    assert window.end_ms - window.start_ms == days * DAY_MS


@given(st.lists(MOMENTS, max_size=20), st.sampled_from(SPANS))
def test_columns_are_assigned_as_single_moments_are(moments: list[int], span: Span) -> None:
    """The start of each moment of a column is that of its own window."""
    starts = span.starts(np.array(moments, np.int64))
    assert starts.tolist() == [span.window_of(m).start_ms for m in moments]


def test_durations() -> None:
    """Lateness may be nothing, and is never a month."""
    assert parse_duration_ms("0") == 0
    assert parse_duration_ms("48h") == 2 * DAY_MS
    assert [duration_text(ms) for ms in (0, 1, 1_000, 90_000, HOUR_MS, 48 * HOUR_MS)] == [
        "0d",
        "1ms",
        "1s",
        "90s",
        "1h",
        "2d",
    ]
    with pytest.raises(ValueError, match="10m or 48h"):
        parse_duration_ms("1mo")


def test_moments_are_written_in_utc() -> None:
    """Times are written as ISO 8601, UTC."""
    assert iso(1_357_516_800_000) == "2013-01-07T00:00:00Z"


@pytest.mark.parametrize("state", WindowState)
@pytest.mark.parametrize("event", WindowEvent)
def test_only_listed_transitions_happen(state: WindowState, event: WindowEvent) -> None:
    """A transition that the table does not list raises; LOST and RELEASED are ends."""
    if (state, event) in WINDOW_TRANSITIONS:
        assert transition(state, event) is WINDOW_TRANSITIONS[state, event]
        assert state not in {WindowState.LOST, WindowState.RELEASED}
    else:
        with pytest.raises(InvariantError):
            transition(state, event)
