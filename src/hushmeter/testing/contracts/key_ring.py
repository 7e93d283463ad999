"""What every `KeyRing` promises of its keys and of its record."""

from __future__ import annotations

import threading
from dataclasses import replace
from fractions import Fraction
from typing import Final

import pytest

from hushmeter.errors import KeyUnavailable, StateConflict
from hushmeter.model.ledger import LedgerMark, PrivacyLoss
from hushmeter.model.ring import Claim, ClaimState, DecisionMark, PlanMark, RingRecord, Serving
from hushmeter.model.time import Window
from hushmeter.ports import KeyRing

KEY_NAMES: Final = ["deployment", "unit-tokens", "signing", "data/3600000", "period/0"]
FIRST_RECORD: Final = RingRecord(LedgerMark("a" * 32, 1, bytes(32)))
SECOND_RECORD: Final = RingRecord(
    LedgerMark("a" * 32, 2, bytes(range(32))),
    DecisionMark(7, bytes(range(32, 64))),
    PlanMark(3, "cd" * 32),
    {0: PrivacyLoss(Fraction(22, 97), Fraction(1, 3 * 10**9))},
    {"1h": 3_600_000},
    frozenset({0}),
    Serving("ef" * 16, "h\u00f6st", 12, 5, "/some where"),
    Claim(Window("1h", 0, 3_600_000), "01" * 16, ClaimState.DRAWN, LedgerMark("a" * 32, 3, bytes(range(1, 33))), "ab" * 32),
)


def count_up(ring: KeyRing, times: int) -> None:
    """Adds one to the record's head so many times, each in one step."""
    for _ in range(times):
        while True:
            before = _record_of(ring)
            try:
                ring.swap(before, replace(before, head=replace(before.head, sequence=before.head.sequence + 1)))
                break
            except StateConflict:
                continue


def _record_of(ring: KeyRing) -> RingRecord:
    record = ring.record()
    assert record is not None
    return record


class KeyRingContract:
    """A key is made once, and a destroyed one never comes back; the record changes in steps that nobody comes between."""

    @pytest.mark.parametrize("name", KEY_NAMES)
    def test_a_key_is_made_once_and_stays(self, ring: KeyRing, name: str) -> None:
        """The second call returns the key that the first one made, and so does `get`."""
        key = ring.get_or_create(name)
        assert len(key) == 32
        assert ring.get_or_create(name) == key == ring.get(name)

    def test_every_name_has_a_key_of_its_own(self, ring: KeyRing) -> None:
        """No two names share a key, also where one name begins with the other."""
        names = [*KEY_NAMES, "data/0", "data/36000000", "period/3600000"]
        assert len({ring.get_or_create(name) for name in names}) == len(names)

    @pytest.mark.parametrize("name", KEY_NAMES)
    def test_a_key_that_was_never_made_is_unavailable(self, ring: KeyRing, name: str) -> None:
        """`get` makes nothing."""
        for _ in range(2):
            with pytest.raises(KeyUnavailable, match="there is no key"):
                ring.get(name)

    @pytest.mark.parametrize("name", KEY_NAMES)
    def test_a_destroyed_key_never_comes_back(self, ring: KeyRing, name: str) -> None:
        """Neither `get` nor `get_or_create` yields a key once it is destroyed, and destroying it again changes nothing."""
        ring.get_or_create(name)
        for _ in range(2):
            ring.destroy(name)
            for call in (ring.get, ring.get_or_create):
                with pytest.raises(KeyUnavailable, match="destroyed"):
                    call(name)

    def test_a_key_destroyed_before_it_was_made_is_never_made(self, ring: KeyRing) -> None:
        """A scrubbed window that received nothing cannot get a key any more."""
        ring.destroy("data/0")
        with pytest.raises(KeyUnavailable, match="destroyed"):
            ring.get_or_create("data/0")

    def test_destroying_one_key_leaves_the_others(self, ring: KeyRing) -> None:
        """Only the named key is destroyed, also where another name begins with it."""
        others = ["deployment", "data/10", "data/11", "period/1"]
        before = [ring.get_or_create(name) for name in others]
        ring.get_or_create("data/1")
        ring.destroy("data/1")
        assert [ring.get(name) for name in others] == before

    def test_periods_are_listed_until_their_key_is_destroyed(self, ring: KeyRing) -> None:
        """Of all keys only those of periods are listed, in order, and none that was destroyed or never made."""
        assert ring.periods() == ()
        for name in ("deployment", "data/7", "period/30", "period/-4", "period/5"):
            ring.get_or_create(name)
        assert ring.periods() == (-4, 5, 30)
        ring.destroy("period/5")
        ring.destroy("period/6")
        assert ring.periods() == (-4, 30)

    def test_storage_windows_are_listed_until_their_key_is_destroyed(self, ring: KeyRing) -> None:
        """Of all keys only those of storage windows are listed, in order, and none that was destroyed or never made."""
        assert ring.storage_windows() == ()
        for name in ("deployment", "data/7", "data/-2", "period/30"):
            ring.get_or_create(name)
        assert ring.storage_windows() == (-2, 7)
        ring.destroy("data/7")
        ring.destroy("data/8")
        assert ring.storage_windows() == (-2,)

    def test_a_record_is_swapped_by_whoever_knows_it(self, ring: KeyRing) -> None:
        """A ring has no record at first; a swap that does not name the one that is there changes nothing."""
        assert ring.record() is None
        with pytest.raises(StateConflict):
            ring.swap(FIRST_RECORD, SECOND_RECORD)
        assert ring.record() is None
        ring.swap(None, FIRST_RECORD)
        for wrong in (None, SECOND_RECORD):
            with pytest.raises(StateConflict):
                ring.swap(wrong, SECOND_RECORD)
            assert ring.record() == FIRST_RECORD
        ring.swap(FIRST_RECORD, SECOND_RECORD)
        assert ring.record() == SECOND_RECORD

    def test_no_step_is_lost_among_threads(self, ring: KeyRing) -> None:
        """Of eight that race each swap comes after all that came before it."""
        ring.swap(None, replace(FIRST_RECORD, head=replace(FIRST_RECORD.head, sequence=0)))
        threads = [threading.Thread(target=count_up, args=(ring, 10)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert _record_of(ring).head.sequence == 80
