"""A window is ended once over all copies of a state, all crashes and all pauses (C7).

Each test looks at the noise that was drawn, not only at what was published: `Drawn` remembers every draw.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from hushmeter.consent.register import ConsentRegister
from hushmeter.errors import Failure, NotServing, StateConflict, StorageFull
from hushmeter.ingest.identity import subject_of
from hushmeter.ledger.entries import verify_budget, verify_chain
from hushmeter.model.consent import Decision
from hushmeter.model.publication import Publication
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.patience import PATIENCE_S
from hushmeter.pipeline.claims import Claims
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.intake.decisions import Deciding
from hushmeter.storage.keys.ring_record import RecordFile
from hushmeter.storage.publications import PublicationFiles, decode_publication, encode_publication
from hushmeter.storage.state.store import SqlStateStore
from hushmeter.testing.clock import FakeClock
from tests.service.by_hand import PLAN, H, Hand, sealer_of, windows

CAPPED = PLAN.replace("per_unit: {range: [0, 100]}", "per_unit: {range: [0, 100], max_windows: {1h: 100}}")
DEADLINE = H + HOUR_MS + 10 * MINUTE_MS
STEPS, AFTER_CLAIM, AFTER_DRAWN = 16, 1, 11
"""Steps of a publication, see `watched`; from which one on the window is claimed, and from which one on DRAWN."""


class Dead(BaseException):
    """The process is killed: nothing catches it."""


def kill() -> None:
    """Kills the process."""
    raise Dead


class Drawn(OpenDPMechanisms):
    """Real noise, all of which is remembered."""

    def __init__(self) -> None:
        self.draws: list[bytes] = []

    def draw(self, vectors, selections=()):  # type: ignore[no-untyped-def]
        noisy, chosen = super().draw(vectors, selections)
        if vectors:
            self.draws.append(b"".join(v.values.tobytes() for v in noisy))
        return noisy, chosen


class Steps:
    """Something before the so many-th of whose named calls a thing happens; as many objects as are watched share the count.

    Args:
        happens: what, and it may raise.
        at: number of the call, from 0; -1 for never.
    """

    def __init__(self, happens: Callable[[], object], at: int) -> None:
        self._happens, self._at = happens, at
        self.taken = 0

    def __call__(self) -> None:
        self.taken += 1
        if self.taken == self._at + 1:
            self._happens()

    def over(self, real: object, *names: str, after: bool = False) -> object:
        """A double of an object: before each of the named methods a step is taken, or after it as well."""
        return _Watched(real, self, names, after)


class _Watched:
    def __init__(self, real: object, steps: Steps, names: tuple[str, ...], after: bool) -> None:
        self._real, self._steps, self._names, self._after = real, steps, names, after

    def __getattr__(self, name: str) -> object:
        method = getattr(self._real, name)
        if name not in self._names:
            return method

        def call(*arguments: object, **named: object) -> object:
            self._steps()
            result = method(*arguments, **named)
            if self._after:
                self._steps()
            return result

        return call


def watched(context: Context, steps: Steps) -> Context:
    """The context of a process that may be stopped at every step of a claim, before and after it."""
    return dataclasses.replace(
        context,
        keys=steps.over(context.keys, "swap", after=True),
        store=steps.over(context.store, "publish", "mark_lost", after=True),
        publications=steps.over(context.publications, "put", "clear", after=True),
        mechanisms=steps.over(context.mechanisms, "draw", after=True),
    )


@dataclasses.dataclass
class Machine:
    """A deployment in which one unit has reported in the first hour, which is due."""

    directory: Path
    plan: str = PLAN
    clock: FakeClock = dataclasses.field(default_factory=lambda: FakeClock(H))
    noise: Drawn = dataclasses.field(default_factory=Drawn)
    context: Context = dataclasses.field(default=None, init=False)  # type: ignore[arg-type]

    @classmethod
    def due(cls, directory: Path, plan: str = PLAN) -> Machine:
        """Founds it."""
        made = cls(directory, plan)
        made.context = made.open("state")
        hand = Hand(made.context)
        made.clock.advance(MINUTE_MS)
        hand.decide("u")
        made.context.answered()
        made.clock.set(H + 30 * MINUTE_MS)
        assert len(hand.send("u", made.clock.now_ms(), 50).admitted) == 1
        hand.segments.retire()
        made.clock.set(DEADLINE)
        return made

    def open(self, name: str, *, serves: bool = True) -> Context:
        """Opens a state with the deployment's keys."""
        config = Config(state_dir=self.directory / name, keys_dir=self.directory / "keys")
        return open_context(config, self.clock, self.noise, self.plan, serves=serves)


def published(context: Context) -> list[bytes]:
    """Released values, one a window, as the mechanism drew them."""
    return [
        b"".join(v.values.tobytes() for v in release.vectors.values())
        for resolution in ("1h", "1d")
        for _, release in context.store.releases("starts", (), resolution, 0, 2**61)
    ]


