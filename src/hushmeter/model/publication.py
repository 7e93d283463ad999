"""Everything that ends one window in the state: what a claim that is DRAWN names, and what is published for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hushmeter.model.ledger import DraftEntry, LedgerEntry, LedgerMark
from hushmeter.model.release import Release
from hushmeter.model.time import Window


@dataclass(frozen=True, slots=True)
class Publication:
    """What is published of one window, whole.

    Attributes:
        window: which.
        period_start_ms: of the period that pays.
        before: the ledger's head that the entries follow.
        releases: with their completeness.
        entries: of the ledger.
        kept: by metric of bounded participation, the encrypted set of kept windows after this one.
    """

    window: Window
    period_start_ms: int
    before: LedgerMark
    releases: Sequence[Release]
    entries: Sequence[DraftEntry]
    kept: Mapping[str, bytes]

    @property
    def head(self) -> LedgerMark:
        """The ledger's head once the entries are in it."""
        return head_after(self.before, self.entries)


def head_after(head: LedgerMark, entries: Sequence[DraftEntry]) -> LedgerMark:
    """The head of a ledger once some entries follow it."""
    for entry in entries:
        added = LedgerEntry.following(head.sequence + 1, head.entry_hash, entry.content)
        head = LedgerMark(head.deployment_id, added.sequence, added.entry_hash)
    return head
