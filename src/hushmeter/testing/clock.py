"""A clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable

from hushmeter.errors import ensure


class FakeClock:
    """A `Clock` under a test's control.

    Args:
        now_ms: the first moment.
    """

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms
        self._monotonic_s = 0.0
        self._wakers: list[Callable[[], None]] = []

    def now_ms(self) -> int:
        """The moment that was set, in milliseconds since the Unix epoch."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """Seconds since the clock was made, as far as it was advanced."""
        return self._monotonic_s

    def on_jump(self, wake: Callable[[], None]) -> None:
        """Calls `wake` whenever the clock is moved."""
        self._wakers.append(wake)

    def advance(self, ms: int, monotonic_s: float | None = None) -> None:
        """Lets time pass.

        Args:
            ms: how far the wall clock moves.
            monotonic_s: how far the monotonic clock moves, in seconds; by default as far as the wall clock.
        """
        self._move(self._now_ms + ms, ms / 1_000 if monotonic_s is None else monotonic_s)

    def set(self, now_ms: int) -> None:
        """Sets the wall clock, forwards or back, as an operator or NTP would; the monotonic clock stays."""
        self._move(now_ms, 0.0)

    def _move(self, now_ms: int, monotonic_s: float) -> None:
        ensure(monotonic_s >= 0, f"a monotonic clock never goes back, got {monotonic_s} s")
        self._now_ms = now_ms
        self._monotonic_s += monotonic_s
        for wake in self._wakers:
            wake()
