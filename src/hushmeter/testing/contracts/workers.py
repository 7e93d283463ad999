"""What every `WorkerStore` promises."""

from __future__ import annotations

from typing import Final

import pytest

from hushmeter import limits
from hushmeter.errors import InvariantError, LeaseLost, StateConflict, WindowClosed
from hushmeter.ports import WorkerStore
from hushmeter.testing.contracts.state_values import day, hour

LEASE_MS: Final = int(limits.LEASE_S * 1_000)
UNSEEN_MS: Final = int(2 * limits.SERVING_MARK_S * 1_000)


class WorkerStoreContract:
    """Leases, serving times, registration and closing."""

    def test_beats(self, store: WorkerStore) -> None:
        """A worker's beats are counted from 0 until it is retired."""
        store.start_worker("a", 100)
        store.start_worker("b", 100)
        assert store.beats() == {"a": 0, "b": 0}
        store.beat("a", 200)
        store.beat("a", 300)
        store.retire_worker("b", 300)
        assert store.beats() == {"a": 2}

    def test_workers_names_are_used_once(self, store: WorkerStore) -> None:
        """A worker cannot take the name of an earlier one, not even of one that has ended."""
        store.start_worker("a", 100)
        store.retire_worker("a", 200)
        with pytest.raises(StateConflict):
            store.start_worker("a", 300)

    @pytest.mark.parametrize("retired_at", [500, None])
    def test_lease_lost(self, store: WorkerStore, retired_at: int | None) -> None:
        """Whatever a worker calls after it ended is refused, and its life grows no longer."""
        store.start_worker("a", 100)
        store.beat("a", 400)
        if retired_at is None:
            assert store.declare_dead("a", 1)
        else:
            store.retire_worker("a", retired_at)
        assert store.beats() == {}
        for call in (
            lambda: store.beat("a", 900),
            lambda: store.retire_worker("a", 900),
            lambda: store.register_segment("a", "s", hour(0), [hour(0)]),
            lambda: store.beat("never started", 900),
        ):
            with pytest.raises(LeaseLost):
                call()
        assert store.segments([0]) == ()

    def test_declared_dead_twice(self, store: WorkerStore) -> None:
        """Declaring an ended worker dead does nothing, so that sealer and worker may race."""
        store.start_worker("a", 100)
        store.retire_worker("a", 500)
        for worker in ("a", "never started"):
            assert not store.declare_dead(worker, 0)
        assert store.beats() == {}

    def test_a_worker_that_beats_is_not_declared_dead(self, store: WorkerStore) -> None:
        """A worker that has beaten since somebody counted its beats lives on; others are not touched."""
        for worker in ("a", "b"):
            store.start_worker(worker, 100)
        store.beat("a", 200)
        for counted in (0, 2):
            assert not store.declare_dead("a", counted)
        store.beat("a", 300)
        assert store.declare_dead("a", 2)
        assert store.beats() == {"b": 0}

    def test_union(self, store: WorkerStore) -> None:
        """Serving time is the length of the union of all times and a lease each, clipped to the window, counted once."""
        for started, ended in [(100, 300), (200, 400), (210, 220), (600, 900), (950, 950)]:
            number = store.begin_serving(started * LEASE_MS)
            store.mark_serving(number, ended * LEASE_MS, ends=True)

        def leases(start: int, end: int) -> float:
            return store.serving_ms(start * LEASE_MS, end * LEASE_MS) / LEASE_MS

        assert leases(0, 1_000) == 301 + 301 + 1
        assert leases(150, 250) == 100
        assert leases(350, 700) == 51 + 100
        assert leases(400, 600) == 1
        assert leases(401, 600) == leases(951, 2_000) == 0

    def test_a_service_that_is_there(self, store: WorkerStore) -> None:
        """One whose end was not recorded serves, however long ago it was marked; one that has ended is marked no more."""
        number = store.begin_serving(100)
        store.mark_serving(number, 200)
        assert store.serving_ms(0, 99_000_000) == 99_000_000 - 100
        store.mark_serving(number, 500, ends=True)
        store.mark_serving(number, 90_000)
        assert store.serving_ms(0, 99_000_000) == 400 + LEASE_MS

    @pytest.mark.parametrize("later_ms", [0, 1, 50_000, UNSEEN_MS, UNSEEN_MS + 1, 99_000_000])
    def test_an_end_that_nobody_saw(self, store: WorkerStore, later_ms: int) -> None:
        """It comes two marks after the last one, or with the next start."""
        number = store.begin_serving(100)
        store.mark_serving(number, 1_000)
        store.begin_serving(1_000 + later_ms)
        told = store.serving_ms(0, 1_000 + later_ms)
        assert told == 900 + min(later_ms, UNSEEN_MS + LEASE_MS)

    def test_clock_set_back(self, store: WorkerStore) -> None:
        """A mark at an earlier moment than the last one takes nothing away."""
        number = store.begin_serving(100)
        store.mark_serving(number, 500)
        store.mark_serving(number, 300)
        store.mark_serving(number, 200, ends=True)
        assert store.serving_ms(0, 99_000) == 400 + LEASE_MS

    def test_registered(self, store: WorkerStore) -> None:
        """Segments are numbered from 1 in the order of registration, open and without frames."""
        store.start_worker("w", 0)
        first = store.register_segment("w", "s1", hour(5), [hour(5), day(0)])
        second = store.register_segment("w", "s2", hour(3), [hour(3), day(0)])
        assert first.closed_windows == second.closed_windows == frozenset()
        assert (first.segment.sequence, second.segment.sequence) == (1, 2)
        assert (first.segment.closed, first.segment.frames, first.segment.worker_id) == (False, 0, "w")
        assert store.segments([hour(3).start_ms, hour(5).start_ms]) == (first.segment, second.segment)
        assert store.segments([hour(5).start_ms]) == (first.segment,)
        assert store.segments([hour(3).start_ms, hour(5).start_ms], last_segment=1) == (first.segment,)
        assert store.segments([]) == store.segments([hour(4).start_ms]) == ()

    def test_segments_names_are_used_once(self, store: WorkerStore) -> None:
        """A segment's name is registered once."""
        store.start_worker("w", 0)
        store.register_segment("w", "s", hour(0), [hour(0)])
        with pytest.raises(StateConflict):
            store.register_segment("w", "s", hour(1), [hour(1)])
        assert store.segments([hour(1).start_ms]) == ()

    def test_closed_once(self, store: WorkerStore) -> None:
        """The first to close a segment fixes its frames; later ones change nothing."""
        store.start_worker("w", 0)
        store.register_segment("w", "s", hour(0), [hour(0)])
        store.close_segment("s", 7)
        store.close_segment("s", 9)
        (segment,) = store.segments([0])
        assert (segment.closed, segment.frames) == (True, 7)

    def test_unknown_segment(self, store: WorkerStore) -> None:
        """Closing a segment that was never registered is a defect."""
        with pytest.raises(InvariantError, match="never registered"):
            store.close_segment("nobody", 1)

    def test_scrubbed(self, store: WorkerStore) -> None:
        """A scrubbed storage window takes no segment; the others do; scrubbing again does nothing."""
        store.start_worker("w", 0)
        store.mark_scrubbed(0)
        store.mark_scrubbed(0)
        with pytest.raises(WindowClosed, match="scrubbed"):
            store.register_segment("w", "s", hour(0), [hour(0)])
        assert store.segments([0]) == ()
        store.register_segment("w", "s", hour(1), [hour(1)])
