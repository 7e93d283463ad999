"""The intake log in a directory: encrypted frames while a segment is written, runs by bucket once it is compacted.

```
DIRECTORY/<storage window start>/<segment>.frames    header line, claim twice, then frames: u32 length (little-endian),
                                                     nonce, ciphertext
DIRECTORY/<storage window start>/<segment>.runs      see hushmeter.storage.log.runs
```
A frame is acknowledged only when it is durable, and only one append is ever under way in a segment; so whatever was
acknowledged comes before what a crash has torn. The claim says how many frames that were at least: it is written over the
one before once they are durable, and before anybody is answered.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hushmeter.errors import Failure, InvariantError, KeyGone, SegmentLost, ensure
from hushmeter.model.key_names import data_key
from hushmeter.model.report import ReportBatch, pairs_of
from hushmeter.ports import Keys, RewriteRows
from hushmeter.storage.disk import AppendFile, Disk, FileSystem, failure_of
from hushmeter.storage.keys.files import held_keys
from hushmeter.storage.log.frames import FRAME, FramesFile, SegmentName, bucket_numbers, decode, decrypt, empty_frames
from hushmeter.storage.log.runs import changed, file_without, read_bucket, rewritten_file, runs_file
from hushmeter.storage.log.segment_writer import SegmentWriter
from hushmeter.storage.log.segments import SegmentFiles


class FileIntakeLog:
    """An `IntakeLog` of files; other processes may write and read other segments of the same directory.

    Args:
        directory: where segments are kept; made at the first `create`.
        keys: `data/<storage window start>` encrypts a window's rows.
        deployment_id: 32 hexadecimal digits; authenticated with every chunk.
        files: the disk.
    """

    def __init__(self, directory: Path, keys: Keys, deployment_id: str, files: FileSystem | None = None) -> None:
        self._directory = directory
        self._keys = keys
        self._deployment_id = deployment_id
        self._disk = files or Disk()
        self._files = SegmentFiles(directory, keys, deployment_id, self._disk)
        self._writing: dict[tuple[int, str], SegmentWriter] = {}

    # Append side.

    def create(self, storage_start_ms: int) -> str:
        """Makes an empty segment; see `IntakeLog.create`.

        Raises:
            StorageFull, Failure: it could not be made durable.
        """
        segment = self._files.segment(storage_start_ms, os.urandom(16).hex())
        path, empty = self._files.path(segment, "frames"), empty_frames(segment)
        file: AppendFile | None = None
        try:
            self._disk.make_directory(path.parent)
            file = self._disk.create(path)
            file.write(empty)
            file.datasync()
            # Also where another process made the directories: it may not have come to sync them.
            for directory in (path.parent, self._directory, self._directory.parent):
                self._disk.sync_directory(directory)
        except OSError as error:
            if file is not None:
                self._files.abandon(file, path)
            raise failure_of(error, f"making {segment}") from None
        self._writing[storage_start_ms, segment.segment_id] = SegmentWriter(segment, file, len(empty))
        return segment.segment_id

    def append(self, storage_start_ms: int, segment_id: str, batch: ReportBatch) -> int:
        """Appends reports as one frame, or as several where one would exceed `FRAME_MAX_BYTES`; see `IntakeLog.append`.

        Raises:
            StorageFull, Failure: nothing was appended; the segment takes the next append.
            KeyUnavailable: the window's key is gone.
        """
        writer = self._writer(storage_start_ms, segment_id)
        writer.cipher = writer.cipher or AESGCM(self._keys.get_or_create(data_key(storage_start_ms)))
        return writer.append(writer.cipher, batch)

    def acknowledge(self, storage_start_ms: int, segment_id: str) -> None:
        """Notes that what was appended may be acknowledged; see `IntakeLog.acknowledge`.

        Raises:
            StorageFull, Failure: the disk refused; nothing may be acknowledged.
        """
        self._writer(storage_start_ms, segment_id).acknowledge()

    def close(self, storage_start_ms: int, segment_id: str) -> int:
        """Ends writing; see `IntakeLog.close`. What an append that failed left behind is not counted."""
        writer = self._writer(storage_start_ms, segment_id)
        del self._writing[storage_start_ms, segment_id]
        return writer.close()

    def discard(self, storage_start_ms: int, segment_id: str) -> None:
        """Removes a segment; see `IntakeLog.discard`."""
        segment = self._files.segment(storage_start_ms, segment_id)
        writer = self._writing.pop((storage_start_ms, segment_id), None)
        if writer is not None:
            writer.close()
        try:
            self._disk.remove(self._files.path(segment, "frames"))
        except OSError as error:
            raise failure_of(error, f"discarding {segment}") from None

    # Read side.

    def count_frames(self, storage_start_ms: int, segment_id: str) -> int:
        """How many frames a dead owner's segment holds, up to the last whole one; see `IntakeLog.count_frames`.

        A damaged frame before a whole one was acknowledged, and so was one that the claim counts: both count, and `compact`
        then finds the segment lost by name, where leaving it out would lose rows in silence (P1). For the same reason all
        frames count where the key is gone. A missing file holds 0 frames, and is lost to `compact` too.

        Raises:
            KeyUnavailable: the window's key cannot be read.
            Failure: the disk refused.
        """
        segment, count = self._files.segment(storage_start_ms, segment_id), 0
        try:
            file = self._frames_file(segment)
            cipher = self._files.cipher(storage_start_ms)
            count = file.claim(cipher).frames
        except KeyGone:
            return len(file.frames)
        except SegmentLost:
            # Whatever is counted, `compact` finds the same.
            return 0
        for number, encrypted in enumerate(file.frames):
            with contextlib.suppress(SegmentLost):
                decrypt(cipher, segment, FRAME, number, encrypted)
                count = max(count, number + 1)
        return count

    def holding(self, storage_start_ms: int) -> frozenset[str]:
        """The segments of a storage window that hold anything; see `IntakeLog.holding`.

        Raises:
            Failure: the disk refused.
        """
        return self._files.holding(storage_start_ms)

    def receipt_in(self, storage_start_ms: int, segment_id: str) -> int | None:
        """When some row of a segment was received; see `IntakeLog.receipt_in`."""
        segment = self._files.segment(storage_start_ms, segment_id)
        with contextlib.suppress(SegmentLost, KeyGone):
            if self._files.path(segment, "runs").exists():
                footer = self._files.footer(segment)
                filled = next((n for n, rows in enumerate(footer.rows) if rows), 0)
                rows = self.read(storage_start_ms, [segment_id], filled, footer.bits)
            else:
                rows, _ = self._read_frames(segment, first_alone=True)
            return min(rows.received_at_ms.tolist(), default=None)
        return None

    def compact(self, storage_start_ms: int, segment_id: str, frames: int) -> None:
        """Rewrites a closed segment into runs by bucket; see `IntakeLog.compact`.

        Any number of processes may do it at once: the first to rename wins, and all write the same rows.

        Raises:
            SegmentLost: the segment is missing, damaged, or shorter than it was when it was closed, or more of it was
                acknowledged than is said to have been closed.
            KeyUnavailable: the window's key is gone.
            StorageFull, Failure: the disk refused; the segment is as before.
        """
        segment = self._files.segment(storage_start_ms, segment_id)
        if not self._files.path(segment, "runs").exists():
            try:
                rows, cipher = self._read_frames(segment, frames)
                temporary = self._files.written(segment, runs_file(cipher, segment, rows, frames))
                with self._files.alone_in(segment):
                    # What another process has put there may be without units that were erased meanwhile.
                    if not self._files.path(segment, "runs").exists():
                        self._files.put(segment, temporary)
            except Failure:
                # Another process may have finished, and removed what this one was reading or writing.
                if not self._files.path(segment, "runs").exists():
                    raise
        footer = self._files.footer(segment)
        if footer.frames != frames:
            raise SegmentLost(f"{segment} was compacted from {footer.frames} frames, but {frames} were closed")
        self._files.remove_leftovers(segment)

    def erase(self, storage_start_ms: int, segment_id: str, frames: int, units: Collection[bytes]) -> None:
        """Removes the rows of some units from a closed segment, durably; see `IntakeLog.erase`.

        A crash leaves the segment as before or as after. Of processes that erase at once each sees what the other has done.

        Raises:
            SegmentLost: the segment is missing or damaged.
            KeyUnavailable: the window's key is gone.
            StorageFull, Failure: the disk refused; the next call goes on.
        """
        self.compact(storage_start_ms, segment_id, frames)
        if not frames:
            return
        segment = self._files.segment(storage_start_ms, segment_id)
        with self._files.alone_in(segment):
            cipher = self._files.cipher(storage_start_ms)
            with self._files.reading(segment, "runs") as file:
                footer = self._files.opened(segment, file, cipher)
                parts = file_without(file, cipher, segment, footer, units)
                if parts is not None:
                    self._files.put(segment, self._files.written(segment, parts))
            # Also where nothing was left to remove: whoever did may have died before its rename was durable.
            self._files.sync(segment)

    def rewrite(self, storage_start_ms: int, segments: Mapping[str, int], change: RewriteRows, kept_for: str) -> None:
        """Replaces rows of closed segments, durably; see `IntakeLog.rewrite`.

        Every bucket is read once for each segment that changes, so that no more than a bucket is held.

        Raises:
            SegmentLost: a segment is missing or damaged.
            KeyUnavailable: the window's key is gone.
            StorageFull, Failure: the disk refused; the next call goes on.
        """
        for name, frames in segments.items():
            self.compact(storage_start_ms, name, frames)
        names = [name for name, frames in segments.items() if frames]
        for number, name in enumerate(names):
            segment = self._files.segment(storage_start_ms, name)
            with self._files.alone_in(segment):
                footer, bits = self._files.footer(segment), self.bucket_bits(storage_start_ms, names)
                if footer.kept_for == kept_for:
                    continue

                cipher = self._files.cipher(storage_start_ms)
                read = partial(self._read_all, storage_start_ms, names, bits)
                buckets = (changed(read(bucket), change, number) for bucket in range(1 << bits))
                self._files.put(
                    segment, self._files.written(segment, rewritten_file(cipher, segment, footer, buckets, bits, kept_for))
                )
                self._files.sync(segment)

    def _read_all(self, storage_start_ms: int, names: Sequence[str], bits: int, bucket: int) -> list[ReportBatch]:
        return [self.read(storage_start_ms, [name], bucket, bits) for name in names]

    def kept_for(self, storage_start_ms: int, segment_id: str) -> str:
        """What a segment was rewritten for; see `IntakeLog.kept_for`."""
        segment = self._files.segment(storage_start_ms, segment_id)
        return self._files.footer(segment).kept_for if self._files.path(segment, "runs").exists() else ""

    def size_bytes(self, storage_start_ms: int, segment_ids: Sequence[str]) -> int:
        """The size of closed segments' files; see `IntakeLog.size_bytes`."""
        return sum(self._files.size_bytes(self._files.segment(storage_start_ms, name)) for name in segment_ids)

    def bucket_bits(self, storage_start_ms: int, segment_ids: Sequence[str]) -> int:
        """The finest grain among compacted segments; see `IntakeLog.bucket_bits`.

        Raises:
            SegmentLost: a segment is missing or damaged.
            KeyUnavailable: the window's key is gone.
        """
        return max(
            (self._files.footer(self._files.segment(storage_start_ms, name)).bits for name in segment_ids), default=0
        )

    def read(self, storage_start_ms: int, segment_ids: Sequence[str], bucket: int, bits: int) -> ReportBatch:
        """The rows of one bucket, segments in the order given; see `IntakeLog.read`.

        Raises:
            SegmentLost: a segment is missing or damaged.
            KeyUnavailable: the window's key is gone.
        """
        ensure(0 <= bits < 64 and 0 <= bucket < 1 << bits, f"there is no bucket {bucket} among 2^{bits}")
        batches = []
        for name in segment_ids:
            segment, cipher = self._files.segment(storage_start_ms, name), self._files.cipher(storage_start_ms)
            with self._files.reading(segment, "runs") as file:
                footer = self._files.opened(segment, file, cipher)
                batches.append(read_bucket(file, cipher, segment, footer, bucket=bucket, bits=bits))
        return ReportBatch.concat(batches)

    def rows_of(self, storage_start_ms: int, segment_id: str, pseudonym: bytes) -> ReportBatch:
        """The rows of one unit; see `IntakeLog.rows_of`.

        Raises:
            SegmentLost: the segment is missing or damaged.
            KeyUnavailable: the window's key is gone.
        """
        segment, pairs = self._files.segment(storage_start_ms, segment_id), pairs_of([pseudonym])
        if not self._files.path(segment, "runs").exists():
            try:
                rows, _ = self._read_frames(segment)
                return rows.take(np.flatnonzero((rows.pseudonyms == pairs).all(axis=1)))
            except SegmentLost:
                # The sealer may have compacted it at this moment.
                if not self._files.path(segment, "runs").exists():
                    raise
        bits = self._files.footer(segment).bits
        rows = self.read(storage_start_ms, [segment_id], int(bucket_numbers(pairs, bits)[0]), bits)
        return rows.take(np.flatnonzero((rows.pseudonyms == pairs).all(axis=1)))

    def reader(self, starts_ms: Sequence[int]) -> FileIntakeLog:
        """The same log for another process; see `IntakeLog.reader`."""
        return FileIntakeLog(self._directory, held_keys(self._keys, map(data_key, starts_ms)), self._deployment_id)

    # Scrubbing.

    def destroy(self, storage_start_ms: int) -> None:
        """Removes every file of a storage window, durably; see `IntakeLog.destroy`.

        Raises:
            Failure: the disk refused; the next call goes on.
        """
        directory = self._directory / str(storage_start_ms)
        self._files.forget(storage_start_ms)
        try:
            if not directory.is_dir():
                return
            for path in directory.iterdir():
                self._disk.remove(path)
            self._disk.sync_directory(directory)
            self._disk.remove_directory(directory)
            self._disk.sync_directory(self._directory)
        except OSError as error:
            raise failure_of(error, f"scrubbing storage window {storage_start_ms}") from None

    def storage_windows(self) -> tuple[int, ...]:
        """Starts of the storage windows that have files, in order."""
        try:
            found = [path for path in self._directory.iterdir() if re.fullmatch(r"-?\d{1,19}", path.name)]
            return tuple(sorted(int(path.name) for path in found if _holds_files(path)))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise failure_of(error, f"listing {self._directory}") from None

    def _writer(self, storage_start_ms: int, segment_id: str) -> SegmentWriter:
        writer = self._writing.get((storage_start_ms, segment_id))
        if writer is None:
            raise InvariantError(f"segment {segment_id} is not open for writing here")
        return writer

    def _frames_file(self, segment: SegmentName) -> FramesFile:
        with self._files.reading(segment, "frames") as file:
            return FramesFile.of(segment, memoryview(file.read()))

    def _read_frames(
        self, segment: SegmentName, frames: int | None = None, *, first_alone: bool = False
    ) -> tuple[ReportBatch, AESGCM]:
        """The rows of exactly so many frames, or of all that are whole or the first, and the window's cipher."""
        file = self._frames_file(segment)
        # A window that received nothing has no key yet, and even an empty footer is authenticated.
        key = self._keys.get if frames or file.frames else self._keys.get_or_create
        cipher = AESGCM(key(data_key(segment.storage_start_ms)))
        if frames is not None:
            file.ensure_claimed(cipher, frames)
        chosen = enumerate(file.frames[: 1 if first_alone else frames])
        return ReportBatch.concat([decode(decrypt(cipher, segment, FRAME, n, frame)) for n, frame in chosen]), cipher


def _holds_files(directory: Path) -> bool:
    # Another process may scrub the window at this moment.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return any(directory.iterdir())
    return False
