"""The published completeness of a window says whether the service was there, and nothing about reports or clocks (R1)."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from hushmeter import limits
from hushmeter.errors import LeaseLost, StorageFull
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.patience import await_true
from hushmeter.ports import WorkerStore
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.serving_times import Presence
from hushmeter.service.processes.supervisor import Supervisor, _Child
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import PLAN, H, Hand, opened, sealer_of

AT_ONCE = PLAN.replace("{lateness: 10m}", "{lateness: 0m}")
LEASE_MS, MARK_MS = int(limits.LEASE_S * 1_000), int(limits.SERVING_MARK_S * 1_000)


def completeness(context: Context, hour: int) -> float:
    """Of the release of an hour since the foundation."""
    start = H + hour * HOUR_MS
    ((_, release),) = context.store.releases("starts", (), "1h", start, start + HOUR_MS)
    return release.completeness


def there(context: Context) -> Presence:
    """Says from now on that one worker is up."""
    presence = Presence(context.store, context.clock)
    presence.up("worker")
    return presence


@pytest.mark.parametrize("sends", [False, True], ids=["none", "one"])
def test_one_report_changes_nothing(tmp_path: Path, sends: bool) -> None:
    """A window that had to wait for one unit's segment, while its worker went on beating, is as complete as without it."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock, AT_ONCE)
    hand, sealer = Hand(context), sealer_of(context)
    there(context)
    hand.decide("u")
    clock.advance(HOUR_MS - 5_000)
    while clock.now_ms() < H + HOUR_MS - 500:
        hand.segments.tick()
        clock.advance(500)
    if sends:
        hand.send("u", clock.now_ms())
    clock.advance(500)
    assert sealer.run_due() == (0 if sends else 1)
    clock.advance(2_500)
    hand.segments.tick()
    sealer.run_due()
    assert completeness(context, 0) == 1.0


@pytest.mark.parametrize("late_s", [0, 9, 11, 600, 1_800])
def test_a_flood_changes_nothing(tmp_path: Path, late_s: int) -> None:
    """However late its beats come under load, and though it loses its lease for that, a worker that is up serves."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    hand, sealer, presence = Hand(context), sealer_of(context), there(context)
    sealer.run_due()
    clock.advance(late_s * 1_000)
    sealer.run_due()
    assert bool(context.store.beats()) == (late_s < limits.LEASE_S)
    try:
        hand.segments.beat()
    except LeaseLost:
        clock.advance(late_s * 1_000)
        hand.segments.enlist()
    presence.tick()
    clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    sealer.run_due()
    assert completeness(context, 0) == 1.0


@pytest.mark.parametrize(
    ("stops_ms", "expected"),
    [
        (HOUR_MS - LEASE_MS, 1.0),
        (HOUR_MS - LEASE_MS - 1, 0.99),
        (30 * MINUTE_MS, 0.5),
        (30 * MINUTE_MS - LEASE_MS - 1, 0.49),
        (1, 0.0),
    ],
)
def test_a_worker_that_ends_counts_for_one_lease_more(tmp_path: Path, stops_ms: int, expected: float) -> None:
    """A service serves until its last worker has ended, and a lease; the share is rounded down to whole hundredths."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    presence = there(context)
    presence.up("another")
    presence.down("worker")
    clock.set(H + stops_ms)
    presence.down("another")
    presence.down("another")
    clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    assert sealer_of(context).run_due() == 1
    assert completeness(context, 0) == expected


def test_a_quick_restart_is_not_told(tmp_path: Path) -> None:
    """Workers that follow each other within a lease serve without a gap."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    presence = there(context)
    clock.set(H + 20 * MINUTE_MS)
    presence.down("worker")
    clock.advance(LEASE_MS)
    presence.up("worker")
    clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    assert sealer_of(context).run_due() == 1
    assert completeness(context, 0) == 1.0


@pytest.mark.parametrize(("marked", "expected"), [(True, 0.55), (False, 0.53)], ids=["marked", "never marked"])
def test_a_machine_that_fails(tmp_path: Path, marked: bool, expected: float) -> None:
    """Where nobody saw the end, the service was there until two marks after the last one, and is again from its start."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    presence = there(context)
    clock.advance(MARK_MS)
    if marked:
        presence.tick()
    clock.set(H + 30 * MINUTE_MS)
    there(context)
    clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    assert sealer_of(context).run_due() == 1
    assert completeness(context, 0) == expected


def test_times_wait_for_the_disk(tmp_path: Path) -> None:
    """What the store cannot take for now is recorded later, with the time at which it was."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)

    class Full:
        def __getattr__(self, name: str) -> object:
            raise StorageFull("no room")

    presence = Presence(cast("WorkerStore", Full()), clock)
    presence.up("worker")
    clock.set(H + 30 * MINUTE_MS)
    presence.down("worker")
    presence._store = context.store
    clock.set(H + HOUR_MS)
    presence.tick()
    assert context.store.serving_ms(H, H + HOUR_MS) == 30 * MINUTE_MS + LEASE_MS


def test_a_supervisor_sees_the_end_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the death of the last worker's process to the readiness of the next one the service is not there."""
    clock, state = FakeClock(H), tmp_path / "state"
    opened(state, clock).store.close()
    program = "import sys; print('ready', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program]
    piped = partial(subprocess.Popen, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    monkeypatch.setattr(Supervisor, "_spawn", lambda _self, _role: piped(command))
    watched = Supervisor(Config(state_dir=state, listen="127.0.0.1:0", metrics=""), clock, print)
    child = _Child("worker-0", "worker", watched._spawn("worker"))
    watched._children = [child]
    await_true(lambda: watched._is_ready(child, 1))
    clock.set(H + 10 * MINUTE_MS)
    child.process.kill()
    child.process.communicate()
    watched._watch()
    clock.advance(20 * MINUTE_MS)

    def serves() -> bool:
        watched._watch()
        return child.serves

    await_true(serves)
    clock.advance(10 * MINUTE_MS)
    watched._end_children()
    assert watched._store.serving_ms(H, H + HOUR_MS) == 20 * MINUTE_MS + 2 * LEASE_MS
    watched.close()
