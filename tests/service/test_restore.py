"""What a backup brings back spends and releases nothing twice, and leaves consent and credentials behind (C6)."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter.access.credentials import Credential
from hushmeter.access.roles import Role
from hushmeter.consent.register import ConsentRegister
from hushmeter.errors import ConfigError, Failure, LedgerBroken, NotServing, StateConflict
from hushmeter.ledger.entries import verify_budget, verify_chain
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, MINUTE_MS, WEEK_MS
from hushmeter.service.deployment import restoring
from hushmeter.service.deployment.config import Config
from hushmeter.storage.state.store import SqlStateStore
from hushmeter.testing.clock import FakeClock
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.examples import examples
from tests.service.deployment_by_hand import H, Hand, sealer_of, sums, windows
from tests.service.deployment_with_backup import CAPPED, ENDED, DeploymentWithBackup, charged


def test_what_was_released_stays_and_what_ended_is_lost(tmp_path: Path) -> None:
    """Releases of the backup are there; later windows that have ended are LOST and charged; new ones are released."""
    machine = DeploymentWithBackup(tmp_path)
    machine.release(2, 5)
    machine.back_up()
    machine.release(2, 7)
    published = charged(machine.context)
    machine.clock.advance(HOUR_MS)
    done = machine.restore()
    assert done.lost == 3
    assert windows(machine.context, *ENDED) == [("1h", hour) for hour in range(5)]
    assert windows(machine.context, WindowState.LOST) == [("1h", 2), ("1h", 3), ("1h", 4)]
    assert charged(machine.context) >= published
    machine.release(1, 9)
    assert sums(machine.context, "1h") == {0: 5, 1: 5, 5: 9}
    assert [r.ledger_sequence for r in machine.context.store.restores(done.deployment_id)]


@examples(12)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=5))
def test_nothing_is_spent_twice(tmp_path_factory: pytest.TempPathFactory, rounds: list[int]) -> None:
    """Whatever was published in any history is charged in the one that is left, and every period's budget holds."""
    machine = DeploymentWithBackup(tmp_path_factory.mktemp("rounds"))
    published: set[tuple[str, int]] = set()
    machine.back_up()
    for number, hours in enumerate(rounds):
        machine.release(hours)
        published |= charged(machine.context)
        machine.restore(f"restored-{number}")
        assert charged(machine.context) >= published
        if hours == 1:
            machine.backup.unlink()
            machine.back_up()


def test_everybody_is_asked_again(tmp_path: Path) -> None:
    """Consent of before a restore counts no more, whether it was withdrawn since or not; withdrawals hold."""
    machine = DeploymentWithBackup(tmp_path)
    hand = Hand(machine.context)
    hand.decide("stays", "leaves later", "left")
    machine.clock.advance(1)
    hand.decide("left", given=False)
    machine.back_up()
    hand.decide("leaves later", given=False)
    machine.restore()
    hand = Hand(machine.context)
    machine.clock.advance(MINUTE_MS)
    hand.decide("again")
    register = ConsentRegister(machine.context.plan.purposes)
    register.follow(machine.context.store.decisions_after)
    states = {unit: register.states(hand.subject(unit))["tuning"] for unit in ("stays", "leaves later", "left", "again")}
    assert {unit for unit, state in states.items() if state.given} == {"again"}
    assert {unit for unit, state in states.items() if state.outdated} == {"stays", "leaves later"}
    hand.decide("stays")
    register.follow(machine.context.store.decisions_after)
    assert register.states(hand.subject("stays"))["tuning"].given


def test_credentials_do_not_come_back(tmp_path: Path) -> None:
    """One that was revoked after the backup, and any other, is revoked in what was restored."""
    machine = DeploymentWithBackup(tmp_path)
    for name in ("a" * 16, "b" * 16):
        machine.context.store.add_credential(Credential(name, name, Role.OPERATOR, (), bytes(32), H))
    machine.back_up()
    machine.context.store.revoke_credential("a" * 16, H)
    machine.restore()
    _, credentials = machine.context.store.credentials()
    assert [c.revoked_at_ms for c in credentials] == [machine.clock.now_ms()] * 2


