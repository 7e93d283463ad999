"""One worker without sockets: what it keeps in memory, and what one caller's trouble means to the others."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from hushmeter.model.consent import Decision
from hushmeter.model.time import HOUR_MS, MINUTE_MS, WEEK_MS
from hushmeter.ports import KeyRing
from hushmeter.service.context import Context
from hushmeter.service.meters import Meters
from hushmeter.service.worker import IntakeWorker
from hushmeter.testing.clock import FakeClock
from tests.service.by_hand import H, opened, reports

YES = [Decision(bytes(16), "tuning", True, 0)]


@asynccontextmanager
async def working(context: Context) -> AsyncIterator[IntakeWorker]:
    """A worker that has started, and stops in good order."""
    worker = IntakeWorker(context, Meters())
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


async def reached(worker: IntakeWorker, condition: Callable[[], bool]) -> bool:
    """Whether something comes true within so many turns of the worker's thread."""
    for _ in range(1_000):
        if condition():
            return True
        await worker.consent_of(b"nobody")
    return False


class TellingRing:
    """A key ring that knows which of the period keys that it gave out somebody still holds."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self.held: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._keys, name)

    def get_or_create(self, name: str) -> bytes:
        held = self.held

        class Key(bytes):
            def __del__(self) -> None:
                held.remove(name)

        held.append(name)
        return Key(self._keys.get_or_create(name))


def test_period_keys_leave_memory_when_their_period_takes_no_report(tmp_path: Path) -> None:
    """A worker holds a period's key until the last deadline of its windows, and nowhere a moment longer (P3)."""
    clock = FakeClock(H)
    keys = TellingRing(opened(tmp_path, clock).keys)
    context = dataclasses.replace(opened(tmp_path, clock), keys=keys)  # type: ignore[arg-type]
    first, second = f"period/{H}", f"period/{H + WEEK_MS}"

    async def run() -> None:
        async with working(context) as worker:
            await worker.decide(b"u", YES)
            for now in (H + 30 * MINUTE_MS, H + WEEK_MS + 30 * MINUTE_MS):
                clock.set(now)
                assert (await worker.submit(reports(context, ["u"], now))).accepted == 1
            assert keys.held.count(first) == keys.held.count(second) == 1
            clock.set(H + WEEK_MS + HOUR_MS - 1)
            late = reports(context, ["u"], H + WEEK_MS - HOUR_MS)
            assert (await worker.submit(late)).accepted == 1
            assert keys.held.count(first) == 1
            clock.set(H + WEEK_MS + HOUR_MS)
            assert await reached(worker, lambda: first not in keys.held)
            assert keys.held.count(second) == 1
            assert (await worker.submit(late)).accepted == 0

    asyncio.run(run())
