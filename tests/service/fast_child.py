"""A process of the service whose clock runs fast and whose noise is the test double; otherwise the real thing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from hushmeter import limits
from hushmeter.service.deployment.config import Config
from hushmeter.service.processes.child import run_child
from hushmeter.testing.mechanisms import ExactMechanisms

SPEED = 600
LEASE_S = 2.0


class FastClock:
    """The machine's clock, with every second after `origin_ms` counted `SPEED` times."""

    def __init__(self, origin_ms: int) -> None:
        self._origin_ms = origin_ms

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, running fast."""
        return self._origin_ms + (time.time_ns() // 1_000_000 - self._origin_ms) * SPEED

    def monotonic_s(self) -> float:
        """Seconds of the machine's monotonic clock."""
        return time.monotonic()

    def on_jump(self, wake: Callable[[], None]) -> None:
        """Does nothing: this clock flows."""


if __name__ == "__main__":
    limits.LEASE_S = LEASE_S
    limits.BEAT_S = LEASE_S / 5
    role, origin_ms, config_json = sys.argv[1:]
    sys.exit(run_child(role, Config.model_validate_json(config_json), FastClock(int(origin_ms)), ExactMechanisms()))
