"""Bearer credentials: `hm_<id>_<secret>`, of which only a hash of the secret is ever kept."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from hushmeter import limits
from hushmeter.access.roles import Role
from hushmeter.errors import ConfigError, ensure

SECRET_BYTES: Final = 32
ID_BYTES: Final = 8
_BEARER = re.compile(r"hm_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_ID = re.compile(r"[0-9a-f]{16}")
_SCHEME = "bearer "
_NOBODYS_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class Credential:
    """What the store knows of a credential.

    Attributes:
        credential_id: 16 hexadecimal digits; public, it names the credential in lists and in the access log.
        name: what people call it.
        role: what it is for.
        purposes: of an analyst: what may be asked about; empty for other roles.
        secret_hash: SHA-256 of the secret, 32 bytes.
        created_at_ms: since the Unix epoch.
        expires_at_ms: from then on it is refused; None for never.
        revoked_at_ms: since then it is refused; None where it was not revoked.
    """

    credential_id: str
    name: str
    role: Role
    purposes: tuple[str, ...]
    secret_hash: bytes
    created_at_ms: int
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None

    def __post_init__(self) -> None:
        ensure(_ID.fullmatch(self.credential_id), "a credential's id is 16 hexadecimal digits")
        ensure(len(self.secret_hash) == 32, "a secret's hash is 32 bytes")
        if len(self.name) > limits.NAME_MAX_LENGTH or not self.name.isprintable():
            raise ConfigError(f"a credential's name is at most {limits.NAME_MAX_LENGTH} printable characters")
        if self.role is Role.ANALYST and not self.purposes:
            raise ConfigError("an analyst's credential names the purposes that may be asked about; add --purpose")
        if self.role is not Role.ANALYST and self.purposes:
            raise ConfigError(f"only an analyst's credential has purposes, not one for {self.role}; leave --purpose out")

    def expired(self, now_ms: int) -> bool:
        """Whether it has expired."""
        return self.expires_at_ms is not None and self.expires_at_ms <= now_ms


@dataclass(frozen=True, slots=True)
class AccessLine:
    """One line of the access log; it holds no address and no unit.

    Attributes:
        credential_id: who.
        what: the method, and a metric where one was asked about.
        at_ms: when, since the Unix epoch.
        purposes: for which purposes the answer may be used; empty where none applies.
        refused: why not; empty where it was allowed.
    """

    credential_id: str
    what: str
    at_ms: int
    purposes: tuple[str, ...] = ()
    refused: str = ""


class Proof(Enum):
    """What a bearer text proves."""

    NOTHING = "nothing"
    EXPIRED = "expired"
    GOOD = "good"


def bearer_of(credential_id: str, secret: bytes) -> str:
    """The text that is shown once and sent with each call.

    Args:
        credential_id: 16 hexadecimal digits.
        secret: 32 random bytes.
    """
    ensure(len(secret) == SECRET_BYTES, f"a secret is {SECRET_BYTES} bytes")
    return f"hm_{credential_id}_{base64.urlsafe_b64encode(secret).decode().rstrip('=')}"


def parts_of(text: str) -> tuple[str, bytes] | None:
    """Id and hash of the secret of a bearer text; None where it is none, or written otherwise than it was issued."""
    found = _BEARER.fullmatch(text)
    if found is None:
        return None
    secret = base64.urlsafe_b64decode(found[2] + "=")
    if bearer_of(found[1], secret) != text:
        return None
    return found[1], hashlib.sha256(secret).digest()


def hash_of(secret: bytes) -> bytes:
    """What is kept of a secret: 32 random bytes need no salt and no slow hash."""
    return hashlib.sha256(secret).digest()


def bearer_in(values: Sequence[str | bytes]) -> str:
    """The bearer text of an `authorization` header; empty where there is none, several, or another scheme."""
    if len(values) != 1:
        return ""
    header = values[0] if isinstance(values[0], str) else values[0].decode("ascii", "replace")
    return header[len(_SCHEME) :].strip() if header[: len(_SCHEME)].lower() == _SCHEME else ""


def proves(known: Credential | None, secret_hash: bytes, now_ms: int) -> Proof:
    """What somebody proves who sends a secret with this hash for a credential; None stands for one that nobody knows.

    Unknown, revoked and forged look alike, in answer and in time; that it has expired only its holder learns.
    """
    equal = hmac.compare_digest(known.secret_hash if known else _NOBODYS_HASH, secret_hash)
    if known is None or not equal or known.revoked_at_ms is not None:
        return Proof.NOTHING
    return Proof.EXPIRED if known.expired(now_ms) else Proof.GOOD
