"""What every unit allows now: the fold of the sequence of decisions (P8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from hushmeter.model.consent import NEVER, ConsentTable, Decision, PurposeState


class ConsentRegister:
    """Follows the append-only sequence of decisions and answers what binds now.

    A unit or purpose that it has not heard of is not given; no setting changes that.

    Args:
        purposes: the plan's, in its order; decisions about other purposes are kept out of answers.
    """

    def __init__(self, purposes: tuple[str, ...]) -> None:
        self.purposes = purposes
        self.sequence = 0
        """The newest decision that has been taken in."""
        self._states: dict[bytes, dict[str, PurposeState]] = {}
        self._since: dict[bytes, tuple[int, ...]] = {}
        self._tables: dict[int, tuple[int, ConsentTable]] = {}

    def take(self, sequence: int, decisions: Iterable[Decision]) -> None:
        """Takes decisions in, in their order; `sequence` is the newest one's number."""
        for decision in decisions:
            states = self._states.setdefault(decision.subject, {})
            states[decision.purpose] = states.get(decision.purpose, PurposeState()).after(decision)
            self._since[decision.subject] = tuple(states.get(p, PurposeState()).given_since_ms for p in self.purposes)
        self.sequence = max(self.sequence, sequence)

    def loses(self, later: Iterable[Decision], before_ms: int) -> bool:
        """Whether later decisions take consent back that was given before a moment: what was sealed may hold that unit."""
        return any(
            not d.given and self._states.get(d.subject, {}).get(d.purpose, PurposeState()).given_since_ms < before_ms
            for d in later
        )

    def states(self, subject: bytes) -> dict[str, PurposeState]:
        """Where a unit stands on each of the plan's purposes."""
        states = self._states.get(subject, {})
        return {purpose: states.get(purpose, PurposeState()) for purpose in self.purposes}

    def given_since(self, subjects: Iterable[bytes]) -> list[tuple[int, ...]]:
        """Since when each unit has allowed each purpose, `NEVER` where it has not."""
        never, since = (NEVER,) * len(self.purposes), self._since.get
        return [since(subject, never) for subject in subjects]

    def table(self, period_start_ms: int, pseudonym: Callable[[bytes], bytes]) -> ConsentTable:
        """Consent under the pseudonyms of one period, as sealing reads it.

        Args:
            period_start_ms: start of the period.
            pseudonym: from a subject to its pseudonym in that period.

        Returns:
            A table of every unit that allows anything; the same one until another decision arrives.
        """
        cached = self._tables.get(period_start_ms)
        if cached is not None and cached[0] == self.sequence:
            return cached[1]
        rows = ((pseudonym(s), since) for s, since in self._since.items() if any(t != NEVER for t in since))
        table = ConsentTable.of(self.purposes, rows)
        self._tables = {period_start_ms: (self.sequence, table)}
        return table


def bucket_of(table: ConsentTable, bucket: int, bits: int) -> ConsentTable:
    """The units of one of 2^bits buckets: those whose pseudonym's top bits are `bucket`."""
    return buckets_of(table, bucket, bucket + 1, bits)


def buckets_of(table: ConsentTable, first: int, after: int, bits: int) -> ConsentTable:
    """The units of the buckets from `first` up to before `after`."""
    if bits == 0 or first == after:
        return table
    borders = np.array([first << (64 - bits), (after << (64 - bits)) - 1], np.uint64)
    start = int(np.searchsorted(table.pseudonyms[:, 0], borders[0], side="left"))
    end = int(np.searchsorted(table.pseudonyms[:, 0], borders[1], side="right"))
    return ConsentTable(table.purposes, table.pseudonyms[start:end], table.given_since_ms[start:end])
