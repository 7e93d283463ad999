"""Copies of a report that one worker receives within one millisecond: the one that came first is taken (P2).

A group commit stamps all that waits with one receipt, so load, which others make, decides which copies share one. Sealing
tells copies with one receipt apart by a hash of what they say, where the first one would count had they come apart. Here
only the first is let through, so that load decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hushmeter import limits
from hushmeter.ingest.identity import pseudonyms_of
from hushmeter.model.arrays import Int64, UInt64
from hushmeter.model.consent import ERASURE, Decision, DecisionsAfter
from hushmeter.model.report import ReportBatch, pairs_of

_KEY_COLUMNS = 5
_NONE: UInt64 = np.zeros((0, _KEY_COLUMNS), np.uint64)


class Copies:
    """The reports of one worker's newest millisecond.

    Where the clock stands, because it was set back, a millisecond lasts: then the newest `GROUP_COMMIT_REPORTS_MAX` reports
    are known, and copies of others with the same receipt are told apart by their hash.
    """

    def __init__(self) -> None:
        self._at_ms = -1
        self._taken = self._coming = _NONE

    def rows(self, batch: ReportBatch, storage_starts: Int64, now_ms: int) -> dict[int, ReportBatch]:
        """The first copies among some admitted reports, by storage window; nothing is known of them before `settle`.

        Args:
            batch: n reports, in the order of their arrival.
            storage_starts: int64[n], start of each one's storage window: ids that meet across windows are two reports.
            now_ms: their receipt.
        """
        first = self._first(batch, storage_starts, now_ms)
        if first is not None:
            batch, storage_starts = batch.take(first), storage_starts[first]
        starts = np.unique(storage_starts).tolist()
        if len(starts) == 1:
            return {starts[0]: batch}
        return {start: batch.take(np.flatnonzero(storage_starts == start)) for start in starts}

    def _first(self, batch: ReportBatch, storage_starts: Int64, now_ms: int) -> Int64 | None:
        """The rising indices of first copies, int64[k]; None where all are."""
        if now_ms != self._at_ms:
            self._at_ms, self._taken = now_ms, _NONE
        # Reports are the same only where their ids are; nearly always no two are, which one sort tells.
        self._coming = np.empty((len(batch), _KEY_COLUMNS), np.uint64)
        self._coming[:, 0:2], self._coming[:, 2:4], self._coming[:, 4] = batch.report_ids, batch.pseudonyms, storage_starts
        keys = np.concatenate((self._taken, self._coming)) if len(self._taken) else self._coming
        ordered = np.sort(keys[:, 0])
        if not (ordered[1:] == ordered[:-1]).any():
            return None
        _, firsts = np.unique(keys, axis=0, return_index=True)
        before = len(keys) - len(batch)
        return np.sort(firsts[firsts >= before]) - before

    def following(self, decisions_after: DecisionsAfter, period_keys: Mapping[int, bytes]) -> DecisionsAfter:
        """The same decisions, of which the erasures make their units' reports unknown: a copy of what goes is the first.

        Args:
            decisions_after: see `ConsentStore`.
            period_keys: of the periods whose reports were taken, by start.
        """

        def followed(sequence: int, through: int | None) -> tuple[int, Sequence[Decision]]:
            newest, decisions = decisions_after(sequence, through)
            erased = [d.subject for d in decisions if d.source == ERASURE] if len(self._taken) else []
            for key in period_keys.values() if erased else ():
                gone = pairs_of(pseudonyms_of(key, erased))
                same = (self._taken[:, None, 2:4] == gone[None]).all(axis=2).any(axis=1)
                self._taken = self._taken[~same]
            return newest, decisions

        return followed

    def settle(self) -> None:
        """Notes what `rows` was asked for last: it is durable now."""
        taken = np.concatenate((self._taken, self._coming)) if len(self._taken) else self._coming
        self._taken, self._coming = taken[-limits.GROUP_COMMIT_REPORTS_MAX :], _NONE
