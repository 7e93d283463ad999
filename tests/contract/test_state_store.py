"""The contract of `StateStore`, on a file of SQLite and in memory."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from hushmeter import limits
from hushmeter.access.credentials import AccessLine, Credential
from hushmeter.access.roles import Role
from hushmeter.consent.register import ConsentRegister
from hushmeter.errors import (
    BudgetExhausted,
    ConfigError,
    InvariantError,
    LeaseLost,
    StateConflict,
    WindowClosed,
)
from hushmeter.model.consent import ERASURE, NEVER, Decision
from hushmeter.model.ledger import GENESIS, DraftEntry, PrivacyBudget, PrivacyLoss, Spending, chain_hash
from hushmeter.model.measurement import Currency
from hushmeter.model.plan import Purpose
from hushmeter.model.release import NoisyVector, Release
from hushmeter.model.states import WindowState
from hushmeter.model.stored import Approval, Decided
from hushmeter.model.time import DAY_MS, HOUR_MS, WEEK_MS, Window
from hushmeter.ports import Deployment, StateStore
from hushmeter.storage.state import credentials, schema, windows
from hushmeter.storage.state import decisions as records
from hushmeter.storage.state import store as state
from hushmeter.storage.state.store import SqlStateStore
from hushmeter.testing.state import memory_state_store
from tests.contract.state_values import (
    ALL_BEGUN,
    BLOCKS,
    BUDGET,
    DEPLOYMENT,
    RHO,
    SELECTING,
    cost,
    day,
    decide,
    entry,
    everything,
    hour,
    lose,
    publish,
    release,
    seal,
    selected,
    state_of,
    url_of,
)
from tests.patience import PATIENCE_S

LEASE_MS = int(limits.LEASE_S * 1_000)
UNSEEN_MS = int(2 * limits.SERVING_MARK_S * 1_000)
TUNING = Purpose("tuning", "Tune models.")


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStateStore]:
    """A new store of each kind."""
    opened = SqlStateStore.open(url_of(tmp_path)) if request.param == "file" else memory_state_store()
    yield opened
    opened.close()


def test_a_keys_first_fingerprint_stays(store: SqlStateStore) -> None:
    """What is recorded of a key is what was recorded first; of one that was never used nothing is known."""
    assert store.key_fingerprint("data/1") is None
    assert store.record_key("data/1", b"first") == b"first"
    assert store.record_key("data/1", b"second") == b"first"
    assert (store.key_fingerprint("data/1"), store.key_fingerprint("data/2")) == (b"first", None)


def noise_of(vector: NoisyVector) -> tuple[object, ...]:
    """What a vector says of its noise."""
    return vector.mechanism, vector.scale, vector.loss, vector.delta, vector.threshold


class TestFoundation:
    """A store is founded once."""

    def test_new(self, store: StateStore) -> None:
        """A new store has no deployment and no series, and today's schema."""
        assert store.deployment() is None
        assert store.series_blocks() == ()
        assert store.schema_version() == schema.SCHEMA_VERSION

    def test_approvals(self, store: StateStore) -> None:
        """Approvals of a recorded version are replaced; nothing else of it changes, and no other version has any."""
        first, second = Approval("é", bytes(32), bytes(64)), Approval("b", bytes(range(32)), bytes(range(64)))
        store.found(DEPLOYMENT, BLOCKS, [first])
        (before,) = store.plan_versions()
        assert before.approvals == (first,)
        store.approve_plan(before.version, [second, first])
        assert store.plan_versions() == (dataclasses.replace(before, approvals=(second, first)),)
        with pytest.raises(InvariantError, match="never recorded"):
            store.approve_plan(before.version + 1, [first])

    def test_founded(self, store: StateStore) -> None:
        """A founded store gives back the deployment exactly, and its blocks by first number."""
        store.found(DEPLOYMENT, BLOCKS)
        assert store.deployment() == DEPLOYMENT
        assert store.series_blocks() == tuple(sorted(BLOCKS))

    @pytest.mark.parametrize("currency", Currency)
    def test_budget(self, store: StateStore, currency: Currency) -> None:
        """A budget comes back in its currency, with exact fractions that no float holds (C1, C2)."""
        loss = PrivacyLoss(Fraction(10**40 + 1, 3 * 10**40), Fraction(1, 7 * 10**12))
        founded = dataclasses.replace(DEPLOYMENT, budget=PrivacyBudget(1 / 3, 1e-9, currency, loss))
        store.found(founded, [])
        found = store.deployment()
        assert found == founded
        assert found.budget.loss == loss
        assert found.budget.currency is currency

    def test_founded_once(self, store: StateStore) -> None:
        """A second foundation is refused and changes nothing."""
        store.found(DEPLOYMENT, BLOCKS)
        other = Deployment("ef" * 16, 0, 4, "00", "", BUDGET)
        with pytest.raises(StateConflict, match="founded before"):
            store.found(other, [])
        assert store.deployment() == DEPLOYMENT
        assert len(store.series_blocks()) == 2


class TestWorkers:
    """Leases."""

    def test_beats(self, store: StateStore) -> None:
        """A worker's beats are counted from 0 until it is retired."""
        store.start_worker("a", 100)
        store.start_worker("b", 100)
        assert store.beats() == {"a": 0, "b": 0}
        store.beat("a", 200)
        store.beat("a", 300)
        store.retire_worker("b", 300)
        assert store.beats() == {"a": 2}

    def test_names_are_used_once(self, store: StateStore) -> None:
        """A worker cannot take the name of an earlier one, not even of one that has ended."""
        store.start_worker("a", 100)
        store.retire_worker("a", 200)
        with pytest.raises(StateConflict):
            store.start_worker("a", 300)

    @pytest.mark.parametrize("retired_at", [500, None])
    def test_lease_lost(self, store: StateStore, retired_at: int | None) -> None:
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

    def test_declared_dead_twice(self, store: StateStore) -> None:
        """Declaring an ended worker dead does nothing, so that sealer and worker may race."""
        store.start_worker("a", 100)
        store.retire_worker("a", 500)
        for worker in ("a", "never started"):
            assert not store.declare_dead(worker, 0)
        assert store.beats() == {}

    def test_a_worker_that_beats_is_not_declared_dead(self, store: StateStore) -> None:
        """A worker that has beaten since somebody counted its beats lives on; others are not touched."""
        for worker in ("a", "b"):
            store.start_worker(worker, 100)
        store.beat("a", 200)
        for counted in (0, 2):
            assert not store.declare_dead("a", counted)
        store.beat("a", 300)
        assert store.declare_dead("a", 2)
        assert store.beats() == {"b": 0}