def ensure_sound(context: Context) -> None:
    """The ledger holds, the record is the state's, and nothing is claimed."""
    verify_budget(verify_chain(context.store.ledger()), context.deployment.budget)
    record = context.keys.record()
    assert record is not None
    assert record.claim is None
    assert record.head == context.store.ledger_head(context.deployment.deployment_id)


def ensure_one_noise(machine: Machine, context: Context) -> None:
    """The first hour has ended with the one noise that was drawn for it, or LOST, charged and with none."""
    released, lost = windows(context, WindowState.RELEASED), windows(context, WindowState.LOST)
    assert released + lost == [("1h", 0)]
    assert len(machine.noise.draws) <= 1
    values = published(context)
    assert len(values) == len(released)
    # Built-in metrics are drawn together with this one.
    assert all(v in machine.noise.draws[0] for v in values)
    charged = {(e.fields["resolution"], e.fields["window_start_ms"]) for e in context.store.ledger()}
    assert charged == {("1h", H)}
    ensure_sound(context)


def test_a_publication_has_the_steps_that_are_tried(tmp_path: Path) -> None:
    """Claim, clear, draw twice (once for open views), put, DRAWN, publish, head: each with a moment before and after."""
    machine, steps = Machine.due(tmp_path), Steps(lambda: None, -1)
    sealer_of(watched(machine.context, steps)).run_due()
    assert steps.taken == STEPS
    ensure_one_noise(machine, machine.context)


@pytest.mark.parametrize("step", range(STEPS))
def test_a_kill_at_each_step(tmp_path: Path, step: int) -> None:
    """What was claimed and not named is LOST; what was named is published, with the noise that was drawn."""
    machine = Machine.due(tmp_path)
    with pytest.raises(Dead):
        sealer_of(watched(machine.context, Steps(kill, step))).run_due()
    again = machine.open("state")
    sealer_of(again).run_due()
    ensure_one_noise(machine, again)
    assert bool(windows(again, WindowState.LOST)) == (AFTER_CLAIM <= step < AFTER_DRAWN)
    machine.clock.advance(HOUR_MS)
    assert sealer_of(again).run_due() == 1
    ensure_sound(again)


@pytest.mark.parametrize("step", range(AFTER_CLAIM, STEPS))
def test_a_copy_takes_over_after_a_kill(tmp_path: Path, step: int) -> None:
    """It has no bytes of what was drawn, so the window is LOST in it, and capped metrics rest; or it is refused as old."""
    machine = Machine.due(tmp_path, CAPPED)
    machine.context.store.close()
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    machine.context = machine.open("state")
    with pytest.raises(Dead):
        sealer_of(watched(machine.context, Steps(kill, step))).run_due()
    if step == STEPS - 1:
        with pytest.raises(StateConflict, match="is older than its keys"):
            machine.open("copy")
        return
    copy = machine.open("copy")
    sealer_of(copy).run_due()
    assert windows(copy, WindowState.LOST) == [("1h", 0)]
    ensure_one_noise(machine, copy)
    machine.clock.advance(HOUR_MS)
    assert sealer_of(copy).run_due() == 1
    rests = step >= AFTER_DRAWN
    assert len(published(copy)) == (0 if rests else 1)
    ensure_sound(copy)


@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("who", ["copy", "the state", "a second sealer", "a second sealer without the lock"])
def test_a_pause_at_each_step_while_another_takes_over(tmp_path: Path, step: int, who: str) -> None:
    """Whoever was paused goes on, and draws nothing again and publishes nothing that the other one lost."""
    machine = Machine.due(tmp_path)
    machine.context.store.close()
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    machine.context = machine.open("state")
    others: list[Context] = []

    def take_over() -> None:
        with contextlib.suppress(StateConflict):
            other = machine.open("copy" if who == "copy" else "state", serves="second" not in who)
            others.append(other)
            sealer_of(other).run_due()

    paused = watched(machine.context, Steps(take_over, step))
    with contextlib.ExitStack() as stack:
        if "without" in who:
            stack.enter_context(mock.patch.object(PublicationFiles, "turn", return_value=contextlib.nullcontext()))
        with contextlib.suppress(NotServing):
            sealer_of(paused).run_due()
    # A copy that found the window ended was refused.
    (left,) = others or [machine.context]
    sealer_of(left).run_due()
    if who == "copy" and step < AFTER_CLAIM:
        # Both began before anything was claimed; the second one's epoch stopped the first.
        assert published(machine.context) == []
    ensure_one_noise(machine, left)


def test_what_cannot_be_drawn_is_lost(tmp_path: Path) -> None:
    """An error while noise is drawn ends the window: nobody knows how far it came, so it is not drawn again."""
    machine = Machine.due(tmp_path)

    def fail() -> None:
        raise ValueError("a defect")

    sealer = sealer_of(watched(machine.context, Steps(fail, 5)))
    assert sealer.run_due() == 1
    assert windows(machine.context, WindowState.LOST) == [("1h", 0)]
    ensure_one_noise(machine, machine.context)