def test_bounded_participation_rests_until_the_period_ends(tmp_path: Path) -> None:
    """Nobody knows any more who was kept, so nothing of the metric is released in that period; it is charged."""
    machine = DeploymentWithBackup(tmp_path, CAPPED)
    machine.release(2, 5)
    machine.back_up()
    done = machine.restore()
    assert (done.closed, done.closed_until_ms) == (("starts",), machine.context.plan.privacy.period.end_of(H))
    before = sum(1 for _ in machine.context.store.ledger())
    machine.release(2, 7)
    assert sums(machine.context, "1h") == {0: 5, 1: 5}
    assert windows(machine.context, WindowState.LOST) == []
    later = [entry.fields for entry in machine.context.store.ledger(before + 1)]
    assert {f["mechanism"] for f in later if f["metric"] == "starts"} == {"lost"}
    assert {f["values_commitment"] for f in later if f["metric"] == "starts"} == {None}
    charged(machine.context)
    machine.clock.set(done.closed_until_ms + 2 * HOUR_MS)
    sealer_of(machine.context).run_due()
    machine.release(1, 9)
    assert list(sums(machine.context, "1h").values()) == [5, 5, 9]


def test_the_history_that_was_left_is_refused(tmp_path: Path) -> None:
    """Neither the old state nor an earlier restore goes on with the same keys, not even one that is running (C7)."""
    machine = DeploymentWithBackup(tmp_path)
    machine.release(1)
    machine.back_up()
    machine.release(1)
    old = machine.context
    machine.restore()
    machine.clock.advance(HOUR_MS + 10 * MINUTE_MS)
    with pytest.raises(NotServing, match=r"another state of this deployment serves: .*restored on"):
        sealer_of(old).run_due()
    with pytest.raises(StateConflict, match=r"another history than its keys have seen|is older than"):
        machine.open(tmp_path / "state")
    sealer_of(machine.context).run_due()
    first = machine.context
    machine.restore("again")
    machine.clock.advance(HOUR_MS)
    assert sealer_of(machine.context).run_due() == 1
    with pytest.raises(NotServing, match=r"another state of this deployment serves: .*again on"):
        sealer_of(first).run_due()


def test_what_was_claimed_is_lost_whatever_the_clock_says(tmp_path: Path) -> None:
    """A deployment whose clock ran ahead has claimed windows that end later: LOST after a restore (19)."""
    machine = DeploymentWithBackup(tmp_path)
    machine.back_up()
    machine.clock.set(H + 5 * HOUR_MS + 10 * MINUTE_MS)
    sealer_of(machine.context).run_due()
    machine.clock = FakeClock(H + 2 * HOUR_MS)
    assert machine.restore().lost == 5
    assert windows(machine.context, WindowState.LOST) == [("1h", hour) for hour in range(5)]
    machine.restore("again")
    assert windows(machine.context, WindowState.LOST) == [("1h", hour) for hour in range(5)]


def test_keys_that_were_lost_too(tmp_path: Path) -> None:
    """With new keys nothing leads from a unit to its old decisions; releases and ledger are there."""
    machine = DeploymentWithBackup(tmp_path)
    machine.release(2, 5)
    machine.back_up()
    machine.restore(keys=tmp_path / "new-keys")
    register = ConsentRegister(machine.context.plan.purposes)
    register.follow(machine.context.store.decisions_after)
    assert register.states(Hand(machine.context).subject("u"))["tuning"].undecided
    machine.release(1, 9)
    assert sums(machine.context, "1h") == {0: 5, 1: 5, 2: 9}


def test_old_rows_cannot_be_read_any_more(tmp_path: Path) -> None:
    """The keys of storage windows that have ended are destroyed by the restore, those of the current one in time."""
    machine = DeploymentWithBackup(tmp_path)
    machine.release(2)
    hand = Hand(machine.context)
    machine.clock.advance(10 * MINUTE_MS)
    assert len(hand.send("u", machine.clock.now_ms()).admitted) == 1
    assert machine.context.keys.storage_windows() == (H, H + HOUR_MS, H + 2 * HOUR_MS)
    machine.back_up()
    machine.restore()
    assert machine.context.keys.storage_windows() == (H + 2 * HOUR_MS,)
    machine.clock.set(H + 2 * WEEK_MS)
    sealer_of(machine.context).run_due()
    assert machine.context.keys.storage_windows() == ()
    assert machine.context.plan.privacy.period.window_of(H).start_ms not in machine.context.keys.periods()


