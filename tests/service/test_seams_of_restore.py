"""Where restores, key rings and several histories meet: no second noise, no unit in windows that it does not pay for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hushmeter.cli import serve
from hushmeter.errors import ConfigError, StateConflict
from hushmeter.model.ledger import PrivacyLoss
from hushmeter.model.ring import ClaimState
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, MINUTE_MS, WEEK_MS
from hushmeter.service.deployment import restoring
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.plan_change import apply_plan
from hushmeter.service.sealer.giving_up import give_up
from hushmeter.storage.state.store import SqlStateStore
from hushmeter.testing.clock import FakeClock
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.service import claim_steps
from tests.service.deployment_by_hand import PLAN, H, Hand, capped, sealer_of, sums, windows
from tests.service.deployment_with_backup import DeploymentWithBackup

ONCE = capped("1h: 1, 1d: 1")
REWORDED = PLAN.replace("version: 1", "version: 2").replace("description: Something.", "description: Starts of the app.")
DEARER = PLAN.replace("version: 1", "version: 2").replace("epsilon: 4", "epsilon: 8")


def test_bounded_participation_rests_where_a_clock_ran_ahead(tmp_path: Path) -> None:
    """A unit that was kept in a window of a later period, by a clock that was ahead, is kept in no other one of it."""
    machine = DeploymentWithBackup(tmp_path, ONCE)
    machine.back_up()
    machine.clock.set(H + WEEK_MS)
    machine.release(2, 50)
    assert sums(machine.context, "1h") == {7 * 24: 50}
    machine.clock = FakeClock(H + 5 * HOUR_MS)
    machine.restore()
    machine.clock.set(H + WEEK_MS + 10 * HOUR_MS)
    sealer_of(machine.context).run_due()
    machine.release(2, 50)
    assert sums(machine.context, "1h") == {}


def test_two_restores_of_one_week_and_the_next(tmp_path: Path) -> None:
    """A backup that lacks a version was restored by mistake, then the right one: the week is lost, and the next goes on."""
    machine = DeploymentWithBackup(tmp_path)
    machine.back_up()
    machine.release(2, 5)
    apply_plan(machine.context.store, ExactMechanisms(), REWORDED, "next-window", machine.clock.now_ms())
    machine.release(1, 5)
    wrong, machine.backup = machine.backup, tmp_path / "backup2"
    machine.back_up()
    machine.release(1, 5)
    machine.plan = None
    mistaken = Config(state_dir=tmp_path / "mistaken", keys_dir=machine.keys)
    assert restoring.restore(wrong, mistaken, machine.clock, ExactMechanisms()).missing is not None
    machine.clock.advance(10 * MINUTE_MS)
    assert machine.restore("right").missing is None
    machine.clock.set(H + WEEK_MS)
    machine.release(2, 5)
    context = machine.context
    assert windows(context, WindowState.CLOSING, WindowState.FIXED) == []
    assert sums(context, "1h")[7 * 24] == 5
    # Of the week that was lost, nothing more was released than the right backup held.
    assert {hour for hour in sums(context, "1h") if hour < 7 * 24} <= {0, 1, 2}


def test_a_history_that_cost_more_can_be_backed_up_and_restored(tmp_path: Path) -> None:
    """Where a lost version had the larger budget, its period says what it cost, and later backups are taken up."""
    machine = DeploymentWithBackup(tmp_path)
    machine.back_up()
    applied = apply_plan(machine.context.store, ExactMechanisms(), DEARER, "next-period", machine.clock.now_ms())
    period = applied.version.active_from_ms
    machine.clock.set(period + WEEK_MS - 2 * HOUR_MS)
    sealer_of(machine.context).run_due()
    machine.plan = None
    config = Config(state_dir=tmp_path / "restored", keys_dir=machine.keys)
    restoring.restore(machine.backup, config, machine.clock, ExactMechanisms())
    store = SqlStateStore.existing(config.state_dir)
    apply_plan(store, ExactMechanisms(), DEARER, "next-period", machine.clock.now_ms())
    store.close()
    machine.context = machine.open(config.state_dir)
    machine.clock.set(period + WEEK_MS + 3 * HOUR_MS)
    sealer_of(machine.context).run_due()
    machine.backup = tmp_path / "backup2"
    machine.back_up()
    machine.context.store.close()
    machine.clock.advance(HOUR_MS)
    machine.restore("again")
    assert windows(machine.context, WindowState.LOST)


@pytest.mark.parametrize("known", ["a decision", "a claim"])
def test_a_used_ring_takes_no_other_deployment(tmp_path: Path, known: str) -> None:
    """Before the first publication has ended as well: the record of decisions and claims would be gone."""
    machine = claim_steps.DueDeployment.founded(tmp_path)
    machine.context.store.close()
    shutil.copytree(tmp_path / "state", tmp_path / "old")
    context = machine.open("state")
    if known == "a decision":
        Hand(context).decide("u", given=False)
        context.answered()
    else:
        sealer = sealer_of(claim_steps.watched(context, claim_steps.Steps(claim_steps.kill, claim_steps.STEPS - 2)))
        with pytest.raises(claim_steps.Dead):
            sealer.run_due()
    with pytest.raises(ConfigError, match="in use"):
        machine.open("other")
    if known == "a decision":
        with pytest.raises(StateConflict):
            machine.open("old")
        return
    old = machine.open("old")
    sealer_of(old).run_due()
    assert (windows(old, WindowState.LOST), claim_steps.published(old)) == ([("1h", 0)], [])


def test_a_start_that_is_refused_ends_nobodys_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the state with a wrong clock is refused, and the one that serves goes on serving."""
    machine = claim_steps.DueDeployment.founded(tmp_path)
    machine.context.store.close()
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    context = machine.open("state")
    config = Config(state_dir=tmp_path / "copy", keys_dir=tmp_path / "keys", metrics="")
    with pytest.raises(StateConflict, match="the clock says"):
        serve._run(config, None, [], clock_is_right=False)
    context.ensure_serving()


def test_giving_up_ends_no_other_window(tmp_path: Path) -> None:
    """While a window is claimed nobody gives up another one, and the claim stays its owner's."""
    machine = claim_steps.DueDeployment.founded(tmp_path)
    context, other = machine.context, sealer_of(machine.context)
    claims = context.claims()
    other._close_due()
    (record,) = context.store.windows([WindowState.CLOSING])
    assert other._rows_fixed(record)
    claims.claim(record.window, context.store.ledger_head(context.deployment.deployment_id), H, PrivacyLoss())
    with pytest.raises(StateConflict, match="no window of 1d waits"):
        give_up(context, "1d", H)
    claim = claims.follow().claim
    assert claim is not None
    assert claim.state is ClaimState.CLAIMED
