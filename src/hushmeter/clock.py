"""The one place that reads the machine's clocks."""

from __future__ import annotations

import time
from collections.abc import Callable


class SystemClock:
    """The clock of this machine."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary moment, never going back; for leases and time-outs."""
        return time.monotonic()

    def on_jump(self, wake: Callable[[], None]) -> None:
        """Does nothing: this clock flows."""


class ReplayClock:
    """A clock that stands until it is told to go on: replays a recorded year in minutes.

    Leases still run on the machine's monotonic time, because processes really do live and die.
    """

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._wakers: list[Callable[[], None]] = []

    def now_ms(self) -> int:
        """The moment that it was last set to."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """Seconds of the machine's monotonic clock."""
        return time.monotonic()

    def on_jump(self, wake: Callable[[], None]) -> None:
        """Calls `wake` at every `advance_to`."""
        self._wakers.append(wake)

    def advance_to(self, now_ms: int) -> None:
        """Goes on to a later moment; an earlier one is ignored, as time never goes back."""
        self._now_ms = max(self._now_ms, now_ms)
        for wake in self._wakers:
            wake()
