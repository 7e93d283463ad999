"""The clock of a machine that runs fast, and that can be set wrong while processes ask it."""

from __future__ import annotations

import mmap
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hushmeter.clock import Anchor, SystemClock

SPEED = 600
_OFFSET = struct.Struct("<q")


def pause(seconds: float) -> None:
    """Lets real time pass: the processes are real."""
    threading.Event().wait(seconds)


@dataclass(frozen=True)
class Machine:
    """One machine's wall clock, shared by its processes.

    Attributes:
        origin_ms: what it said at `origin_s`.
        origin_s: a moment of the machine's real elapsed time.
        path: holds by how many milliseconds it is wrong.
    """

    origin_ms: int
    origin_s: float
    path: str

    @classmethod
    def new(cls, path: Path) -> Machine:
        """A machine whose clock is right now."""
        path.write_bytes(_OFFSET.pack(0))
        return cls(time.time_ns() // 1_000_000, time.monotonic(), str(path))

    def set_wrong_by(self, ms: int) -> None:
        """Sets the wall clock for all processes at once."""
        Path(self.path).write_bytes(_OFFSET.pack(ms))

    def elapsed_s(self) -> float:
        """Seconds that have elapsed, each real one counted `SPEED` times."""
        return (time.monotonic() - self.origin_s) * SPEED

    def now_ms(self) -> int:
        """The true time."""
        return self.origin_ms + round(self.elapsed_s() * 1_000)

    def clock(self, anchor: Anchor | None = None) -> SystemClock:
        """The clock of a process, as the service has it."""
        return SystemClock(self._wall_ns(), self.elapsed_s, anchor)

    def _wall_ns(self) -> Callable[[], int]:
        with Path(self.path).open("rb") as file:
            shared = mmap.mmap(file.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)
        return lambda: (self.now_ms() + int(_OFFSET.unpack(shared)[0])) * 1_000_000
