"""Consent registers of the eras whose windows are not all over: consent is to the texts that an era asks with (P8)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from hushmeter.consent.register import ConsentRegister
from hushmeter.model.consent import DecisionsAfter, PurposeState
from hushmeter.model.plan import Purpose
from hushmeter.service.deployment.plan_timeline import Era

BEHIND = 1
"""How many registers are kept for windows with earlier decisions, beside the one that follows the newest decision."""


class Registers:
    """One register for all eras that ask with the same texts. One thread calls.

    A register that is new reads the whole sequence of decisions once, when its version is learnt: before its time comes.
    """

    def __init__(self) -> None:
        self._by_purposes: dict[tuple[Purpose, ...], ConsentRegister] = {}
        self._behind: dict[tuple[Purpose, ...], list[ConsentRegister]] = {}

    def of(self, era: Era) -> ConsentRegister:
        """The register of an era; one that nobody follows yet knows nothing until `follow`."""
        purposes = era.plan.purposes
        if purposes not in self._by_purposes:
            self._by_purposes[purposes] = ConsentRegister(purposes)
        return self._by_purposes[purposes]

    def through(self, era: Era, number: int, decisions_after: DecisionsAfter) -> ConsentRegister:
        """What units had decided in the first so many decisions, whatever they have decided since.

        A register that is behind goes on from where it is; where all are ahead, one reads the sequence from its beginning.

        Args:
            era: whose texts are asked for.
            number: of the newest decision that counts.
            decisions_after: see `ConsentStore`.
        """
        behind = self._behind.setdefault(era.plan.purposes, [])
        able = [r for r in (self.of(era), *behind) if r.sequence <= number]
        register = max(able, key=lambda r: r.sequence, default=None)
        if register is None:
            register = ConsentRegister(era.plan.purposes)
            behind[BEHIND - 1 :] = [register]
        register.follow(decisions_after, number)
        return register

    def allowed(self, eras: Iterable[Era], subject: bytes) -> dict[str, PurposeState]:
        """What a unit allows of what some eras ask."""
        return {name: s for era in eras for name, s in self.of(era).states(subject).items() if s.given}

    def need(self, eras: Iterable[Era]) -> None:
        """Makes the registers of these eras, and forgets the others'."""
        needed = {era.plan.purposes: self.of(era) for era in eras}
        self._by_purposes = needed
        self._behind = {purposes: kept for purposes, kept in self._behind.items() if purposes in needed}

    def follow(self, decisions_after: DecisionsAfter, through: int) -> bool:
        """Takes in every decision up to a number; true if there were any."""
        return sum(register.follow(decisions_after, through) for register in self._by_purposes.values()) > 0

    def keep(self, period_starts_ms: Collection[int]) -> None:
        """Forgets the pseudonyms of all other periods."""
        for register in (*self._by_purposes.values(), *(r for kept in self._behind.values() for r in kept)):
            register.keep(period_starts_ms)
