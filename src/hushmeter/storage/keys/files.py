"""Keys in a directory, each wrapped by one master key; a destroyed key never comes back.

One file a key: `deployment.key`, `unit-tokens.key`, `signing.key`, `data/<storage window start>.key`,
`period/<period start>.key`. Beside them `check`, a known text that tells a wrong master key at once, and `ledger`, the
deployment's record (see `ring_record`). A file is a nonce and the key as AES-256-GCM encrypts it; the key's
name is authenticated, so that one file cannot stand for another. An empty file `NAME.destroyed` remains of a destroyed key.
The directory belongs neither beside the data nor into backups.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hushmeter.errors import KeyGone, KeyUnavailable, ensure
from hushmeter.model.ring import RingRecord
from hushmeter.ports import Keys
from hushmeter.storage.disk import failure_of, remedy_of, sync_directory, write_durably
from hushmeter.storage.keys.master_key import MASTER_KEY_VARIABLE
from hushmeter.storage.keys.ring_record import RECORD_NAME, RecordFile

_KEY_BYTES = 32
_NONCE_BYTES = 12
_WRAPPED_BYTES = _NONCE_BYTES + _KEY_BYTES + 16
_NAME = re.compile(r"deployment|unit-tokens|signing|(?:data|period)/-?\d{1,19}")
_KEY_FILES = ("deployment.key", "unit-tokens.key", "signing.key", "data/*.key", "period/*.key")
_START_FILE = re.compile(r"(-?\d{1,19})\.(?:key|.*\.new)")
CHECK_NAME: Final = "check"
"""The file that makes a directory a key ring."""
_CHECK_TEXT = b"hushmeter key ring, format 1".ljust(_KEY_BYTES)


class DirectoryKeyRing:
    """A `KeyRing` of files in one directory; several processes may use it at once.

    Args:
        directory: an existing ring; `open` makes a new one.
        master_key: 32 bytes.
    """

    def __init__(self, directory: Path, master_key: bytes) -> None:
        ensure(len(master_key) == _KEY_BYTES, f"a master key is {_KEY_BYTES} bytes, got {len(master_key)}")
        self._directory = directory
        self._master = AESGCM(master_key)
        self._record = RecordFile(directory, self._wrap, self._open_record)

    @classmethod
    def open(cls, directory: Path, master_key: bytes) -> Self:
        """Opens a ring and proves that the master key is its own; makes the ring where the directory holds none.

        Raises:
            KeyUnavailable: the master key is another one, or the ring is damaged.
            Failure: the directory cannot be made or written.
        """
        ring = cls(directory, master_key)
        try:
            for folder in (directory, directory / "data", directory / "period"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(directory)
        except OSError as error:
            raise failure_of(error, f"making the key directory {directory}") from None
        # The order matters: whoever founds the ring writes the check before the first key.
        has_keys = any(any(directory.glob(pattern)) for pattern in _KEY_FILES)
        if ring._read(CHECK_NAME) is None:
            if has_keys:
                raise KeyUnavailable(
                    f"{directory} holds keys but its file 'check' is missing, so no master key can be proved right; "
                    "put the whole key directory back, or point keys_dir to the right one"
                )
            ring._add(CHECK_NAME, _CHECK_TEXT)
            ring._sync(directory)
        ring._prove_master_key()
        return ring

    def get(self, name: str) -> bytes:
        """The 32-byte key of that name; see `KeyRing.get`."""
        _ensure_name(name)
        wrapped = self._read(name)
        if wrapped is None:
            raise KeyGone(
                f"there is no key {name} in {self._directory}; what it encrypted cannot be read; "
                "check that keys_dir is the directory that this deployment has always used"
            )
        return self._unwrap(name, wrapped)

    def get_or_create(self, name: str) -> bytes:
        """The key of that name, made at the first call; see `KeyRing.get_or_create`.

        Raises:
            StorageFull, Failure: the new key could not be made durable.
        """
        _ensure_name(name)
        if self._read(name) is None:
            self._add(name, os.urandom(_KEY_BYTES))
            if self._tombstone(name).exists():
                # Another process destroyed it meanwhile. Whichever writes second sees the other, so either destroys it.
                self.destroy(name)
        # Also where another process made it: what this key encrypts may be acknowledged before that process syncs.
        self._sync(self._path(name).parent)
        return self.get(name)

    def destroy(self, name: str) -> None:
        """Makes the key unrecoverable, and any later key of that name impossible.

        The tombstone is durable before the key is touched; a crash in between is repaired by the next call.

        **Privacy**: without their keys nobody can read raw rows and pseudonyms (P3); overwriting cannot reach copies that a
        copy-on-write file system or a drive keeps, so the master key must not be kept beside such copies.

        Raises:
            StorageFull, Failure: the disk refused; the key is refused from the moment the tombstone exists.
        """
        _ensure_name(name)
        path, tombstone = self._path(name), self._tombstone(name)
        try:
            with contextlib.suppress(FileExistsError):
                write_durably(tombstone, b"")
            sync_directory(path.parent)
            # A process that died while it made the key may have left it under its temporary name too.
            for file in (path, *path.parent.glob(f"{path.stem}.*.new")):
                _overwrite_and_remove(file)
            sync_directory(path.parent)
        except OSError as error:
            raise failure_of(error, f"destroying key {name}") from None

    def periods(self) -> tuple[int, ...]:
        """Starts of the periods that have a key file, or a temporary one of a process that died; see `KeyRing.periods`.

        Raises:
            Failure: the directory cannot be read.
        """
        return self._starts("period")

    def storage_windows(self) -> tuple[int, ...]:
        """Starts of the storage windows that have a key file, or a temporary one; see `KeyRing.storage_windows`.

        Raises:
            Failure: the directory cannot be read.
        """
        return self._starts("data")

    def _starts(self, folder: str) -> tuple[int, ...]:
        directory = self._directory / folder
        try:
            found = [_START_FILE.fullmatch(path.name) for path in directory.iterdir()]
        except OSError as error:
            raise failure_of(error, f"listing the keys in {directory}") from None
        return tuple(sorted({int(match[1]) for match in found if match}))

    def record(self) -> RingRecord | None:
        """What the ring has seen of its deployment; see `KeyRing.record`."""
        return self._record.read()

    def swap(self, before: RingRecord | None, after: RingRecord) -> None:
        """Puts a record in the place of another one; see `KeyRing.swap`.

        Raises:
            StorageFull, Failure: the disk refused; the record may be the one or the other.
        """
        self._record.swap(before, after)

    def rewrap(self, master_key: bytes) -> int:
        """Wraps every key with another master key, which opens the ring from then on; returns how many were left to do.

        Nobody else may use the ring meanwhile. A call that was interrupted is finished by the same call, and until then by
        nothing else: some keys have the one master key, some the other.

        Args:
            master_key: 32 bytes.

        Raises:
            KeyUnavailable: neither master key opens the ring, or a key is damaged; nothing of that key was changed.
            StorageFull, Failure: the disk refused; to be called again.
        """
        other = DirectoryKeyRing(self._directory, master_key)
        if not other._opens(CHECK_NAME):
            self._prove_master_key()
        found = sorted(p for pattern in _KEY_FILES for p in self._directory.glob(pattern))
        names = [str(path.relative_to(self._directory).with_suffix("")) for path in found]
        count = 0
        if not other._opens(RECORD_NAME):
            self._record.hand_over(other._record)
        # The check comes last: until then the old master key is the one that is asked for.
        for name in (*names, CHECK_NAME):
            if not other._opens(name):
                other._replace(name, self._unwrap(name, self._read(name) or b""))
                count += 1
        return count

    def _opens(self, name: str) -> bool:
        wrapped = self._read(name) or b""
        try:
            return bool(self._master.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _associated(name)))
        except (InvalidTag, ValueError):
            return False

    def _replace(self, name: str, key: bytes) -> None:
        """Wraps a key in place of how it was wrapped before, which is overwritten."""
        path = self._path(name)
        temporary = path.with_name(f"{path.stem}.{os.urandom(8).hex()}.new")
        try:
            write_durably(temporary, self._wrap(name, key))
            put_in_place(temporary, path)
        except OSError as error:
            raise failure_of(error, f"wrapping key {name} in {self._directory} anew") from None

    def _path(self, name: str) -> Path:
        return self._directory / (name if name in {CHECK_NAME, RECORD_NAME} else f"{name}.key")

    def _tombstone(self, name: str) -> Path:
        return self._directory / f"{name}.destroyed"

    def _read(self, name: str) -> bytes | None:
        """The wrapped key; None where there is none. Read before the tombstone is looked for, as `destroy` overwrites."""
        path = self._path(name)
        wrapped = None
        try:
            with contextlib.suppress(FileNotFoundError):
                wrapped = path.read_bytes()
            destroyed = self._tombstone(name).exists()
        except PermissionError:
            raise KeyUnavailable(
                f"key {name}: this account may not read {path}; "
                "make the account that runs hushmeter its owner, with mode 0600 (directories 0700)"
            ) from None
        except OSError as error:
            raise KeyUnavailable(f"key {name}: {path} cannot be read ({error.strerror}); {remedy_of(error)}") from None
        if destroyed:
            raise KeyGone(f"key {name} was destroyed: its data has been scrubbed for good, and no new one is made")
        return wrapped

    def _add(self, name: str, key: bytes) -> None:
        """Makes a key file, whole or not at all; where another process was faster, its file stays."""
        path = self._path(name)
        temporary: Path | None = None
        try:
            descriptor, text = tempfile.mkstemp(prefix=f"{path.stem}.", suffix=".new", dir=path.parent)
            temporary = Path(text)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._wrap(name, key))
                file.flush()
                os.fsync(file.fileno())
            # The temporary file is gone where the key was destroyed meanwhile; the caller looks.
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.link(temporary, path)
        except OSError as error:
            raise failure_of(error, f"making key {name} in {self._directory}") from None
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    def _sync(self, directory: Path) -> None:
        try:
            sync_directory(directory)
        except OSError as error:
            raise failure_of(error, f"syncing the key directory {directory}") from None

    def _wrap(self, name: str, key: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._master.encrypt(nonce, key, _associated(name))

    def _unwrap(self, name: str, wrapped: bytes) -> bytes:
        try:
            if len(wrapped) == _WRAPPED_BYTES:
                return self._master.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _associated(name))
        except InvalidTag:
            self._prove_master_key()
        raise KeyGone(
            f"key {name} is damaged: {self._path(name)} has {len(wrapped)} bytes that the master key does not open "
            f"(a key file has {_WRAPPED_BYTES}); what it encrypted cannot be read"
        )

    def _open_record(self, wrapped: bytes) -> bytes:
        try:
            return self._master.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _associated(RECORD_NAME))
        except (InvalidTag, ValueError):
            self._prove_master_key()
            raise ValueError("the master key does not open it") from None

    def _prove_master_key(self) -> None:
        wrapped = self._read(CHECK_NAME)
        with contextlib.suppress(InvalidTag, ValueError):
            if (
                wrapped is None
                or self._master.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _associated(CHECK_NAME))
                == _CHECK_TEXT
            ):
                return
        raise KeyUnavailable(
            f"the master key is not the one that the keys in {self._directory} were wrapped with; "
            f"give that one (master_key_file or {MASTER_KEY_VARIABLE}), or another keys_dir"
        )


def _ensure_name(name: str) -> None:
    ensure(_NAME.fullmatch(name), f"{name!r} is no key name: deployment, unit-tokens, signing, data/START or period/START")


def _associated(name: str) -> bytes:
    return f"hushmeter key 1 {name}".encode()


def put_in_place(new: Path, path: Path) -> None:
    """Renames a file over another one, durably, and overwrites what that held; raises `OSError`."""
    with path.open("r+b") as before:
        size = path.stat().st_size
        new.replace(path)
        sync_directory(path.parent)
        before.write(bytes(size))
        before.flush()
        os.fsync(before.fileno())


def _overwrite_and_remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        with path.open("r+b") as file:
            file.write(bytes(_WRAPPED_BYTES))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()


@dataclass(frozen=True, slots=True)
class HeldKeys:
    """Some keys in memory, for a process that needs no others.

    Attributes:
        keys: by name.
    """

    keys: Mapping[str, bytes]

    def get(self, name: str) -> bytes:
        """See `KeyRing.get`."""
        if name not in self.keys:
            raise KeyGone(f"key {name} was destroyed, or there is none")
        return self.keys[name]

    get_or_create = get


def held_keys(ring: Keys, names: Iterable[str]) -> HeldKeys:
    """Those of some keys that are there."""
    found = {}
    for name in names:
        with contextlib.suppress(KeyGone):
            found[name] = ring.get(name)
    return HeldKeys(found)