def test_a_restore_that_is_interrupted_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it stops nothing can be served from what is left, and the next one does all of it."""
    machine = DeploymentWithBackup(tmp_path)
    machine.release(1)
    machine.back_up()
    machine.release(3)
    published = charged(machine.context)
    calls = [(name, after) for name in ("begin_closing", "mark_fixed", "mark_lost") for after in (0, 1)]
    for name, after in (*calls, ("record_restore", 0), ("settle_in_one_file", 0)):
        with monkeypatch.context() as patch:
            fail_after(patch, name, after)
            with pytest.raises(Failure, match="the power is out"):
                machine.restore()
        assert not (tmp_path / "restored" / "state.db").exists()
    machine.restore()
    assert charged(machine.context) >= published


def fail_after(patch: pytest.MonkeyPatch, name: str, after: int) -> None:
    """The store's method fails once it has been called so often."""
    real, calls = getattr(SqlStateStore, name), itertools.count()

    def failing(self: SqlStateStore, *arguments: object) -> object:
        if next(calls) >= after:
            raise Failure("the power is out")
        return real(self, *arguments)

    patch.setattr(SqlStateStore, name, failing)


def test_what_cannot_be_restored(tmp_path: Path) -> None:
    """No file, no backup, a used directory, other keys, another history, an altered ledger and a slow clock are told."""
    machine = DeploymentWithBackup(tmp_path)
    machine.release(2)
    machine.back_up()
    with pytest.raises(ConfigError, match="exists; name another file"):
        machine.back_up()
    machine.context.store.close()
    state, keys = tmp_path / "new", tmp_path / "keys"

    def attempt(backup: Path, keys: Path = keys, state: Path = state) -> None:
        restoring.restore(backup, Config(state_dir=state, keys_dir=keys), machine.clock, ExactMechanisms())

    with pytest.raises(ConfigError, match="there is no backup"):
        attempt(tmp_path / "nowhere")
    (tmp_path / "text").write_text("no database" * 1000)
    with pytest.raises(ConfigError, match="cannot use the state store"):
        attempt(tmp_path / "text")
    SqlStateStore.open(f"sqlite:///{tmp_path / 'empty'}").close()
    with pytest.raises(ConfigError, match="holds no deployment"):
        attempt(tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"holds (log|state\.db); restore into a new state_dir"):
        attempt(machine.backup, state=tmp_path / "state")
    other = DeploymentWithBackup(tmp_path / "other")
    other.release(1)
    with pytest.raises(ConfigError, match="the keys belong to deployment"):
        attempt(machine.backup, keys=tmp_path / "other" / "keys")
    shutil.copyfile(machine.backup, tmp_path / "altered")
    database = sqlite3.connect(tmp_path / "altered")
    database.execute("update ledger set content = replace(content, 'starts', 'halts') where sequence = 1")
    database.commit()
    database.close()
    with pytest.raises(LedgerBroken, match="entry 1 was altered"):
        attempt(tmp_path / "altered")
    now = machine.clock.now_ms()
    machine.clock = FakeClock(now - HOUR_MS)
    with pytest.raises(StateConflict, match="the clock says"):
        attempt(machine.backup)
    assert not (state / "state.db").exists()
    machine.clock = FakeClock(now)
    attempt(machine.backup)


def test_a_fork_of_the_ledger_is_refused(tmp_path: Path) -> None:
    """A backup of a history that was left for another one is not taken up with keys that have seen the other (C6)."""
    machine = DeploymentWithBackup(tmp_path)
    machine.release(1, 5)
    machine.back_up()
    machine.release(1, 6)
    left = tmp_path / "left"
    machine.context.store.back_up(left)
    machine.restore()
    machine.release(2, 8)
    machine.backup = left
    machine.release(1)
    with pytest.raises(StateConflict, match="the backup has another history than its keys have seen"):
        _two_histories(machine)


def _two_histories(machine: DeploymentWithBackup) -> None:
    """Brings the record back to where both histories have an entry, and restores the one that was left."""
    head = SqlStateStore.open(f"sqlite:///{machine.backup}")
    sequence = head.ledger_head("").sequence
    head.close()
    at = next(machine.context.store.ledger(sequence))
    record = machine.context.keys.record()
    assert record is not None
    then = dataclasses.replace(record, head=dataclasses.replace(record.head, sequence=sequence, entry_hash=at.entry_hash))
    machine.context.keys.swap(record, then)
    machine.restore("left-again")


def test_budget_of_a_period_is_never_exceeded(tmp_path: Path) -> None:
    """Restoring again and again from an old backup charges each window once."""
    machine = DeploymentWithBackup(tmp_path)
    machine.back_up()
    for number in range(3):
        machine.clock.advance(5 * HOUR_MS)
        machine.restore(f"r{number}")
    summary = verify_chain(machine.context.store.ledger())
    verify_budget(summary, machine.context.deployment.budget)
    assert len(windows(machine.context, WindowState.LOST)) == 15
