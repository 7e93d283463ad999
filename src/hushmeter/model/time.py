"""Spans, windows and periods: where a moment belongs (T1, T2).

A window holds the moments in `(start, end]`, so that a report about the hour from ten to eleven, which ends at eleven
sharp, belongs to that hour. All times are milliseconds since the Unix epoch, UTC; weeks begin on Monday (ISO 8601).
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.arrays import Int64

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS
_MONDAY_MS = 4 * DAY_MS
"""1970-01-05, the first Monday of the epoch: the anchor of every span but months."""

_FIRST_MS = int(dt.datetime(1, 1, 1, tzinfo=dt.UTC).timestamp()) * 1_000
_LAST_MS = int(dt.datetime(9999, 12, 31, tzinfo=dt.UTC).timestamp()) * 1_000
"""First and last day that a date can name."""

_UNITS_MS = {"s": 1_000, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": WEEK_MS}
_PATTERN = re.compile(r"([1-9]\d{0,5})(s|m|h|d|w|mo)")


def parse_duration_ms(text: str) -> int:
    """Reads a duration such as `10m`, `48h` or `0s` as milliseconds; raises `ValueError` for anything else."""
    if text in {"0", "0s", "0m", "0h", "0d"}:
        return 0
    match = _PATTERN.fullmatch(text)
    if match is None or match[2] == "mo":
        raise ValueError(f"{text!r} is not a duration: write a whole number and s, m, h, d or w, such as 10m or 48h")
    return int(match[1]) * _UNITS_MS[match[2]]


def duration_text(duration_ms: int) -> str:
    """A duration as it is written in the plan, in the largest unit that it is a whole number of: the inverse of reading."""
    units = [(size, unit) for unit, size in _UNITS_MS.items() if unit != "w" and duration_ms % size == 0]
    size, unit = max(units, default=(1, "ms"))
    return f"{duration_ms // size}{unit}"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A length that tiles time from a fixed anchor: so many milliseconds, or one calendar month.

    Attributes:
        name: as written in the plan, `1h`, `1d`, `1w` or `1mo`.
        length_ms: its length; of a month, the longest one's.
        monthly: whether it is the calendar month.
    """

    length_ms: int
    name: str
    monthly: bool = False

    def __post_init__(self) -> None:
        ensure(self.length_ms > 0, f"a span is longer than nothing, got {self.length_ms} ms")

    @classmethod
    def parse(cls, text: str) -> Span:
        """Reads `15m`, `1h`, `1d`, `1w` or `1mo`; raises `ValueError` for anything else."""
        match = _PATTERN.fullmatch(text)
        if match is None or (match[2] == "mo" and match[1] != "1"):
            raise ValueError(f"{text!r} is not a window length: write one such as 15m, 1h, 1d, 1w or 1mo")
        if match[2] == "mo":
            return cls(31 * DAY_MS, text, monthly=True)
        return cls(int(match[1]) * _UNITS_MS[match[2]], text)

    def divides(self, other: Span) -> bool:
        """Whether every window of `other` is a whole number of windows of this span."""
        if self.monthly or other.monthly:
            return (self.monthly and other.monthly) or (other.monthly and DAY_MS % self.length_ms == 0)
        return other.length_ms % self.length_ms == 0 and WEEK_MS % self.length_ms == 0

    def starts(self, moments_ms: Int64) -> Int64:
        """The start of the window that holds each moment.

        Args:
            moments_ms: int64[n], milliseconds since the epoch.

        Returns:
            int64[n] with `start < moment <= end`.
        """
        inside = moments_ms - 1
        if self.monthly:
            months = inside.astype("datetime64[ms]").astype("datetime64[M]")
            return months.astype("datetime64[ms]").astype(np.int64)
        return inside - (inside - _MONDAY_MS) % self.length_ms

    def ends(self, starts_ms: Int64) -> Int64:
        """The end of the window that starts at each moment.

        Args:
            starts_ms: int64[n], borders of this span.

        Returns:
            int64[n].
        """
        if not self.monthly:
            return starts_ms + self.length_ms
        months = starts_ms.astype("datetime64[ms]").astype("datetime64[M]") + 1
        return months.astype("datetime64[ms]").astype(np.int64)

    def window_of(self, moment_ms: int) -> Window:
        """The window that holds a moment."""
        return self.window_from(int(self.starts(np.array([moment_ms], np.int64))[0]))

    def window_from(self, start_ms: int) -> Window:
        """The window that starts at a moment, which must be a border of this span."""
        window = Window(self.name, start_ms, self.end_of(start_ms))
        ensure(int(self.starts(np.array([start_ms + 1], np.int64))[0]) == start_ms, f"no {self.name} starts at {start_ms}")
        return window

    def end_of(self, start_ms: int) -> int:
        """The end of the window that starts at `start_ms`."""
        return int(self.ends(np.array([start_ms], np.int64))[0])

    def tiles(self, outer: Window) -> tuple[Window, ...]:
        """The windows of this span that tile a coarser window, in time order."""
        windows = []
        start = outer.start_ms
        while start < outer.end_ms:
            windows.append(self.window_from(start))
            start = windows[-1].end_ms
        ensure(start == outer.end_ms, f"{self.name} does not tile {outer}")
        return tuple(windows)

    def most_in(self, outer: Span) -> int:
        """How many windows of this span one window of `outer` holds, of a month the longest one."""
        return outer.length_ms // self.length_ms


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """One window of one resolution: the moments in `(start_ms, end_ms]`."""

    resolution: str
    start_ms: int
    end_ms: int

    def __post_init__(self) -> None:
        ensure(self.start_ms < self.end_ms, f"a window ends after it starts, got {self.start_ms} to {self.end_ms}")

    def __str__(self) -> str:
        return f"{self.resolution} {iso(self.start_ms)}"


@dataclass(frozen=True, slots=True)
class Resolution:
    """A window length with its own lateness: how long after a window's end its reports are still taken."""

    span: Span
    lateness_ms: int

    def __post_init__(self) -> None:
        ensure(self.lateness_ms >= 0, f"lateness is not negative, got {self.lateness_ms} ms")

    @property
    def name(self) -> str:
        """The name as written in the plan."""
        return self.span.name

    def deadline_ms(self, window: Window) -> int:
        """From this moment on the window takes no report, and is sealed (T2, T3)."""
        return window.end_ms + self.lateness_ms


def date_of(moment_ms: int) -> dt.date:
    """The day of a moment, UTC."""
    return dt.datetime.fromtimestamp(moment_ms / 1_000, dt.UTC).date()


def iso_exact(moment_ms: int) -> str:
    """A moment as ISO 8601 with milliseconds, UTC: `2013-01-07T00:00:00.250Z`."""
    return f"{iso(moment_ms)[:-1]}.{moment_ms % 1_000:03d}Z"


def has_date(moment_ms: int) -> bool:
    """Whether `iso` can write a moment: the years 1 to 9999."""
    return _FIRST_MS <= moment_ms <= _LAST_MS


def iso(moment_ms: int) -> str:
    """A moment as ISO 8601 with seconds, UTC: `2013-01-07T00:00:00Z`."""
    return dt.datetime.fromtimestamp(moment_ms / 1_000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
