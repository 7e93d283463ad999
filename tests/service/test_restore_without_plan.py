"""A restore that lacks the newest plan charges what its period cost, and goes on under that very plan alone (C6)."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from unittest import mock

import pytest

from hushmeter.cli.app import run
from hushmeter.errors import StateConflict
from hushmeter.ledger.entries import verify_chain
from hushmeter.model.ledger import PrivacyLoss
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, MINUTE_MS, WEEK_MS
from hushmeter.service.deployment import restoring
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.plan_change import apply_plan
from hushmeter.storage.state.store import SqlStateStore
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.service.deployment_by_hand import sealer_of, windows
from tests.service.deployment_with_backup import ENDED, HOURLY, left_behind


def test_a_restore_without_the_newest_plan_loses_the_period(tmp_path: Path) -> None:
    """What a period cost under a plan that the backup lacks is charged, and nothing more is released in it (break 6)."""
    machine, period = left_behind(tmp_path)
    really = machine.context.keys.record()
    assert really is not None
    config = Config(state_dir=tmp_path / "restored", keys_dir=machine.keys)
    done = restoring.restore(machine.backup, config, machine.clock, ExactMechanisms())
    assert done.missing is not None
    assert (done.missing.version, done.closed_until_ms) == (2, period + WEEK_MS)
    store = SqlStateStore.existing(config.state_dir)
    ended = {(r.window.resolution, r.window.end_ms): r.state for r in store.windows(ENDED)}
    assert ended["1h", period + WEEK_MS] is ended["1w", period + WEEK_MS] is WindowState.LOST
    summary = verify_chain(store.ledger())
    assert really.charged[period].within(summary.by_period[period])
    # Not served, not by another version of that number either, until that very version is applied.
    machine.plan = None
    with pytest.raises(StateConflict, match=r"version 2 of the plan \(hash [0-9a-f]{64}\) has been in force"):
        machine.open(config.state_dir)
    other = HOURLY.replace("range: [0, 100]", "range: [0, 99]")
    shutil.copytree(config.state_dir, tmp_path / "other")
    wrong = SqlStateStore.existing(tmp_path / "other")
    apply_plan(wrong, ExactMechanisms(), other, "next-period", machine.clock.now_ms())
    wrong.close()
    with pytest.raises(StateConflict, match="Apply that very version"):
        machine.open(tmp_path / "other")
    apply_plan(store, ExactMechanisms(), HOURLY, "next-period", machine.clock.now_ms())
    store.close()
    context = machine.open(config.state_dir)
    before = len(windows(context, WindowState.RELEASED))
    machine.clock.set(period + WEEK_MS + HOUR_MS)
    sealer_of(context).run_due()
    assert len(windows(context, WindowState.RELEASED)) == before
    machine.clock.set(period + WEEK_MS + HOUR_MS + 10 * MINUTE_MS)
    assert sealer_of(context).run_due() == 1
    assert len(windows(context, WindowState.RELEASED)) == before + 1


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (("range: [0, 100]", "range: [0, 99]"), "other content under that number"),
        (("description: Something.", "description: Starts of it."), "other content under that number"),
        (("version: 2", "version: 3"), "version 3"),
    ],
)
def test_only_the_very_version_that_is_missing_is_recorded(
    tmp_path: Path, changed: tuple[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another text than that of the missing version is refused by `plan apply`, which says which one it wants (C6)."""
    machine, _ = left_behind(tmp_path)
    config = Config(state_dir=tmp_path / "restored", keys_dir=machine.keys)
    done = restoring.restore(machine.backup, config, machine.clock, ExactMechanisms())
    assert done.missing is not None
    file = tmp_path / "plan.yaml"
    where = ["--state-dir", str(config.state_dir), "--keys-dir", str(machine.keys)]
    for text, status in ((HOURLY.replace(*changed), 2), (HOURLY, 0)):
        file.write_text(text)
        with mock.patch("hushmeter.clock.SystemClock.now_ms", return_value=machine.clock.now_ms()):
            assert run(["plan", "apply", str(file), *where]) == status
        if status:
            said = " ".join(capsys.readouterr().err.split())
            assert f"version 2 of the plan (hash {done.missing.plan_hash}) has been in force" in said
            assert f"the file holds {says} (hash" in said
            assert "Apply the very file" in said
            store = SqlStateStore.existing(config.state_dir)
            assert [v.version for v in store.plan_versions()] == [1]
            store.close()
    machine.plan = None
    machine.open(config.state_dir).store.close()


def test_no_period_is_charged_less_than_its_keys_know(tmp_path: Path) -> None:
    """Where the record knows of a larger sum than the backup's prices make, the restored ledger says so, in one entry."""
    machine, period = left_behind(tmp_path)
    record = machine.context.keys.record()
    assert record is not None
    larger = PrivacyLoss(record.charged[period].amount + Fraction(5), Fraction(1, 10**12))
    machine.context.keys.swap(record, record.charging(period, larger))
    config = Config(state_dir=tmp_path / "restored", keys_dir=machine.keys)
    restoring.restore(machine.backup, config, machine.clock, ExactMechanisms())
    store = SqlStateStore.existing(config.state_dir)
    assert verify_chain(store.ledger()).by_period[period] == larger
    store.close()
