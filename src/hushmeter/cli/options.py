"""Options that several commands share: how to reach a service, and what to prove oneself with."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hushmeter.errors import ConfigError, PlanError, QueryRefused
from hushmeter.service.deployment.context import Context

if TYPE_CHECKING:
    from hushmeter.service.deployment.context import Context

CaFile = Annotated[Path | None, typer.Option(help="PEM file of authorities: use TLS, and trust these.")]
ClientCertificate = Annotated[Path | None, typer.Option(help="PEM file, where the service asks for one.")]
ClientKey = Annotated[Path | None, typer.Option(help="PEM file of its key.")]
CredentialFile = Annotated[Path | None, typer.Option(help="Holds the credential; else HUSHMETER_CREDENTIAL does.")]


def existing_context(config: Path | None, state_dir: Path | None, keys_dir: Path | None) -> Context:
    """Opens a deployment that was founded, beside a running service or without one; its store is the caller's to close.

    Raises:
        ConfigError: the directory holds none.
    """
    from hushmeter.clock import SystemClock
    from hushmeter.noise.opendp import OpenDPMechanisms
    from hushmeter.service.deployment.config import read_config
    from hushmeter.service.deployment.opening import open_context

    chosen = read_config(config, {"state_dir": state_dir, "keys_dir": keys_dir})
    return open_context(chosen, SystemClock(), OpenDPMechanisms(), serves=False)


@contextmanager
def answered_by(target: str) -> Iterator[None]:
    """Raises `QueryRefused` in place of what a service's refusal raises, with its code and text."""
    import grpc

    try:
        yield
    except grpc.RpcError as error:
        raise QueryRefused(f"{target} answered {error.code().name}: {error.details()}") from None


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
