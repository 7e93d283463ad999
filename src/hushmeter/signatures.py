"""Ed25519 signatures (RFC 8032) over what a deployment states: erasure receipts, the transparency record, plan approvals.

A signature is for one kind of statement: its name is signed with it, so that none can be taken for another.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNING_KEY_NAME: Final = "signing"
"""Where a key ring keeps the deployment's own key."""


def public_key(private_key: bytes) -> bytes:
    """The 32-byte public key that belongs to a 32-byte private one."""
    return Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def sign(private_key: bytes, kind: str, content: bytes) -> bytes:
    """Signs a statement.

    Args:
        private_key: 32 bytes.
        kind: of statement, a short name without a zero character.
        content: what is stated.

    Returns:
        64 bytes.
    """
    return Ed25519PrivateKey.from_private_bytes(private_key).sign(_statement(kind, content))


def is_signed(public_key: bytes, kind: str, content: bytes, signature: bytes) -> bool:
    """Whether a signature is that of a statement; false too where key or signature is none at all."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, _statement(kind, content))
    except (InvalidSignature, ValueError):
        return False
    return True


def _statement(kind: str, content: bytes) -> bytes:
    return b"hushmeter " + kind.encode() + b"\0" + content