@pytest.mark.parametrize("step", range(8, STEPS))
def test_a_full_disk_holds_the_window_and_its_noise(tmp_path: Path, step: int) -> None:
    """Where bytes, record or state cannot be written for a while, the process publishes what it drew once they can."""
    machine = Machine.due(tmp_path)

    def full() -> None:
        raise StorageFull("no room")

    sealer = sealer_of(watched(machine.context, Steps(full, step)))
    sealer.run_due()
    sealer.run_due()
    assert windows(machine.context, WindowState.RELEASED) == [("1h", 0)]
    assert len(machine.noise.draws) == 1
    ensure_one_noise(machine, machine.context)


def test_nothing_is_released_or_answered_without_the_record(tmp_path: Path) -> None:
    """While it cannot be written no window ends and no decision is answered; an old copy is refused then (break 7)."""
    machine = Machine.due(tmp_path)
    machine.context.store.close()
    shutil.copytree(tmp_path / "state", tmp_path / "old")
    machine.context = machine.open("state")
    deciding = deciding_of(machine.context)
    with mock.patch.object(RecordFile, "_write", side_effect=StorageFull("no room for the record")):
        for _ in range(3):
            sealer_of(machine.context).run_due()
            machine.clock.advance(HOUR_MS)
        answer = deciding.add(b"v", [decision(machine.context)])
        deciding.record()
        with pytest.raises(StorageFull):
            answer.result()
    assert windows(machine.context, WindowState.RELEASED, WindowState.LOST) == []
    assert machine.noise.draws == []
    answer = deciding.add(b"v", [decision(machine.context)])
    deciding.record()
    assert answer.result()[1] == machine.clock.now_ms()
    with pytest.raises(StateConflict, match="is older than its keys: decision 3 was answered"):
        machine.open("old")
    sealer_of(machine.context).run_due()
    assert len(windows(machine.context, WindowState.RELEASED)) == 4


def test_a_state_that_forgot_a_withdrawal_is_refused(tmp_path: Path) -> None:
    """Also where nothing was released since, and also by the sealer of a state that is open (neighbour 18)."""
    machine = Machine.due(tmp_path)
    machine.context.store.close()
    for name in ("before", "beside"):
        shutil.copytree(tmp_path / "state", tmp_path / name)
    machine.context = machine.open("state")
    deciding = deciding_of(machine.context)
    answer = deciding.add(b"u", [dataclasses.replace(decision(machine.context), given=False)])
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
    machine = Machine.due(tmp_path)
    machine.context.store.close()
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    first, _ = machine.open("state"), machine.open("copy")
    hand = Hand(first)
    with pytest.raises(NotServing, match=r"serves: .*copy on .* \(pid \d+, since 2026"):
        hand.send("u", machine.clock.now_ms() - MINUTE_MS)
    deciding = deciding_of(first)
    answer = deciding.add(b"u", [decision(first)])
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
    machine = Machine.due(tmp_path / "made")
    machine.context.store.close()
    for run in range(10):
        base = tmp_path / str(run)
        shutil.copytree(tmp_path / "made" / "keys", base / "keys")
        for copy in range(4):
            shutil.copytree(tmp_path / "made" / "state", base / f"copy-{copy}")
        one = Machine(base, clock=FakeClock(DEADLINE + 3 * HOUR_MS))
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


def four(machine: Machine, together: bool) -> tuple[list[Context], list[Exception]]:
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


def test_a_publication_is_its_bytes(tmp_path: Path) -> None:
    """What is encoded comes back whole, equal ones have equal bytes, and damage is told."""
    machine, seen = Machine.due(tmp_path, CAPPED), []
    held = Claims.hold

    def hold(self: Claims, owner: str, publication: Publication) -> None:
        seen.append(publication)
        held(self, owner, publication)

    with mock.patch.object(Claims, "hold", hold):
        sealer_of(machine.context).run_due()
    (made,) = seen
    content = encode_publication(made)
    back = decode_publication(content)
    assert encode_publication(back) == content
    assert (back.window, back.before, back.head, list(back.entries), back.kept) == (
        made.window, made.before, made.head, list(made.entries), made.kept,
    )  # fmt: skip
    assert made.kept
    for damaged in (content[:-1], content[1:], b"", content + b"x"):
        with pytest.raises(Failure, match="publication are damaged"):
            decode_publication(damaged)


def test_bytes_that_were_changed_are_not_published(tmp_path: Path) -> None:
    """DRAWN names a hash: other bytes beside the state are as good as none."""
    machine = Machine.due(tmp_path)
    with pytest.raises(Dead):
        sealer_of(watched(machine.context, Steps(kill, AFTER_DRAWN))).run_due()
    (path,) = [p for p in (tmp_path / "state" / "publications").iterdir() if p.stat().st_size]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    again = machine.open("state")
    sealer_of(again).run_due()
    assert windows(again, WindowState.LOST) == [("1h", 0)]
    ensure_one_noise(machine, again)


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


def decision(context: Context) -> Decision:
    """That somebody agrees."""
    return Decision(bytes(16), "tuning", given=True, received_at_ms=0, text_hash=context.plan.purposes[0].text_hash)