class TestServing:
    """When the service was there."""

    def test_union(self, store: StateStore) -> None:
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

    def test_a_service_that_is_there(self, store: StateStore) -> None:
        """One whose end was not recorded serves, however long ago it was marked; one that has ended is marked no more."""
        number = store.begin_serving(100)
        store.mark_serving(number, 200)
        assert store.serving_ms(0, 99_000_000) == 99_000_000 - 100
        store.mark_serving(number, 500, ends=True)
        store.mark_serving(number, 90_000)
        assert store.serving_ms(0, 99_000_000) == 400 + LEASE_MS

    @pytest.mark.parametrize("later_ms", [0, 1, 50_000, UNSEEN_MS, UNSEEN_MS + 1, 99_000_000])
    def test_an_end_that_nobody_saw(self, store: StateStore, later_ms: int) -> None:
        """It comes two marks after the last one, or with the next start."""
        number = store.begin_serving(100)
        store.mark_serving(number, 1_000)
        store.begin_serving(1_000 + later_ms)
        told = store.serving_ms(0, 1_000 + later_ms)
        assert told == 900 + min(later_ms, UNSEEN_MS + LEASE_MS)

    def test_clock_set_back(self, store: StateStore) -> None:
        """A mark at an earlier moment than the last one takes nothing away."""
        number = store.begin_serving(100)
        store.mark_serving(number, 500)
        store.mark_serving(number, 300)
        store.mark_serving(number, 200, ends=True)
        assert store.serving_ms(0, 99_000) == 400 + LEASE_MS


class TestSegments:
    """Registration and closing."""

    def test_registered(self, store: StateStore) -> None:
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

    def test_names_are_used_once(self, store: StateStore) -> None:
        """A segment's name is registered once."""
        store.start_worker("w", 0)
        store.register_segment("w", "s", hour(0), [hour(0)])
        with pytest.raises(StateConflict):
            store.register_segment("w", "s", hour(1), [hour(1)])
        assert store.segments([hour(1).start_ms]) == ()

    def test_closed_once(self, store: StateStore) -> None:
        """The first to close a segment fixes its frames; later ones change nothing."""
        store.start_worker("w", 0)
        store.register_segment("w", "s", hour(0), [hour(0)])
        store.close_segment("s", 7)
        store.close_segment("s", 9)
        (segment,) = store.segments([0])
        assert (segment.closed, segment.frames) == (True, 7)

    def test_unknown_segment(self, store: StateStore) -> None:
        """Closing a segment that was never registered is a defect."""
        with pytest.raises(InvariantError, match="never registered"):
            store.close_segment("nobody", 1)

    def test_order_against_closing(self, store: StateStore) -> None:
        """A segment is either covered by a window's `last_segment` or told that the window is closed, never neither."""
        store.start_worker("w", 0)
        over = [hour(0), day(0)]
        before = store.register_segment("w", "before", hour(0), over)
        closing = store.begin_closing(hour(0), hour(0).end_ms)
        after = store.register_segment("w", "after", hour(0), over)
        assert before.segment.sequence <= closing.last_segment < after.segment.sequence
        assert before.closed_windows == frozenset()
        assert after.closed_windows == {("1h", 0)}
        covered = store.segments([0], last_segment=closing.last_segment)
        assert [s.segment_id for s in covered] == ["before"]
        store.begin_closing(day(0), day(0).end_ms)
        assert store.register_segment("w", "last", hour(0), over).closed_windows == {("1h", 0), ("1d", 0)}
        assert store.register_segment("w", "else", hour(1), [hour(1), day(1)]).closed_windows == frozenset()

    def test_scrubbed(self, store: StateStore) -> None:
        """A scrubbed storage window takes no segment; the others do; scrubbing again does nothing."""
        store.start_worker("w", 0)
        assert not store.scrubbed(0)
        store.mark_scrubbed(0)
        store.mark_scrubbed(0)
        assert store.scrubbed(0)
        assert not store.scrubbed(HOUR_MS)
        with pytest.raises(WindowClosed, match="scrubbed"):
            store.register_segment("w", "s", hour(0), [hour(0)])
        assert store.segments([0]) == ()
        store.register_segment("w", "s", hour(1), [hour(1)])


