"""Ports for services that must be told one before they start."""

from __future__ import annotations

import secrets
import socket

_FIRST, _LAST = 10_000, 30_000
"""Below those that systems hand out to who asks for any: no other test or process comes by one of these by chance."""


def free_port() -> int:
    """A loopback port that nobody has, and that nobody is handed before the service under test takes it."""
    while True:
        port = _FIRST + secrets.randbelow(_LAST - _FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
