"""Removes rows of units that asked for it from every unscrubbed storage window (R3).

The withdrawal that came with an erasure keeps the unit out of every release whose sealing begins later, so nothing that is
released depends on when its rows are gone. What an erasure asks for is in the state store until it is done; a sealer that
is killed anywhere begins again, and erasing twice is erasing once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import structlog

from hushmeter.errors import HushmeterError, KeyGone
from hushmeter.ingest.identity import pseudonyms_of
from hushmeter.ports import Erasure, SegmentRecord
from hushmeter.service.context import Context
from hushmeter.service.logs import told
from hushmeter.service.meters import Meters
from hushmeter.service.segments import fenced

SLICE_S = 1.0
"""So long at most erasing goes on before windows that are due have their turn."""
PAUSE_S = 10.0
"""Erasures that come in such a time are done together: each segment is written anew once for all of them."""


class Erasing:
    """Does the erasures that the state store knows of. One thread calls.

    Args:
        context: the deployment.
        meters: operators' metrics.
    """

    def __init__(self, context: Context, meters: Meters) -> None:
        self._context = context
        self._meters = meters
        self._wanted: tuple[Erasure, ...] = ()
        self._next_s = -PAUSE_S
        # By segment, the erasure up to which it is without the units' rows.
        self._done: dict[str, int] = {}
        self._log = structlog.get_logger("hushmeter.erasing")

    def run(self) -> None:
        """Goes on for a while with what is wanted."""
        context, began_s = self._context, self._context.clock.monotonic_s()
        if began_s >= self._next_s:
            self._wanted = context.store.erasures()
            if not self._wanted:
                self._done.clear()
                return
            self._next_s = began_s + PAUSE_S
            self._tell_late()
        if not self._wanted:
            return
        # Numbers rise, and so do the segments that they ask for: what is done is a beginning of the list.
        open_from = self._wanted[-1].number + 1
        alive = context.store.beats()
        for segment in self._segments():
            if context.clock.monotonic_s() - began_s > SLICE_S:
                return
            missing = [
                e
                for e in self._wanted
                if e.last_segment >= segment.sequence and e.number > self._done.get(segment.segment_id, 0)
            ]
            if missing and not self._erase(segment, missing, alive):
                open_from = min(open_from, missing[0].number)
        if open_from > self._wanted[0].number:
            context.store.end_erasures(open_from - 1)
            self._wanted = tuple(e for e in self._wanted if e.number >= open_from)

    def _segments(self) -> Iterator[SegmentRecord]:
        """What may hold rows that are to be removed."""
        for start in self._context.log.storage_windows():
            yield from self._context.store.segments([start], self._wanted[-1].last_segment)

    def _erase(self, segment: SegmentRecord, missing: Sequence[Erasure], alive: dict[str, int]) -> bool:
        """Removes units' rows from one segment, if its owner has ended it; whether that is done."""
        context, start = self._context, segment.storage_start_ms
        plan = context.plan
        period = plan.privacy.period.window_of(plan.finest.span.end_of(start))
        try:
            if not segment.closed:
                # With how many frames a segment was fenced, the store tells at the next turn.
                fenced(context, segment, alive)
                return False
            # Where a key is gone nobody can read the rows any more, or tell whose they were; their files go next.
            with contextlib.suppress(KeyGone):
                key = context.keys.get(f"period/{period.start_ms}")
                subjects = [e.subject for e in missing]
                context.log.erase(start, segment.segment_id, segment.frames, pseudonyms_of(key, subjects))
        except HushmeterError as error:
            # What is wrong with one segment keeps no unit's rows in the others.
            self._meters.failures.labels("erase").inc()
            self._log.error("rows cannot be removed, will try again", storage_start_ms=start, **told(error))
            return False
        self._done[segment.segment_id] = missing[-1].number
        return True

    def _tell_late(self) -> None:
        waits_ms = self._context.clock.now_ms() - self._wanted[0].at_ms
        if waits_ms > self._context.plan.finest.span.length_ms:
            self._meters.failures.labels("erase").inc()
            self._log.error("erasures are late", waiting=len(self._wanted), oldest_s=waits_ms // 1000)
