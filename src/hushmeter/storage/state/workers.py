"""Workers, when the service served, and segments, in the state store: `WorkerStore`.

This file alone writes the tables `workers`, `servings`, `segments` and `scrubbed`; for transactions that span files see
`store`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from hushmeter import limits
from hushmeter.errors import LeaseLost, WindowClosed, ensure
from hushmeter.model.stored import Registration, SegmentRecord
from hushmeter.model.time import Window
from hushmeter.storage.state.database import OnDatabase
from hushmeter.storage.state.schema import scrubbed, segments, servings, windows, workers

_GRACE_MS: Final = int(limits.LEASE_S * 1_000)
_UNSEEN_MS: Final = int(2 * limits.SERVING_MARK_S * 1_000)


class SqlWorkers(OnDatabase):
    """Who writes rows, into which segments, and when the service was there for them."""

    def start_worker(self, worker_id: str, now_ms: int) -> None:
        """See `WorkerStore`; raises `StateConflict` where a worker has had that name."""
        row = {"id": worker_id, "beats": 0, "started_at_ms": now_ms, "seen_at_ms": now_ms, "retired": False}
        with self._database.write() as connection:
            connection.execute(sa.insert(workers).values(row))

    def beat(self, worker_id: str, now_ms: int) -> None:
        """See `WorkerStore`."""
        alive = sa.update(workers).where(_alive(worker_id))
        with self._database.write() as connection:
            seen = connection.execute(
                alive.values(beats=workers.c.beats + 1, seen_at_ms=_later(workers.c.seen_at_ms, now_ms))
            )
            _ensure_lease(seen.rowcount == 1, worker_id)

    def beats(self) -> dict[str, int]:
        """See `WorkerStore`."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(workers.c.id, workers.c.beats).where(workers.c.retired.is_(False)))
            return {row.id: row.beats for row in rows}

    def retire_worker(self, worker_id: str, now_ms: int) -> None:
        """See `WorkerStore`; a worker that was declared dead and signs off afterwards is told `LeaseLost`."""
        alive = sa.update(workers).where(_alive(worker_id))
        with self._database.write() as connection:
            ended = connection.execute(alive.values(retired=True, seen_at_ms=_later(workers.c.seen_at_ms, now_ms)))
            _ensure_lease(ended.rowcount == 1, worker_id)

    def declare_dead(self, worker_id: str, beats: int) -> bool:
        """See `WorkerStore`."""
        silent = sa.update(workers).where(_alive(worker_id), workers.c.beats == beats)
        with self._database.write() as connection:
            return connection.execute(silent.values(retired=True)).rowcount == 1

    def last_seen_ms(self) -> int | None:
        """See `WorkerStore`."""
        with self._database.read() as connection:
            seen: int | None = connection.scalar(sa.select(sa.func.max(workers.c.seen_at_ms)))
            return seen

    def end_servings_left(self, now_ms: int) -> None:
        """See `WorkerStore`."""
        with self._database.write() as connection:
            _end_left(connection, now_ms)

    def begin_serving(self, now_ms: int) -> int:
        """See `WorkerStore`."""
        begun = sa.insert(servings).values(started_at_ms=now_ms, seen_at_ms=now_ms, ended=False)
        with self._database.write() as connection:
            _end_left(connection, now_ms)
            number: int = connection.execute(begun.returning(servings.c.number)).scalar_one()
            return number

    def mark_serving(self, number: int, now_ms: int, *, ends: bool = False) -> None:
        """See `WorkerStore`; what has ended stays so."""
        open_one = sa.update(servings).where(servings.c.number == number, servings.c.ended.is_(False))
        with self._database.write() as connection:
            connection.execute(open_one.values(seen_at_ms=_later(servings.c.seen_at_ms, now_ms), ended=ends))

    def serving_ms(self, start_ms: int, end_ms: int) -> int:
        """See `WorkerStore`."""
        chosen = (
            sa.select(servings.c.started_at_ms, servings.c.seen_at_ms, servings.c.ended)
            .where(sa.or_(servings.c.ended.is_(False), servings.c.seen_at_ms > start_ms - _GRACE_MS))
            .where(servings.c.started_at_ms < end_ms)
            .order_by(servings.c.started_at_ms)
        )
        with self._database.read() as connection:
            covered, reached = 0, start_ms
            for started, seen, ended in connection.execute(chosen):
                upto = min(seen + _GRACE_MS, end_ms) if ended else end_ms
                covered += max(0, upto - max(started, reached))
                reached = max(reached, upto)
            return covered

    def register_segment(self, worker_id: str, segment_id: str, storage: Window, over: Sequence[Window]) -> Registration:
        """See `WorkerStore`; a window that has begun to close is told, and waits for no later segment."""
        row = {
            "segment_id": segment_id,
            "worker_id": worker_id,
            "storage_start_ms": storage.start_ms,
            "closed": False,
            "frames": 0,
            "resolutions": " ".join(sorted(w.resolution for w in over)),
        }
        w = windows.c
        any_of = (sa.and_(w.resolution == window.resolution, w.start_ms == window.start_ms) for window in over)
        begun = sa.select(w.resolution, w.start_ms).where(sa.or_(*any_of, sa.false()))
        with self._database.write() as connection:
            alive = connection.scalar(sa.select(workers.c.id).where(_alive(worker_id)))
            _ensure_lease(alive is not None, worker_id)
            if _is_scrubbed(connection, storage.start_ms):
                raise WindowClosed(
                    f"storage window {storage} has been scrubbed: every release over it is published; only later windows "
                    "take rows"
                )
            connection.execute(sa.insert(segments).values(row))
            registered = connection.execute(sa.select(segments).where(segments.c.segment_id == segment_id)).one()
            closed = frozenset((resolution, start_ms) for resolution, start_ms in connection.execute(begun))
            return Registration(_segment(registered), closed)

    def close_segment(self, segment_id: str, frames: int) -> None:
        """See `WorkerStore`: the first to say how many frames there are is right, its owner or the sealer."""
        ensure(frames >= 0, f"a segment has no {frames} frames")
        one = segments.c.segment_id == segment_id
        still_open = sa.update(segments).where(one, segments.c.closed.is_(False))
        with self._database.write() as connection:
            if connection.execute(still_open.values(closed=True, frames=frames)).rowcount == 0:
                known = connection.scalar(sa.select(segments.c.sequence).where(one))
                ensure(known is not None, f"segment {segment_id} was never registered")

    def segments(
        self, starts_ms: Sequence[int], last_segment: int | None = None, resolution: str | None = None
    ) -> tuple[SegmentRecord, ...]:
        """See `WorkerStore`."""
        chosen = sa.select(segments).where(segments.c.storage_start_ms.in_(starts_ms)).order_by(segments.c.sequence)
        if last_segment is not None:
            chosen = chosen.where(segments.c.sequence <= last_segment)
        with self._database.read() as connection:
            records = map(_segment, connection.execute(chosen))
            return tuple(r for r in records if resolution is None or resolution in r.resolutions)

    def mark_scrubbed(self, storage_start_ms: int) -> None:
        """See `WorkerStore`; does nothing where that is recorded."""
        with self._database.write() as connection:
            if not _is_scrubbed(connection, storage_start_ms):
                connection.execute(sa.insert(scrubbed).values(storage_start_ms=storage_start_ms))

    def scrubbed(self, storage_start_ms: int) -> bool:
        """See `WorkerStore`."""
        with self._database.read() as connection:
            return _is_scrubbed(connection, storage_start_ms)


