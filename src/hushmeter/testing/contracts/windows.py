"""What every `WindowStore` promises."""

from __future__ import annotations

from fractions import Fraction

import pytest

from hushmeter.errors import BudgetExhausted, InvariantError, StateConflict
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, WEEK_MS, Window
from hushmeter.ports import WindowStore
from hushmeter.storage.state import windows
from hushmeter.testing.contracts.publication import PublicationContract
from hushmeter.testing.contracts.state_values import (
    ALL_BEGUN,
    BUDGET,
    RHO,
    cost,
    day,
    end_as_lost,
    entry,
    hour,
    outcome_of,
    publish_window,
    release,
    seal_window,
    state_of,
)


class WindowStoreContract(PublicationContract):
    """The life of a window, its publication, the sets of kept windows (P7), and what is read page by page."""

    def test_life(self, store: WindowStore) -> None:
        """A window goes from OPEN through CLOSING and FIXED to RELEASED or LOST."""
        assert store.windows(ALL_BEGUN) == ()
        record = store.begin_closing(hour(0), hour(0).end_ms)
        assert (record.window, record.state, record.last_segment) == (hour(0), WindowState.CLOSING, 0)
        assert store.windows([WindowState.CLOSING]) == (record,)
        store.mark_fixed(hour(0))
        assert state_of(store, hour(0)) is WindowState.FIXED
        publish_window(store, hour(0))
        assert state_of(store, hour(0)) is WindowState.RELEASED
        seal_window(store, hour(1))
        end_as_lost(store, hour(1))
        assert [r.window for r in store.windows([WindowState.LOST])] == [hour(1)]
        assert store.windows([]) == ()

    def test_order(self, store: WindowStore) -> None:
        """Windows come by end, and by resolution where they end together."""
        for window in (hour(22), hour(23), day(0), hour(24)):
            store.begin_closing(window, window.end_ms)
        assert [r.window for r in store.windows(ALL_BEGUN)] == [hour(22), day(0), hour(23), hour(24)]

    def test_strict_time_order(self, store: WindowStore) -> None:
        """Windows of one resolution close in time order alone; another resolution has its own order (P7)."""
        store.begin_closing(hour(5), hour(5).end_ms)
        for earlier in (hour(4), Window("1h", 5 * HOUR_MS + 1, 6 * HOUR_MS + 1)):
            with pytest.raises(StateConflict, match="in time order"):
                store.begin_closing(earlier, earlier.end_ms)
        store.begin_closing(day(0), day(0).end_ms)
        store.begin_closing(hour(6), hour(6).end_ms)
        assert state_of(store, hour(4)) is WindowState.OPEN

    def test_last_window_start(self, store: WindowStore) -> None:
        """The newest window that left OPEN is known for each resolution."""
        assert store.last_window_start("1h") is None
        store.begin_closing(hour(5), hour(5).end_ms)
        seal_window(store, hour(7))
        assert store.last_window_start("1h") == hour(7).start_ms
        assert store.last_window_start("1d") is None

    def test_no_shortcuts(self, store: WindowStore) -> None:
        """No step can be left out or taken twice."""
        ended, closing = hour(0), hour(1)
        seal_window(store, ended)
        publish_window(store, ended)
        store.begin_closing(closing, closing.end_ms)
        for window in (ended, hour(2)):
            with pytest.raises(StateConflict):
                store.mark_fixed(window)
        for window in (ended, closing, hour(2)):
            with pytest.raises(StateConflict, match="FIXED"):
                publish_window(store, window)
            with pytest.raises(StateConflict, match="FIXED"):
                end_as_lost(store, window)
        assert state_of(store, closing) is WindowState.CLOSING
        assert cost(store) == RHO

    def test_kept(self, store: WindowStore) -> None:
        """A publication replaces the sets that it brings, of its own resolution and period alone; others stay."""
        assert store.kept_windows("call_setup", "1h", 0) is None
        seal_window(store, hour(0))
        publish_window(store, hour(0), rho=Fraction(1, 10), kept_windows={"call_setup": b"one", "calls": b"\x00" * 99})
        seal_window(store, hour(1))
        publish_window(store, hour(1), rho=Fraction(1, 10), kept_windows={"call_setup": b"a longer one"})
        seal_window(store, day(0))
        publish_window(store, day(0), rho=Fraction(1, 10), kept_windows={"call_setup": b"of days"})
        seal_window(store, hour(2))
        publish_window(
            store, hour(2), rho=Fraction(1, 10), period_start_ms=WEEK_MS, kept_windows={"call_setup": b"of a week"}
        )
        assert store.kept_windows("call_setup", "1h", 0) == b"a longer one"
        assert store.kept_windows("calls", "1h", 0) == b"\x00" * 99
        assert store.kept_windows("call_setup", "1d", 0) == b"of days"
        assert store.kept_windows("call_setup", "1h", WEEK_MS) == b"of a week"
        for nobody in (("calls", "1d", 0), ("calls", "1h", WEEK_MS), ("call_setup", "1h", 1)):
            assert store.kept_windows(*nobody) is None

    def test_a_publication_without_sets_keeps_them(self, store: WindowStore) -> None:
        """A later window that brings no set leaves the set as it was."""
        for number, kept in enumerate(({"call_setup": b"one"}, {})):
            seal_window(store, hour(number))
            publish_window(store, hour(number), rho=Fraction(1, 10), kept_windows=kept)
        assert store.kept_windows("call_setup", "1h", 0) == b"one"

    def test_missing_sets_are_told(self, store: WindowStore) -> None:
        """A set is missing where an earlier window of its period was released without one, and not where none was."""

        def lacks(number: int, metric: str = "call_setup", period: int = 0) -> bool:
            return store.lacks_kept_windows(metric, "1h", period, hour(number).start_ms)

        seal_window(store, hour(0))
        end_as_lost(store, hour(0))
        seal_window(store, hour(1))
        publish_window(store, hour(1), kept_windows={"call_setup": b"one"})
        assert [lacks(n) for n in range(4)] == [False] * 4
        assert [lacks(n, "calls") for n in range(4)] == [False, False, True, True]
        assert not lacks(3, "calls", period=hour(2).start_ms)
        assert not store.lacks_kept_windows("calls", "1d", 0, hour(3).start_ms)

    def test_loss_keeps_them(self, store: WindowStore) -> None:
        """A window that is lost was nobody's: it is charged, and the sets stay as they were."""
        seal_window(store, hour(0))
        publish_window(store, hour(0), kept_windows={"call_setup": b"one"})
        seal_window(store, hour(1))
        end_as_lost(store, hour(1))
        assert state_of(store, hour(1)) is WindowState.LOST
        assert store.kept_windows("call_setup", "1h", 0) == b"one"

    def test_refusal_keeps_them(self, store: WindowStore) -> None:
        """A publication that the budget, the window's state or a release's key refuses changes no set."""
        seal_window(store, hour(0))
        publish_window(store, hour(0), kept_windows={"call_setup": b"one"})
        seal_window(store, hour(1))
        before = outcome_of(store, hour(1))
        new = {"call_setup": b"new", "calls": b"new"}
        with pytest.raises(BudgetExhausted):
            publish_window(store, hour(1), rho=Fraction(1), kept_windows=new)
        with pytest.raises(StateConflict):
            publish_window(store, hour(0), kept_windows=new)
        with pytest.raises(StateConflict):
            store.publish(hour(1), [release(hour(1))] * 2, [entry(RHO)], 0, BUDGET, new)
        with pytest.raises(InvariantError):
            store.publish(hour(1), [release(hour(0))], [entry(RHO)], 0, BUDGET, new)
        assert outcome_of(store, hour(1)) == before
        assert store.kept_windows("calls", "1h", 0) is None

    def test_forgotten(self, store: WindowStore) -> None:
        """A period's sets are forgotten together, those of other periods are not; forgetting twice does nothing."""
        for number, period in enumerate((0, WEEK_MS)):
            seal_window(store, hour(number))
            publish_window(
                store, hour(number), period_start_ms=period, kept_windows={"call_setup": b"set", "calls": b"set"}
            )
        store.forget_kept_windows(0)
        store.forget_kept_windows(0)
        for metric in ("call_setup", "calls"):
            assert store.kept_windows(metric, "1h", 0) is None
            assert store.kept_windows(metric, "1h", WEEK_MS) == b"set"
        assert cost(store) == RHO

    @pytest.mark.parametrize("size", [1, 6, 7, 8, 14, 15, 70])
    def test_parts(self, store: WindowStore, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        """Sets longer than one part of storage come back whole and in order, also after a longer one stood there."""
        monkeypatch.setattr(windows, "KEPT_PART_BYTES", 7)
        for number, length in enumerate((77, size)):
            seal_window(store, hour(number))
            publish_window(store, hour(number), rho=Fraction(1, 10), kept_windows={"call_setup": bytes(range(length))})
        assert store.kept_windows("call_setup", "1h", 0) == bytes(range(size))

    def test_range(self, store: WindowStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Releases come in time order, those that end in `(from, to]`, of one metric, view and resolution, page by page."""
        monkeypatch.setattr(windows, "RELEASES_PER_PAGE", 3)
        for number in range(7):
            seal_window(store, hour(number))
            made = [release(hour(number)), release(hour(number), view=()), release(hour(number), "other")]
            store.publish(hour(number), made, [entry(Fraction(1, 10))], 0, BUDGET, {})
        seal_window(store, day(0))
        publish_window(store, day(0), rho=Fraction(1, 10))

        def ends(metric: str, view: tuple[str, ...], resolution: str, from_h: int, to_h: int) -> list[int]:
            found = store.releases(metric, view, resolution, from_h * HOUR_MS, to_h * HOUR_MS)
            return [r.window_end_ms // HOUR_MS for _, r in found]

        assert ends("call_setup", ("platform",), "1h", 0, 99) == [1, 2, 3, 4, 5, 6, 7]
        assert ends("call_setup", ("platform",), "1h", 2, 5) == [3, 4, 5]
        assert ends("call_setup", (), "1h", 0, 6) == [1, 2, 3, 4, 5, 6]
        assert ends("other", ("platform",), "1h", 6, 7) == [7]
        assert ends("call_setup", ("platform",), "1d", 0, 99) == [24]
        assert ends("call_setup", ("app_version",), "1h", 0, 99) == ends("call_setup", (), "1h", 7, 99) == []

    def test_ledger_pages(self, store: WindowStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """The ledger is read whole across pages, also what is appended while it is read, and never blocks a writer."""
        monkeypatch.setattr(windows, "LEDGER_ENTRIES_PER_PAGE", 2)
        for number in range(3):
            seal_window(store, hour(number))
        publish_window(store, hour(0), rho=Fraction(1, 10))
        publish_window(store, hour(1), rho=Fraction(1, 10))
        reading = store.ledger()
        assert next(reading).sequence == 1
        publish_window(store, hour(2), rho=Fraction(1, 10))
        assert [e.sequence for e in reading] == [2, 3, 4, 5, 6]
