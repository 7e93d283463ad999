"""What several commands share about files and directories: their options, and how they are opened and read."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hushmeter.errors import ConfigError, PlanError

if TYPE_CHECKING:
    from hushmeter.ports import StateStore
    from hushmeter.service.deployment.context import Context

ConfigFile = Annotated[Path | None, typer.Option(help="Configuration file (YAML) of the service.")]
StateDir = Annotated[Path | None, typer.Option(help="Where database and intake log live.")]
DatabaseDir = Annotated[Path | None, typer.Option(help="Where the database lives.")]
KeysDir = Annotated[Path | None, typer.Option(help="Where keys live.")]
PlanPath = Annotated[Path, typer.Argument(help="The plan file.")]
PublicKey = Annotated[str | None, typer.Option(help="64 hexadecimal digits, or a file that holds them.")]


@contextmanager
def existing_context(config: Path | None, state_dir: Path | None, keys_dir: Path | None) -> Iterator[Context]:
    """A deployment that was founded, beside a running service or without one, for as long as the block lasts.

    Raises:
        ConfigError: the directory holds none.
    """
    from hushmeter.clock import SystemClock
    from hushmeter.noise.opendp import OpenDPMechanisms
    from hushmeter.service.deployment.config import read_config
    from hushmeter.service.deployment.opening import open_context

    chosen = read_config(config, {"state_dir": state_dir, "keys_dir": keys_dir})
    context = open_context(chosen, SystemClock(), OpenDPMechanisms(), serves=False)
    try:
        yield context
    finally:
        context.store.close()


@contextmanager
def existing_store(state_dir: Path) -> Iterator[StateStore]:
    """The store of a state directory, beside a running service or without one, for as long as the block lasts.

    Raises:
        ConfigError: the directory holds none.
    """
    from hushmeter.storage.state.store import SqlStateStore

    store = SqlStateStore.existing(state_dir)
    try:
        yield store
    finally:
        store.close()


def public_key_of(given: str) -> bytes:
    """A public key as it was given: its 64 hexadecimal digits, or a file that holds them.

    Raises:
        ConfigError: it is neither.
    """
    text = read_text(Path(given)).strip() if Path(given).exists() else given.strip()
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ConfigError(
            "--public-key takes 64 hexadecimal digits, or a file that holds them (hushmeter transparency key)"
        )
    return bytes.fromhex(text)


def read_text(path: Path) -> str:
    """The text of a file; raises `ConfigError` where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None


def moment_of(text: str) -> dt.datetime:
    """A moment as people write it, in UTC unless it says otherwise; `BadParameter` for anything else."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time; write one such as 2026-03-01 or 2026-03-01T12:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def read_plan_file(path: Path) -> str:
    """The text of a plan file; raises `PlanError` where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"cannot read the plan {path}: {error}") from None
