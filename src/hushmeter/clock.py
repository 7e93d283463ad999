"""The one place that reads the machine's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """The clock of this machine."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary moment, never going back; for leases and time-outs."""
        return time.monotonic()
