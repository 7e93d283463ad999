"""What the service proves itself with, read from files and checked before anything listens."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from hushmeter.errors import ConfigError
from hushmeter.secret_files import read_secret, read_small, unread_text
from hushmeter.service.deployment.config import Config, is_loopback

_FILE_MAX_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates and key as PEM.

    Attributes:
        certificate: the chain, the service's own first.
        key: its private key.
        client_ca: authorities of which every client needs a certificate; empty for none.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes = b""


def read_tls(config: Config, now_ms: int) -> Tls | None:
    """Reads what a configuration names; None for plain text, which stays on this machine unless somebody insists.

    Raises:
        ConfigError: plain text would leave this machine, or a file cannot be used; each says what to do.
    """
    if config.tls_certificate is None or config.tls_key is None:
        if config.tls_certificate or config.tls_key or config.tls_client_ca:
            raise ConfigError(
                "TLS needs both tls_certificate and tls_key (and tls_client_ca where clients prove themselves)"
            )
        if not is_loopback(config.listen) and not config.i_accept_that_anyone_on_the_network_can_read_everything:
            raise ConfigError(
                f"{config.listen} can be reached from other machines, and plain text can be read on the way; give "
                "tls_certificate and tls_key, listen on 127.0.0.1, or insist with "
                "--i-accept-that-anyone-on-the-network-can-read-everything"
            )
        return None
    certificate = _content(config.tls_certificate, "certificate", secret=False)
    key = _content(config.tls_key, "private key", secret=True)
    own = _certificates(certificate, config.tls_certificate)[0]
    _ensure_pair(own, key, config.tls_key, config.tls_certificate)
    now = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
    if not own.not_valid_before_utc <= now < own.not_valid_after_utc:
        raise ConfigError(
            f"the certificate {config.tls_certificate} holds from {own.not_valid_before_utc:%Y-%m-%d %H:%M} to "
            f"{own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, not now; renew it, or correct this machine's clock"
        )
    client_ca = b""
    if config.tls_client_ca is not None:
        client_ca = _content(config.tls_client_ca, "client authority", secret=False)
        _certificates(client_ca, config.tls_client_ca)
    return Tls(certificate, key, client_ca)


def _content(path: Path, what: str, *, secret: bool) -> bytes:
    try:
        return read_secret(path, what, _FILE_MAX_BYTES) if secret else read_small(path, _FILE_MAX_BYTES)
    except OSError as error:
        remedy = "it must be a PEM file that this account may read"
        raise ConfigError(unread_text(path, what, error, remedy)) from None


def _certificates(content: bytes, path: Path) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise ConfigError(f"{path} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from None


def _ensure_pair(own: x509.Certificate, content: bytes, key_path: Path, certificate_path: Path) -> None:
    try:
        key = load_pem_private_key(content, None)
    except TypeError:
        raise ConfigError(
            f"the private key {key_path} has a password; store it without one, readable by its owner"
        ) from None
    except ValueError:
        raise ConfigError(f"{key_path} holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != own.public_key().public_bytes(*form):
        raise ConfigError(
            f"the private key {key_path} is not that of the first certificate in {certificate_path}; name the pair "
            "that was issued together, and put the service's own certificate first in its file"
        )
