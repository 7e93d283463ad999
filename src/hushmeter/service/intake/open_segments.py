"""The segments that one worker has open: the close protocol, and what an acknowledgement rests on.

A *segment* is one worker's file of rows of one storage window (a window of the finest resolution). A storage window lies
inside one release window of each resolution, and each of these has a *deadline* of its own: its end and its lateness. A row
is in time for the windows whose deadlines come after the row's receipt. Two things must hold:

- a window is sealed over rows that do not change any more;
- every acknowledged row is sealed into each window that it was accepted for, and into no other one.

No step compares the clock of one process with that of another. What orders processes is the order of transactions in the
state store, and a count of beats.

    worker   -> alive            itself, under a new random name (`enlist`)
             alive -> retired    itself, when it stops (`retire`); or the sealer, when the worker's lease has run out
    segment  -> open             its worker, before the first row (`open`); the store numbers these registrations
             open -> closed      its worker, with its number of frames (`close`): at the next deadline, when the file is
                                 full, when an erasure covers it, or when the worker retires
             open -> closed      the sealer, with the frames that it finds in the file, once the worker is retired: it
                                 *fences* the segment
    window   OPEN -> CLOSING     the sealer, from the deadline on
             CLOSING -> FIXED   the sealer, once every segment that may hold rows of the window is closed
             FIXED -> RELEASED  the sealer; docs/data_model.md says when it is -> LOST

**Deadlines.** The transaction that begins to close a window notes the number of the newest registration. The sealer waits
for the segments up to that number, but not for one whose worker knew at its registration that the deadline had passed. A
later registration is told that the window has begun to close. From then on its worker's time is at least the deadline,
however slow its clock is, so that the worker stamps no more rows that would be in time for the window. A worker closes a
segment at the next deadline of a window over it. So all rows of a segment are in time for a window, or none is.

**Leases.** A worker *beats*: it counts a number up in the store. The sealer retires a worker whose number has stood still
for `limits.LEASE_S` of the sealer's own monotonic time. So a worker's lease holds for at least `LEASE_S` from the moment
before its newest beat. The store refuses a beat, a registration and a sign-off of a worker that is retired. Such a worker
starts over under another name, and leaves the segments of its old name to the sealer.

**Fencing.** A worker closes a segment and a sealer fences it: whichever transaction comes first sets the number of frames,
and the other one changes nothing. A worker that was retired without knowing it may still append to its file. It cannot
acknowledge what it appends, and no window is sealed with frames beyond the number that was set.

**What an acknowledgement rests on.** `append` returns after four steps, in this order:

1. The rows are durable, in frames of registered segments.
2. The lease is known to hold: the newest beat is younger than half of it, or one more beat succeeds. So nobody had fenced
   the segments when step 1 was done, and whoever closes or fences them later counts these frames.
3. The key ring's record says that this state of the deployment serves. Rows in a state that was replaced count nowhere.
4. The claim in each file says how many frames are acknowledged, so that a file which has lost one is found out by its name.
   It comes after step 2: the claim in a fenced file must not say more than the sealer has counted.

Rows that were written and not acknowledged may count or not. Their client sends them again, and of copies of one report one
counts. The reasons stand in docs/decisions: 0002 (order of registrations), 0003 (beats), 0022 (erasures), 0034 (claims).
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
    """The segment takes rows that are received before this moment; 0 where it takes no more."""


class OpenSegments:
    """The segments that one worker may write, and its lease. One thread calls, the commit thread; `seen_ms` any thread.

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
        """The worker's time, by which it stamps what arrives now.

        It never goes back, and is never before a deadline that the worker has learnt of.
        """
        self._floor_ms = max(self._floor_ms, self._context.clock.now_ms())
        return self._floor_ms

    def seen_ms(self) -> int:
        """The least that `now_ms` would say. Any thread may ask: this changes nothing."""
        return max(self._floor_ms, self._context.clock.now_ms())

    def enlist(self) -> None:
        """Registers the worker under a new name, without segments; the sealer fences those of its earlier name."""
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
        # All rows of this segment are received from now on, so none is in time for a window whose deadline has passed. The
        # registration leaves such a window out, and its sealer does not wait for this segment.
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

        The module's text says in which order, and why.

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
        # The claims come after the beat: the claim in a fenced file must not say more than the sealer has counted.
        for start in batches:
            self._context.log.acknowledge(start, self._open[start].segment_id)

    def end_through(self, last_segment: int) -> None:
        """Ends the segments up to a registration number: they take no more rows, and the next tick closes them."""
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
        """Records closed segments. Where the store fails, the segment stays noted here until a later call."""
        for segment_id, frames in list(self._unrecorded.items()):
            self._context.store.close_segment(segment_id, frames)
            del self._unrecorded[segment_id]
