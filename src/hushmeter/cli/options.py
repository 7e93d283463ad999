"""Options that several commands share: how to reach a service, and what to prove oneself with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CaFile = Annotated[Path | None, typer.Option(help="PEM file of authorities: use TLS, and trust these.")]
ClientCertificate = Annotated[Path | None, typer.Option(help="PEM file, where the service asks for one.")]
ClientKey = Annotated[Path | None, typer.Option(help="PEM file of its key.")]
CredentialFile = Annotated[Path | None, typer.Option(help="Holds the credential; else HUSHMETER_CREDENTIAL does.")]