class TestWindows:
    """The life of a window."""

    def test_life(self, store: StateStore) -> None:
        """A window goes from OPEN through CLOSING and FIXED to RELEASED or LOST."""
        assert store.windows(ALL_BEGUN) == ()
        record = store.begin_closing(hour(0), hour(0).end_ms)
        assert (record.window, record.state, record.last_segment) == (hour(0), WindowState.CLOSING, 0)
        assert store.windows([WindowState.CLOSING]) == (record,)
        store.mark_fixed(hour(0))
        assert state_of(store, hour(0)) is WindowState.FIXED
        publish(store, hour(0))
        assert state_of(store, hour(0)) is WindowState.RELEASED
        seal(store, hour(1))
        lose(store, hour(1))
        assert [r.window for r in store.windows([WindowState.LOST])] == [hour(1)]
        assert store.windows([]) == ()

    def test_order(self, store: StateStore) -> None:
        """Windows come by end, and by resolution where they end together."""
        for window in (hour(22), hour(23), day(0), hour(24)):
            store.begin_closing(window, window.end_ms)
        assert [r.window for r in store.windows(ALL_BEGUN)] == [hour(22), day(0), hour(23), hour(24)]

    def test_begin_closing_twice(self, store: StateStore) -> None:
        """A window that has begun keeps its record, whatever was registered or happened since."""
        store.start_worker("w", 0)
        first = store.begin_closing(hour(0), hour(0).end_ms)
        store.register_segment("w", "s", hour(0), [hour(0)])
        assert store.begin_closing(hour(0), hour(0).end_ms) == first
        store.mark_fixed(hour(0))
        publish(store, hour(0))
        assert store.begin_closing(hour(0), hour(0).end_ms).state is WindowState.RELEASED

    def test_strict_time_order(self, store: StateStore) -> None:
        """Windows of one resolution close in time order alone; another resolution has its own order (P7)."""
        store.begin_closing(hour(5), hour(5).end_ms)
        for earlier in (hour(4), Window("1h", 5 * HOUR_MS + 1, 6 * HOUR_MS + 1)):
            with pytest.raises(StateConflict, match="in time order"):
                store.begin_closing(earlier, earlier.end_ms)
        store.begin_closing(day(0), day(0).end_ms)
        store.begin_closing(hour(6), hour(6).end_ms)
        assert state_of(store, hour(4)) is WindowState.OPEN

    def test_last_window_start(self, store: StateStore) -> None:
        """The newest window that left OPEN is known for each resolution."""
        assert store.last_window_start("1h") is None
        store.begin_closing(hour(5), hour(5).end_ms)
        seal(store, hour(7))
        assert store.last_window_start("1h") == hour(7).start_ms
        assert store.last_window_start("1d") is None

    def test_no_shortcuts(self, store: StateStore) -> None:
        """No step can be left out or taken twice."""
        ended, closing = hour(0), hour(1)
        seal(store, ended)
        publish(store, ended)
        store.begin_closing(closing, closing.end_ms)
        for window in (ended, hour(2)):
            with pytest.raises(StateConflict):
                store.mark_fixed(window)
        for window in (ended, closing, hour(2)):
            with pytest.raises(StateConflict, match="FIXED"):
                publish(store, window)
            with pytest.raises(StateConflict, match="FIXED"):
                lose(store, window)
        assert state_of(store, closing) is WindowState.CLOSING
        assert cost(store) == RHO

    def test_sealed_only_when_segments_are_final(self, store: StateStore) -> None:
        """A window is not sealed over an open segment that may hold its rows, but over later and other ones it is."""
        store.start_worker("w", 0)
        store.register_segment("w", "mine", hour(0), [hour(0)])
        store.register_segment("w", "other window", hour(1), [hour(1)])
        store.begin_closing(hour(0), hour(0).end_ms)
        store.register_segment("w", "later", hour(0), [hour(0)])
        with pytest.raises(InvariantError, match="still open"):
            store.mark_fixed(hour(0))
        assert state_of(store, hour(0)) is WindowState.CLOSING
        store.close_segment("mine", 1)
        store.mark_fixed(hour(0))


