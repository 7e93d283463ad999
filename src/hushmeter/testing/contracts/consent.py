"""What every `ConsentStore` promises."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from hushmeter import limits
from hushmeter.consent.register import ConsentRegister
from hushmeter.model.consent import ERASURE, NEVER, Decision
from hushmeter.model.plan import Purpose
from hushmeter.patience import PATIENCE_S
from hushmeter.ports import ConsentStore
from hushmeter.testing.contracts.state_values import decide, failing_at

_TUNING: Final = Purpose("tuning", "Tune models.")


class ConsentStoreContract:
    """The sequence of decisions, and erasures."""

    def test_sequence(self, store: ConsentStore) -> None:
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

    def test_the_clock_is_read_under_the_lock(self, store: ConsentStore) -> None:
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

    def test_what_one_unit_has_decided(self, store: ConsentStore) -> None:
        """Its own decisions, in order; and the newest of all that was received before a moment."""
        decide(store, *(Decision(bytes([n % 2]) * 16, "tuning", n < 2, 10 * n) for n in range(5)))
        assert [d.received_at_ms for d in store.decisions_of(bytes(16))] == [0, 20, 40]
        assert [d.given for d in store.decisions_of(bytes([1]) * 16)] == [True, False]
        assert store.decisions_of(bytes([2]) * 16) == ()
        assert [store.decided_before(at) for at in (0, 1, 10, 31, 2**61)] == [0, 1, 1, 4, 5]

    def test_pages(self, store: ConsentStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many decisions there are, so many are read at once; a register that follows takes in each, once."""
        monkeypatch.setattr(limits, "DECISIONS_PER_PAGE", 3)
        units = [bytes([n]) * 16 for n in range(7)]
        decide(store, *(Decision(unit, "tuning", True, n, _TUNING.text_hash) for n, unit in enumerate(units)))
        assert [store.decisions_after(n)[0] for n in (0, 3, 5, 6, 7)] == [3, 6, 7, 7, 7]
        assert [len(store.decisions_after(n)[1]) for n in (0, 3, 5, 6, 7)] == [3, 3, 2, 1, 0]
        register = ConsentRegister([_TUNING])
        assert register.follow(store.decisions_after)
        assert not register.follow(store.decisions_after)
        behind = ConsentRegister([_TUNING])
        assert behind.follow(store.decisions_after, 5)
        assert (behind.sequence, behind.given_since(units)[:, 0].tolist()) == (5, [*range(5), NEVER, NEVER])
        assert (register.sequence, register.given_since(units)[:, 0].tolist()) == (7, list(range(7)))

    def test_whole_or_not(self, store: ConsentStore) -> None:
        """An erasure without its withdrawal is not recorded, nor the other way round."""
        with failing_at("INSERT INTO decisions"), pytest.raises(OSError, match="decisions"):
            store.record_decisions([Decision(bytes(16), "tuning", False, 5)], lambda: 5, {bytes(16)})
        assert (store.erasures(), store.decisions_after(0)) == ((), (0, ()))

    def test_decisions_of_one_unit(self, store: ConsentStore) -> None:
        """How many there are of a unit is told, whatever others decided."""
        decide(store, *(Decision(bytes([n % 2]) * 16, "tuning", n < 3, n) for n in range(5)))
        assert [store.count_decisions(bytes([n]) * 16) for n in range(3)] == [3, 2, 0]

    def test_the_erasure_of_one_unit(self, store: ConsentStore) -> None:
        """Its newest receipt is told of a unit, also once its rows are gone; a withdrawal is no erasure."""
        one, other = bytes(16), bytes([1]) * 16
        for at_ms in (5, 9):
            store.record_decisions([Decision(one, "tuning", False, 0, source=ERASURE)], lambda at=at_ms: at, {one})  # type: ignore[misc]
        store.record_decisions([Decision(other, "tuning", False, 0), Decision(one, "tuning", False, 0)], lambda: 12)
        store.end_erasures(2)
        assert (store.erasures(), store.erased_at_ms(one), store.erased_at_ms(other)) == ((), 9, None)
