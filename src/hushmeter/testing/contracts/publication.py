"""What every `WindowStore` promises of publications: charge and release are one transaction."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest

from hushmeter.errors import BudgetExhausted, InvariantError, StateConflict
from hushmeter.model.ledger import GENESIS, DraftEntry, PrivacyLoss, Spending, chain_hash
from hushmeter.model.release import NoisyVector, Release
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, WEEK_MS
from hushmeter.patience import PATIENCE_S
from hushmeter.ports import WindowStore
from hushmeter.storage.state import windows
from hushmeter.testing.contracts.state_values import (
    BUDGET,
    RHO,
    SELECTING,
    cost,
    day,
    end_as_lost,
    entry,
    failing_at,
    hour,
    outcome_of,
    publish_window,
    release,
    seal_window,
    selected,
    state_of,
)


def _noise_of(vector: NoisyVector) -> tuple[object, ...]:
    """What a vector says of its noise."""
    return vector.mechanism, vector.scale, vector.loss, vector.delta, vector.threshold


class PublicationContract:
    """Charge and release are one transaction."""

    def test_published(self, store: WindowStore) -> None:
        """A publication shows its releases, its entries and its cost."""
        seal_window(store, hour(0))
        publish_window(store, hour(0), period_start_ms=WEEK_MS)
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
            assert _noise_of(found.vectors[name]) == _noise_of(vector)
        assert found.keys is None

    def test_selected(self, store: WindowStore) -> None:
        """A release of private partitions comes back with its partitions, its threshold and its delta."""
        seal_window(store, hour(0))
        made = selected(hour(0))
        delta = Fraction(1, 10**9)
        store.publish(hour(0), [made], [entry(RHO, delta=delta)], 0, SELECTING, {})
        ((_, found),) = store.releases("calls", ("app_version",), "1h", 0, HOUR_MS)
        assert found.keys == made.keys
        assert found.key == made.key
        for name, vector in made.vectors.items():
            np.testing.assert_array_equal(found.vectors[name].values, vector.values)
            assert _noise_of(found.vectors[name]) == _noise_of(vector)
        assert store.spent(0) == (Spending("call_setup/platform/1h/units", 1_000, PrivacyLoss(RHO, delta)),)

    def test_entries_of_releases(self, store: WindowStore) -> None:
        """Of a metric, view and resolution the entries of windows that end in a span are found, and no others."""
        for number in range(4):
            seal_window(store, hour(number))
            publish_window(store, hour(number), rho=RHO / 4)
        entries = list(store.ledger())
        found = store.charged("call_setup", ("platform",), "1h", 2 * HOUR_MS, 3 * HOUR_MS)
        assert found == entries[2:6]
        assert store.charged("call_setup", (), "1h", 0, DAY_MS) == []
        assert store.charged("call_setup", ("platform",), "1d", 0, DAY_MS) == []
        assert store.charged("call", ("platform",), "1h", 0, DAY_MS) == []
        assert store.checkpoints() == {}

    def test_every_release(self, store: WindowStore) -> None:
        """All releases are read by number, of whatever metric, and more than a page of them."""
        seal_window(store, hour(0))
        made = [
            release(hour(0)),
            *(release(hour(0), f"m{n}") for n in range(windows.RELEASES_PER_PAGE + 1)),
            selected(hour(0)),
        ]
        store.publish(hour(0), made, [entry(RHO)], 0, BUDGET, {})
        read = list(store.every_release())
        assert [number for number, _ in read] == list(range(1, len(made) + 1))
        assert [r.key for _, r in read if isinstance(r, Release)] == [r.key for r in made]

    def test_window_without_metrics(self, store: WindowStore) -> None:
        """A window that releases nothing costs nothing and ends all the same."""
        seal_window(store, hour(0))
        store.publish(hour(0), [], [], 0, BUDGET, {})
        assert state_of(store, hour(0)) is WindowState.RELEASED
        assert list(store.ledger()) == []

    def test_lost(self, store: WindowStore) -> None:
        """A lost window is charged in full and releases nothing (C6)."""
        seal_window(store, hour(0))
        end_as_lost(store, hour(0))
        state_now, _, _, found, kept = outcome_of(store, hour(0))
        assert (state_now, found, kept) == (WindowState.LOST, [], None)
        assert cost(store) == RHO

    def test_chain(self, store: WindowStore) -> None:
        """The chain has no gap and no fork across publications and losses of several resolutions and periods."""
        for window in (hour(0), hour(1), day(0), hour(2)):
            seal_window(store, window)
        publish_window(store, hour(0), rho=Fraction(1, 10))
        end_as_lost(store, hour(1), rho=Fraction(1, 7))
        publish_window(store, day(0), rho=Fraction(1, 9), period_start_ms=WEEK_MS)
        publish_window(store, hour(2), rho=Fraction(1, 10))
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

    def test_budget_is_exact(self, store: WindowStore) -> None:
        """Three thirds spend a budget of one to the last; nothing more can be spent, however little (C2)."""
        for number in range(4):
            seal_window(store, hour(number))
            if number < 3:
                publish_window(store, hour(number))
        assert cost(store) == BUDGET.loss.amount
        before = outcome_of(store, hour(3))
        little = Fraction(1, 10**30)
        calls: list[Callable[[], None]] = [
            lambda: publish_window(store, hour(3), rho=little),
            lambda: end_as_lost(store, hour(3), rho=little),
        ]
        for call in calls:
            with pytest.raises(BudgetExhausted, match=r"1h 1970-01-01T03:00:00Z .* 0 remains"):
                call()
            assert outcome_of(store, hour(3)) == before
        publish_window(store, hour(3), rho=little, period_start_ms=WEEK_MS)

    def test_equal_charges_are_counted(self, store: WindowStore) -> None:
        """What a period was charged is told by series, cap and price: equal ones once, with their number (C2)."""
        for number in range(3):
            seal_window(store, hour(number))
            entries = [entry(Fraction(1, 10), number), entry(Fraction(1, 20), number, measurement="sum", cap=2)]
            store.publish(hour(number), [], entries, 0, BUDGET, {})
        seal_window(store, day(0))
        store.publish(day(0), [], [entry(Fraction(1, 7))], 0, BUDGET, {})
        units, sums = "call_setup/platform/1h/units", "call_setup/platform/1h/sum"
        assert set(store.spent(0)) == {
            Spending(units, 1_000, PrivacyLoss(Fraction(1, 10)), 3),
            Spending(units, 1_000, PrivacyLoss(Fraction(1, 7)), 1),
            Spending(sums, 2, PrivacyLoss(Fraction(1, 20)), 3),
        }
        assert cost(store) == Fraction(3, 10) + Fraction(1, 7) + Fraction(2, 20)

    def test_capped_series_cost_their_largest(self, store: WindowStore) -> None:
        """Windows beyond a series' cap cost nothing more; in another series the same charge does not fit (C2, P7)."""
        for number in range(6):
            seal_window(store, hour(number))
            store.publish(hour(number), [], [entry(Fraction(1, 2), number, cap=2)], 0, BUDGET, {})
        assert cost(store) == BUDGET.loss.amount
        assert len(list(store.ledger())) == 6
        seal_window(store, hour(6))
        for more in (entry(Fraction(1, 2), cap=2, measurement="sum"), entry(Fraction(1, 2) + Fraction(1, 10**30), cap=2)):
            with pytest.raises(BudgetExhausted):
                store.publish(hour(6), [], [more], 0, BUDGET, {})
        store.publish(hour(6), [], [entry(Fraction(1, 2), cap=2)], 0, BUDGET, {})

    def test_delta_is_exact(self, store: WindowStore) -> None:
        """Partition selection spends its share of delta to the last; a little more is refused and changes nothing (C5)."""
        share = SELECTING.loss.delta / 3
        for number in range(4):
            seal_window(store, hour(number))
            if number < 3:
                store.publish(hour(number), [], [entry(Fraction(1, 10), delta=share)], 0, SELECTING, {})
        before = outcome_of(store, hour(3))
        for spending in (entry(Fraction(1, 10), delta=Fraction(1, 10**60)), entry(Fraction(1, 10**9), delta=share)):
            with pytest.raises(BudgetExhausted, match=r"1h 1970-01-01T03:00:00Z .* and delta "):
                store.publish(hour(3), [release(hour(3))], [spending], 0, SELECTING, {"call_setup": b"new"})
            assert outcome_of(store, hour(3)) == before
        store.publish(hour(3), [], [entry(Fraction(1, 10))], 0, SELECTING, {})

    def test_entries_say_what_they_spend(self, store: WindowStore) -> None:
        """An entry whose content states another spending than its draft, or none, is a defect and changes nothing."""
        seal_window(store, hour(0))
        before = outcome_of(store, hour(0))
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
                assert outcome_of(store, hour(0)) == before
        with pytest.raises(InvariantError, match="does not say what it spends"):
            store.mark_lost(hour(0), [drafts[0]], 0, SELECTING)
        assert outcome_of(store, hour(0)) == before

    def test_entries_name_the_period_that_pays(self, store: WindowStore) -> None:
        """An entry of another period than the one that is charged is a defect: whoever adds the ledger up would differ."""
        seal_window(store, hour(0))
        before = outcome_of(store, hour(0))
        with pytest.raises(InvariantError, match="period"):
            store.publish(hour(0), [release(hour(0))], [entry(RHO, period_start_ms=WEEK_MS)], 0, BUDGET, {})
        assert outcome_of(store, hour(0)) == before

    def test_releases_of_another_window(self, store: WindowStore) -> None:
        """A release of another window than the one that is published is a defect and changes nothing."""
        seal_window(store, hour(0))
        before = outcome_of(store, hour(0))
        with pytest.raises(InvariantError, match="is not of window"):
            store.publish(hour(0), [release(hour(1))], [entry(RHO)], 0, BUDGET, {})
        assert outcome_of(store, hour(0)) == before

    def test_drawn_once(self, store: WindowStore) -> None:
        """A release that exists is not drawn again: the unique key refuses it, with the whole publication (C4)."""
        seal_window(store, hour(0))
        before = outcome_of(store, hour(0))
        twice = [release(hour(0)), release(hour(0), "other"), release(hour(0))]
        with pytest.raises(StateConflict):
            store.publish(hour(0), twice, [entry(RHO)], 0, BUDGET, {"call_setup": b"new"})
        assert outcome_of(store, hour(0)) == before
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
    def test_all_or_nothing(self, store: WindowStore, moment: str) -> None:
        """A publication that fails at any of its statements, or at its commit, has changed nothing (C4, P7)."""
        seal_window(store, hour(0))
        publish_window(store, hour(0), kept_windows={"call_setup": b"old"})
        seal_window(store, hour(1))
        before = outcome_of(store, hour(1))
        assert before[-1] == b"old"

        with failing_at(moment), pytest.raises(OSError, match=moment):
            publish_window(store, hour(1), kept_windows={"call_setup": b"new"})
        assert outcome_of(store, hour(1)) == before
        publish_window(store, hour(1), kept_windows={"call_setup": b"new"})
        assert len(list(store.ledger())) == 4
        assert outcome_of(store, hour(1))[-1] == b"new"

    def test_threads_race(self, store: WindowStore) -> None:
        """Of threads that publish the same window exactly one wins, and it is charged once."""
        seal_window(store, hour(0))
        start = threading.Barrier(4)

        def attempt(_: int) -> bool:
            start.wait(PATIENCE_S)
            try:
                publish_window(store, hour(0))
            except StateConflict:
                return False
            return True

        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(attempt, range(4))) == 1
        assert cost(store) == RHO
        assert len(list(store.ledger())) == 2
