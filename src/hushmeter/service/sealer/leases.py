"""Who retires a worker that does not beat any more, and what becomes of the segments that it left open.

A worker counts its beat up; the sealer retires it once the count has stood still for a lease of the sealer's own monotonic
time. No clock of one process is compared with that of another (docs/decisions/0003-leases-as-counters.md).
"""

from __future__ import annotations

from collections.abc import Collection

import structlog

from hushmeter import limits
from hushmeter.ports import SegmentRecord
from hushmeter.service.deployment.context import Context


class Leases:
    """Watches the beats of all workers that are not retired. One thread calls.

    Args:
        context: the deployment.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        # By worker: its count when it was last looked at, and since when it has had it.
        self._seen: dict[str, tuple[int, float]] = {}
        self._log = structlog.get_logger("hushmeter.sealer")

    def bury(self) -> None:
        """Retires workers whose beat has stood still for a lease.

        The sealer itself may be paused between any two steps, and a pause of the sealer must retire nobody. So a count that
        was never seen before stands since the moment after it was read, the latest that is possible. A count that was seen
        before stood still until the moment before it was read again, the earliest that is possible.
        """
        store, clock = self._context.store, self._context.clock
        before = clock.monotonic_s()
        beats = store.beats()
        after = clock.monotonic_s()
        self._seen = {
            worker: seen if (seen := self._seen.get(worker)) and seen[0] == count else (count, after)
            for worker, count in beats.items()
        }
        for worker, (count, since) in self._seen.items():
            # The store compares the count once more, so that a beat of this very moment keeps the worker.
            if before - since >= limits.LEASE_S and store.declare_dead(worker, count):
                self._log.warning("a worker's lease ran out; fencing its segments", worker=worker)


def fenced(context: Context, segment: SegmentRecord, alive: Collection[str]) -> bool:
    """Whether a segment is closed. One whose owner is retired is fenced here: its frames are counted, and it is closed.

    Its owner may have closed it a moment before. Then the store keeps the owner's number of frames, and this one counts
    nothing: whoever needs the number reads the segment's record again.

    Args:
        context: the deployment.
        segment: which was registered before `alive` was read.
        alive: workers that are not retired.
    """
    if segment.closed:
        return True
    if segment.worker_id in alive:
        return False
    frames = context.log.count_frames(segment.storage_start_ms, segment.segment_id)
    context.store.close_segment(segment.segment_id, frames)
    return True