class TestPublishing:
    """Charge and release are one transaction."""

    def test_published(self, store: StateStore) -> None:
        """A publication shows its releases, its entries and its cost."""
        seal(store, hour(0))
        publish(store, hour(0), period_start_ms=WEEK_MS)
        assert store.spent(WEEK_MS) == (Spending("call_setup/platform/1h/units", 1_000, PrivacyLoss(Fraction(1, 6)), 2),)
        assert cost(store, WEEK_MS) == RHO
        assert store.spent(0) == ()
        assert [e.fields["loss"] for e in store.ledger()] == ["1/6", "1/6"]
        ((number, found),) = store.releases("call_setup", ("platform",), "1h", 0, HOUR_MS)
        made = release(hour(0))
        assert number == 1
        assert (found.key, found.window_end_ms, found.published_at_ms) == (
            made.key,
            made.window_end_ms,
            made.published_at_ms,
        )
        assert found.completeness == 0.25
        assert found.vectors.keys() == made.vectors.keys()
        for name, vector in made.vectors.items():
            np.testing.assert_array_equal(found.vectors[name].values, vector.values)
            assert noise_of(found.vectors[name]) == noise_of(vector)
        assert found.keys is None

    def test_selected(self, store: StateStore) -> None:
        """A release of private partitions comes back with its partitions, its threshold and its delta."""
        seal(store, hour(0))
        made = selected(hour(0))
        delta = Fraction(1, 10**9)
        store.publish(hour(0), [made], [entry(RHO, delta=delta)], 0, SELECTING, {})
        ((_, found),) = store.releases("calls", ("app_version",), "1h", 0, HOUR_MS)
        assert found.keys == made.keys
        assert found.key == made.key
        for name, vector in made.vectors.items():
            np.testing.assert_array_equal(found.vectors[name].values, vector.values)
            assert noise_of(found.vectors[name]) == noise_of(vector)
        assert store.spent(0) == (Spending("call_setup/platform/1h/units", 1_000, PrivacyLoss(RHO, delta)),)

    def test_entries_of_releases(self, store: StateStore) -> None:
        """Of a metric, view and resolution the entries of windows that end in a span are found, and no others."""
        for number in range(4):
            seal(store, hour(number))
            publish(store, hour(number), rho=RHO / 4)
        entries = list(store.ledger())
        found = store.charged("call_setup", ("platform",), "1h", 2 * HOUR_MS, 3 * HOUR_MS)
        assert found == entries[2:6]
        assert store.charged("call_setup", (), "1h", 0, DAY_MS) == []
        assert store.charged("call_setup", ("platform",), "1d", 0, DAY_MS) == []
        assert store.charged("call", ("platform",), "1h", 0, DAY_MS) == []
        assert store.checkpoints() == {}

    def test_every_release(self, store: StateStore) -> None:
        """All releases are read by number, of whatever metric, and more than a page of them."""
        seal(store, hour(0))
        made = [
            release(hour(0)),
            *(release(hour(0), f"m{n}") for n in range(state.RELEASES_PER_PAGE + 1)),
            selected(hour(0)),
        ]
        store.publish(hour(0), made, [entry(RHO)], 0, BUDGET, {})
        read = list(store.every_release())
        assert [number for number, _ in read] == list(range(1, len(made) + 1))
        assert [r.key for _, r in read if isinstance(r, Release)] == [r.key for r in made]

    def test_window_without_metrics(self, store: StateStore) -> None:
        """A window that releases nothing costs nothing and ends all the same."""
        seal(store, hour(0))
        store.publish(hour(0), [], [], 0, BUDGET, {})
        assert state_of(store, hour(0)) is WindowState.RELEASED
        assert list(store.ledger()) == []

    def test_lost(self, store: StateStore) -> None:
        """A lost window is charged in full and releases nothing (C6)."""
        seal(store, hour(0))
        lose(store, hour(0))
        state_now, _, _, found, kept = everything(store, hour(0))
        assert (state_now, found, kept) == (WindowState.LOST, [], None)
        assert cost(store) == RHO

    def test_chain(self, store: StateStore) -> None:
        """The chain has no gap and no fork across publications and losses of several resolutions and periods."""
        for window in (hour(0), hour(1), day(0), hour(2)):
            seal(store, window)
        publish(store, hour(0), rho=Fraction(1, 10))
        lose(store, hour(1), rho=Fraction(1, 7))
        publish(store, day(0), rho=Fraction(1, 9), period_start_ms=WEEK_MS)
        publish(store, hour(2), rho=Fraction(1, 10))
        previous = GENESIS
        entries = list(store.ledger())
        assert [e.sequence for e in entries] == list(range(1, 8))
        for link in entries:
            assert link.previous_hash == previous
            previous = chain_hash(previous, link.content)
            assert link.entry_hash == previous
        assert list(store.ledger(5)) == entries[4:]
        assert list(store.ledger(8)) == []
        assert cost(store) == Fraction(1, 10) + Fraction(1, 7) + Fraction(1, 10)
        assert cost(store, WEEK_MS) == Fraction(1, 9)

    def test_budget_is_exact(self, store: StateStore) -> None:
        """Three thirds spend a budget of one to the last; nothing more can be spent, however little (C2)."""
        for number in range(4):
            seal(store, hour(number))
            if number < 3:
                publish(store, hour(number))
        assert cost(store) == BUDGET.loss.amount
        before = everything(store, hour(3))
        little = Fraction(1, 10**30)
        for call in (lambda: publish(store, hour(3), rho=little), lambda: lose(store, hour(3), rho=little)):
            with pytest.raises(BudgetExhausted, match=r"1h 1970-01-01T03:00:00Z .* 0 remains"):
                call()
            assert everything(store, hour(3)) == before
        publish(store, hour(3), rho=little, period_start_ms=WEEK_MS)

    def test_equal_charges_are_counted(self, store: StateStore) -> None:
        """What a period was charged is told by series, cap and price: equal ones once, with their number (C2)."""
        for number in range(3):
            seal(store, hour(number))
            entries = [entry(Fraction(1, 10), number), entry(Fraction(1, 20), number, measurement="sum", cap=2)]
            store.publish(hour(number), [], entries, 0, BUDGET, {})
        seal(store, day(0))
        store.publish(day(0), [], [entry(Fraction(1, 7))], 0, BUDGET, {})
        units, sums = "call_setup/platform/1h/units", "call_setup/platform/1h/sum"
        assert set(store.spent(0)) == {
            Spending(units, 1_000, PrivacyLoss(Fraction(1, 10)), 3),
            Spending(units, 1_000, PrivacyLoss(Fraction(1, 7)), 1),
            Spending(sums, 2, PrivacyLoss(Fraction(1, 20)), 3),
        }
        assert cost(store) == Fraction(3, 10) + Fraction(1, 7) + Fraction(2, 20)

    def test_capped_series_cost_their_largest(self, store: StateStore) -> None:
        """Windows beyond a series' cap cost nothing more; in another series the same charge does not fit (C2, P7)."""
        for number in range(6):
            seal(store, hour(number))
            store.publish(hour(number), [], [entry(Fraction(1, 2), number, cap=2)], 0, BUDGET, {})
        assert cost(store) == BUDGET.loss.amount
        assert len(list(store.ledger())) == 6
        seal(store, hour(6))
        for more in (entry(Fraction(1, 2), cap=2, measurement="sum"), entry(Fraction(1, 2) + Fraction(1, 10**30), cap=2)):
            with pytest.raises(BudgetExhausted):
                store.publish(hour(6), [], [more], 0, BUDGET, {})
        store.publish(hour(6), [], [entry(Fraction(1, 2), cap=2)], 0, BUDGET, {})

    def test_delta_is_exact(self, store: StateStore) -> None:
        """Partition selection spends its share of delta to the last; a little more is refused and changes nothing (C5)."""
        share = SELECTING.loss.delta / 3
        for number in range(4):
            seal(store, hour(number))
            if number < 3:
                store.publish(hour(number), [], [entry(Fraction(1, 10), delta=share)], 0, SELECTING, {})
        before = everything(store, hour(3))
        for spending in (entry(Fraction(1, 10), delta=Fraction(1, 10**60)), entry(Fraction(1, 10**9), delta=share)):
            with pytest.raises(BudgetExhausted, match=r"1h 1970-01-01T03:00:00Z .* and delta "):
                store.publish(hour(3), [release(hour(3))], [spending], 0, SELECTING, {"call_setup": b"new"})
            assert everything(store, hour(3)) == before
        store.publish(hour(3), [], [entry(Fraction(1, 10))], 0, SELECTING, {})

    def test_entries_say_what_they_spend(self, store: StateStore) -> None:
        """An entry whose content states another spending than its draft, or none, is a defect and changes nothing."""
        seal(store, hour(0))
        before = everything(store, hour(0))
        honest = entry(RHO, delta=Fraction(1, 10**10))
        others = [
            dataclasses.replace(honest.spending, loss=PrivacyLoss(RHO / 2, honest.spending.loss.delta)),
            dataclasses.replace(honest.spending, loss=PrivacyLoss(RHO)),
            dataclasses.replace(honest.spending, series="call_setup/platform/1d/units"),
            dataclasses.replace(honest.spending, cap=7),
            dataclasses.replace(honest.spending, count=2),
        ]
        drafts = [DraftEntry(honest.content, spending) for spending in others]
        drafts += [DraftEntry(content, honest.spending) for content in ("{}", '{"loss":"1/3"}', "[]", "no JSON")]
        free = entry(Fraction(0))
        for draft in [*drafts, free]:
            for entries in ([draft], [honest, draft], [draft, honest]):
                with pytest.raises(InvariantError, match="does not say what it spends"):
                    store.publish(hour(0), [release(hour(0))], entries, 0, SELECTING, {"call_setup": b"new"})
                assert everything(store, hour(0)) == before
        with pytest.raises(InvariantError, match="does not say what it spends"):
            store.mark_lost(hour(0), [drafts[0]], 0, SELECTING)
        assert everything(store, hour(0)) == before

    def test_entries_name_the_period_that_pays(self, store: StateStore) -> None:
        """An entry of another period than the one that is charged is a defect: whoever adds the ledger up would differ."""
        seal(store, hour(0))
        before = everything(store, hour(0))
        with pytest.raises(InvariantError, match="period"):
            store.publish(hour(0), [release(hour(0))], [entry(RHO, period_start_ms=WEEK_MS)], 0, BUDGET, {})
        assert everything(store, hour(0)) == before

    def test_releases_of_another_window(self, store: StateStore) -> None:
        """A release of another window than the one that is published is a defect and changes nothing."""
        seal(store, hour(0))
        before = everything(store, hour(0))
        with pytest.raises(InvariantError, match="is not of window"):
            store.publish(hour(0), [release(hour(1))], [entry(RHO)], 0, BUDGET, {})
        assert everything(store, hour(0)) == before

    def test_drawn_once(self, store: StateStore) -> None:
        """A release that exists is not drawn again: the unique key refuses it, with the whole publication (C4)."""
        seal(store, hour(0))
        before = everything(store, hour(0))
        twice = [release(hour(0)), release(hour(0), "other"), release(hour(0))]
        with pytest.raises(StateConflict):
            store.publish(hour(0), twice, [entry(RHO)], 0, BUDGET, {"call_setup": b"new"})
        assert everything(store, hour(0)) == before
        other_views = [release(hour(0)), release(hour(0), view=()), release(hour(0), "other")]
        store.publish(hour(0), other_views, [entry(RHO)], 0, BUDGET, {})

    @pytest.mark.parametrize(
        "moment",
        [
            "UPDATE windows",
            "INSERT INTO ledger",
            "INSERT INTO releases",
            "DELETE FROM kept_windows",
            "INSERT INTO kept_windows",
            "COMMIT",
        ],
    )
    def test_all_or_nothing(self, store: StateStore, moment: str) -> None:
        """A publication that fails at any of its statements, or at its commit, has changed nothing (C4, P7)."""
        seal(store, hour(0))
        publish(store, hour(0), kept={"call_setup": b"old"})
        seal(store, hour(1))
        before = everything(store, hour(1))
        assert before[-1] == b"old"

        def fail(*arguments: Any) -> None:
            if moment == "COMMIT" or arguments[2].startswith(moment):
                raise OSError(moment)

        event = "commit" if moment == "COMMIT" else "before_cursor_execute"
        sa.event.listen(sa.Engine, event, fail)
        try:
            with pytest.raises(OSError, match=moment):
                publish(store, hour(1), kept={"call_setup": b"new"})
        finally:
            sa.event.remove(sa.Engine, event, fail)
        assert everything(store, hour(1)) == before
        publish(store, hour(1), kept={"call_setup": b"new"})
        assert len(list(store.ledger())) == 4
        assert everything(store, hour(1))[-1] == b"new"

    def test_threads_race(self, store: StateStore) -> None:
        """Of threads that publish the same window exactly one wins, and it is charged once."""
        seal(store, hour(0))
        start = threading.Barrier(4)

        def attempt(_: int) -> bool:
            start.wait(PATIENCE_S)
            try:
                publish(store, hour(0))
            except StateConflict:
                return False
            return True

        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(attempt, range(4))) == 1
        assert cost(store) == RHO
        assert len(list(store.ledger())) == 2


