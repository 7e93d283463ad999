"""Options that several commands share: how to reach a service, and what to prove oneself with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hushmeter.service.context import Context

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
    from hushmeter.service.config import read_config
    from hushmeter.service.founding import open_context
    from hushmeter.storage.state import SqlStateStore

    chosen = read_config(config, {"state_dir": state_dir, "keys_dir": keys_dir})
    SqlStateStore.existing(chosen.state_dir).close()
    return open_context(chosen, SystemClock(), OpenDPMechanisms())
