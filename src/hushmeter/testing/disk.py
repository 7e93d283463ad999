"""A disk that fails when it is told to, and that forgets what was not synced when the power is cut."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hushmeter.storage.disk import AppendFile, Disk


class PowerCut(Exception):
    """The machine has lost its power; nothing works until `FaultyDisk.restore_power`."""


@dataclass(slots=True)
class _Content:
    """What a file holds for sure: its first `durable` bytes."""

    path: Path
    durable: int = 0
    overwritten: list[tuple[int, bytes]] = field(default_factory=list)
    """What stood where, before overwriting that was not synced."""


class FaultyDisk:
    """A `FileSystem` on real files that can run full, fail, tear writes and lose its power.

    Operations are counted from 0 in `steps`, and named `make_directory`, `create`, `rename`, `remove`, `remove_directory`,
    `sync_directory`, `write`, `overwrite`, `datasync` and `truncate` in `done`.

    Attributes:
        room_bytes: how much may still be written; None for any amount. A write that does not fit leaves what fits.
        cut_at_step: the power is cut at this operation; a write is then half done, and nothing else of it is.
        eager_removals: removals reach the disk at once, before older names that nobody synced: no disk promises an order.
        steps: operations so far.
        done: their names.
    """

    def __init__(self, room_bytes: int | None = None) -> None:
        self._room = room_bytes
        self._room_lock = threading.Lock()
        self.cut_at_step: int | None = None
        self.eager_removals = False
        self.done: list[str] = []
        self._disk = Disk()
        self._dark = False
        self._errors: dict[str, list[int]] = {}
        self._contents: list[_Content] = []
        self._undo: list[tuple[Path, Callable[[], object]]] = []

    @property
    def room_bytes(self) -> int | None:
        """How much may still be written."""
        return self._room

    @room_bytes.setter
    def room_bytes(self, room: int | None) -> None:
        with self._room_lock:
            self._room = room

    def _give_back(self, freed: int) -> None:
        with self._room_lock:
            if self._room is not None:
                self._room += freed

    @property
    def steps(self) -> int:
        """Operations so far."""
        return len(self.done)

    def fail_next(self, operation: str, error: int = errno.EIO, times: int = 1) -> None:
        """Makes the next operations of a name raise `OSError(error)`."""
        self._errors.setdefault(operation, []).extend([error] * times)

    def cut_power(self, keep_bytes: int = 0) -> None:
        """Loses what was not synced, and lets everything raise `PowerCut` until `restore_power`.

        Args:
            keep_bytes: how many unsynced bytes at the end of each file reached the disk all the same: a torn write.
        """
        self._dark = True
        for content in self._contents:
            if content.path.exists():
                with content.path.open("r+b") as file:
                    for at, before in reversed(content.overwritten):
                        file.seek(at)
                        file.write(before)
                os.truncate(content.path, min(content.path.stat().st_size, content.durable + keep_bytes))
        for _, undo in reversed(self._undo):
            undo()
        self._undo.clear()

    def restore_power(self) -> None:
        """Lets the disk work again; what files hold now is durable."""
        self._dark = False
        self.cut_at_step = None
        self._contents.clear()

    def make_directory(self, path: Path) -> None:
        """See `FileSystem`."""
        self._step("make_directory")
        for directory in reversed([path, *path.parents]):
            if not directory.exists():
                self._disk.make_directory(directory)
                self._undo.append((directory.parent, partial(shutil.rmtree, directory, ignore_errors=True)))

    def create(self, path: Path) -> AppendFile:
        """See `FileSystem`."""
        self._step("create")
        file = self._disk.create(path)
        content = _Content(path)
        self._contents.append(content)
        self._undo.append((path.parent, lambda: path.unlink(missing_ok=True)))
        return _FaultyFile(self, file, content)

    def rename(self, source: Path, target: Path) -> None:
        """See `FileSystem`."""
        self._step("rename")
        replaced = target.read_bytes() if target.exists() else None
        self._disk.rename(source, target)
        moved = [content for content in self._contents if content.path == source]
        for content in moved:
            content.path = target

        def undo() -> None:
            if target.exists():
                target.replace(source)
            if replaced is not None:
                target.write_bytes(replaced)

        self._undo.append((target.parent, undo))

    def remove(self, path: Path) -> None:
        """See `FileSystem`."""
        self._step("remove")
        if path.exists():
            content = path.read_bytes()
            self._disk.remove(path)
            if not self.eager_removals:
                self._undo.append((path.parent, lambda: path.write_bytes(content)))

    def remove_directory(self, path: Path) -> None:
        """See `FileSystem`."""
        self._step("remove_directory")
        self._disk.remove_directory(path)
        self._undo.append((path.parent, lambda: path.mkdir(exist_ok=True)))

    def sync_directory(self, path: Path) -> None:
        """See `FileSystem`."""
        self._step("sync_directory")
        self._disk.sync_directory(path)
        self._undo = [(directory, undo) for directory, undo in self._undo if directory != path]

    def _step(self, operation: str) -> None:
        if self._dark:
            raise PowerCut
        cut = self.steps == self.cut_at_step
        self.done.append(operation)
        if cut:
            self.cut_power()
            raise PowerCut
        if self._errors.get(operation):
            error = self._errors[operation].pop(0)
            raise OSError(error, os.strerror(error))

    def _write(self, file: AppendFile, data: bytes) -> None:
        if self.steps == self.cut_at_step:
            file.write(data[: len(data) // 2])
            self.done.append("write")
            self.cut_power(keep_bytes=len(data))
            raise PowerCut
        self._step("write")
        with self._room_lock:
            fits = data if self._room is None else data[: self._room]
            if self._room is not None:
                self._room -= len(fits)
        file.write(fits)
        if len(fits) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _FaultyFile:
    def __init__(self, disk: FaultyDisk, file: AppendFile, content: _Content) -> None:
        self._disk = disk
        self._file = file
        self._content = content

    def write(self, data: bytes) -> None:
        self._disk._write(self._file, data)

    def overwrite(self, at: int, data: bytes) -> None:
        before = self._content.path.read_bytes()[at : at + len(data)]
        self._content.overwritten.append((at, before))
        self._disk._step("overwrite")
        self._file.overwrite(at, data)

    def datasync(self) -> None:
        self._disk._step("datasync")
        self._file.datasync()
        self._content.overwritten.clear()
        self._content.durable = self._content.path.stat().st_size

    def truncate(self, size: int) -> None:
        self._disk._step("truncate")
        self._disk._give_back(self._content.path.stat().st_size - size)
        self._file.truncate(size)
        self._content.durable = min(self._content.durable, size)

    def close(self) -> None:
        self._file.close()
