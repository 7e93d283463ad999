"""The part of the state store that knows who may come in, and who asked what: `StateStore`, one transaction a method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hushmeter.access.credentials import AccessLine, Credential
from hushmeter.storage.state import access
from hushmeter.storage.state.database import Database

ACCESSES_PER_PAGE: Final = 1_000


class SqlCredentials:
    """Credentials and the access log.

    Args:
        database: opened, with today's schema.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_credential(self, added: Credential) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            access.add_credential(connection, added)

    def credentials(self, known: int = 0) -> tuple[int, tuple[Credential, ...]]:
        """See `StateStore`."""
        with self._database.read() as connection:
            return access.credentials_unless(connection, known)

    def revoke_credential(self, credential_id: str, now_ms: int) -> bool:
        """See `StateStore`."""
        with self._database.write() as connection:
            return access.revoke_credential(connection, credential_id, now_ms)

    def record_access(self, taken: AccessLine) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            access.record_access(connection, taken)

    def access_log(self, after: int = 0) -> Iterator[tuple[int, AccessLine]]:
        """See `StateStore`; see `Database.paged`."""
        size = ACCESSES_PER_PAGE
        return self._database.paged(lambda c, seen: access.access_page(c, seen, size), after, lambda row: row[0], size)
