"""How clients reach a service and prove who they are; grpcio and the standard library alone."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc

from hushmeter.errors import ConfigError
from hushmeter.secret_files import read_small, unread_text

CREDENTIAL_VARIABLE: Final = "HUSHMETER_CREDENTIAL"
_FILE_MAX_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """What a client proves itself with, and how it knows the service; secrets come from files or the environment alone.

    Attributes:
        ca_file: PEM file of authorities that the service's certificate must be of; TLS is used where it is named, and where
            a client certificate is.
        client_certificate, client_key: PEM files, for services that ask for mutual TLS.
        credential_file: holds the credential, `hm_...`; where none is named, the environment's HUSHMETER_CREDENTIAL does.
        tls: whether to use TLS with the machine's own authorities, where no file is named.

    Example:
        >>> from hushmeter.sdk import IngestClient
        >>> team = ClientIdentity(credential_file=Path("ml-team.credential"), tls=True)
        >>> with IngestClient("telemetry.example.com:443", identity=team):
        ...     pass  # connects with the first call
        >>> IngestClient("telemetry.example.com:80", identity=ClientIdentity(credential_file=Path("ml-team.credential")))
        Traceback (most recent call last):
        hushmeter.errors.ConfigError: a credential is not sent to telemetry.example.com:80 in plain text; ...
    """

    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    credential_file: Path | None = None
    tls: bool = False

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """Of the channel; None for plain text.

        Raises:
            ConfigError: a file cannot be read, or one of a pair is missing.
        """
        if (self.client_certificate is None) != (self.client_key is None):
            raise ConfigError("a client proves itself with both a certificate and its key; name both files, or neither")
        if not (self.tls or self.ca_file or self.client_certificate):
            return None
        ca, key, certificate = (
            None if path is None else _pem(path, what)
            for path, what in (
                (self.ca_file, "authority"),
                (self.client_key, "client's key"),
                (self.client_certificate, "client's certificate"),
            )
        )
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def credential(self) -> str:
        """The credential; empty where there is none.

        Raises:
            ConfigError: the file cannot be read, or what is there is no credential.
        """
        if self.credential_file is not None:
            text, where = _content(self.credential_file, "credential").decode("ascii", "replace").strip(), "the file"
        else:
            text, where = os.environ.get(CREDENTIAL_VARIABLE, "").strip(), CREDENTIAL_VARIABLE
        if (text or self.credential_file) and not (text.startswith("hm_") and text.isascii() and text.isprintable()):
            raise ConfigError(f"{where} holds no credential: it must be one line that begins with hm_")
        return text


def open_channel(
    target: str,
    identity: ClientIdentity | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> grpc.Channel:
    """A channel to a service.

    Args:
        target: `host:port`.
        identity: what to prove oneself with; the environment's credential by default.
        credentials: of the channel, instead of the files of `identity`.
        options: of the channel.

    Raises:
        ConfigError: a file cannot be used, or a credential would be sent in plain text to another machine.
    """
    identity = identity or ClientIdentity()
    credentials = credentials or identity.channel_credentials()
    bearer = identity.credential()
    if credentials is not None:
        channel = grpc.secure_channel(target, credentials, options)
    elif bearer and not _on_this_machine(target):
        raise ConfigError(f"a credential is not sent to {target} in plain text; name the authority's file, or use TLS")
    else:
        channel = grpc.insecure_channel(target, options)
    return grpc.intercept_channel(channel, _Bearer(bearer)) if bearer else channel


def _on_this_machine(target: str) -> bool:
    host = target.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _pem(path: Path, what: str) -> bytes:
    content = _content(path, what)
    if b"-----BEGIN " not in content:
        raise ConfigError(f"the {what} file {path} holds nothing in PEM form (-----BEGIN ...-----); name another")
    return content


def _content(path: Path, what: str) -> bytes:
    try:
        return read_small(path, _FILE_MAX_BYTES)
    except OSError as error:
        raise ConfigError(unread_text(path, f"{what} file", error, "name one that this account may read")) from None


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str | bytes]] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: Any


class _Bearer(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]
):
    """Sends the credential with each call."""

    def __init__(self, bearer: str) -> None:
        self._header = ("authorization", f"Bearer {bearer}")

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """As gRPC asks."""
        return continuation(self._with_bearer(client_call_details), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """As gRPC asks."""
        return continuation(self._with_bearer(client_call_details), request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """As gRPC asks."""
        return continuation(self._with_bearer(client_call_details), request_iterator)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """As gRPC asks."""
        return continuation(self._with_bearer(client_call_details), request_iterator)

    def _with_bearer(self, details: Any) -> _Details:
        metadata = (*(details.metadata or ()), self._header)
        waiting, compression = (getattr(details, name, None) for name in ("wait_for_ready", "compression"))
        return _Details(details.method, details.timeout, metadata, details.credentials, waiting, compression)
