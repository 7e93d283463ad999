"""What every unit allows now: the fold of the sequence of decisions (P8).

Columns, not objects: a unit is a row number, so that a million units take some hundred megabytes, and a report at the door
costs what it costs with a thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from hushmeter import limits
from hushmeter.consent.subjects import SubjectRows
from hushmeter.errors import ensure
from hushmeter.model.arrays import Int64, UInt64
from hushmeter.model.consent import NEVER, ConsentTable, Decision, DecisionsAfter, PurposeState
from hushmeter.model.plan import Purpose
from hushmeter.model.report import bytes_of, pairs_of

FIRST_ROWS = 1_024
PERIODS_MAX = 4
"""Periods whose pseudonyms are kept, so that they are not hashed again for every window."""


@dataclass(slots=True)
class _Period:
    """What is kept of one period.

    Attributes:
        pseudonyms: uint64[rows, 2], of the units in the order of their rows.
        order: int64[rows], rows by pseudonym.
        sequence: of the decisions that `table` knows.
        table: the last one that was made.
    """

    pseudonyms: UInt64 = field(default_factory=lambda: np.zeros((0, 2), np.uint64))
    order: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    sequence: int = -1
    table: ConsentTable | None = None


class ConsentRegister:
    """Follows the append-only sequence of decisions and answers what binds now.

    A unit or purpose that it has not heard of is not given; no setting changes that. Nor does a grant for another text than
    the one in force count: consent ages with the text.

    Args:
        purposes: the plan's, in its order, with their texts in force; decisions about others are left out.
    """

    def __init__(self, purposes: Sequence[Purpose]) -> None:
        self.purposes = tuple(p.name for p in purposes)
        self.sequence = 0
        """The newest decision that has been taken in."""
        self._columns = {p.name: (column, p.text_hash) for column, p in enumerate(purposes)}
        self._subjects = SubjectRows()
        self._since = np.full((FIRST_ROWS, len(purposes)), NEVER, np.int64)
        self._withdrawn = np.full((FIRST_ROWS, len(purposes)), -1, np.int64)
        self._outdated = np.zeros((FIRST_ROWS, len(purposes)), np.bool_)
        self._periods: dict[int, _Period] = {}

    def __len__(self) -> int:
        """How many units have decided anything."""
        return len(self._subjects)

    def follow(self, decisions_after: DecisionsAfter, through: int | None = None) -> bool:
        """Takes in, page by page, what a store has recorded since; true if there was anything.

        Args:
            decisions_after: see `ConsentStore`.
            through: up to the decision of this number, which is none that was taken in before; None for all.
        """
        ensure(through is None or through >= self.sequence, "a register does not forget what was decided")
        found = False
        while True:
            sequence, decisions = decisions_after(self.sequence, through)
            self.take(sequence, decisions)
            found |= bool(decisions)
            if len(decisions) < limits.DECISIONS_PER_PAGE:
                return found

    def take(self, sequence: int, decisions: Iterable[Decision]) -> None:
        """Takes decisions in, in their order; `sequence` is the newest one's number."""
        known = [(d, *self._columns[d.purpose]) for d in decisions if d.purpose in self._columns]
        rows = self._rows([d.subject for d, _, _ in known])
        for row, (decision, column, text_hash) in zip(rows.tolist(), known, strict=True):
            state = self._state(row, column).after(decision, text_hash)
            self._since[row, column] = state.given_since_ms
            self._withdrawn[row, column] = state.withdrawn_at_ms
            self._outdated[row, column] = state.outdated
        self.sequence = max(self.sequence, sequence)

    def states(self, subject: bytes) -> dict[str, PurposeState]:
        """Where a unit stands on each of the plan's purposes."""
        row = int(self._subjects.find(pairs_of([subject]))[0])
        if row < 0:
            return {purpose: PurposeState() for purpose in self.purposes}
        return {purpose: self._state(row, column) for column, purpose in enumerate(self.purposes)}

    def given_since(self, subjects: Sequence[bytes]) -> Int64:
        """Since when each unit has allowed each purpose, `NEVER` where it has not: int64[subjects, purposes]."""
        rows = self._subjects.find(pairs_of(subjects))
        since = self._since[rows]
        since[rows < 0] = NEVER
        return since

    def table(self, period_start_ms: int, pseudonyms: Callable[[Sequence[bytes]], Sequence[bytes]]) -> ConsentTable:
        """Consent under the pseudonyms of one period, as sealing reads it.

        Args:
            period_start_ms: start of the period.
            pseudonyms: from subjects to their pseudonyms in that period; asked for units that are new since the last time.

        Returns:
            A table of every unit that allows anything; the same one until another decision arrives.
        """
        kept = self._periods.pop(period_start_ms, None) or _Period()
        while len(self._periods) >= PERIODS_MAX:
            self._periods.pop(next(iter(self._periods)))
        self._periods[period_start_ms] = kept
        if kept.table is not None and kept.sequence == self.sequence:
            return kept.table
        known = len(kept.pseudonyms)
        if known < len(self._subjects):
            new = pairs_of(pseudonyms(bytes_of(self._subjects.since(known))))
            kept.pseudonyms = np.concatenate((kept.pseudonyms, new))
            kept.order = np.lexsort((kept.pseudonyms[:, 1], kept.pseudonyms[:, 0]))
        allows = (self._since[: len(self._subjects)] != NEVER).any(axis=1)
        rows = kept.order[allows[kept.order]]
        kept.table = ConsentTable(self.purposes, kept.pseudonyms[rows], self._since[rows])
        kept.sequence = self.sequence
        return kept.table

    def keep(self, period_starts_ms: Collection[int]) -> None:
        """Forgets the pseudonyms of other periods: what joins them to units must not outlive the period's key (P3)."""
        self._periods = {start: kept for start, kept in self._periods.items() if start in period_starts_ms}

    def _rows(self, subjects: Sequence[bytes]) -> Int64:
        """The row of each subject, also of those that are new."""
        rows = self._subjects.add(pairs_of(subjects))
        while len(self._subjects) > len(self._since):
            self._since = np.concatenate((self._since, np.full_like(self._since, NEVER)))
            self._withdrawn = np.concatenate((self._withdrawn, np.full_like(self._withdrawn, -1)))
            self._outdated = np.concatenate((self._outdated, np.zeros_like(self._outdated)))
        return rows

    def _state(self, row: int, column: int) -> PurposeState:
        since, withdrawn = int(self._since[row, column]), int(self._withdrawn[row, column])
        return PurposeState(since, withdrawn, bool(self._outdated[row, column]))


def bucket_of(table: ConsentTable, bucket: int, bits: int) -> ConsentTable:
    """The units of one of 2^bits buckets: those whose pseudonym's top bits are `bucket`."""
    return buckets_of(table, bucket, bucket + 1, bits)


def buckets_of(table: ConsentTable, first: int, after: int, bits: int) -> ConsentTable:
    """The units of the buckets from `first` up to before `after`; none where the two are one."""
    start, end = _start_of(table, first, bits), _start_of(table, after, bits)
    return ConsentTable(table.purposes, table.pseudonyms[start:end], table.given_since_ms[start:end])


def _start_of(table: ConsentTable, bucket: int, bits: int) -> int:
    """The row where a bucket starts; after all rows, where the bucket is the one after the last."""
    if bucket == 1 << bits:
        return len(table.pseudonyms)
    return int(np.searchsorted(table.pseudonyms[:, 0], np.uint64(bucket << (64 - bits))))
