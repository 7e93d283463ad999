"""The contract of `StateStore`, on a file of SQLite and in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hushmeter.ports import StateStore
from hushmeter.storage.state.database import STATE_NAME, url_of
from hushmeter.storage.state.store import SqlStateStore
from hushmeter.testing.contracts.consent import ConsentStoreContract
from hushmeter.testing.contracts.credentials import CredentialStoreContract
from hushmeter.testing.contracts.plans import PlanStoreContract
from hushmeter.testing.contracts.spanning import StateStoreContract
from hushmeter.testing.contracts.windows import WindowStoreContract
from hushmeter.testing.contracts.workers import WorkerStoreContract
from hushmeter.testing.state import memory_state_store


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStateStore]:
    """A new store of each kind."""
    file = request.param == "file"
    opened = SqlStateStore.open(url_of(tmp_path / STATE_NAME)) if file else memory_state_store()
    yield opened
    opened.close()


class TestSqlitePlans(PlanStoreContract):
    """On SQLite."""


class TestSqliteWorkers(WorkerStoreContract):
    """On SQLite."""


class TestSqliteWindows(WindowStoreContract):
    """On SQLite."""


class TestSqliteConsent(ConsentStoreContract):
    """On SQLite."""


class TestSqliteCredentials(CredentialStoreContract):
    """On SQLite."""


class TestSqliteAsOne(StateStoreContract):
    """On SQLite."""


def test_conforms() -> None:
    """The SQL store is a `StateStore`, also for the type checker."""
    make: Callable[[], StateStore] = memory_state_store
    store = make()
    assert store.deployment() is None
    store.close()
