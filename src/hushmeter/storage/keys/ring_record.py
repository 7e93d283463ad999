"""The record of a deployment as a file of its key ring (C7): compare-and-set under a lock, durable before it returns.

The order matters. Under the lock the record is read anew and compared; the new one is written to a temporary file, synced,
renamed over the old one, and the directory is synced. Whoever reads sees the one or the other, never a part. The lock is
that of a file which nobody removes, so that the kernel gives it back however a process ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hushmeter.errors import KeyUnavailable, StateConflict
from hushmeter.model.ring import RingRecord, decode_record, encode_record
from hushmeter.storage.disk import failure_of, remedy_of, sync_directory, write_durably

RECORD_NAME: Final = "ledger"
"""Earlier rings had the mark of the ledger in a file of this name, which is read as a record."""
_LOCK_NAME: Final = "ledger.lock"


@dataclass(frozen=True, slots=True)
class _Seen:
    """A record as it was read.

    Attributes:
        descriptor: of the file, open as long as this object lives: until then no other file has its number.
        stamp: of the file before it was read; each write of a record makes another file.
        record: what it was.
    """

    descriptor: int
    stamp: tuple[int, ...]
    record: RingRecord

    def __del__(self) -> None:
        os.close(self.descriptor)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    """What differs where a file is another one, or was written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class RecordFile:
    """The record in a key directory.

    Args:
        directory: of the key ring.
        wrap: encrypts bytes under the ring's master key, for a name.
        unwrap: the inverse, for `RECORD_NAME`; raises `ValueError` for bytes that it did not encrypt.
    """

    def __init__(self, directory: Path, wrap: Callable[[str, bytes], bytes], unwrap: Callable[[bytes], bytes]) -> None:
        self._directory = directory
        self._path = directory / RECORD_NAME
        self._wrap, self._unwrap = wrap, unwrap
        self._seen: _Seen | None = None

    def read(self) -> RingRecord | None:
        """The record; its file is read anew only where it is another one than at the last call: else two microseconds.

        Raises:
            KeyUnavailable: it cannot be read.
        """
        seen = self._seen
        try:
            if seen is not None and seen.stamp == _stamp(self._path.stat()):
                return seen.record
            self._seen = seen = self._read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyUnavailable(f"{self._path} cannot be read ({error.strerror}); {remedy_of(error)}") from None
        except ValueError:
            raise KeyUnavailable(f"{self._path} is damaged; put the whole key directory back") from None
        return seen.record

    def _read(self) -> _Seen:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            stamp = _stamp(os.fstat(descriptor))
            with open(descriptor, "rb", closefd=False) as file:
                record = decode_record(self._unwrap(file.read()))
        except BaseException:
            os.close(descriptor)
            raise
        return _Seen(descriptor, stamp, record)

    def swap(self, before: RingRecord | None, after: RingRecord) -> None:
        """Puts a record in the place of another one; see `KeyRing.swap`.

        Raises:
            StateConflict: the record is another one.
            KeyUnavailable: it cannot be read.
            StorageFull, Failure: the disk refused.
        """
        with self._locked():
            # Anew, whatever the name says: a disk of another machine may tell what it knew some seconds ago.
            self._seen = None
            if self.read() != before:
                raise StateConflict("the key ring's record has changed meanwhile")
            self._write(after)

    def hand_over(self, other: RecordFile) -> None:
        """Seals the record as another ring of the same directory does; see `DirectoryKeyRing.rewrap`."""
        with self._locked():
            record = self.read()
            if record is not None:
                other._write(record)

    def _write(self, record: RingRecord) -> None:
        temporary = self._path.with_name(f"{RECORD_NAME}.{os.urandom(8).hex()}.new")
        try:
            try:
                write_durably(temporary, self._wrap(RECORD_NAME, encode_record(record)))
                temporary.replace(self._path)
            finally:
                temporary.unlink(missing_ok=True)
            sync_directory(self._directory)
        except OSError as error:
            raise failure_of(error, f"writing the record in {self._directory}") from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            descriptor = os.open(self._directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise failure_of(error, f"locking the record in {self._directory}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
