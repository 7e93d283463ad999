"""A window is ended once over all copies of a state, all crashes and all pauses (C7).

Each test looks at the noise that was drawn, not only at what was published: `Drawn` remembers every draw.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from unittest import mock

import pytest

from hushmeter.errors import Failure, NotServing, StateConflict, StorageFull
from hushmeter.model.publication import Publication
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS
from hushmeter.pipeline.claims import Claims
from hushmeter.service.deployment.context import Context
from hushmeter.storage.publications import PublicationFiles, decode_publication, encode_publication
from tests.service.claim_steps import (
    AFTER_CLAIM,
    AFTER_DRAWN,
    CAPPED,
    STEPS,
    Dead,
    DueDeployment,
    Steps,
    ensure_one_noise,
    ensure_sound,
    kill,
    published,
    watched,
)
from tests.service.deployment_by_hand import sealer_of, windows


def test_a_publication_has_the_steps_that_are_tried(tmp_path: Path) -> None:
    """Claim, clear, draw twice (once for open views), put, DRAWN, publish, head: each with a moment before and after."""
    machine, steps = DueDeployment.founded(tmp_path), Steps(lambda: None, -1)
    sealer_of(watched(machine.context, steps)).run_due()
    assert steps.taken == STEPS
    ensure_one_noise(machine, machine.context)


@pytest.mark.parametrize("step", range(STEPS))
def test_a_kill_at_each_step(tmp_path: Path, step: int) -> None:
    """What was claimed and not named is LOST; what was named is published, with the noise that was drawn."""
    machine = DueDeployment.founded(tmp_path)
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
    machine = DueDeployment.founded(tmp_path, CAPPED)
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
    machine = DueDeployment.founded(tmp_path)
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
    machine = DueDeployment.founded(tmp_path)

    def fail() -> None:
        raise ValueError("a defect")

    sealer = sealer_of(watched(machine.context, Steps(fail, 5)))
    assert sealer.run_due() == 1
    assert windows(machine.context, WindowState.LOST) == [("1h", 0)]
    ensure_one_noise(machine, machine.context)


@pytest.mark.parametrize("step", range(8, STEPS))
def test_a_full_disk_holds_the_window_and_its_noise(tmp_path: Path, step: int) -> None:
    """Where bytes, record or state cannot be written for a while, the process publishes what it drew once they can."""
    machine = DueDeployment.founded(tmp_path)

    def full() -> None:
        raise StorageFull("no room")

    sealer = sealer_of(watched(machine.context, Steps(full, step)))
    sealer.run_due()
    sealer.run_due()
    assert windows(machine.context, WindowState.RELEASED) == [("1h", 0)]
    assert len(machine.noise.draws) == 1
    ensure_one_noise(machine, machine.context)


def test_a_publication_is_its_bytes(tmp_path: Path) -> None:
    """What is encoded comes back whole, equal ones have equal bytes, and damage is told."""
    machine, seen = DueDeployment.founded(tmp_path, CAPPED), []
    honest = Claims.remember

    def noted(self: Claims, owner: str, publication: Publication) -> None:
        seen.append(publication)
        honest(self, owner, publication)

    with mock.patch.object(Claims, "remember", noted):
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
    machine = DueDeployment.founded(tmp_path)
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
