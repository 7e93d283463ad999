"""`hushmeter keys`: the master key that wraps all others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from hushmeter.cli.options import ConfigFile, KeysDir, StateDir, existing_store

keys_app = typer.Typer(help="Look after the keys of a deployment.", no_args_is_help=True)


@keys_app.callback()
def keys() -> None:
    """Look after the keys of a deployment."""


@keys_app.command()
def rotate(
    config: ConfigFile = None,
    state_dir: StateDir = None,
    keys_dir: KeysDir = None,
    new_master_key_file: Annotated[
        Path | None,
        typer.Option(help="The new master key, made where there is none; not needed where hushmeter keeps it."),
    ] = None,
) -> None:
    """Wrap all keys with a new master key, while the service is stopped; where it was interrupted, run it again."""
    from hushmeter.errors import ConfigError
    from hushmeter.service.deployment.config import read_config
    from hushmeter.service.deployment.key_opening import MASTER_KEY_NAME
    from hushmeter.service.deployment.state_lock import take_lock
    from hushmeter.storage.keys.files import DirectoryKeyRing, put_in_place
    from hushmeter.storage.keys.master_key import create_master_key, load_master_key

    chosen = read_config(config, {"state_dir": state_dir, "keys_dir": keys_dir})
    with existing_store(chosen.state_dir):
        pass  # It raises where the directory holds no state.
    ours = chosen.keys / MASTER_KEY_NAME
    kept_by_us = chosen.master_key_file is None and not os.environ.get("HUSHMETER_MASTER_KEY")
    if not kept_by_us and new_master_key_file is None:
        raise ConfigError("the master key is not kept by hushmeter; name the file of the new one: --new-master-key-file")
    new = new_master_key_file or ours.with_name(f"{MASTER_KEY_NAME}.new")
    with take_lock(chosen.state_dir):
        old_key = load_master_key(ours if kept_by_us else chosen.master_key_file, os.environ)
        new_key = load_master_key(new, os.environ) if new.exists() else create_master_key(new)
        count = DirectoryKeyRing(chosen.keys, old_key).rewrap(new_key)
        if new_master_key_file is None:
            put_in_place(new, ours)
            new = ours
    typer.echo(f"{count} keys were wrapped anew; {new} holds the master key now. Destroy every copy of the old one.")
    if new_master_key_file is not None:
        typer.echo("Name it in master_key_file, or put it into HUSHMETER_MASTER_KEY, before the next start.")
