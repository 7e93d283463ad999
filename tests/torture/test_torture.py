"""A short torture for each change; `make torture` is the long one."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from tests.torture.__main__ import KINDS, Skipped, episode, planned
from tests.torture.operations import kills


@pytest.mark.parametrize(("kind", "count"), [("kill", 5), ("damage/a cut at its border", 1)])
def test_nothing_is_lost_or_counted_twice_in_silence(tmp_path: Path, kind: str, count: int) -> None:
    """Real processes are killed, stopped and damaged: what was acknowledged counts, or is LOST by name."""
    assert "acknowledged" in episode(kind, 20261128, count, tmp_path)


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """Where a small file system may be mounted, the service runs out of room and comes back by itself."""
    with contextlib.suppress(Skipped):
        assert "acknowledged" in episode("full", 20261128, 1, tmp_path)


def test_an_episode_is_its_seed() -> None:
    """The same seed plans the same operations, and as many as were asked for."""
    assert kills(random.Random(7), 9) == kills(random.Random(7), 9) != kills(random.Random(8), 9)
    plan = list(planned(1, 25, 40, 6, 5))
    assert plan == list(planned(1, 25, 40, 6, 5))
    asked = {"kill": 25, "damage": 40, "full": 6, "clock": 5}
    assert {k: sum(c for kind, _, c in plan if kind.split("/")[0] == k) for k in asked} == asked
    assert {kind for kind, _, _ in plan} == set(KINDS)
