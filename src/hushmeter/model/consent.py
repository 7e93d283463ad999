"""Consent as values: decisions, what binds now, and the columns that sealing reads (P8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.arrays import Int64, UInt64

NEVER = np.iinfo(np.int64).max
"""The `given_since` of consent that is not given: no interval starts that late."""
ERASURE = "erasure"
"""The source of withdrawals that an erasure brings, and of no others."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision of one unit about one purpose.

    Attributes:
        subject: 16 bytes, `BLAKE2b(deployment key, unit_id)` (P3).
        purpose: as in the plan.
        given: true gives consent, false withdraws it.
        received_at_ms: the server's receipt, which orders decisions.
        text_hash: SHA-256 of the text that was shown; a grant holds for that text alone.
        locale, source: in which language it was shown, and where; of the plan's lists, and `ERASURE`.
    """

    subject: bytes
    purpose: str
    given: bool
    received_at_ms: int
    text_hash: bytes = b""
    locale: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        ensure(len(self.subject) == 16, "a subject is 16 bytes")


DecisionsAfter = Callable[[int, int | None], tuple[int, Sequence[Decision]]]
"""See `ConsentStore.decisions_after`."""


@dataclass(frozen=True, slots=True)
class PurposeState:
    """Where one unit stands on one purpose.

    Attributes:
        given_since_ms: the first of the grants that still hold, or `NEVER`. Intervals that start earlier are refused.
        withdrawn_at_ms: the newest withdrawal, or -1: a grant with an earlier receipt does not bind.
        outdated: whether consent is not given, and a grant for another text than the one in force would hold.
    """

    given_since_ms: int = NEVER
    withdrawn_at_ms: int = -1
    outdated: bool = False

    def after(self, decision: Decision, text_hash: bytes) -> PurposeState:
        """The state once the next decision of the sequence has been taken in.

        Of decisions with one receipt the later number binds: load, which others make, decides which decisions share a
        receipt, and must not decide more (P8, P9).

        Args:
            decision: about this purpose.
            text_hash: of the purpose's text in force; a grant for another text does not bind.
        """
        if not decision.given:
            return PurposeState(NEVER, max(decision.received_at_ms, self.withdrawn_at_ms))
        if self.given or decision.received_at_ms < self.withdrawn_at_ms:
            return self
        if decision.text_hash != text_hash:
            return PurposeState(NEVER, self.withdrawn_at_ms, outdated=True)
        return PurposeState(decision.received_at_ms, self.withdrawn_at_ms)

    @property
    def given(self) -> bool:
        """Whether consent is given now."""
        return self.given_since_ms != NEVER

    @property
    def undecided(self) -> bool:
        """Whether the unit has decided nothing about the purpose, under any text."""
        return not self.given and not self.outdated and self.withdrawn_at_ms < 0


@dataclass(frozen=True, slots=True)
class ConsentTable:
    """Consent of some units under the pseudonyms of one period, sorted by pseudonym.

    A unit that is not in the table has allowed nothing.

    Attributes:
        purposes: names of the columns.
        pseudonyms: uint64[u, 2], strictly increasing as 128-bit numbers.
        given_since_ms: int64[u, p], `NEVER` where consent is not given.
    """

    purposes: tuple[str, ...]
    pseudonyms: UInt64
    given_since_ms: Int64

    def __post_init__(self) -> None:
        u = len(self.pseudonyms)
        ensure(self.pseudonyms.shape == (u, 2), "pseudonyms are uint64[u, 2]")
        ensure(self.given_since_ms.shape == (u, len(self.purposes)), "one column a purpose")
        high, low = self.pseudonyms[:, 0], self.pseudonyms[:, 1]
        rising = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))
        ensure(bool(rising.all()), "pseudonyms are sorted and unique")

    @classmethod
    def of(cls, purposes: tuple[str, ...], rows: Iterable[tuple[bytes, tuple[int, ...]]]) -> ConsentTable:
        """Builds a table from (pseudonym, given_since per purpose) in any order."""
        ordered = sorted(rows)
        joined = b"".join(pseudonym for pseudonym, _ in ordered)
        pairs = np.frombuffer(joined, ">u8").reshape(len(ordered), 2).astype(np.uint64)
        since = np.array([s for _, s in ordered], np.int64).reshape(len(ordered), len(purposes))
        return cls(purposes, pairs, since)
