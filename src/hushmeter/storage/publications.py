"""Publications that were drawn, as files beside the state: created whole, never changed, until the next window is claimed.

The bytes of a publication are the number of its blobs, their lengths, and the blobs: first canonical JSON, in which
releases stand as the rows of their table, then what is binary, in the order in which the JSON speaks of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hushmeter.errors import Failure, ReleaseAltered, StateConflict, ensure
from hushmeter.model.ledger import DraftEntry, LedgerMark, PrivacyLoss, Spending, canonical_json
from hushmeter.model.publication import Publication
from hushmeter.model.time import Window
from hushmeter.storage.disk import failure_of, remedy_of, sync_directory, write_durably
from hushmeter.storage.state.release_rows import release_of, rows_of

_BLOB, _LOCK_NAME = "blob", "lock"


class PublicationFiles:
    """Files in one directory, by the owner of the claim that they were drawn under.

    Args:
        directory: made at the first publication.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def encoded(self, publication: Publication) -> bytes:
        """See `Publications.encoded`."""
        return encode_publication(publication)

    def decoded(self, content: bytes) -> Publication:
        """See `Publications.decoded`."""
        return decode_publication(content)

    def put(self, name: str, content: bytes) -> None:
        """See `Publications.put`; a call that failed may be made again."""
        temporary = self._path(name).with_suffix(f".{os.urandom(8).hex()}.new")
        try:
            self._make_directory()
            try:
                write_durably(temporary, content)
                # Unlike a rename it never replaces a file.
                with contextlib.suppress(FileExistsError):
                    os.link(temporary, self._path(name))
            finally:
                temporary.unlink(missing_ok=True)
            sync_directory(self._directory)
        except OSError as error:
            raise failure_of(error, f"writing a publication to {self._directory}") from None

    def get(self, name: str) -> bytes | None:
        """See `Publications.get`."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Failure(f"{self._path(name)} cannot be read ({error.strerror}); {remedy_of(error)}") from None

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """See `Publications.turn`; the kernel ends it with the process."""
        try:
            self._make_directory()
            descriptor = os.open(self._directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise failure_of(error, f"locking {self._directory}") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StateConflict("another sealer of this state is ending a window") from None
            yield
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """See `Publications.clear`."""
        try:
            for path in self._directory.glob("*"):
                if path.name != _LOCK_NAME:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise failure_of(error, f"removing publications from {self._directory}") from None

    def _make_directory(self) -> None:
        if not self._directory.exists():
            self._directory.mkdir(mode=0o700, exist_ok=True)
            sync_directory(self._directory.parent)

    def _path(self, name: str) -> Path:
        ensure(name.isalnum(), f"{name!r} is no name of a publication")
        return self._directory / name


def encode_publication(publication: Publication) -> bytes:
    """A publication as bytes; equal ones have equal bytes."""
    window, before = publication.window, publication.before
    blobs: list[bytes] = [b""]

    def plain(value: object) -> object:
        if not isinstance(value, bytes):
            return value
        blobs.append(value)
        return {_BLOB: len(blobs) - 1}

    def plainly(fields: Mapping[str, object]) -> dict[str, object]:
        return {name: plain(value) for name, value in fields.items()}

    fields = {
        "window": [window.resolution, window.start_ms, window.end_ms],
        "period_start_ms": publication.period_start_ms,
        "before": [before.deployment_id, before.sequence, before.entry_hash.hex()],
        "releases": [plainly(row) for row in rows_of(window, publication.releases)],
        "entries": [_entry_fields(entry) for entry in publication.entries],
        "kept": plainly(publication.kept),
    }
    blobs[0] = canonical_json(fields).encode()
    lengths = [len(blobs), *map(len, blobs)]
    return b"".join([*(n.to_bytes(8, "little") for n in lengths), *blobs])


def decode_publication(content: bytes) -> Publication:
    """The inverse of `encoded`; raises `Failure` for anything else."""
    try:
        blobs = _blobs(content)
        f: dict[str, Any] = json.loads(blobs[0])

        def binary(fields: Mapping[str, Any]) -> dict[str, Any]:
            return {name: blobs[v[_BLOB]] if isinstance(v, dict) else v for name, v in fields.items()}

        deployment_id, sequence, entry_hash = f["before"]
        return Publication(
            Window(*f["window"]),
            f["period_start_ms"],
            LedgerMark(deployment_id, sequence, bytes.fromhex(entry_hash)),
            [release_of(SimpleNamespace(**binary(row))) for row in f["releases"]],
            [_entry(*fields) for fields in f["entries"]],
            binary(f["kept"]),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, ReleaseAltered):
        raise Failure("the bytes of a publication are damaged; its window is lost") from None


def _blobs(content: bytes) -> list[bytes]:
    count = int.from_bytes(content[:8], "little")
    at = 8 * (count + 1)
    if at > len(content):
        raise ValueError
    blobs = []
    for number in range(count):
        length = int.from_bytes(content[8 * (number + 1) : 8 * (number + 2)], "little")
        blobs.append(content[at : at + length])
        at += length
    if at != len(content):
        raise ValueError
    return blobs


def _entry_fields(entry: DraftEntry) -> list[object]:
    spending = entry.spending
    return [
        entry.content,
        spending.series,
        spending.cap,
        str(spending.loss.amount),
        str(spending.loss.delta),
        spending.count,
    ]


def _entry(content: str, series: str, cap: int, amount: str, delta: str, count: int) -> DraftEntry:
    return DraftEntry(content, Spending(series, cap, PrivacyLoss(Fraction(amount), Fraction(delta)), count))
