"""How commands reach a running service: where it is, what to prove oneself with, and the clients of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hushmeter.channels import ClientIdentity
from hushmeter.errors import QueryRefused

if TYPE_CHECKING:
    from hushmeter.analyst import AnalystClient
    from hushmeter.sdk import IngestClient

TOKEN_LIFETIME_S = 60
DEFAULT_TARGET: Final = "127.0.0.1:50551"

Target = Annotated[str, typer.Option(help="host:port of the service.")]
TargetWithoutState = Annotated[str, typer.Option(help="host:port of a running service, where no state directory is given.")]
CaFile = Annotated[Path | None, typer.Option(help="PEM file of authorities: use TLS, and trust these.")]
ClientCertificate = Annotated[Path | None, typer.Option(help="PEM file, where the service asks for one.")]
ClientKey = Annotated[Path | None, typer.Option(help="PEM file of its key.")]
CredentialFile = Annotated[Path | None, typer.Option(help="Holds the credential; else HUSHMETER_CREDENTIAL does.")]


@contextmanager
def answered_by(target: str) -> Iterator[None]:
    """Raises `QueryRefused` in place of what a service's refusal raises, with its code and text."""
    import grpc

    try:
        yield
    except grpc.RpcError as error:
        raise QueryRefused(f"{target} answered {error.code().name}: {error.details()}") from None


@contextmanager
def analyst_at(target: str, identity: ClientIdentity) -> Iterator[AnalystClient]:
    """A client for analysts, whose refusals end the command with their text."""
    from hushmeter.analyst import AnalystClient

    with AnalystClient(target, identity=identity) as client, answered_by(target):
        yield client


@contextmanager
def unit_at(target: str, identity: ClientIdentity, unit_id: str, token: bytes | None) -> Iterator[IngestClient]:
    """A client for one unit, whose refusals end the command with their text.

    Args:
        target: where the service is.
        identity: what to prove oneself with.
        unit_id: the unit.
        token: the unit's; None asks for one, and does without where the service issues none.
    """
    import grpc

    from hushmeter.sdk import IngestClient

    shown = token or b""
    with IngestClient(target, identity=identity, unit_tokens=lambda _: shown) as client, answered_by(target):
        if token is None:
            try:
                shown = client.issue_unit_token(unit_id, TOKEN_LIFETIME_S).unit_token
            except grpc.RpcError as error:
                # An open door issues none; what then needs one says so itself.
                if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
                    raise
        yield client
