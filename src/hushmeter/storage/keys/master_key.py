"""The master key: where it comes from, and how a new one is made."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from hushmeter.errors import ConfigError, KeyUnavailable
from hushmeter.secret_files import read_secret, unread_text
from hushmeter.storage.disk import failure_of, is_the_systems, remedy_of, sync_directory, write_durably

MASTER_KEY_BYTES = 32
MASTER_KEY_VARIABLE = "HUSHMETER_MASTER_KEY"
_FILE_MAX_BYTES = 256


def load_master_key(path: Path | None, environ: Mapping[str, str]) -> bytes:
    """Reads the master key from a file, or where no file is named from the environment.

    Args:
        path: a file of 64 hexadecimal digits or of 32 bytes, which nobody but its owner may read.
        environ: where `HUSHMETER_MASTER_KEY` is looked up, 64 hexadecimal digits.

    Returns:
        32 bytes.

    Raises:
        ConfigError: there is none, it has another length, or others may read it.
        KeyUnavailable: the file exists and cannot be read.
    """
    if path is not None:
        return _read_master_key(path)
    text = environ.get(MASTER_KEY_VARIABLE, "").strip()
    if not text:
        raise ConfigError(f"there is no master key: name a file in master_key_file, or set {MASTER_KEY_VARIABLE}")
    key = _from_hex(text)
    if key is None:
        raise ConfigError(f"{MASTER_KEY_VARIABLE} is {len(text)} characters long; it must be 64 hexadecimal digits")
    return key


def create_master_key(path: Path) -> bytes:
    """Makes a new master key file, readable by its owner alone, and returns the key.

    Raises:
        ConfigError: the file exists: replacing a master key would lose every key that it wraps.
        StorageFull, Failure: it could not be made durable.
    """
    key = os.urandom(MASTER_KEY_BYTES)
    try:
        write_durably(path, key.hex().encode() + b"\n")
        sync_directory(path.parent)
    except FileExistsError:
        raise ConfigError(f"{path} exists; it is never overwritten: move it away first if no key ring needs it") from None
    except OSError as error:
        raise failure_of(error, f"making the master key {path}") from None
    return key


def _read_master_key(path: Path) -> bytes:
    try:
        content = read_secret(path, "master key", _FILE_MAX_BYTES)
    except FileNotFoundError:
        raise ConfigError(f"there is no master key file {path}; name the right one in master_key_file") from None
    except OSError as error:
        remedy = "it must be a file whose owner is the account that runs hushmeter, with mode 0600"
        if is_the_systems(error):
            remedy = remedy_of(error)
        raise KeyUnavailable(unread_text(path, "master key", error, remedy)) from None
    if len(content) == MASTER_KEY_BYTES:
        return content
    key = _from_hex(content.decode("ascii", "replace").strip())
    if key is None:
        raise ConfigError(
            f"{path} has {len(content)} bytes that are not a master key; it must hold 64 hexadecimal digits or 32 bytes"
        )
    return key


def _from_hex(text: str) -> bytes | None:
    return bytes.fromhex(text) if re.fullmatch(rf"[0-9a-fA-F]{{{2 * MASTER_KEY_BYTES}}}", text) else None
