"""Consent registers of the eras whose windows are not all over: consent is to the texts that an era asks with (P8)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from hushmeter.consent.register import ConsentRegister
from hushmeter.model.consent import Decision
from hushmeter.model.plan import Purpose
from hushmeter.service.eras import Era

_DecisionsAfter = Callable[[int], tuple[int, Sequence[Decision]]]


class Registers:
    """One register for all eras that ask with the same texts. One thread calls.

    A register that is new reads the whole sequence of decisions once, when its version is learnt: before its time comes.
    """

    def __init__(self) -> None:
        self._by_purposes: dict[tuple[Purpose, ...], ConsentRegister] = {}

    def of(self, era: Era) -> ConsentRegister:
        """The register of an era; one that nobody follows yet knows nothing until `follow`."""
        purposes = era.plan.purposes
        if purposes not in self._by_purposes:
            self._by_purposes[purposes] = ConsentRegister(purposes)
        return self._by_purposes[purposes]

    def need(self, eras: Iterable[Era]) -> None:
        """Makes the registers of these eras, and forgets the others'."""
        needed = {era.plan.purposes: self.of(era) for era in eras}
        self._by_purposes = needed

    def follow(self, decisions_after: _DecisionsAfter) -> bool:
        """Takes in every decision that was recorded since; true if there were any."""
        return sum(register.follow(decisions_after) for register in self._by_purposes.values()) > 0

    def keep(self, period_starts_ms: Collection[int]) -> None:
        """Forgets the pseudonyms of all other periods."""
        for register in self._by_purposes.values():
            register.keep(period_starts_ms)
