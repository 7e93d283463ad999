"""The contract of `IntakeLog`, in files and in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from hushmeter.ports import IntakeLog, KeyRing
from hushmeter.storage.log.intake_log import FileIntakeLog
from hushmeter.testing.contracts.intake_log import IntakeLogContract
from hushmeter.testing.memory import MemoryIntakeLog
from tests.contract.log_files import DEPLOYMENT


@pytest.fixture(params=["files", "memory"])
def log(request: pytest.FixtureRequest, tmp_path: Path, keys: KeyRing) -> IntakeLog:
    """A new intake log."""
    return MemoryIntakeLog(keys) if request.param == "memory" else FileIntakeLog(tmp_path / "log", keys, DEPLOYMENT)


class TestIntakeLog(IntakeLogContract):
    """In files and in memory."""
