"""What every `CredentialStore` promises."""

from __future__ import annotations

import dataclasses

import pytest

from hushmeter import limits
from hushmeter.access.credentials import AccessLine, Credential
from hushmeter.access.roles import Role
from hushmeter.errors import ConfigError, InvariantError, StateConflict
from hushmeter.ports import CredentialStore
from hushmeter.storage.state import credentials


class CredentialStoreContract:
    """Credentials and the access log."""

    def test_credentials(self, store: CredentialStore) -> None:
        """Credentials come back as they were added, in order of creation, until they are read under their number."""
        assert store.credentials() == (0, ())
        one = Credential("a" * 16, "é one", Role.ANALYST, ("p", "q"), bytes(32), 7)
        two = Credential("0" * 16, "", Role.OPERATOR, (), bytes(range(32)), 8, expires_at_ms=99)
        store.add_credential(two)
        store.add_credential(one)
        assert store.credentials() == (2, (one, two))
        assert store.credentials(known=2) == (2, ())
        with pytest.raises(StateConflict):
            store.add_credential(two)

    def test_revoking(self, store: CredentialStore) -> None:
        """A revocation is a change, is there once, and keeps its first time."""
        added = Credential("a" * 16, "one", Role.INGEST, (), bytes(32), 7)
        store.add_credential(added)
        assert not store.revoke_credential("b" * 16, 5)
        assert store.credentials(known=1) == (1, ())
        assert store.revoke_credential(added.credential_id, 50)
        assert store.revoke_credential(added.credential_id, 60)
        assert store.credentials(known=1) == (2, (dataclasses.replace(added, revoked_at_ms=50),))

    def test_credentials_are_bounded(self, store: CredentialStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """As many may be valid as `CREDENTIALS_MAX` says; one that is revoked makes room."""
        monkeypatch.setattr(limits, "CREDENTIALS_MAX", 2)
        made = [Credential(f"{i:016x}", "", Role.INGEST, (), bytes(32), i) for i in range(3)]
        store.add_credential(made[0])
        store.add_credential(made[1])
        with pytest.raises(ConfigError, match="revoke"):
            store.add_credential(made[2])
        store.revoke_credential(made[0].credential_id, 5)
        store.add_credential(made[2])

    def test_access_log(self, store: CredentialStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lines are numbered from 1 in their order, and are read on from any of them, page by page."""
        monkeypatch.setattr(credentials, "ACCESSES_PER_PAGE", 2)
        store.add_credential(Credential("a" * 16, "one", Role.INGEST, (), bytes(32), 7))
        lines = [AccessLine("a" * 16, f"m{i}", i, ("p",) * (i % 2), "no" * (i % 3)) for i in range(5)]
        for line in lines:
            store.record_access(line)
        assert list(store.access_log()) == list(enumerate(lines, 1))
        assert list(store.access_log(after=3)) == list(enumerate(lines, 1))[3:]
        with pytest.raises(InvariantError):
            store.record_access(AccessLine("b" * 16, "m", 0))

    def test_the_access_log_is_bounded(self, store: CredentialStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of one credential the newest lines stay, as many as may; one that asks much pushes nobody else's lines out."""
        monkeypatch.setattr(limits, "ACCESSES_PER_CREDENTIAL_MAX", 3)
        for name in "ab":
            store.add_credential(Credential(name * 16, name, Role.INGEST, (), bytes(32), 7))
        for i in range(7):
            store.record_access(AccessLine("a" * 16, "m", i))
            if i < 3:
                store.record_access(AccessLine("b" * 16, "m", i))
        kept = [(line.credential_id[0], line.at_ms, number) for number, line in store.access_log()]
        assert kept == [("b", 0, 2), ("b", 1, 4), ("b", 2, 6), ("a", 4, 8), ("a", 5, 9), ("a", 6, 10)]
