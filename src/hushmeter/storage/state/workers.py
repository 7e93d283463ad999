"""Workers, their leases and their segments, in the state store. Each function is a part of one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from hushmeter.errors import LeaseLost, WindowClosed, ensure
from hushmeter.model.time import Window
from hushmeter.ports import Registration, SegmentRecord
from hushmeter.storage.state.schema import scrubbed, segments, windows, workers


def start_worker(connection: sa.Connection, worker_id: str, now_ms: int) -> None:
    """Records a worker, alive from now."""
    row = {"id": worker_id, "beats": 0, "started_at_ms": now_ms, "seen_at_ms": now_ms, "retired": False}
    connection.execute(sa.insert(workers).values(row))


def beat(connection: sa.Connection, worker_id: str, now_ms: int) -> None:
    """Counts a beat; raises `LeaseLost` where the worker is not alive."""
    alive = sa.update(workers).where(workers.c.id == worker_id, workers.c.retired.is_(False))
    seen = connection.execute(alive.values(beats=workers.c.beats + 1, seen_at_ms=_not_before(now_ms)))
    _ensure_lease(seen.rowcount == 1, worker_id)


def beats(connection: sa.Connection) -> dict[str, int]:
    """The number of beats of each worker that is alive."""
    rows = connection.execute(sa.select(workers.c.id, workers.c.beats).where(workers.c.retired.is_(False)))
    return {row.id: row.beats for row in rows}


def retire_worker(connection: sa.Connection, worker_id: str, now_ms: int) -> None:
    """Ends a worker that stops in good order; one that was declared dead may not sign off afterwards."""
    alive = sa.update(workers).where(workers.c.id == worker_id, workers.c.retired.is_(False))
    ended = connection.execute(alive.values(retired=True, seen_at_ms=_not_before(now_ms)))
    _ensure_lease(ended.rowcount == 1, worker_id)


def declare_dead(connection: sa.Connection, worker_id: str, beats: int) -> bool:
    """Ends a worker whose beats are still so many; it was not seen since."""
    silent = sa.and_(workers.c.id == worker_id, workers.c.retired.is_(False), workers.c.beats == beats)
    return connection.execute(sa.update(workers).where(silent).values(retired=True)).rowcount == 1


def last_seen_ms(connection: sa.Connection) -> int | None:
    """When any worker was last seen."""
    seen: int | None = connection.scalar(sa.select(sa.func.max(workers.c.seen_at_ms)))
    return seen


def register_segment(
    connection: sa.Connection, worker_id: str, segment_id: str, storage: Window, over: Sequence[Window]
) -> Registration:
    """Registers a segment of a worker that is alive, in a storage window that has not been scrubbed."""
    alive = sa.select(workers.c.id).where(workers.c.id == worker_id, workers.c.retired.is_(False))
    _ensure_lease(connection.scalar(alive) is not None, worker_id)
    if is_scrubbed(connection, storage.start_ms):
        raise WindowClosed(
            f"storage window {storage} has been scrubbed: every release over it is published; only later windows take rows"
        )
    row = {
        "segment_id": segment_id,
        "worker_id": worker_id,
        "storage_start_ms": storage.start_ms,
        "closed": False,
        "frames": 0,
        "resolutions": " ".join(sorted(w.resolution for w in over)),
    }
    connection.execute(sa.insert(segments).values(row))
    registered = connection.execute(sa.select(segments).where(segments.c.segment_id == segment_id)).one()
    begun = sa.select(windows.c.resolution, windows.c.start_ms).where(
        sa.or_(*(sa.and_(windows.c.resolution == w.resolution, windows.c.start_ms == w.start_ms) for w in over), sa.false())
    )
    closed = frozenset((resolution, start_ms) for resolution, start_ms in connection.execute(begun))
    return Registration(_segment(registered), closed)


def close_segment(connection: sa.Connection, segment_id: str, frames: int) -> None:
    """Fixes a segment's number of frames, once: the first to say it is right, its owner or the sealer."""
    ensure(frames >= 0, f"a segment has no {frames} frames")
    one = segments.c.segment_id == segment_id
    still_open = sa.update(segments).where(one, segments.c.closed.is_(False))
    if connection.execute(still_open.values(closed=True, frames=frames)).rowcount == 0:
        known = connection.scalar(sa.select(segments.c.sequence).where(one))
        ensure(known is not None, f"segment {segment_id} was never registered")


def segments_of(
    connection: sa.Connection, starts_ms: Sequence[int], last_segment: int | None, resolution: str | None
) -> tuple[SegmentRecord, ...]:
    """Segments of some storage windows, up to a registration number, that may hold rows of a resolution, in order."""
    chosen = sa.select(segments).where(segments.c.storage_start_ms.in_(starts_ms)).order_by(segments.c.sequence)
    if last_segment is not None:
        chosen = chosen.where(segments.c.sequence <= last_segment)
    records = (_segment(row) for row in connection.execute(chosen))
    return tuple(r for r in records if resolution is None or resolution in r.resolutions)


def newest_segment(connection: sa.Connection) -> int:
    """The number of the newest registration; 0 before the first."""
    return connection.scalar(sa.select(sa.func.max(segments.c.sequence))) or 0


def _segment(row: sa.Row[Any]) -> SegmentRecord:
    return SegmentRecord(
        row.sequence,
        row.segment_id,
        row.worker_id,
        row.storage_start_ms,
        frozenset(row.resolutions.split()),
        row.closed,
        row.frames,
    )


def mark_scrubbed(connection: sa.Connection, storage_start_ms: int) -> None:
    """Records that a storage window takes no segment any more; does nothing where that is recorded."""
    if not is_scrubbed(connection, storage_start_ms):
        connection.execute(sa.insert(scrubbed).values(storage_start_ms=storage_start_ms))


def is_scrubbed(connection: sa.Connection, storage_start_ms: int) -> bool:
    """Whether a storage window has been scrubbed."""
    found = sa.select(scrubbed.c.storage_start_ms).where(scrubbed.c.storage_start_ms == storage_start_ms)
    return connection.scalar(found) is not None


def _not_before(now_ms: int) -> sa.ColumnElement[int]:
    """The later of now and when a worker was last seen: a clock that was set back shortens no life."""
    return sa.case((workers.c.seen_at_ms < now_ms, now_ms), else_=workers.c.seen_at_ms)


def _ensure_lease(held: object, worker_id: str) -> None:
    if not held:
        raise LeaseLost(
            f"worker {worker_id} is not alive in the state store: it has signed off or was declared dead; start it anew "
            "under another name, and send again what was not acknowledged"
        )
