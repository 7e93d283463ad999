"""Real certificates for tests: an authority, what it signs, and what a service and a client have of it."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from hushmeter.service.deployment.config import Config

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
FAR_AHEAD = dt.datetime(2120, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates for 127.0.0.1 and localhost, valid for a century unless told otherwise.

    Args:
        directory: where files go.
        name: of the authority and its files.
    """

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory, self._name = directory, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        ca = x509.BasicConstraints(ca=True, path_length=None)
        self._certificate = _signed(subject, subject, self._key, self._key, LONG_AGO, FAR_AHEAD, (ca, True))
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *, end: dt.datetime = FAR_AHEAD, password: bytes = b"") -> Pair:
        """A new pair."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        signed = _signed(_name(name), self._certificate.subject, key, self._key, LONG_AGO, end, (names, False))
        pair = Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        pair.certificate.write_bytes(signed.public_bytes(Encoding.PEM))
        sealed: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed))
        return pair


def tls_config(pair: Pair, **changes: object) -> Config:
    """The configuration of a service that proves itself with a pair."""
    return Config(tls_certificate=pair.certificate, tls_key=pair.key, **changes)  # type: ignore[arg-type]


def trusting(authority: Authority, client: Pair | None = None) -> grpc.ChannelCredentials:
    """What a client has that trusts an authority, with a pair of its own where one is given."""
    key, certificate = (client.key.read_bytes(), client.certificate.read_bytes()) if client else (None, None)
    return grpc.ssl_channel_credentials(authority.file.read_bytes(), key, certificate)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    begin: dt.datetime,
    end: dt.datetime,
    extension: tuple[x509.ExtensionType, bool],
) -> x509.Certificate:
    content, critical = extension
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(content, critical)
        .sign(signer, hashes.SHA256())
    )
