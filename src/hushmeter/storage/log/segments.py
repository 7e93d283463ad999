"""The files of segments on the disk: where they are, who may put them there, and what is known of those that are there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hushmeter.errors import SegmentLost, ensure
from hushmeter.model.key_names import data_key
from hushmeter.ports import Keys
from hushmeter.storage.disk import AppendFile, FileSystem, failure_of
from hushmeter.storage.log.frames import SegmentName, empty_frames
from hushmeter.storage.log.runs import Footer, read_footer

_ID = re.compile(r"[0-9a-f]{32}")
_SYNCED_BYTES = 2**20
"""Compacting hands the disk so much at once: whoever waits for an acknowledgement waits behind it."""


class SegmentFiles:
    """Files of segments in one directory.

    Args:
        directory, keys, deployment_id, disk: those of the log.
    """

    def __init__(self, directory: Path, keys: Keys, deployment_id: str, disk: FileSystem) -> None:
        ensure(_ID.fullmatch(deployment_id), f"a deployment id is 32 hexadecimal digits, got {deployment_id!r}")
        self._directory = directory
        self._keys = keys
        self._deployment_id = deployment_id
        self._disk = disk
        # By what tells one file from the one that is put in its place.
        self._footers: dict[SegmentName, tuple[tuple[int, ...], Footer]] = {}

    def forget(self, storage_start_ms: int) -> None:
        """Forgets what is known of a storage window's files."""
        self._footers = {name: k for name, k in self._footers.items() if name.storage_start_ms != storage_start_ms}

    def segment(self, storage_start_ms: int, segment_id: str) -> SegmentName:
        """The name of a segment."""
        ensure(_ID.fullmatch(segment_id), f"a segment id is 32 hexadecimal digits, got {segment_id!r}")
        return SegmentName(self._deployment_id, storage_start_ms, segment_id)

    def path(self, segment: SegmentName, suffix: str) -> Path:
        """Where one of a segment's files is."""
        return self._directory / str(segment.storage_start_ms) / f"{segment.segment_id}.{suffix}"

    def cipher(self, storage_start_ms: int) -> AESGCM:
        """Of a storage window's key."""
        return AESGCM(self._keys.get(data_key(storage_start_ms)))

    def size_bytes(self, segment: SegmentName) -> int:
        """How much a segment's file holds; one that is missing holds nothing."""
        for suffix in ("runs", "frames"):
            with contextlib.suppress(FileNotFoundError):
                return self.path(segment, suffix).stat().st_size
        return 0

    def holding(self, storage_start_ms: int) -> frozenset[str]:
        """The segments of a storage window that were compacted, or whose file is longer than one without frames."""
        found = set[str]()
        try:
            for path in (self._directory / str(storage_start_ms)).iterdir():
                name, suffix = path.stem, path.suffix
                if _ID.fullmatch(name) and suffix in (".frames", ".runs"):
                    empty = len(empty_frames(self.segment(storage_start_ms, name))) if suffix == ".frames" else 0
                    # The sealer may have compacted it, or scrubbed the window, at this moment.
                    with contextlib.suppress(FileNotFoundError):
                        found |= {name} if path.stat().st_size > empty else set()
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise failure_of(error, f"listing storage window {storage_start_ms}") from None
        return frozenset(found)

    def abandon(self, file: AppendFile, path: Path) -> None:
        """Gets rid of a file that could not be finished, as far as the disk lets us."""
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(OSError):
            self._disk.remove(path)

    @contextlib.contextmanager
    def reading(self, segment: SegmentName, suffix: str) -> Iterator[BinaryIO]:
        """Opens one of a segment's files; `SegmentLost` where it is missing."""
        path = self.path(segment, suffix)
        try:
            with path.open("rb") as file:
                yield file
        except FileNotFoundError:
            ensure(
                suffix != "runs" or not self.path(segment, "frames").exists(), f"{segment} is read before it is compacted"
            )
            raise SegmentLost(f"{segment}: its file {path} is missing; its rows cannot be had back") from None
        except OSError as error:
            raise failure_of(error, f"reading {segment}") from None

    def written(self, segment: SegmentName, parts: Iterable[bytes]) -> Path:
        """A file of runs under a name of its own, durable but for that name."""
        # A random name: two processes that compact one segment never write into each other's file.
        temporary = self.path(segment, f"{os.urandom(8).hex()}.new")
        file: AppendFile | None = None
        try:
            file, unsynced = self._disk.create(temporary), 0
            for part in parts:
                file.write(part)
                unsynced += len(part)
                if unsynced >= _SYNCED_BYTES:
                    file.datasync()
                    unsynced = 0
            file.datasync()
            file.close()
        except OSError as error:
            if file is not None:
                self.abandon(file, temporary)
            raise failure_of(error, f"compacting {segment}") from None
        return temporary

    def put(self, segment: SegmentName, temporary: Path) -> None:
        """Puts a file of runs in its place."""
        try:
            self._disk.rename(temporary, self.path(segment, "runs"))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._disk.remove(temporary)
            raise failure_of(error, f"compacting {segment}") from None

    def sync(self, segment: SegmentName) -> None:
        """Makes the names of a storage window's files durable."""
        try:
            self._disk.sync_directory(self.path(segment, "runs").parent)
        except OSError as error:
            raise failure_of(error, f"making the runs of {segment} durable") from None

    @contextlib.contextmanager
    def alone_in(self, segment: SegmentName) -> Iterator[None]:
        """Keeps other processes from putting files of runs into a storage window; ends with the process that holds it."""
        directory = self.path(segment, "runs").parent
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise failure_of(error, f"locking {directory}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def remove_leftovers(self, segment: SegmentName) -> None:
        """Removes a compacted segment's frames and half-written files, once the name of its runs is durable."""
        directory = self.path(segment, "runs").parent
        if not _leftovers(directory, segment):
            return
        with self.alone_in(segment):
            try:
                self._disk.sync_directory(directory)
                for path in _leftovers(directory, segment):
                    self._disk.remove(path)
            except OSError as error:
                raise failure_of(error, f"removing what compacting {segment} has left over") from None

    def footer(self, segment: SegmentName) -> Footer:
        """The footer of a compacted segment, read anew."""
        with self.reading(segment, "runs") as file:
            self._footers.pop(segment, None)
            return self.opened(segment, file, self.cipher(segment.storage_start_ms))

    def opened(self, segment: SegmentName, file: BinaryIO, cipher: AESGCM) -> Footer:
        """The footer of an open file of runs; it is read once a file."""
        status = os.fstat(file.fileno())
        identity = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        known = self._footers.get(segment)
        if known is None or known[0] != identity:
            known = self._footers[segment] = (identity, read_footer(file, cipher, segment))
        return known[1]


def _leftovers(directory: Path, segment: SegmentName) -> list[Path]:
    return [path for path in directory.glob(f"{segment.segment_id}.*") if path.suffix != ".runs"]
