"""Credentials and the access log, as parts of one transaction each."""

from __future__ import annotations

import sqlalchemy as sa

from hushmeter import limits
from hushmeter.access.credentials import AccessLine, Credential
from hushmeter.access.roles import Role
from hushmeter.errors import ConfigError
from hushmeter.storage.state.schema import access_log, credentials, view_of, view_text


def add_credential(connection: sa.Connection, added: Credential) -> None:
    """Records a credential."""
    valid = sa.select(sa.func.count()).select_from(credentials).where(credentials.c.revoked_at_ms.is_(None))
    if (connection.scalar(valid) or 0) >= limits.CREDENTIALS_MAX:
        raise ConfigError(
            f"there are {limits.CREDENTIALS_MAX} credentials already, the most that may be; revoke those that have expired "
            "or are not used (hushmeter credential list, hushmeter credential revoke ID)"
        )
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
    connection.execute(sa.insert(credentials).values(row))


def credentials_unless(connection: sa.Connection, known: int) -> tuple[int, tuple[Credential, ...]]:
    """The number of changes so far, and all credentials in order of creation unless that number is `known`."""
    # A row is added once and revoked at most once, so both counts only grow.
    counted = sa.select(sa.func.count() + sa.func.count(credentials.c.revoked_at_ms)).select_from(credentials)
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


def revoke_credential(connection: sa.Connection, credential_id: str, now_ms: int) -> bool:
    """Revokes a credential, and says whether there is one of that id; the first revocation's time stays."""
    mine = credentials.c.id == credential_id
    revoked = sa.update(credentials).where(mine, credentials.c.revoked_at_ms.is_(None))
    connection.execute(revoked.values(revoked_at_ms=now_ms))
    return bool(connection.scalar(sa.select(sa.func.count()).select_from(credentials).where(mine)))


def record_access(connection: sa.Connection, taken: AccessLine) -> None:
    """Appends one line to the access log, and drops the oldest of a credential that has too many."""
    row = {
        "credential_id": taken.credential_id,
        "what": taken.what,
        "at_ms": taken.at_ms,
        "purposes": view_text(taken.purposes),
        "refused": taken.refused,
    }
    connection.execute(sa.insert(access_log).values(row))
    mine = access_log.c.credential_id == taken.credential_id
    newest = sa.select(access_log.c.sequence).where(mine).order_by(access_log.c.sequence.desc())
    dropped = connection.scalar(newest.offset(limits.ACCESSES_PER_CREDENTIAL_MAX).limit(1))
    if dropped is not None:
        connection.execute(sa.delete(access_log).where(mine, access_log.c.sequence <= dropped))


def access_page(connection: sa.Connection, after: int, limit: int) -> list[tuple[int, AccessLine]]:
    """At most so many numbered lines of the access log after a number, in order."""
    chosen = sa.select(access_log).where(access_log.c.sequence > after).order_by(access_log.c.sequence).limit(limit)
    return [
        (row.sequence, AccessLine(row.credential_id, row.what, row.at_ms, view_of(row.purposes), row.refused))
        for row in connection.execute(chosen)
    ]
