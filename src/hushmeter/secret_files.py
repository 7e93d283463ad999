"""Small files that people name: certificates, keys and credentials, and the check that a secret is its owner's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hushmeter.errors import ConfigError


def read_small(path: Path, most: int) -> bytes:
    """The first bytes of a file.

    Args:
        path: the file.
        most: how many are read; of a larger file the rest is left out.

    Raises:
        OSError: it cannot be read.
    """
    return _read(path, most)[0]


def read_secret(path: Path, what: str, most: int) -> bytes:
    """The first bytes of a file that nobody but its owner may read or change.

    Args:
        path: the file.
        what: it is, for messages.
        most: how many are read; of a larger file the rest is left out.

    Raises:
        OSError: it cannot be read; see `unread_text`.
        ConfigError: others may read or change it.
    """
    content, mode = _read(path, most)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        text = f"others may read or change the {what} {path} (mode {mode:04o}); only its owner may: chmod 600 it"
        raise ConfigError(text)
    return content


def unread_text(path: Path, what: str, error: OSError, remedy: str) -> str:
    """What to say of a file that cannot be read, and what to do about it."""
    return f"the {what} {path} cannot be read ({error.strerror}); {remedy}"


def _read(path: Path, most: int) -> tuple[bytes, int]:
    """The first bytes of a file, and its mode: of the same file, also where another is put in its place meanwhile."""
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        return file.read(most), mode
