"""Ports in memory: they keep the same promises as the real ones, but for durability."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hushmeter.errors import InvariantError, KeyGone, SegmentLost, StateConflict, ensure
from hushmeter.model.key_names import data_key
from hushmeter.model.report import ReportBatch, pairs_of
from hushmeter.model.ring import RingRecord
from hushmeter.ports import KeyRing, RewriteRows
from hushmeter.storage.log.frames import bucket_numbers
from hushmeter.storage.log.runs import changed, run_bits, without_units


class MemoryKeyRing:
    """A `KeyRing` that forgets everything with its process."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}
        self._destroyed: set[str] = set()
        self._record: RingRecord | None = None
        self._lock = threading.Lock()

    def get(self, name: str) -> bytes:
        """See `KeyRing.get`."""
        with self._lock:
            self._refuse_destroyed(name)
            if name not in self._keys:
                raise KeyGone(f"there is no key {name}")
            return self._keys[name]

    def get_or_create(self, name: str) -> bytes:
        """See `KeyRing.get_or_create`."""
        with self._lock:
            self._refuse_destroyed(name)
            return self._keys.setdefault(name, secrets.token_bytes(32))

    def destroy(self, name: str) -> None:
        """See `KeyRing.destroy`."""
        with self._lock:
            self._destroyed.add(name)
            self._keys.pop(name, None)

    def record(self) -> RingRecord | None:
        """See `KeyRing.record`."""
        return self._record

    def swap(self, before: RingRecord | None, after: RingRecord) -> None:
        """See `KeyRing.swap`."""
        with self._lock:
            if self._record != before:
                raise StateConflict("the record has changed meanwhile")
            self._record = after

    def periods(self) -> tuple[int, ...]:
        """See `KeyRing.periods`."""
        return self._starts("period/")

    def storage_windows(self) -> tuple[int, ...]:
        """See `KeyRing.storage_windows`."""
        return self._starts("data/")

    def _starts(self, prefix: str) -> tuple[int, ...]:
        with self._lock:
            return tuple(sorted(int(name.removeprefix(prefix)) for name in self._keys if name.startswith(prefix)))

    def _refuse_destroyed(self, name: str) -> None:
        if name in self._destroyed:
            raise KeyGone(f"key {name} was destroyed")


@dataclass(slots=True)
class _Segment:
    frames: list[ReportBatch] = field(default_factory=list)
    open: bool = True
    acknowledged: int = 0
    bytes: int = 0
    runs: ReportBatch | None = None
    kept_for: str = ""


