from __future__ import annotations

import pytest

from hushmeter.storage.keys.files import DirectoryKeyRing
from hushmeter.storage.log.intake_log import FileIntakeLog
from hushmeter.testing.contracts.report_rows import cut_small
from hushmeter.testing.disk import FaultyDisk
from hushmeter.testing.memory import MemoryKeyRing
from tests.contract.log_files import DEPLOYMENT
from tests.contract.ring_files import MASTER


@pytest.fixture
def keys():
    """A key ring."""
    return MemoryKeyRing()


@pytest.fixture
def disk():
    """A disk that can fail."""
    return FaultyDisk()


@pytest.fixture
def files(tmp_path, keys, disk):
    """An intake log on that disk."""
    return FileIntakeLog(tmp_path / "log", keys, DEPLOYMENT, disk)


@pytest.fixture
def reopened(tmp_path, keys):
    """The same files, as another process on a sound disk sees them."""
    return FileIntakeLog(tmp_path / "log", keys, DEPLOYMENT)


@pytest.fixture
def small_buckets(monkeypatch):
    """Runs of about ten rows, so that a few rows make several."""
    cut_small(monkeypatch)


@pytest.fixture
def directory(tmp_path):
    """Where a founded key ring lies."""
    DirectoryKeyRing.open(tmp_path / "keys", MASTER)
    return tmp_path / "keys"
