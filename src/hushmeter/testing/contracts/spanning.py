"""What every `StateStore` promises where one transaction spans protocols."""

from __future__ import annotations

import pytest

from hushmeter.access.credentials import Credential
from hushmeter.access.roles import Role
from hushmeter.errors import InvariantError
from hushmeter.model.consent import Decision
from hushmeter.model.states import WindowState
from hushmeter.model.stored import Decided, Restore
from hushmeter.model.time import HOUR_MS
from hushmeter.ports import StateStore
from hushmeter.testing.contracts.state_values import ALL_BEGUN, day, decide, failing_at, hour, publish_window, state_of


class StateStoreContract:
    """Segments, windows, decisions and erasures have one order."""

    def test_new(self, store: StateStore) -> None:
        """A new store has no deployment and no series."""
        assert store.deployment() is None
        assert store.series_blocks() == ()

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

    def test_begin_closing_twice(self, store: StateStore) -> None:
        """A window that has begun keeps its record, whatever was registered or happened since."""
        store.start_worker("w", 0)
        first = store.begin_closing(hour(0), hour(0).end_ms)
        store.register_segment("w", "s", hour(0), [hour(0)])
        assert store.begin_closing(hour(0), hour(0).end_ms) == first
        store.mark_fixed(hour(0))
        publish_window(store, hour(0))
        assert store.begin_closing(hour(0), hour(0).end_ms).state is WindowState.RELEASED

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

    def test_how_far_units_have_decided(self, store: StateStore) -> None:
        """Newest decision and newest segment to be erased are told together."""
        assert store.decided() == Decided(0, 0)
        decide(store, Decision(bytes(16), "tuning", True, 5))
        store.start_worker("w", 0)
        store.register_segment("w", "s", hour(0), [hour(0)])
        store.record_decisions([Decision(bytes(16), "tuning", False, 6)], lambda: 6, {bytes(16)})
        assert store.decided() == Decided(2, 1)

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

    def test_a_window_that_cannot_begin_to_close_fixes_no_cut_off(self, store: StateStore) -> None:
        """Where the window's record fails, the cut-off that was fixed before it in the same transaction is forgotten."""
        with failing_at("INSERT INTO windows"), pytest.raises(OSError, match="windows"):
            store.begin_closing(hour(0), HOUR_MS)
        assert store.windows(ALL_BEGUN) == ()
        assert store.record_decisions([Decision(bytes(16), "tuning", False, 0)], lambda: 5) == 5

    @pytest.mark.parametrize("moment", ["INSERT INTO restores", "UPDATE credentials", "COMMIT"])
    def test_a_restore_is_whole(self, store: StateStore, moment: str) -> None:
        """A restore voids the texts of grants of before and revokes credentials, or does neither (C6)."""
        grant = Decision(bytes(16), "tuning", True, 5, b"text")
        decide(store, grant)
        store.add_credential(Credential("a" * 16, "one", Role.INGEST, (), bytes(32), 7))
        before = store.credentials()
        with failing_at(moment), pytest.raises(OSError, match=moment):
            store.record_restore(Restore(9, 0, None))
        assert (store.restores("d"), store.decisions_of(grant.subject), store.credentials()) == ((), (grant,), before)
        store.record_restore(Restore(9, 0, None))
        decide(store, grant)
        assert store.restores("d") == (Restore(9, 0, None),)
        assert [decision.text_hash for decision in store.decisions_of(grant.subject)] == [b"", b"text"]
        assert [credential.revoked_at_ms for credential in store.credentials()[1]] == [9]