class MemoryIntakeLog:
    """An `IntakeLog` that encrypts nothing, but asks for the same keys at the same moments.

    Args:
        keys: `data/<storage window start>` must be there for a window's rows to be read.
    """

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._segments: dict[tuple[int, str], _Segment] = {}

    def create(self, storage_start_ms: int) -> str:
        """See `IntakeLog.create`."""
        segment_id = secrets.token_hex(16)
        self._segments[storage_start_ms, segment_id] = _Segment()
        return segment_id

    def append(self, storage_start_ms: int, segment_id: str, batch: ReportBatch) -> int:
        """See `IntakeLog.append`."""
        segment = self._open_segment(storage_start_ms, segment_id)
        self._keys.get_or_create(data_key(storage_start_ms))
        segment.frames.append(batch)
        segment.bytes += 100 + 70 * len(batch) + 12 * len(batch.series)
        return segment.bytes

    def acknowledge(self, storage_start_ms: int, segment_id: str) -> None:
        """See `IntakeLog.acknowledge`."""
        segment = self._open_segment(storage_start_ms, segment_id)
        segment.acknowledged = len(segment.frames)

    def close(self, storage_start_ms: int, segment_id: str) -> int:
        """See `IntakeLog.close`."""
        segment = self._open_segment(storage_start_ms, segment_id)
        segment.open = False
        return len(segment.frames)

    def count_frames(self, storage_start_ms: int, segment_id: str) -> int:
        """See `IntakeLog.count_frames`."""
        segment = self._segments.get((storage_start_ms, segment_id))
        return 0 if segment is None else len(segment.frames)

    def holding(self, storage_start_ms: int) -> frozenset[str]:
        """See `IntakeLog.holding`."""
        return frozenset(name for (start, name), s in self._segments.items() if start == storage_start_ms and s.frames)

    def receipt_in(self, storage_start_ms: int, segment_id: str) -> int | None:
        """See `IntakeLog.receipt_in`."""
        segment = self._segments.get((storage_start_ms, segment_id), _Segment())
        rows = ReportBatch.concat([ReportBatch.empty(), *segment.frames] if segment.runs is None else [segment.runs])
        return min(rows.received_at_ms.tolist(), default=None)

    def compact(self, storage_start_ms: int, segment_id: str, frames: int) -> None:
        """See `IntakeLog.compact`."""
        segment = self._segments.get((storage_start_ms, segment_id))
        if segment is None:
            raise SegmentLost(f"segment {segment_id} is missing")
        known = self._keys.get if frames else self._keys.get_or_create
        known(data_key(storage_start_ms))
        if len(segment.frames) < frames or (segment.runs is not None and len(segment.frames) != frames):
            raise SegmentLost(f"segment {segment_id} holds {len(segment.frames)} frames, but {frames} were closed")
        if segment.acknowledged > frames:
            raise SegmentLost(f"segment {segment_id}: {segment.acknowledged} were acknowledged, but {frames} were closed")
        if segment.runs is None:
            del segment.frames[frames:]
            segment.runs = ReportBatch.concat(segment.frames)

    def erase(self, storage_start_ms: int, segment_id: str, frames: int, units: Collection[bytes]) -> None:
        """See `IntakeLog.erase`."""
        self.compact(storage_start_ms, segment_id, frames)
        segment = self._segments[storage_start_ms, segment_id]
        segment.frames = [without_units(frame, units) for frame in segment.frames]
        segment.runs = ReportBatch.concat(segment.frames)

    def rewrite(self, storage_start_ms: int, segments: Mapping[str, int], change: RewriteRows, kept_for: str) -> None:
        """See `IntakeLog.rewrite`."""
        for name, frames in segments.items():
            self.compact(storage_start_ms, name, frames)
        found = [self._segments[storage_start_ms, name] for name in segments]
        for number, segment in enumerate(found):
            if not segment.frames or segment.kept_for == kept_for:
                continue
            segment.runs = changed([s.runs or ReportBatch.empty() for s in found], change, number)
            segment.kept_for = kept_for
            segment.frames = [segment.runs, *[ReportBatch.empty()] * (len(segment.frames) - 1)]

    def kept_for(self, storage_start_ms: int, segment_id: str) -> str:
        """See `IntakeLog.kept_for`."""
        found = self._segments.get((storage_start_ms, segment_id))
        return found.kept_for if found is not None else ""

    def size_bytes(self, storage_start_ms: int, segment_ids: Sequence[str]) -> int:
        """See `IntakeLog.size_bytes`."""
        found = (self._segments.get((storage_start_ms, name)) for name in segment_ids)
        return sum(segment.bytes for segment in found if segment is not None)

    def bucket_bits(self, storage_start_ms: int, segment_ids: Sequence[str]) -> int:
        """See `IntakeLog.bucket_bits`."""
        return max((run_bits(self._runs(storage_start_ms, name)) for name in segment_ids), default=0)

    def rows_of(self, storage_start_ms: int, segment_id: str, pseudonym: bytes) -> ReportBatch:
        """See `IntakeLog.rows_of`."""
        segment = self._segments.get((storage_start_ms, segment_id))
        if segment is None:
            raise SegmentLost(f"segment {segment_id} is missing")
        rows = ReportBatch.concat(segment.frames) if segment.runs is None else segment.runs
        if segment.frames:
            self._keys.get(data_key(storage_start_ms))
        return rows.take(np.flatnonzero((rows.pseudonyms == pairs_of([pseudonym])).all(axis=1)))

    def reader(self, starts_ms: Sequence[int]) -> MemoryIntakeLog:
        """See `IntakeLog.reader`; what it holds stays in this process."""
        return self

    def read(self, storage_start_ms: int, segment_ids: Sequence[str], bucket: int, bits: int) -> ReportBatch:
        """See `IntakeLog.read`."""
        ensure(0 <= bits < 64 and 0 <= bucket < 1 << bits, f"there is no bucket {bucket} among 2^{bits}")
        rows = ReportBatch.concat([self._runs(storage_start_ms, name) for name in segment_ids])
        return rows.take(np.flatnonzero(bucket_numbers(rows.pseudonyms, bits) == bucket))

    def discard(self, storage_start_ms: int, segment_id: str) -> None:
        """See `IntakeLog.discard`."""
        self._segments.pop((storage_start_ms, segment_id), None)

    def destroy(self, storage_start_ms: int) -> None:
        """See `IntakeLog.destroy`."""
        for key in [key for key in self._segments if key[0] == storage_start_ms]:
            del self._segments[key]

    def storage_windows(self) -> tuple[int, ...]:
        """See `IntakeLog.storage_windows`."""
        return tuple(sorted({start for start, _ in self._segments}))

    def _open_segment(self, storage_start_ms: int, segment_id: str) -> _Segment:
        segment = self._segments.get((storage_start_ms, segment_id))
        if segment is None or not segment.open:
            raise InvariantError(f"segment {segment_id} is not open for writing here")
        return segment

    def _runs(self, storage_start_ms: int, segment_id: str) -> ReportBatch:
        segment = self._segments.get((storage_start_ms, segment_id))
        if segment is None:
            raise SegmentLost(f"segment {segment_id} is missing")
        self._keys.get(data_key(storage_start_ms))
        if segment.runs is None:
            raise InvariantError(f"segment {segment_id} is read before it is compacted")
        return segment.runs
