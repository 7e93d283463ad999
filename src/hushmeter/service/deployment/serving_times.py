"""When the service serves: what the published completeness is made of."""

from __future__ import annotations

from collections import deque

import structlog

from hushmeter import limits
from hushmeter.errors import Failure
from hushmeter.ports import Clock, WorkerStore
from hushmeter.service.deployment.logs import fields_of


class Presence:
    """Records from when to when at least one worker is up; whoever starts and ends workers says so. One thread calls.

    What the store cannot take is kept, with its time, until it can.

    Privacy:
        Completeness is published, so nothing that traffic moves may be in it (R1): no beats, no leases, no age of anything
        that waits. A worker is up from its start until its process has ended. Traffic can still end a worker, by the memory
        that it takes; that is accepted.

    Args:
        store: where it is recorded.
        clock: time.
    """

    def __init__(self, store: WorkerStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._up = set[str]()
        self._changes = deque[tuple[bool, int]]()
        self._number = 0
        self._marked_s = 0.0
        self._log = structlog.get_logger("hushmeter.presence")

    def up(self, worker: str) -> None:
        """A worker serves from now on."""
        if not self._up:
            self._changes.append((True, self._clock.now_ms()))
        self._up.add(worker)
        self.tick()

    def down(self, worker: str) -> None:
        """A worker has ended; does nothing where it was not up."""
        if worker in self._up:
            self._up.remove(worker)
            if not self._up:
                self._changes.append((False, self._clock.now_ms()))
        self.tick()

    def tick(self) -> None:
        """Records what has changed, and now and then that the service is there: its end may be seen by nobody."""
        now_s = self._clock.monotonic_s()
        due = self._up and now_s - self._marked_s >= limits.SERVING_MARK_S
        if not self._changes and not due:
            return
        try:
            while self._changes:
                begins, at_ms = self._changes[0]
                if begins:
                    self._number = self._store.begin_serving(at_ms)
                else:
                    self._store.mark_serving(self._number, at_ms, ends=True)
                self._changes.popleft()
            if due:
                self._store.mark_serving(self._number, self._clock.now_ms())
            self._marked_s = now_s
        except Failure as error:
            self._log.warning("could not record that the service is there, will try again", **fields_of(error))
