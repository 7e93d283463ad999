"""The intake log in a directory: sealed frames while a segment is written, runs by bucket once it is compacted.

```
DIRECTORY/<storage window start>/<segment>.frames    header line, then frames: u32 length (little-endian), nonce, ciphertext
DIRECTORY/<storage window start>/<segment>.runs      see hushmeter.storage.runs
```
A frame is acknowledged only when it is durable, and only one append is ever under way in a segment; so whatever was
acknowledged comes before what a crash has torn.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hushmeter.errors import Failure, InvariantError, KeyGone, SegmentLost, ensure
from hushmeter.model.report import ReportBatch
from hushmeter.ports import Keys
from hushmeter.storage.files import AppendFile, Disk, FileSystem, failure_of
from hushmeter.storage.frames import FRAME, SegmentName, decode, sealed_frames, unseal
from hushmeter.storage.keys import held_keys
from hushmeter.storage.runs import Footer, read_bucket, read_footer, runs_file
from hushmeter.storage.writing import SegmentWriter

_ID = re.compile(r"[0-9a-f]{32}")
_SYNCED_BYTES = 2**20
"""Compacting hands the disk so much at once: whoever waits for an acknowledgement waits behind it."""


class FileIntakeLog:
    """An `IntakeLog` of files; other processes may write and read other segments of the same directory.

    Args:
        directory: where segments are kept; made at the first `create`.
        keys: `data/<storage window start>` seals a window's rows.
        deployment_id: 32 hexadecimal digits; authenticated with every chunk.
        files: the disk.
    """

    def __init__(self, directory: Path, keys: Keys, deployment_id: str, files: FileSystem | None = None) -> None:
        ensure(_ID.fullmatch(deployment_id), f"a deployment id is 32 hexadecimal digits, got {deployment_id!r}")
        self._directory = directory
        self._keys = keys
        self._deployment_id = deployment_id
        self._files = files or Disk()
        self._writing: dict[tuple[int, str], SegmentWriter] = {}
        # A compacted segment never changes.
        self._footers: dict[SegmentName, Footer] = {}

    # Append side.

    def create(self, storage_start_ms: int) -> str:
        """Makes an empty segment; see `IntakeLog.create`.

        Raises:
            StorageFull, Failure: it could not be made durable.
        """
        segment = self._segment(storage_start_ms, os.urandom(16).hex())
        path, header = self._path(segment, "frames"), segment.header("frames")
        file: AppendFile | None = None
        try:
            self._files.make_directory(path.parent)
            file = self._files.create(path)
            file.write(header)
            file.datasync()
            # Also where another process made the directories: it may not have come to sync them.
            for directory in (path.parent, self._directory, self._directory.parent):
                self._files.sync_directory(directory)
        except OSError as error:
            if file is not None:
                self._abandon(file, path)
            raise failure_of(error, f"making {segment}") from None
        self._writing[storage_start_ms, segment.segment_id] = SegmentWriter(segment, file, len(header))
        return segment.segment_id

    def append(self, storage_start_ms: int, segment_id: str, batch: ReportBatch) -> int:
        """Appends reports as one frame, or as several where one would exceed `FRAME_MAX_BYTES`; see `IntakeLog.append`.

        Raises:
            StorageFull, Failure: nothing was appended; the segment takes the next append.
            KeyUnavailable: the window's key is gone.
        """
        writer = self._writer(storage_start_ms, segment_id)
        writer.cipher = writer.cipher or AESGCM(self._keys.get_or_create(_key_name(storage_start_ms)))
        return writer.append(writer.cipher, batch)

    def close(self, storage_start_ms: int, segment_id: str) -> int:
        """Ends writing; see `IntakeLog.close`. What an append that failed left behind is not counted."""
        writer = self._writer(storage_start_ms, segment_id)
        del self._writing[storage_start_ms, segment_id]
        return writer.close()

    def discard(self, storage_start_ms: int, segment_id: str) -> None:
        """Removes a segment; see `IntakeLog.discard`."""
        segment = self._segment(storage_start_ms, segment_id)
        writer = self._writing.pop((storage_start_ms, segment_id), None)
        if writer is not None:
            writer.close()
        try:
            self._files.remove(self._path(segment, "frames"))
        except OSError as error:
            raise failure_of(error, f"discarding {segment}") from None

    # Read side.

    def count_frames(self, storage_start_ms: int, segment_id: str) -> int:
        """How many frames a dead owner's segment holds, up to the last whole one; see `IntakeLog.count_frames`.

        A damaged frame before a whole one was acknowledged, so it counts: `compact` then finds the segment lost by name,
        where leaving it out would lose rows in silence (P1). For the same reason all frames count where the key is gone. A
        missing file holds 0 frames, and is lost to `compact` too.

        Raises:
            KeyUnavailable: the window's key cannot be read.
            Failure: the disk refused.
        """
        segment, count = self._segment(storage_start_ms, segment_id), 0
        try:
            frames = self._sealed_frames(segment)
        except SegmentLost:
            return 0
        if not frames:
            return 0
        try:
            cipher = self._cipher(storage_start_ms)
        except KeyGone:
            return len(frames)
        for number, sealed in enumerate(frames):
            with contextlib.suppress(SegmentLost):
                unseal(cipher, segment, FRAME, number, sealed)
                count = number + 1
        return count

    def compact(self, storage_start_ms: int, segment_id: str, frames: int) -> None:
        """Rewrites a closed segment into runs by bucket; see `IntakeLog.compact`.

        Any number of processes may do it at once: the first to rename wins, and all write the same rows.

        Raises:
            SegmentLost: the segment is missing, damaged, or shorter than it was when it was closed.
            KeyUnavailable: the window's key is gone.
            StorageFull, Failure: the disk refused; the segment is as before.
        """
        segment = self._segment(storage_start_ms, segment_id)
        if not self._path(segment, "runs").exists():
            try:
                rows, cipher = self._read_frames(segment, frames)
                self._write_runs(segment, runs_file(cipher, segment, rows, frames))
            except Failure:
                # Another process may have finished, and removed what this one was reading or writing.
                if not self._path(segment, "runs").exists():
                    raise
        footer = self._footer(segment)
        if footer.frames != frames:
            raise SegmentLost(f"{segment} was compacted from {footer.frames} frames, but {frames} were closed")
        self._remove_leftovers(segment)

    def size_bytes(self, storage_start_ms: int, segment_ids: Sequence[str]) -> int:
        """The size of closed segments' files; see `IntakeLog.size_bytes`."""
        return sum(self._size_bytes(self._segment(storage_start_ms, name)) for name in segment_ids)

    def bucket_bits(self, storage_start_ms: int, segment_ids: Sequence[str]) -> int:
        """The finest grain among compacted segments; see `IntakeLog.bucket_bits`.

        Raises:
            SegmentLost: a segment is missing or damaged.
            KeyUnavailable: the window's key is gone.
        """
        return max((self._footer(self._segment(storage_start_ms, name)).bits for name in segment_ids), default=0)

    def read(self, storage_start_ms: int, segment_ids: Sequence[str], bucket: int, bits: int) -> ReportBatch:
        """The rows of one bucket, segments in the order given; see `IntakeLog.read`.

        Raises:
            SegmentLost: a segment is missing or damaged.
            KeyUnavailable: the window's key is gone.
        """
        ensure(0 <= bits < 64 and 0 <= bucket < 1 << bits, f"there is no bucket {bucket} among 2^{bits}")
        batches = []
        for name in segment_ids:
            segment = self._segment(storage_start_ms, name)
            footer = self._footers.get(segment) or self._footer(segment)
            cipher = self._cipher(storage_start_ms)
            with self._reading(segment, "runs") as file:
                batches.append(read_bucket(file, cipher, segment, footer, bucket=bucket, bits=bits))
        return ReportBatch.concat(batches)

    def reader(self, starts_ms: Sequence[int]) -> FileIntakeLog:
        """The same log for another process; see `IntakeLog.reader`."""
        return FileIntakeLog(self._directory, held_keys(self._keys, map(_key_name, starts_ms)), self._deployment_id)

    # Scrubbing.

    def destroy(self, storage_start_ms: int) -> None:
        """Removes every file of a storage window, durably; see `IntakeLog.destroy`.

        Raises:
            Failure: the disk refused; the next call goes on.
        """
        directory = self._directory / str(storage_start_ms)
        self._footers = {name: kept for name, kept in self._footers.items() if name.storage_start_ms != storage_start_ms}
        try:
            if not directory.is_dir():
                return
            for path in directory.iterdir():
                self._files.remove(path)
            self._files.sync_directory(directory)
            self._files.remove_directory(directory)
            self._files.sync_directory(self._directory)
        except OSError as error:
            raise failure_of(error, f"scrubbing storage window {storage_start_ms}") from None

    def storage_windows(self) -> tuple[int, ...]:
        """Starts of the storage windows that have files, in order."""
        if not self._directory.is_dir():
            return ()
        found = (path for path in self._directory.iterdir() if re.fullmatch(r"-?\d{1,19}", path.name))
        return tuple(sorted(int(path.name) for path in found if _holds_files(path)))

    def _segment(self, storage_start_ms: int, segment_id: str) -> SegmentName:
        ensure(_ID.fullmatch(segment_id), f"a segment id is 32 hexadecimal digits, got {segment_id!r}")
        return SegmentName(self._deployment_id, storage_start_ms, segment_id)

    def _path(self, segment: SegmentName, suffix: str) -> Path:
        return self._directory / str(segment.storage_start_ms) / f"{segment.segment_id}.{suffix}"

    def _cipher(self, storage_start_ms: int) -> AESGCM:
        return AESGCM(self._keys.get(_key_name(storage_start_ms)))

    def _writer(self, storage_start_ms: int, segment_id: str) -> SegmentWriter:
        writer = self._writing.get((storage_start_ms, segment_id))
        if writer is None:
            raise InvariantError(f"segment {segment_id} is not open for writing here")
        return writer

    def _size_bytes(self, segment: SegmentName) -> int:
        for suffix in ("runs", "frames"):
            with contextlib.suppress(FileNotFoundError):
                return self._path(segment, suffix).stat().st_size
        return 0

    def _abandon(self, file: AppendFile, path: Path) -> None:
        """Gets rid of a file that could not be finished, as far as the disk lets us."""
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(OSError):
            self._files.remove(path)

    @contextlib.contextmanager
    def _reading(self, segment: SegmentName, suffix: str) -> Iterator[BinaryIO]:
        path = self._path(segment, suffix)
        try:
            with path.open("rb") as file:
                yield file
        except FileNotFoundError:
            ensure(
                suffix != "runs" or not self._path(segment, "frames").exists(), f"{segment} is read before it is compacted"
            )
            raise SegmentLost(f"{segment}: its file {path} is missing; its rows cannot be had back") from None
        except OSError as error:
            raise failure_of(error, f"reading {segment}") from None

    def _sealed_frames(self, segment: SegmentName) -> list[memoryview]:
        with self._reading(segment, "frames") as file:
            return sealed_frames(segment, memoryview(file.read()))

    def _read_frames(self, segment: SegmentName, frames: int) -> tuple[ReportBatch, AESGCM]:
        """The rows of exactly so many frames, and the window's cipher."""
        sealed = self._sealed_frames(segment)
        if len(sealed) < frames:
            raise SegmentLost(f"{segment} holds {len(sealed)} whole frames, but {frames} were closed")
        # A window that received nothing has no key yet, and even an empty footer is authenticated.
        key = self._keys.get if frames else self._keys.get_or_create
        cipher = AESGCM(key(_key_name(segment.storage_start_ms)))
        chosen = enumerate(itertools.islice(sealed, frames))
        return ReportBatch.concat([decode(unseal(cipher, segment, FRAME, n, frame)) for n, frame in chosen]), cipher

    def _write_runs(self, segment: SegmentName, parts: Iterable[bytes]) -> None:
        """Makes the file of runs, whole or not at all."""
        # A random name: two processes that compact one segment never write into each other's file.
        target, temporary = self._path(segment, "runs"), self._path(segment, f"{os.urandom(8).hex()}.new")
        file: AppendFile | None = None
        try:
            file, unsynced = self._files.create(temporary), 0
            for part in parts:
                file.write(part)
                unsynced += len(part)
                if unsynced >= _SYNCED_BYTES:
                    file.datasync()
                    unsynced = 0
            file.datasync()
            self._files.rename(temporary, target)
            file.close()
        except OSError as error:
            if file is not None:
                self._abandon(file, temporary)
            raise failure_of(error, f"compacting {segment}") from None

    def _remove_leftovers(self, segment: SegmentName) -> None:
        """Removes a compacted segment's frames and half-written files, once the name of its runs is durable."""
        directory = self._path(segment, "runs").parent
        left = [path for path in directory.glob(f"{segment.segment_id}.*") if path.suffix != ".runs"]
        try:
            if left:
                self._files.sync_directory(directory)
            for path in left:
                self._files.remove(path)
        except OSError as error:
            raise failure_of(error, f"removing what compacting {segment} has left over") from None

    def _footer(self, segment: SegmentName) -> Footer:
        cipher = self._cipher(segment.storage_start_ms)
        with self._reading(segment, "runs") as file:
            footer = self._footers[segment] = read_footer(file, cipher, segment)
        return footer


def _key_name(storage_start_ms: int) -> str:
    return f"data/{storage_start_ms}"


def _holds_files(directory: Path) -> bool:
    # Another process may scrub the window at this moment.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return any(directory.iterdir())
    return False
