"""Opens the key ring that a configuration names, and refuses keys that are another deployment's."""

from __future__ import annotations

import os

from hushmeter.errors import ConfigError, KeyUnavailable
from hushmeter.ports import KeyRing
from hushmeter.service.deployment.config import Config
from hushmeter.storage.disk import make_directory
from hushmeter.storage.keys.files import CHECK_NAME, DirectoryKeyRing
from hushmeter.storage.keys.master_key import create_master_key, load_master_key
from hushmeter.storage.state.database import STATE_NAME

MASTER_KEY_NAME = "master.key"


def open_keys(config: Config, *, new: bool) -> DirectoryKeyRing:
    """Opens the key ring that a configuration names; makes a master key where a new deployment keeps its own.

    Raises:
        ConfigError: the directory is another deployment's state.
        KeyUnavailable: the master key is missing or another one.
    """
    if (config.keys / STATE_NAME).exists():
        raise ConfigError(
            f"{config.keys} holds a state, so the keys of {config.state_dir} cannot lie there; name a keys_dir"
        )
    make_directory(config.keys)
    path = config.master_key_file
    if path is None and not os.environ.get("HUSHMETER_MASTER_KEY"):
        path = config.keys / MASTER_KEY_NAME
        if new and not path.exists():
            create_master_key(path)
    return DirectoryKeyRing.open(config.keys, load_master_key(path, os.environ))


def warning_of_keys(config: Config) -> str | None:
    """What to tell an operator whose keys lie inside the state directory; None where they lie elsewhere."""
    if not config.keys_are_inside:
        return None
    beside = config.beside
    named = "" if config.keys_dir is None else f", name {beside} as keys_dir"
    if config.master_key_file is not None and config.master_key_file.resolve().is_relative_to(config.keys.resolve()):
        named += f", name {beside / config.master_key_file.name} as master_key_file"
    return (
        f"the keys are in {config.keys}, inside the state directory: whoever copies that can read every row that is there. "
        f"Stop the service, move them with 'mv {config.keys} {beside}'{named}, and start it again; nothing else changes"
    )


def existing_keys(config: Config) -> DirectoryKeyRing:
    """Opens the key ring of a deployment that was founded; raises `KeyUnavailable` where there is none."""
    if not (config.keys / CHECK_NAME).exists():
        raise KeyUnavailable(f"there are no keys in {config.keys}; give the keys_dir that this deployment has always used")
    return open_keys(config, new=False)


def refuse_used_keys(config: Config, keys: KeyRing) -> None:
    """Raises `ConfigError` where the keys of a new state have been in use by another one."""
    record = keys.record()
    if record is not None and record.was_used:
        raise ConfigError(
            f"{config.state_dir} is new, but the keys in {config.keys} belong to deployment {record.head.deployment_id}, "
            "which has been in use; give that deployment's state_dir, or another keys_dir for a new one"
        )
