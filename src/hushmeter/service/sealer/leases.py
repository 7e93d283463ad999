"""What becomes of the segments of a worker that does not serve any more."""

from __future__ import annotations

from collections.abc import Collection

from hushmeter.ports import SegmentRecord
from hushmeter.service.deployment.context import Context


def fenced(context: Context, segment: SegmentRecord, alive: Collection[str]) -> bool:
    """Whether a segment is closed; a dead owner's is fenced here, and its owner may have been first: the store knows.

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
