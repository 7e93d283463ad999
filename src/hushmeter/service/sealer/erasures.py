"""Removes rows of units that asked for it from every unscrubbed storage window (R3).

The withdrawal that came with an erasure keeps the unit out of every window whose cut-off was later (P8). A window whose
cut-off had passed keeps its rows until it has ended, so nothing that is released depends on when rows are gone. What an
erasure asks for is in the state store until it is done; a sealer that is killed anywhere begins again, and erasing twice is
erasing once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import structlog

from hushmeter.errors import HushmeterError, KeyGone, SegmentLost
from hushmeter.ingest.identity import pseudonyms_of
from hushmeter.model.key_names import period_key
from hushmeter.model.time import Window
from hushmeter.ports import Erasure, SegmentRecord, WindowRecord
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.logs import fields_of
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.deployment.plan_timeline import END_MS
from hushmeter.service.sealer.leases import fenced
from hushmeter.service.sealer.totals_rewriting import ends
from hushmeter.transparency.receipt import erased_by_ms

SLICE_S = 1.0
"""For at most this long erasing goes on before windows that are due have their turn."""
ERASURES_PAUSE_S = 10.0
"""Erasures that come within this time are done together: each segment is written anew once for all of them."""


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
        self._next_s = -ERASURES_PAUSE_S
        # By segment, the number of the newest erasure that was done in it, and so of all earlier ones that ask for it.
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
            self._next_s = began_s + ERASURES_PAUSE_S
            self._tell_late()
        if not self._wanted:
            return
        # A later erasure has a higher number and asks for no fewer segments than an earlier one. So the erasures that are
        # done in all segments come first in the list; `open_from` is the number of the first one that is not.
        open_from = self._wanted[-1].number + 1
        alive = context.store.beats()
        has_ended = ends(context)
        for segment in self._segments():
            if context.clock.monotonic_s() - began_s > SLICE_S:
                return
            missing = [
                e
                for e in self._wanted
                if e.last_segment >= segment.sequence and e.number > self._done.get(segment.segment_id, 0)
            ]
            # A later erasure has a later receipt, so those that must wait for a window over this segment come last.
            pinned_ms = self._pinned_from_ms(segment.storage_start_ms, has_ended) if missing else END_MS
            now, later = ([e for e in missing if (e.at_ms < pinned_ms) is sooner] for sooner in (True, False))
            if later:
                open_from = min(open_from, later[0].number)
            if now and not self._erase(segment, now, alive):
                open_from = min(open_from, now[0].number)
        if open_from > self._wanted[0].number:
            context.store.end_erasures(open_from - 1)
            self._wanted = tuple(e for e in self._wanted if e.number >= open_from)

    def before(self, record: WindowRecord) -> None:
        """Removes what was asked for before a window's cut-off from the segments that it is sealed from, all closed.

        Where a unit sends a report again after its erasure, the first copy would else count until its row is gone, and when
        that is depends on who else asked (P9).

        Raises:
            StorageFull, Failure: the window waits.
        """
        context = self._context
        asked = [e for e in context.store.erasures() if e.at_ms < context.deadline_ms(record.window)]
        if not asked:
            return
        starts, has_ended = [w.start_ms for w in context.plan.finest.span.tiles(record.window)], ends(context)
        for segment in context.store.segments(starts, record.last_segment, record.window.resolution):
            pinned_ms, done = (
                self._pinned_from_ms(segment.storage_start_ms, has_ended),
                self._done.get(segment.segment_id, 0),
            )
            missing = [e for e in asked if e.at_ms < pinned_ms and e.last_segment >= segment.sequence and e.number > done]
            if missing:
                # A segment that cannot be read makes the window LOST once it is sealed, and its operator is told then.
                with contextlib.suppress(SegmentLost, KeyGone):
                    self._remove(segment, missing)
                    self._done[segment.segment_id] = missing[-1].number

    def _pinned_from_ms(self, start_ms: int, has_ended: Callable[[Window], bool]) -> int:
        """The first cut-off of the windows over a storage window that wait: erasures that came before it need not wait."""
        plan = self._context.plan
        end_ms = plan.finest.span.end_of(start_ms)
        over = [r.span.window_of(end_ms) for r in plan.resolutions]
        return min((self._context.deadline_ms(window) for window in over if not has_ended(window)), default=END_MS)

    def _segments(self) -> Iterator[SegmentRecord]:
        """What may hold rows that are to be removed."""
        for start in self._context.log.storage_windows():
            yield from self._context.store.segments([start], self._wanted[-1].last_segment)

    def _erase(self, segment: SegmentRecord, missing: Sequence[Erasure], alive: dict[str, int]) -> bool:
        """Removes units' rows from one segment, if its owner has ended it; whether that is done."""
        try:
            if not segment.closed:
                # `fenced` may close the segment now. The next run reads from the store with how many frames it was closed.
                fenced(self._context, segment, alive)
                return False
            # Without the key nobody can read the rows or tell whose they were; scrubbing removes their files.
            with contextlib.suppress(KeyGone):
                self._remove(segment, missing)
        except HushmeterError as error:
            # A segment that cannot be rewritten is tried again in the next run. It holds up no other segment.
            self._meters.failures.labels("erase").inc()
            start = segment.storage_start_ms
            self._log.error("rows cannot be removed, will try again", storage_start_ms=start, **fields_of(error))
            return False
        self._done[segment.segment_id] = missing[-1].number
        return True

    def _remove(self, segment: SegmentRecord, missing: Sequence[Erasure]) -> None:
        context, start, plan = self._context, segment.storage_start_ms, self._context.plan
        period = plan.privacy.period.window_of(plan.finest.span.end_of(start))
        key = context.keys.get(period_key(period.start_ms))
        units = pseudonyms_of(key, [e.subject for e in missing])
        context.log.erase(start, segment.segment_id, segment.frames, units)

    def _tell_late(self) -> None:
        now_ms, oldest_ms = self._context.clock.now_ms(), self._wanted[0].at_ms
        if now_ms > erased_by_ms(self._context.plan, oldest_ms):
            self._meters.failures.labels("erase").inc()
            self._log.error("erasures are late", waiting=len(self._wanted), oldest_s=(now_ms - oldest_ms) // 1000)
