"""The one place that reads the machine's clocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

JUMP_MS: Final = 60_000
"""The wall clock may be so far ahead of what has elapsed since it was last seen."""
BELIEVED_S: Final = 600.0
_log = structlog.get_logger("hushmeter.clock")


@dataclass(frozen=True, slots=True)
class Anchor:
    """What a process believes of the time, for another process of the same machine to begin with.

    Attributes:
        wall_ms: the time that was last believed.
        elapsed_s: when that was, in seconds that have elapsed.
        ahead_since_s: since when the wall clock is ahead of that time, in elapsed seconds; None where it is not ahead.
    """

    wall_ms: int
    elapsed_s: float
    ahead_since_s: float | None = None


class SystemClock:
    """The clock of this machine, which a jump ahead does not carry away.

    A clock that is set ahead would close windows that have hardly begun, for good, and reports to them would be too late.
    So a jump of more than `JUMP_MS` is believed once it has held for `BELIEVED_S`; until then time goes on as it has
    elapsed. A clock that is set right again in between has done no harm; one that goes back is followed at once, and
    whatever must not go back with it sees to that itself.

    Args:
        wall_ns: nanoseconds since the Unix epoch, UTC, as the machine believes.
        elapsed_s: seconds since an arbitrary moment, those in which the machine slept too.
        anchor: what another process believes; else the wall clock is believed as it is now.
    """

    def __init__(
        self,
        wall_ns: Callable[[], int] = time.time_ns,
        elapsed_s: Callable[[], float] | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        self._wall_ns = wall_ns
        self._elapsed_s = elapsed_s or _elapsed_s
        self._lock = threading.Lock()
        begun = anchor or Anchor(wall_ns() // 1_000_000, self._elapsed_s())
        self._seen_ms, self._seen_s, self._ahead_since_s = begun.wall_ms, begun.elapsed_s, begun.ahead_since_s

    def anchor(self) -> Anchor:
        """What is believed now; a process that begins with it believes the same, and a jump ahead no sooner or later."""
        self.now_ms()
        with self._lock:
            return Anchor(self._seen_ms, self._seen_s, self._ahead_since_s)

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC. Any thread may ask."""
        with self._lock:
            wall_ms, elapsed_s = self._wall_ns() // 1_000_000, self._elapsed_s()
            expected_ms = self._seen_ms + round(1_000 * (elapsed_s - self._seen_s))
            if wall_ms <= expected_ms + JUMP_MS:
                self._ahead_since_s = None
            elif self._ahead_since_s is None:
                self._ahead_since_s = elapsed_s
                _log.error(
                    "the clock was set ahead; if that stays so it will be believed",
                    ahead_s=(wall_ms - expected_ms) // 1_000,
                    believed_in_s=BELIEVED_S,
                )
            if self._ahead_since_s is not None:
                if elapsed_s - self._ahead_since_s < BELIEVED_S:
                    # Kept as it was seen, so that rounding does not add up.
                    return expected_ms
                _log.warning("the clock has stayed ahead and is believed now")
                self._ahead_since_s = None
            self._seen_ms, self._seen_s = wall_ms, elapsed_s
            return wall_ms

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary moment, never going back; for leases and time-outs."""
        return time.monotonic()

    def on_jump(self, wake: Callable[[], None]) -> None:
        """Does nothing: this clock flows."""


def _elapsed_s() -> float:
    # Where the system has no clock that goes on while it sleeps, waking up looks like a jump, and is believed later.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class ReplayClock:
    """A clock that stands until it is told to go on: replays a recorded year in minutes.

    Leases still run on the machine's monotonic time, because processes really start and end.

    Args:
        now_ms: the first moment.
        elapsed_s: seconds since an arbitrary moment, never going back.
    """

    def __init__(self, now_ms: int, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._now_ms = now_ms
        self._elapsed_s = elapsed_s
        self._wakers: list[Callable[[], None]] = []

    def now_ms(self) -> int:
        """The moment that it was last set to."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """Seconds of the monotonic clock; the machine's by default."""
        return self._elapsed_s()

    def on_jump(self, wake: Callable[[], None]) -> None:
        """Calls `wake` at every `advance_to`."""
        self._wakers.append(wake)

    def advance_to(self, now_ms: int) -> None:
        """Goes on to a later moment; an earlier one is ignored, as time never goes back."""
        self._now_ms = max(self._now_ms, now_ms)
        for wake in self._wakers:
            wake()
