"""Credentials and the access log, in the state store: `CredentialStore`.

This file alone writes the tables `credentials` and `access_log`; for transactions that span files see `store`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from hushmeter import limits
from hushmeter.access.credentials import AccessLine, Credential
from hushmeter.access.roles import Role
from hushmeter.errors import ConfigError
from hushmeter.storage.state.database import OnDatabase
from hushmeter.storage.state.schema import access_log, credentials, view_of, view_text

ACCESSES_PER_PAGE: Final = 1_000


class SqlCredentials(OnDatabase):
    """Who may come in, and who asked what."""

    def add_credential(self, added: Credential) -> None:
        """See `CredentialStore`."""
        row = {
            "id": added.credential_id,
            "name": added.name,
            "role": added.role.value,
            "purposes": view_text(added.purposes),
            "secret_hash": added.secret_hash,
            "created_at_ms": added.created_at_ms,
            "expires_at_ms": added.expires_at_ms,
            "revoked_at_ms": added.revoked_at_ms,
        }
        valid = sa.select(sa.func.count()).select_from(credentials).where(credentials.c.revoked_at_ms.is_(None))
        with self._database.write() as connection:
            if (connection.scalar(valid) or 0) >= limits.CREDENTIALS_MAX:
                raise ConfigError(
                    f"there are {limits.CREDENTIALS_MAX} credentials already, the most that may be; revoke those that have "
                    "expired or are not used (hushmeter credential list, hushmeter credential revoke ID)"
                )
            connection.execute(sa.insert(credentials).values(row))

    def credentials(self, known: int = 0) -> tuple[int, tuple[Credential, ...]]:
        """See `CredentialStore`; credentials come in order of creation."""
        # A row is added once and revoked at most once, so both counts only grow.
        counted = sa.select(sa.func.count() + sa.func.count(credentials.c.revoked_at_ms)).select_from(credentials)
        with self._database.read() as connection:
            changes = connection.scalar(counted) or 0
            if changes == known:
                return changes, ()
            rows = connection.execute(sa.select(credentials).order_by(credentials.c.created_at_ms, credentials.c.id))
            return changes, tuple(
                Credential(
                    row.id,
                    row.name,
                    Role(row.role),
                    view_of(row.purposes),
                    row.secret_hash,
                    row.created_at_ms,
                    row.expires_at_ms,
                    row.revoked_at_ms,
                )
                for row in rows
            )

    def revoke_credential(self, credential_id: str, now_ms: int) -> bool:
        """See `CredentialStore`; the first revocation's time stays."""
        mine = credentials.c.id == credential_id
        with self._database.write() as connection:
            connection.execute(_revocation(now_ms).where(mine))
            return bool(connection.scalar(sa.select(sa.func.count()).select_from(credentials).where(mine)))

    def record_access(self, taken: AccessLine) -> None:
        """See `CredentialStore`."""
        row = {
            "credential_id": taken.credential_id,
            "what": taken.what,
            "at_ms": taken.at_ms,
            "purposes": view_text(taken.purposes),
            "refused": taken.refused,
        }
        mine = access_log.c.credential_id == taken.credential_id
        newest = sa.select(access_log.c.sequence).where(mine).order_by(access_log.c.sequence.desc())
        with self._database.write() as connection:
            connection.execute(sa.insert(access_log).values(row))
            dropped = connection.scalar(newest.offset(limits.ACCESSES_PER_CREDENTIAL_MAX).limit(1))
            if dropped is not None:
                connection.execute(sa.delete(access_log).where(mine, access_log.c.sequence <= dropped))

    def access_log(self, after: int = 0) -> Iterator[tuple[int, AccessLine]]:
        """See `CredentialStore`; see `Database.paged`."""
        size = ACCESSES_PER_PAGE

        def page(connection: sa.Connection, seen: int) -> list[tuple[int, AccessLine]]:
            chosen = sa.select(access_log).where(access_log.c.sequence > seen).order_by(access_log.c.sequence).limit(size)
            return [
                (row.sequence, AccessLine(row.credential_id, row.what, row.at_ms, view_of(row.purposes), row.refused))
                for row in connection.execute(chosen)
            ]

        return self._database.paged(page, after, lambda row: row[0], size)


def revoke_all(connection: sa.Connection, at_ms: int) -> None:
    """Revokes every credential that is not revoked yet, as a part of a transaction of `plans`."""
    connection.execute(_revocation(at_ms))


def _revocation(at_ms: int) -> sa.Update:
    """Of what is not revoked yet: the first revocation's time stays."""
    return sa.update(credentials).where(credentials.c.revoked_at_ms.is_(None)).values(revoked_at_ms=at_ms)
