"""One window's rows, bucket by bucket, in this process or in several at once.

A unit's rows are all in one bucket, so buckets may be sealed anywhere and their tallies added up (P1). Processes read rows
from the log themselves. They are given the keys of the window's rows alone, and each hands its tally over encrypted.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import add
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hushmeter import limits
from hushmeter.consent.register import bucket_of, buckets_of
from hushmeter.errors import SegmentLost
from hushmeter.model.arrays import Int64
from hushmeter.model.consent import ConsentTable
from hushmeter.model.report import ReportBatch
from hushmeter.model.stored import SegmentRecord, WindowRecord, grain
from hushmeter.model.tally import Tally
from hushmeter.model.time import Window
from hushmeter.plan.catalog import Catalog
from hushmeter.ports import IntakeLog, WorkerStore
from hushmeter.runtime import end_with_parent, keep_freed, step_back
from hushmeter.sealing.seal import Participation, Sealing

Segments = Sequence[SegmentRecord]
_NONCE = bytes(12)
"""Each tally is encrypted with a key of its own."""


@dataclass(frozen=True, slots=True)
class SealingJob:
    """One window's rows and everything that decides what they add up to.

    Attributes:
        log: holds the rows, compacted.
        segments: ids by storage window.
        bits: rows are read as 2^bits buckets.
        window, catalog, salt, copy_key, participation: see `Sealing`.
    """

    log: IntakeLog
    segments: Mapping[int, Sequence[str]]
    bits: int
    window: Window
    catalog: Catalog
    salt: bytes
    copy_key: bytes
    participation: Mapping[str, Participation]

    def tally(self, buckets: range, consent: ConsentTable) -> Tally:
        """The tally of some buckets; secret.

        Args:
            buckets: their numbers.
            consent: of their units at least.

        Raises:
            SegmentLost, KeyUnavailable: rows cannot be read.
            TooManyPartitions: an open view has too many.
        """
        keep_freed()
        sealing = Sealing(
            self.window,
            catalog=self.catalog,
            salt=self.salt,
            copy_key=self.copy_key,
            participation=self.participation,
        )
        for bucket in buckets:
            batches = [self.log.read(start, names, bucket, self.bits) for start, names in self.segments.items()]
            sealing.add(ReportBatch.concat(batches), bucket_of(consent, bucket, self.bits))
        return sealing.tally()

    def everything(self, consent: ConsentTable) -> Tally:
        """The tally of all buckets; secret."""
        return self.tally(range(1 << self.bits), consent)


def segments_over(
    record: WindowRecord, starts_ms: Sequence[int], deadline_ms: int, log: IntakeLog, store: WorkerStore
) -> Segments:
    """The segments that hold rows of a window, in the order of their registration.

    Args:
        record: of the window.
        starts_ms: of its storage windows.
        deadline_ms: of the window.
        log: holds the rows.
        store: holds the registrations.

    Raises:
        SegmentLost: the state store does not know of one that holds rows, or leaves one out whose rows the window
            may count, so nobody can say what is missing (P1).
    """
    # The log is read before the store. Workers may be at work meanwhile, and they register a segment before its first row:
    # so the store knows every segment that the log shows here.
    holding = [(start, log.holding(start)) for start in starts_ms]
    known = {segment.segment_id for segment in store.segments(starts_ms)}
    for start, segment_ids in holding:
        for segment_id in sorted(segment_ids - known):
            raise SegmentLost(
                f"segment {start}/{segment_id} holds rows, but the state store knows of no such segment: its registration"
                " is missing, or the file is another state's"
            )
    found = store.segments(starts_ms, record.last_segment, record.window.resolution)
    chosen = {segment.segment_id for segment in found}
    for start, segment_ids in holding:
        for segment_id in sorted(segment_ids - chosen):
            # These are few: segments of reports that came after the deadline, which a coarser window may still count.
            received_ms = log.receipt_in(start, segment_id)
            if received_ms is not None and received_ms < deadline_ms:
                raise SegmentLost(
                    f"segment {start}/{segment_id} holds rows that came before the deadline of window {record.window}, and "
                    "the state store says that it is not one of its segments: the database was edited or damaged"
                )
    return found


def ids_of(segments: Segments) -> dict[int, list[str]]:
    """Ids of segments by storage window."""
    found: dict[int, list[str]] = {}
    for segment in segments:
        found.setdefault(segment.storage_start_ms, []).append(segment.segment_id)
    return found


def tally_of(job: SealingJob, segments: Sequence[SegmentRecord], consent: ConsentTable, *, processes: int) -> Tally:
    """The tally of a window: compacts its segments, then seals its buckets, one after another or side by side.

    Args:
        job: the window.
        segments: its segments, all closed.
        consent: of all units.
        processes: how many may be used, where the window is worth it.

    Raises:
        SegmentLost, KeyUnavailable: rows cannot be read.
        TooManyPartitions: an open view has too many.
    """
    size_bytes = sum(job.log.size_bytes(start, names) for start, names in job.segments.items())
    # A segment without frames may have no key yet. Other processes cannot make keys, so it is compacted by this one.
    many = [s for s in segments if s.frames] if processes > 1 and size_bytes >= limits.PARALLEL_BYTES else []
    with Processes(processes) if many else contextlib.nullcontext() as pool:
        if pool is not None:
            pool.compact(job.log, many)
        for segment in segments:
            job.log.compact(segment.storage_start_ms, segment.segment_id, segment.frames)
        cut = max((job.log.bucket_bits(start, names) for start, names in job.segments.items()), default=0)
        job = replace(job, bits=grain(size_bytes, limits.BUCKET_BYTES_TARGET, cut))
        tally = job.everything(consent) if pool is None else pool.tally(job, consent)
        return tally.saturated()


class Processes:
    """Processes that compact segments and seal buckets side by side; they start when first needed, and end at `close`.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(count, context, initializer=_begin)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes, once what they have in hand is done."""
        self._pool.shutdown(cancel_futures=True)

    def compact(self, log: IntakeLog, segments: Sequence[SegmentRecord]) -> None:
        """Compacts segments that have a key; see `IntakeLog.compact`."""
        reader = log.reader(sorted({s.storage_start_ms for s in segments}))
        tasks = [self._pool.submit(reader.compact, s.storage_start_ms, s.segment_id, s.frames) for s in segments]
        for task in tasks:
            task.result()

    def tally(self, job: SealingJob, consent: ConsentTable) -> Tally:
        """The tally of all buckets; see `SealingJob.tally`."""
        keep_freed()
        sent = replace(job, log=job.log.reader(sorted(job.segments)))
        borders = [(1 << job.bits) * i // self._count for i in range(self._count + 1)]
        keys = [AESGCM.generate_key(256) for _ in range(self._count)]
        parts = [
            self._pool.submit(_encrypted_tally, sent, range(first, last), buckets_of(consent, first, last, job.bits), key)
            for (first, last), key in zip(pairwise(borders), keys, strict=True)
        ]
        return reduce(add, (_decrypted(part.result(), key) for part, key in zip(parts, keys, strict=True)))


def _encrypted_tally(job: SealingJob, buckets: range, consent: ConsentTable, key: bytes) -> bytes:
    tally = job.tally(buckets, consent)
    narrow = replace(tally, vectors={key: _narrowed(vector) for key, vector in tally.vectors.items()})
    return AESGCM(key).encrypt(_NONCE, pickle.dumps(narrow, pickle.HIGHEST_PROTOCOL), None)


def _decrypted(ciphertext: bytes, key: bytes) -> Tally:
    narrow: Tally = pickle.loads(AESGCM(key).decrypt(_NONCE, ciphertext, None))  # noqa: S301 - authenticated by its key
    return replace(narrow, vectors={key: vector.astype(np.int64) for key, vector in narrow.vectors.items()})


def _narrowed(vector: Int64) -> npt.NDArray[np.signedinteger[Any]]:
    """The same numbers in the narrowest type that holds them: less to encrypt and to carry."""
    low, high = vector.min(initial=0), vector.max(initial=0)
    kinds = (np.int8, np.int16, np.int32, np.int64)
    return vector.astype(next(kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max))


def _begin() -> None:
    """In a new process: steps behind whoever answers callers, and ends with its parent, however that ends."""
    step_back()
    # A terminal's Ctrl-C reaches parent and children alike. The parent decides when its children end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
