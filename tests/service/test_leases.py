"""A worker loses its lease when it has stopped beating, and not because the sealer was the one that stood still."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from hushmeter import limits
from hushmeter.service.deployment.context import Context
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import H, Hand, WatchedStore, opened, sealer_of


def test_a_pause_of_the_sealer_buries_nobody(tmp_path: Path) -> None:
    """Wherever the sealer stands still for longer than a lease, a worker that beats meanwhile stays alive."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    hand = Hand(context)

    def pause() -> None:
        for _ in range(6):
            clock.advance(0, monotonic_s=limits.BEAT_S)
            hand.segments.tick()

    for call in itertools.count():
        store = WatchedStore(context.store, call, pause)
        sealer = sealer_of(dataclasses.replace(context, store=store))  # type: ignore[arg-type]
        for _ in range(3):
            sealer.run_due()
            clock.advance(0, monotonic_s=0.25)
            assert len(context.store.beats()) == 1
        if store.calls <= call:
            break
    assert call > 5


@pytest.mark.parametrize("call", range(2))
def test_a_beat_at_the_last_moment_counts(tmp_path: Path, call: int) -> None:
    """After an hour of silence, a beat before the sealer reads beats, or before the call that ends a worker, saves it."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    hand = Hand(context)
    store = WatchedStore(context.store, 10**9, hand.segments.beat)
    sealer = sealer_of(dataclasses.replace(context, store=store))  # type: ignore[arg-type]
    sealer.run_due()
    clock.advance(0, monotonic_s=3_600.0)
    store.calls, store.before = 0, call
    sealer.run_due()
    assert len(context.store.beats()) == 1
    sealer.run_due()
    clock.advance(0, monotonic_s=limits.LEASE_S)
    sealer.run_due()
    assert context.store.beats() == {}


@pytest.mark.parametrize(("silent_s", "alive"), [(limits.LEASE_S - 0.001, 1), (limits.LEASE_S, 0)])
def test_a_silent_worker_lives_for_a_lease(tmp_path: Path, silent_s: float, alive: int) -> None:
    """A worker is declared dead when the sealer has seen its beat stand still for a lease, and not a moment before."""
    clock = FakeClock(H)
    context: Context = opened(tmp_path, clock)
    Hand(context)
    sealer = sealer_of(context)
    sealer.run_due()
    clock.advance(0, monotonic_s=silent_s)
    sealer.run_due()
    assert len(context.store.beats()) == alive