class TestKeptWindows:
    """The sets of bounded participation change with a publication, and not otherwise (P7)."""

    def test_kept(self, store: StateStore) -> None:
        """A publication replaces the sets that it brings, of its own resolution and period alone; others stay."""
        assert store.kept_windows("call_setup", "1h", 0) is None
        seal(store, hour(0))
        publish(store, hour(0), rho=Fraction(1, 10), kept={"call_setup": b"one", "calls": b"\x00" * 99})
        seal(store, hour(1))
        publish(store, hour(1), rho=Fraction(1, 10), kept={"call_setup": b"a longer one"})
        seal(store, day(0))
        publish(store, day(0), rho=Fraction(1, 10), kept={"call_setup": b"of days"})
        seal(store, hour(2))
        publish(store, hour(2), rho=Fraction(1, 10), period_start_ms=WEEK_MS, kept={"call_setup": b"of a week"})
        assert store.kept_windows("call_setup", "1h", 0) == b"a longer one"
        assert store.kept_windows("calls", "1h", 0) == b"\x00" * 99
        assert store.kept_windows("call_setup", "1d", 0) == b"of days"
        assert store.kept_windows("call_setup", "1h", WEEK_MS) == b"of a week"
        for nobody in (("calls", "1d", 0), ("calls", "1h", WEEK_MS), ("call_setup", "1h", 1)):
            assert store.kept_windows(*nobody) is None

    def test_a_publication_without_sets_keeps_them(self, store: StateStore) -> None:
        """A later window that brings no set leaves the set as it was."""
        for number, kept in enumerate(({"call_setup": b"one"}, {})):
            seal(store, hour(number))
            publish(store, hour(number), rho=Fraction(1, 10), kept=kept)
        assert store.kept_windows("call_setup", "1h", 0) == b"one"

    def test_missing_sets_are_told(self, store: StateStore) -> None:
        """A set is missing where an earlier window of its period was released without one, and not where none was."""

        def lacks(number: int, metric: str = "call_setup", period: int = 0) -> bool:
            return store.lacks_kept_windows(metric, "1h", period, hour(number).start_ms)

        seal(store, hour(0))
        lose(store, hour(0))
        seal(store, hour(1))
        publish(store, hour(1), kept={"call_setup": b"one"})
        assert [lacks(n) for n in range(4)] == [False] * 4
        assert [lacks(n, "calls") for n in range(4)] == [False, False, True, True]
        assert not lacks(3, "calls", period=hour(2).start_ms)
        assert not store.lacks_kept_windows("calls", "1d", 0, hour(3).start_ms)

    def test_loss_keeps_them(self, store: StateStore) -> None:
        """A window that is lost was nobody's: it is charged, and the sets stay as they were."""
        seal(store, hour(0))
        publish(store, hour(0), kept={"call_setup": b"one"})
        seal(store, hour(1))
        lose(store, hour(1))
        assert state_of(store, hour(1)) is WindowState.LOST
        assert store.kept_windows("call_setup", "1h", 0) == b"one"

    def test_refusal_keeps_them(self, store: StateStore) -> None:
        """A publication that the budget, the window's state or a release's key refuses changes no set."""
        seal(store, hour(0))
        publish(store, hour(0), kept={"call_setup": b"one"})
        seal(store, hour(1))
        before = everything(store, hour(1))
        new = {"call_setup": b"new", "calls": b"new"}
        with pytest.raises(BudgetExhausted):
            publish(store, hour(1), rho=Fraction(1), kept=new)
        with pytest.raises(StateConflict):
            publish(store, hour(0), kept=new)
        with pytest.raises(StateConflict):
            store.publish(hour(1), [release(hour(1))] * 2, [entry(RHO)], 0, BUDGET, new)
        with pytest.raises(InvariantError):
            store.publish(hour(1), [release(hour(0))], [entry(RHO)], 0, BUDGET, new)
        assert everything(store, hour(1)) == before
        assert store.kept_windows("calls", "1h", 0) is None

    def test_forgotten(self, store: StateStore) -> None:
        """A period's sets are forgotten together, those of other periods are not; forgetting twice does nothing."""
        for number, period in enumerate((0, WEEK_MS)):
            seal(store, hour(number))
            publish(store, hour(number), period_start_ms=period, kept={"call_setup": b"set", "calls": b"set"})
        store.forget_kept_windows(0)
        store.forget_kept_windows(0)
        for metric in ("call_setup", "calls"):
            assert store.kept_windows(metric, "1h", 0) is None
            assert store.kept_windows(metric, "1h", WEEK_MS) == b"set"
        assert cost(store) == RHO

    @pytest.mark.parametrize("size", [1, 6, 7, 8, 14, 15, 70])
    def test_parts(self, store: StateStore, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        """Sets longer than one part of storage come back whole and in order, also after a longer one stood there."""
        monkeypatch.setattr(windows, "KEPT_PART_BYTES", 7)
        for number, length in enumerate((77, size)):
            seal(store, hour(number))
            publish(store, hour(number), rho=Fraction(1, 10), kept={"call_setup": bytes(range(length))})
        assert store.kept_windows("call_setup", "1h", 0) == bytes(range(size))


class TestConsent:
    """The sequence of decisions."""

    def test_sequence(self, store: StateStore) -> None:
        """Decisions come back exactly, in the order in which they were recorded, up to any number."""
        assert store.decisions_after(0) == (0, ())
        assert store.record_decisions([], lambda: 7) == 7
        first = [Decision(bytes([n]) * 16, "tuning", n % 2 == 0, 1_000 + n) for n in range(5)]
        last = Decision(bytes(16), "é", True, 2_000, b"\x00hash", "de-CH", "settings")
        decide(store, *first, last)
        assert store.decisions_after(0) == (6, (*first, last))
        assert store.decisions_after(4) == (6, (first[4], last))
        assert store.decisions_after(1, 3) == (3, tuple(first[1:3]))
        assert store.decisions_after(3, 3) == (3, ())
        assert store.decisions_after(6) == (6, ())
        assert store.decisions_after(99) == (6, ())

    def test_receipts_have_one_order(self, store: StateStore) -> None:
        """A receipt is never before an earlier one, nor before a window's cut-off, whatever the clock says."""
        one = [Decision(bytes(16), "tuning", False, 0)]
        assert [store.record_decisions(one, lambda at=at: at) for at in (5, 3, 6)] == [5, 5, 6]  # type: ignore[misc]
        assert store.record_decisions([], lambda: 9, {bytes(16)}) == 9
        assert store.record_decisions(one, lambda: 8) == 9
        store.begin_closing(hour(0), HOUR_MS + 10)
        assert store.record_decisions(one, lambda: HOUR_MS) == HOUR_MS + 10
        assert [d.received_at_ms for d in store.decisions_after(0)[1]] == [5, 5, 6, 9, HOUR_MS + 10]
        assert store.erasures()[0].at_ms == 9

    def test_the_clock_is_read_under_the_lock(self, store: StateStore) -> None:
        """Who waits for another's transaction is received after it, and not when it began to wait (P8)."""
        inside, go_on, asked = threading.Event(), threading.Event(), []

        def slow() -> int:
            inside.set()
            assert go_on.wait(PATIENCE_S)
            asked.append("first")
            return 10

        def quick() -> int:
            asked.append("second")
            return 20

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(store.record_decisions, [Decision(bytes(16), "tuning", False, 0)], slow)
            assert inside.wait(PATIENCE_S)
            second = pool.submit(store.record_decisions, [Decision(bytes([1]) * 16, "tuning", False, 0)], quick)
            go_on.set()
            assert (first.result(), second.result()) == (10, 20)
        assert asked == ["first", "second"]
        assert [d.received_at_ms for d in store.decisions_after(0)[1]] == [10, 20]

    def test_a_window_keeps_the_consent_of_its_cut_off(self, store: StateStore) -> None:
        """What was received before the cut-off counts, however late the window begins to close; it stays so."""
        decide(store, *(Decision(bytes(16), "tuning", n % 2 == 0, HOUR_MS + n) for n in range(6)))
        record = store.begin_closing(hour(0), HOUR_MS + 4)
        assert record.decisions_through == 4
        decide(store, Decision(bytes(16), "tuning", False, HOUR_MS + 9))
        assert store.begin_closing(hour(0), HOUR_MS + 9) == record
        store.mark_fixed(hour(0))
        assert [r.decisions_through for r in store.windows(ALL_BEGUN)] == [4]
        assert store.begin_closing(hour(1), 2 * HOUR_MS).decisions_through == 7
        assert store.decisions_through([hour(2), hour(1), hour(0)]) == {hour(0): 4, hour(1): 7}
        assert store.decisions_through([]) == {}

    def test_before_the_first_decision(self, store: StateStore) -> None:
        """A window that closes before anybody has decided anything is sealed with nobody's consent."""
        assert store.begin_closing(hour(0), HOUR_MS).decisions_through == 0

    def test_what_one_unit_has_decided(self, store: StateStore) -> None:
        """Its own decisions, in order; and the newest of all that was received before a moment."""
        decide(store, *(Decision(bytes([n % 2]) * 16, "tuning", n < 2, 10 * n) for n in range(5)))
        assert [d.received_at_ms for d in store.decisions_of(bytes(16))] == [0, 20, 40]
        assert [d.given for d in store.decisions_of(bytes([1]) * 16)] == [True, False]
        assert store.decisions_of(bytes([2]) * 16) == ()
        assert [store.decided_before(at) for at in (0, 1, 10, 31, 2**61)] == [0, 1, 1, 4, 5]

    def test_how_far_units_have_decided(self, store: StateStore) -> None:
        """Newest decision and newest segment to be erased are told together."""
        assert store.decided() == Decided(0, 0)
        decide(store, Decision(bytes(16), "tuning", True, 5))
        store.start_worker("w", 0)
        store.register_segment("w", "s", hour(0), [hour(0)])
        store.record_decisions([Decision(bytes(16), "tuning", False, 6)], lambda: 6, {bytes(16)})
        assert store.decided() == Decided(2, 1)

    def test_pages(self, store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many decisions there are, so many are read at once; a register that follows takes in each, once."""
        monkeypatch.setattr(limits, "DECISIONS_PER_PAGE", 3)
        units = [bytes([n]) * 16 for n in range(7)]
        decide(store, *(Decision(unit, "tuning", True, n, TUNING.text_hash) for n, unit in enumerate(units)))
        assert [store.decisions_after(n)[0] for n in (0, 3, 5, 6, 7)] == [3, 6, 7, 7, 7]
        assert [len(store.decisions_after(n)[1]) for n in (0, 3, 5, 6, 7)] == [3, 3, 2, 1, 0]
        register = ConsentRegister([TUNING])
        assert register.follow(store.decisions_after)
        assert not register.follow(store.decisions_after)
        behind = ConsentRegister([TUNING])
        assert behind.follow(store.decisions_after, 5)
        assert (behind.sequence, behind.given_since(units)[:, 0].tolist()) == (5, [*range(5), NEVER, NEVER])
        assert (register.sequence, register.given_since(units)[:, 0].tolist()) == (7, list(range(7)))


class TestErasures:
    """Rows that wait for their removal (R3)."""

    def test_recorded(self, store: StateStore) -> None:
        """Erasures wait in order, each for the segments of its time, until they are ended; decisions come with them."""
        assert (store.erasures(), store.decided().erasing_through) == ((), 0)
        one, two = bytes([1]) * 16, bytes([2]) * 16
        assert store.record_decisions([Decision(one, "tuning", False, 0)], lambda: 5, {one}) == 5
        assert store.decided().erasing_through == 0
        store.start_worker("w", 0)
        for number in range(3):
            store.register_segment("w", f"{number:032x}", hour(0), [hour(0)])
        assert store.record_decisions([], lambda: 6, [two, one]) == 6
        found = store.erasures()
        assert [(e.subject, e.at_ms, e.last_segment) for e in found] == [(one, 5, 0), (two, 6, 3), (one, 6, 3)]
        assert [e.number for e in found] == sorted({e.number for e in found})
        assert store.decided().erasing_through == 3
        store.end_erasures(found[1].number)
        assert store.erasures() == found[2:]
        store.end_erasures(found[2].number)
        assert (store.erasures(), store.decided().erasing_through) == ((), 0)
        store.record_decisions([], lambda: 9, {two})
        assert store.erasures()[0].number > found[2].number

    def test_whole_or_not(self, store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """An erasure without its withdrawal is not recorded, nor the other way round."""

        def failing(*_: object) -> int:
            raise RuntimeError

        monkeypatch.setattr(records, "record_decisions", failing)
        with pytest.raises(RuntimeError):
            store.record_decisions([Decision(bytes(16), "tuning", False, 5)], lambda: 5, {bytes(16)})
        monkeypatch.undo()
        assert (store.erasures(), store.decisions_after(0)) == ((), (0, ()))

    def test_decisions_of_one_unit(self, store: StateStore) -> None:
        """How many there are of a unit is told, whatever others decided."""
        decide(store, *(Decision(bytes([n % 2]) * 16, "tuning", n < 3, n) for n in range(5)))
        assert [store.count_decisions(bytes([n]) * 16) for n in range(3)] == [3, 2, 0]

    def test_the_erasure_of_one_unit(self, store: StateStore) -> None:
        """Its newest receipt is told of a unit, also once its rows are gone; a withdrawal is no erasure."""
        one, other = bytes(16), bytes([1]) * 16
        for at_ms in (5, 9):
            store.record_decisions([Decision(one, "tuning", False, 0, source=ERASURE)], lambda at=at_ms: at, {one})  # type: ignore[misc]
        store.record_decisions([Decision(other, "tuning", False, 0), Decision(one, "tuning", False, 0)], lambda: 12)
        store.end_erasures(2)
        assert (store.erasures(), store.erased_at_ms(one), store.erased_at_ms(other)) == ((), 9, None)


class TestReading:
    """Pages."""

    def test_range(self, store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Releases come in time order, those that end in `(from, to]`, of one metric, view and resolution, page by page."""
        monkeypatch.setattr(state, "RELEASES_PER_PAGE", 3)
        for number in range(7):
            seal(store, hour(number))
            made = [release(hour(number)), release(hour(number), view=()), release(hour(number), "other")]
            store.publish(hour(number), made, [entry(Fraction(1, 10))], 0, BUDGET, {})
        seal(store, day(0))
        publish(store, day(0), rho=Fraction(1, 10))

        def ends(metric: str, view: tuple[str, ...], resolution: str, from_h: int, to_h: int) -> list[int]:
            found = store.releases(metric, view, resolution, from_h * HOUR_MS, to_h * HOUR_MS)
            return [r.window_end_ms // HOUR_MS for _, r in found]

        assert ends("call_setup", ("platform",), "1h", 0, 99) == [1, 2, 3, 4, 5, 6, 7]
        assert ends("call_setup", ("platform",), "1h", 2, 5) == [3, 4, 5]
        assert ends("call_setup", (), "1h", 0, 6) == [1, 2, 3, 4, 5, 6]
        assert ends("other", ("platform",), "1h", 6, 7) == [7]
        assert ends("call_setup", ("platform",), "1d", 0, 99) == [24]
        assert ends("call_setup", ("app_version",), "1h", 0, 99) == ends("call_setup", (), "1h", 7, 99) == []

    def test_ledger_pages(self, store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """The ledger is read whole across pages, also what is appended while it is read, and never blocks a writer."""
        monkeypatch.setattr(state, "LEDGER_ENTRIES_PER_PAGE", 2)
        for number in range(3):
            seal(store, hour(number))
        publish(store, hour(0), rho=Fraction(1, 10))
        publish(store, hour(1), rho=Fraction(1, 10))
        reading = store.ledger()
        assert next(reading).sequence == 1
        publish(store, hour(2), rho=Fraction(1, 10))
        assert [e.sequence for e in reading] == [2, 3, 4, 5, 6]


def test_conforms() -> None:
    """The SQL store is a `StateStore`, also for the type checker."""
    make: Callable[[], StateStore] = memory_state_store
    store = make()
    assert store.deployment() is None
    store.close()


class TestAccess:
    """Credentials and the access log."""

    def test_credentials(self, store: SqlStateStore) -> None:
        """Credentials come back as they were added, in order of creation, until they are read under their number."""
        assert store.credentials() == (0, ())
        one = Credential("a" * 16, "é one", Role.ANALYST, ("p", "q"), bytes(32), 7)
        two = Credential("0" * 16, "", Role.OPERATOR, (), bytes(range(32)), 8, expires_at_ms=99)
        store.add_credential(two)
        store.add_credential(one)
        assert store.credentials() == (2, (one, two))
        assert store.credentials(known=2) == (2, ())
        with pytest.raises(StateConflict):
            store.add_credential(two)

    def test_revoking(self, store: SqlStateStore) -> None:
        """A revocation is a change, is there once, and keeps its first time."""
        added = Credential("a" * 16, "one", Role.INGEST, (), bytes(32), 7)
        store.add_credential(added)
        assert not store.revoke_credential("b" * 16, 5)
        assert store.credentials(known=1) == (1, ())
        assert store.revoke_credential(added.credential_id, 50)
        assert store.revoke_credential(added.credential_id, 60)
        assert store.credentials(known=1) == (2, (dataclasses.replace(added, revoked_at_ms=50),))

    def test_credentials_are_bounded(self, store: SqlStateStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """As many may be valid as `CREDENTIALS_MAX` says; one that is revoked makes room."""
        monkeypatch.setattr(limits, "CREDENTIALS_MAX", 2)
        made = [Credential(f"{i:016x}", "", Role.INGEST, (), bytes(32), i) for i in range(3)]
        store.add_credential(made[0])
        store.add_credential(made[1])
        with pytest.raises(ConfigError, match="revoke"):
            store.add_credential(made[2])
        store.revoke_credential(made[0].credential_id, 5)
        store.add_credential(made[2])

    def test_access_log(self, store: SqlStateStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lines are numbered from 1 in their order, and are read on from any of them, page by page."""
        monkeypatch.setattr(credentials, "ACCESSES_PER_PAGE", 2)
        store.add_credential(Credential("a" * 16, "one", Role.INGEST, (), bytes(32), 7))
        lines = [AccessLine("a" * 16, f"m{i}", i, ("p",) * (i % 2), "no" * (i % 3)) for i in range(5)]
        for line in lines:
            store.record_access(line)
        assert list(store.access_log()) == list(enumerate(lines, 1))
        assert list(store.access_log(after=3)) == list(enumerate(lines, 1))[3:]
        with pytest.raises(InvariantError):
            store.record_access(AccessLine("b" * 16, "m", 0))

    def test_the_access_log_is_bounded(self, store: SqlStateStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of one credential the newest lines stay, as many as may; one that asks much pushes nobody else's lines out."""
        monkeypatch.setattr(limits, "ACCESSES_PER_CREDENTIAL_MAX", 3)
        for name in "ab":
            store.add_credential(Credential(name * 16, name, Role.INGEST, (), bytes(32), 7))
        for i in range(7):
            store.record_access(AccessLine("a" * 16, "m", i))
            if i < 3:
                store.record_access(AccessLine("b" * 16, "m", i))
        kept = [(line.credential_id[0], line.at_ms, number) for number, line in store.access_log()]
        assert kept == [("b", 0, 2), ("b", 1, 4), ("b", 2, 6), ("a", 4, 8), ("a", 5, 9), ("a", 6, 10)]
