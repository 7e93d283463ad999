"""Of all copies of a state one serves; the others, and those that forgot what was answered, are refused (C7)."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from unittest import mock

import pytest

from hushmeter.consent.register import ConsentRegister
from hushmeter.errors import NotServing, StateConflict, StorageFull
from hushmeter.ingest.identity import subject_of
from hushmeter.model.consent import Decision
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.patience import PATIENCE_S
from hushmeter.service.deployment.context import Context
from hushmeter.service.intake.decisions import Deciding
from hushmeter.storage.keys.ring_record import RecordFile
from hushmeter.storage.state.store import SqlStateStore
from hushmeter.testing.clock import FakeClock
from tests.service.claim_steps import DueDeployment, ensure_sound, published
from tests.service.deployment_by_hand import HOUR_DUE, Hand, sealer_of, windows
from tests.service.intake_worker import NO, YES


def test_nothing_is_released_or_answered_without_the_record(tmp_path: Path) -> None:
    """While it cannot be written no window ends and no decision is answered; an old copy is refused then (break 7)."""
    machine = DueDeployment.founded(tmp_path)
    machine.context.store.close()
    shutil.copytree(tmp_path / "state", tmp_path / "old")
    machine.context = machine.open("state")
    deciding = deciding_of(machine.context)
    with mock.patch.object(RecordFile, "_write", side_effect=StorageFull("no room for the record")):
        for _ in range(3):
            sealer_of(machine.context).run_due()
            machine.clock.advance(HOUR_MS)
        answer = deciding.add(b"v", YES)
        deciding.record()
        with pytest.raises(StorageFull):
            answer.result()
    assert windows(machine.context, WindowState.RELEASED, WindowState.LOST) == []
    assert machine.noise.draws == []
    answer = deciding.add(b"v", YES)
    deciding.record()
    assert answer.result()[1] == machine.clock.now_ms()
    with pytest.raises(StateConflict, match="is older than its keys: decision 3 was answered"):
        machine.open("old")
    sealer_of(machine.context).run_due()
    assert len(windows(machine.context, WindowState.RELEASED)) == 4


def test_a_state_that_forgot_a_withdrawal_is_refused(tmp_path: Path) -> None:
    """Also where nothing was released since, and also by the sealer of a state that is open (neighbour 18)."""
    machine = DueDeployment.founded(tmp_path)
    machine.context.store.close()
    for name in ("before", "beside"):
        shutil.copytree(tmp_path / "state", tmp_path / name)
    machine.context = machine.open("state")
    deciding = deciding_of(machine.context)
    answer = deciding.add(b"u", NO)
    deciding.record()
    assert not answer.result()[0]["tuning"].given
    with pytest.raises(StateConflict, match="decision 2 was answered, and is not in it"):
        machine.open("before")
    # Another decision of the same number is not that one.
    other = SqlStateStore.existing(tmp_path / "beside")
    other.record_decisions([Decision(bytes(16), "tuning", given=True, received_at_ms=0)], machine.clock.now_ms)
    other.close()
    with pytest.raises(StateConflict, match="or another one is"):
        machine.open("beside")


def test_who_does_not_serve_acknowledges_nothing(tmp_path: Path) -> None:
    """The door of a state whose epoch has ended takes no report and no decision, and names the one that serves (21)."""
    machine = DueDeployment.founded(tmp_path)
    machine.context.store.close()
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    first, _ = machine.open("state"), machine.open("copy")
    hand = Hand(first)
    with pytest.raises(NotServing, match=r"serves: .*copy on .* \(pid \d+, since 2026"):
        hand.send("u", machine.clock.now_ms() - MINUTE_MS)
    deciding = deciding_of(first)
    answer = deciding.add(b"u", YES)
    deciding.record()
    with pytest.raises(NotServing):
        answer.result()
    with pytest.raises(NotServing):
        sealer_of(first).run_due()
    assert machine.noise.draws == []


@pytest.mark.parametrize("together", [True, False])
def test_four_copies_beside_one_ring(tmp_path: Path, together: bool) -> None:
    """Of windows that four copies find due at once each is released in one of them, and the others stop (break 8).

    Where they begin to serve while others seal, a window that is claimed then may be LOST; it never has two noises.
    """
    machine = DueDeployment.founded(tmp_path / "made")
    machine.context.store.close()
    for run in range(10):
        base = tmp_path / str(run)
        shutil.copytree(tmp_path / "made" / "keys", base / "keys")
        for copy in range(4):
            shutil.copytree(tmp_path / "made" / "state", base / f"copy-{copy}")
        one = DueDeployment(base, clock=FakeClock(HOUR_DUE + 3 * HOUR_MS))
        contexts, stopped = four(one, together)
        record = contexts[0].keys.record()
        assert record is not None
        assert record.serving is not None
        (winner,) = [c for c in contexts if c.epoch == record.serving.epoch]
        sealer_of(winner).run_due()
        found = [values for context in contexts for values in published(context)]
        assert len(found) == len(set(found)) <= 4
        assert len(one.noise.draws) <= 4
        ended = [w for c in contexts for w in windows(c, WindowState.RELEASED)]
        assert len(ended) == len(set(ended))
        if together:
            assert len(ended) == 4
            assert len(stopped) == 3
        ensure_sound(winner)
        for context in contexts:
            context.store.close()


def four(machine: DueDeployment, together: bool) -> tuple[list[Context], list[Exception]]:
    """Opens four copies and lets each seal what is due, side by side; returns them, and why some stopped."""
    barrier, contexts, stopped = threading.Barrier(4), list[Context](), list[Exception]()

    def seal(copy: int) -> None:
        try:
            contexts.append(context := machine.open(f"copy-{copy}"))
            if together:
                barrier.wait(PATIENCE_S)
            sealer_of(context).run_due()
        except (NotServing, StateConflict) as error:
            stopped.append(error)
        except BaseException:
            barrier.abort()
            raise

    threads = [threading.Thread(target=seal, args=(copy,)) for copy in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return contexts, stopped


def deciding_of(context: Context) -> Deciding:
    """What records decisions of a state."""
    key, register = context.keys.get_or_create("deployment"), ConsentRegister(context.plan.purposes)
    return Deciding(
        context,
        lambda unit_id: subject_of(key, unit_id),
        lambda: register.follow(context.store.decisions_after),
        register.states,
        context.clock.now_ms,
    )
