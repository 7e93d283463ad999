"""The few file operations that durability rests on, as a protocol, so that tests can fail each of them."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Protocol

from hushmeter.errors import ConfigError, Failure, StorageFull

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_DESCRIPTOR = "no descriptor is left: raise the limit of open files (ulimit -n, LimitNOFILE), or end what holds them"
_REMEDIES = {
    errno.EROFS: "the file system is read-only, as a disk that fails is made: see the system's log, and mount it writable",
    errno.EIO: "the disk cannot be read or written: see the system's log, and replace it",
    errno.EMFILE: _NO_DESCRIPTOR,
    errno.ENFILE: _NO_DESCRIPTOR,
    errno.EACCES: "make the account that runs hushmeter its owner",
    errno.EPERM: "make the account that runs hushmeter its owner",
}
_PROBE_BYTES = 65_536
"""More than the index of a database's log of writes grows by."""
# macOS has no fdatasync.
_sync_data = getattr(os, "fdatasync", os.fsync)


class AppendFile(Protocol):
    """A new file that grows at its end. Every method raises `OSError` where the disk does."""

    def write(self, data: bytes) -> None:
        """Writes all of `data` at the end; after an `OSError` part of it may be there."""

    def overwrite(self, at: int, data: bytes) -> None:
        """Writes all of `data` over bytes that are there; the next write still goes to the end."""

    def datasync(self) -> None:
        """Returns when everything written is durable."""

    def truncate(self, size: int) -> None:
        """Cuts the file back to `size` bytes; the next write goes there."""

    def close(self) -> None:
        """Gives the handle back; promises nothing about durability."""


class FileSystem(Protocol):
    """What the intake log changes on a disk. Names are durable once their directory is synced."""

    def make_directory(self, path: Path) -> None:
        """Makes a directory that only this account may enter, with its parents; does nothing where it exists."""

    def create(self, path: Path) -> AppendFile:
        """Makes an empty file that only this account may read; raises `FileExistsError` where there is one."""

    def rename(self, source: Path, target: Path) -> None:
        """Renames a file, in place of `target` where that exists."""

    def remove(self, path: Path) -> None:
        """Removes a file; does nothing where there is none."""

    def remove_directory(self, path: Path) -> None:
        """Removes an empty directory."""

    def sync_directory(self, path: Path) -> None:
        """Returns when the names in a directory are durable."""


class Disk:
    """The real file system."""

    def make_directory(self, path: Path) -> None:
        """See `FileSystem`."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, path: Path) -> AppendFile:
        """See `FileSystem`."""
        return _DiskFile(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def rename(self, source: Path, target: Path) -> None:
        """See `FileSystem`."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """See `FileSystem`."""
        path.unlink(missing_ok=True)

    def remove_directory(self, path: Path) -> None:
        """See `FileSystem`."""
        path.rmdir()

    def sync_directory(self, path: Path) -> None:
        """See `FileSystem`."""
        sync_directory(path)


class _DiskFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def overwrite(self, at: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            done = os.pwrite(self._descriptor, rest, at)
            rest, at = rest[done:], at + done

    def datasync(self) -> None:
        _sync_data(self._descriptor)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)

    def close(self) -> None:
        os.close(self._descriptor)


def sync_directory(path: Path) -> None:
    """Returns when the names in a directory are durable; raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Makes a new file of `data` that only this account may read, durable but for its name; raises `OSError`.

    A file that could not be written in full is not left behind.
    """
    file = Disk().create(path)
    try:
        file.write(data)
        file.datasync()
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    finally:
        file.close()


def refusal_in(directory: Path) -> OSError | None:
    """What the system says when a small file is made in a directory and removed again; None where it lets us.

    Some libraries say that something failed, and not what; asking again tells a full disk from a read-only one.
    """
    path = directory / f"{os.urandom(8).hex()}.probe"
    try:
        write_durably(path, bytes(_PROBE_BYTES))
        path.unlink()
    except OSError as error:
        return error
    return None


def is_the_systems(error: OSError) -> bool:
    """Whether the disk or the system refuses, whatever place is named: another directory would be no way out."""
    return error.errno in {*_NO_ROOM, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}


def failure_of(error: OSError, doing: str) -> Failure:
    """What an `OSError` means to callers: a full disk may be tried again once there is room.

    Args:
        error: what the system said.
        doing: what failed, such as `writing segment ...`.
    """
    if error.errno in _NO_ROOM:
        return StorageFull(
            f"{doing}: no room is left ({error.strerror}); nothing was acknowledged; free space and try again"
        )
    return Failure(f"{doing}: {error.strerror or error}; nothing was acknowledged; {remedy_of(error)}")


def has_remedy(error: OSError) -> bool:
    """Whether an `OSError` is the disk's or a file's, and no network's or process's."""
    return error.errno in {*_NO_ROOM, *_REMEDIES}


def remedy_of(error: OSError) -> str:
    """What an operator can do about an `OSError`."""
    return _REMEDIES.get(error.errno or 0, "check the disk and the directory's owner")


def make_directory(path: Path) -> None:
    """Makes a directory that only this account may read, unless there is one; `ConfigError` where that fails."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        if is_the_systems(error):
            raise failure_of(error, f"making the directory {path}") from None
        raise ConfigError(
            f"cannot make the directory {path}: {error.strerror}; choose another state_dir, or name a keys_dir"
        ) from None