def newest_segment(connection: sa.Connection) -> int:
    """The number of the newest registration, 0 before the first, as a part of a transaction of `windows` or `consent`."""
    return connection.scalar(sa.select(sa.func.max(segments.c.sequence))) or 0


def _alive(worker_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(workers.c.id == worker_id, workers.c.retired.is_(False))


def _ensure_lease(taken: object, worker_id: str) -> None:
    if not taken:
        raise LeaseLost(
            f"worker {worker_id} has no lease in the state store: it has signed off, or was declared dead; start it anew "
            "under another name, and send again what was not acknowledged"
        )


def _later(seen_at_ms: sa.Column[int], moment_ms: int | sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """The later of a moment and when somebody was last seen: a clock that was set back shortens no life and no time."""
    return sa.case((seen_at_ms < moment_ms, moment_ms), else_=seen_at_ms)


def _end_left(connection: sa.Connection, now_ms: int) -> None:
    """Ends what was left open: records of a service whose end nobody saw, its machine's included.

    It ends two marks after it was last marked: a mark that came late says nothing.
    """
    seen = servings.c.seen_at_ms
    unseen = sa.case((seen + _UNSEEN_MS < now_ms, seen + _UNSEEN_MS), else_=now_ms)
    left = sa.update(servings).where(servings.c.ended.is_(False))
    connection.execute(left.values(ended=True, seen_at_ms=_later(seen, unseen)))


def _is_scrubbed(connection: sa.Connection, storage_start_ms: int) -> bool:
    found = sa.select(scrubbed.c.storage_start_ms).where(scrubbed.c.storage_start_ms == storage_start_ms)
    return connection.scalar(found) is not None


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
