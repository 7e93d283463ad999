"""A state that is not the newest one its keys have seen is refused: it would release windows a second time (C7)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hushmeter.errors import ConfigError, KeyUnavailable, NotServing, StateConflict
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.opening import open_context
from hushmeter.testing.clock import FakeClock
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.service.deployment_by_hand import PLAN, H, sealer_of


def opened(state: Path, keys: Path, clock: FakeClock, plan: str | None = PLAN) -> Context:
    """Founds or opens a deployment whose keys lie elsewhere."""
    return open_context(Config(state_dir=state, keys_dir=keys), clock, ExactMechanisms(), plan)


def released(state: Path, keys: Path, hours: int) -> FakeClock:
    """A deployment that has released so many empty hours, and was stopped."""
    clock = FakeClock(H)
    context = opened(state, keys, clock)
    clock.set(H + hours * HOUR_MS + 10 * MINUTE_MS)
    sealer_of(context).run_due()
    context.store.close()
    return clock


def test_a_stopped_deployment_goes_on(tmp_path: Path) -> None:
    """Stopping and starting is no restore, however often."""
    state, keys = tmp_path / "state", tmp_path / "keys"
    clock = released(state, keys, 1)
    for hours in (2, 3):
        context = opened(state, keys, clock)
        clock.set(H + hours * HOUR_MS + 10 * MINUTE_MS)
        assert sealer_of(context).run_due() == 1
        context.store.close()


def test_keys_that_were_taken_back_are_told(tmp_path: Path) -> None:
    """A record that is older than the state cannot say what was claimed since, so nothing is served (C7)."""
    state, keys = tmp_path / "state", tmp_path / "keys"
    clock = released(state, keys, 1)
    shutil.copyfile(keys / "ledger", tmp_path / "record")
    released_on = opened(state, keys, clock)
    clock.set(H + 2 * HOUR_MS + 10 * MINUTE_MS)
    assert sealer_of(released_on).run_due() == 1
    shutil.copyfile(tmp_path / "record", keys / "ledger")
    with pytest.raises(NotServing):
        sealer_of(released_on).run_due()
    with pytest.raises(StateConflict, match="is newer than its keys, which were taken back"):
        opened(state, keys, clock)


def test_an_older_state_is_refused(tmp_path: Path) -> None:
    """A backup of the state is not taken up after windows were released that it has not got, nor is one without any."""
    state, keys, backup = tmp_path / "state", tmp_path / "keys", tmp_path / "backup"
    for before in (0, 1):
        clock = released(state, keys, before)
        shutil.copytree(state, backup)
        context = opened(state, keys, clock)
        clock.set(H + 2 * HOUR_MS + 10 * MINUTE_MS)
        sealer_of(context).run_due()
        context.store.close()
        with pytest.raises(StateConflict, match="is older than its keys: its ledger has"):
            opened(backup, keys, clock)
        opened(state, keys, clock).store.close()
        for directory in (state, keys, backup):
            shutil.rmtree(directory)


def test_keys_of_another_deployment_are_refused(tmp_path: Path) -> None:
    """Neither is a deployment founded over used keys, nor opened with keys that are new or of another one."""
    state, keys, other = tmp_path / "state", tmp_path / "keys", tmp_path / "other"
    clock = released(state, keys, 1)
    with pytest.raises(ConfigError, match=r"belong to deployment [0-9a-f]{32}, which has been in use"):
        opened(tmp_path / "new", keys, clock)
    released(tmp_path / "second", other, 1)
    with pytest.raises(ConfigError, match="have never seen the ledger"):
        opened(state, other, clock)
    shutil.rmtree(other)
    other.mkdir()
    shutil.copyfile(keys / "master.key", other / "master.key")
    (other / "master.key").chmod(0o600)
    with pytest.raises(ConfigError, match="have never seen the ledger"):
        opened(state, other, clock)


def test_who_only_reads_writes_no_record(tmp_path: Path) -> None:
    """A process that does not serve leaves record and keys as they are, founds nothing, and makes no ring (C7)."""
    state, keys = tmp_path / "state", tmp_path / "keys"
    clock = released(state, keys, 1)
    kept = {f: f.read_bytes() for f in keys.rglob("*") if f.is_file()}
    shutil.copytree(state, tmp_path / "copy")
    for directory in (state, tmp_path / "copy"):
        config = Config(state_dir=directory, keys_dir=keys)
        open_context(config, clock, ExactMechanisms(), serves=False).store.close()
    assert {f: f.read_bytes() for f in keys.rglob("*") if f.is_file()} == kept
    with pytest.raises(ConfigError, match=r"holds no state\.db"):
        open_context(Config(state_dir=tmp_path / "new", keys_dir=keys), clock, ExactMechanisms(), PLAN, serves=False)
    with pytest.raises(KeyUnavailable, match="there are no keys"):
        open_context(Config(state_dir=state, keys_dir=tmp_path / "none"), clock, ExactMechanisms(), serves=False)
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "none").exists()


def test_a_foundation_that_was_interrupted_is_begun_again(tmp_path: Path) -> None:
    """Keys that were made for a state which never came to release anything serve the next foundation."""
    keys = tmp_path / "keys"
    clock = released(tmp_path / "first", keys, 0)
    context = opened(tmp_path / "second", keys, clock)
    clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    assert sealer_of(context).run_due() == 1
    context.store.close()
    with pytest.raises(ConfigError, match=r"have never seen the ledger"):
        opened(tmp_path / "first", keys, clock)
