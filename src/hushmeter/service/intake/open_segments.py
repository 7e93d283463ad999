"""One worker's open segments: the close protocol and the lease that makes acknowledgements safe (DESIGN 5).

A segment never holds rows from both sides of a deadline of a window over it: it is closed when the deadline passes, and
another is registered for what comes later. A registration tells which windows have begun to close; the worker's time is
then at least their deadline, so that a slow clock cannot acknowledge into them. Before a worker acknowledges, it makes
sure that no sealer can have declared it dead.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from hushmeter import limits
from hushmeter.errors import LeaseLost, WindowClosed
from hushmeter.model.report import ReportBatch
from hushmeter.service.deployment.context import Context


@dataclass(slots=True)
class _Segment:
    segment_id: str
    sequence: int
    until_ms: int
    """The segment takes rows that are received before this moment."""


class OpenSegments:
    """The segments that one worker may write, and its lease. Not thread-safe: one thread calls, in order.

    Args:
        context: the deployment.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._open: dict[int, _Segment] = {}
        self._unrecorded: dict[str, int] = {}
        self._floor_ms = 0
        self._worker_id = ""
        self._beat_s = 0.0

    def now_ms(self) -> int:
        """The receipt of what arrives now; never goes back, and never before a deadline that is known to have passed."""
        self._floor_ms = max(self._floor_ms, self._context.clock.now_ms())
        return self._floor_ms

    def seen_ms(self) -> int:
        """What `now_ms` would say at least; any thread may ask, for nothing is learnt from it."""
        return max(self._floor_ms, self._context.clock.now_ms())

    def enlist(self) -> None:
        """Registers the worker under a new name, with no segments; what an earlier name held is left to the sealer."""
        started = self._context.clock.monotonic_s()
        for start, segment in self._open.items():
            self._context.log.close(start, segment.segment_id)
        self._open.clear()
        self._unrecorded.clear()
        self._worker_id = secrets.token_hex(16)
        self._context.store.start_worker(self._worker_id, self.now_ms())
        self._beat_s = started

    def takes(self, start_ms: int, now_ms: int) -> bool:
        """Whether a storage window has a segment for rows that are received now."""
        return start_ms in self._open and now_ms < self._open[start_ms].until_ms

    def open(self, start_ms: int) -> None:
        """Closes a storage window's segment, if it has one, and registers another.

        Raises:
            LeaseLost: this worker was declared dead.
        """
        context = self._context
        self.close(start_ms)
        storage = context.plan.finest.span.window_from(start_ms)
        now = self.now_ms()
        # Rows are received from now on, so they cannot belong to a window whose deadline has passed: a sealer that has not
        # noticed yet must not wait for this segment.
        windows = [r.span.window_of(storage.end_ms) for r in context.plan.resolutions]
        over = [w for w in windows if context.deadline_ms(w) > now]
        if not over:
            return
        deadlines = {(w.resolution, w.start_ms): context.deadline_ms(w) for w in over}
        segment_id = context.log.create(start_ms)
        try:
            registration = context.store.register_segment(self._worker_id, segment_id, storage, over)
        except (WindowClosed, LeaseLost) as refusal:
            context.log.discard(start_ms, segment_id)
            if isinstance(refusal, LeaseLost):
                raise
            self._floor_ms = max(self._floor_ms, *deadlines.values())
            return
        for window in registration.closed_windows:
            self._floor_ms = max(self._floor_ms, deadlines[window])
        now = self.now_ms()
        coming = [deadline for deadline in deadlines.values() if deadline > now]
        self._open[start_ms] = _Segment(segment_id, registration.segment.sequence, min(coming, default=0))

    def append(self, batches: Mapping[int, ReportBatch]) -> None:
        """Appends rows to the segments of their storage windows; returns when they are durable and may be acknowledged.

        Raises:
            StorageFull, Failure: some rows may be durable; none may be acknowledged.
            LeaseLost: this worker was declared dead.
            NotServing: another state of the deployment serves; what was appended here counts nowhere.
        """
        for start, rows in batches.items():
            segment = self._open[start]
            if self._context.log.append(start, segment.segment_id, rows) > limits.SEGMENT_MAX_BYTES:
                segment.until_ms = 0
        if self._context.clock.monotonic_s() - self._beat_s >= limits.LEASE_S / 2:
            self.beat()
        self._context.ensure_serving()
        # After that: what a sealer has fenced meanwhile must not claim more than the sealer has counted.
        for start in batches:
            self._context.log.acknowledge(start, self._open[start].segment_id)

    def end_through(self, last_segment: int) -> None:
        """Lets segments registered up to a number take no more rows; the next tick closes them."""
        for segment in self._open.values():
            if segment.sequence <= last_segment:
                segment.until_ms = 0

    def tick(self) -> None:
        """Closes segments whose deadline has passed, and beats when it is time."""
        now = self.now_ms()
        for start in [s for s, segment in self._open.items() if now >= segment.until_ms]:
            self.close(start)
        self._record_closed()
        if self._context.clock.monotonic_s() - self._beat_s >= limits.BEAT_S:
            self.beat()

    def beat(self) -> None:
        """Renews the lease; raises `LeaseLost` where the sealer has declared this worker dead."""
        started = self._context.clock.monotonic_s()
        self._context.store.beat(self._worker_id, self.now_ms())
        self._beat_s = started

    def close(self, start_ms: int) -> None:
        """Closes a storage window's segment, if it has one."""
        segment = self._open.pop(start_ms, None)
        if segment is not None:
            self._unrecorded[segment.segment_id] = self._context.log.close(start_ms, segment.segment_id)
            self._record_closed()

    def retire(self) -> None:
        """Closes every segment and signs off."""
        for start in list(self._open):
            self.close(start)
        self._context.store.retire_worker(self._worker_id, self.now_ms())

    def _record_closed(self) -> None:
        """Records closed segments; what the store refuses for now is tried again at the next tick."""
        for segment_id, frames in list(self._unrecorded.items()):
            self._context.store.close_segment(segment_id, frames)
            del self._unrecorded[segment_id]
