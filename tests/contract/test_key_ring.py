"""The contract of `KeyRing`, in a directory and in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from hushmeter.ports import KeyRing
from hushmeter.storage.keys.files import DirectoryKeyRing
from hushmeter.testing.contracts.key_ring import KeyRingContract
from hushmeter.testing.memory import MemoryKeyRing
from tests.contract.ring_files import MASTER


@pytest.fixture(params=["directory", "memory"])
def ring(request: pytest.FixtureRequest, tmp_path: Path) -> KeyRing:
    """A new key ring."""
    return MemoryKeyRing() if request.param == "memory" else DirectoryKeyRing.open(tmp_path / "keys", MASTER)


class TestKeyRing(KeyRingContract):
    """In a directory and in memory."""
