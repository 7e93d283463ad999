"""Rows become totals once a window that held them has ended: only what coarser windows may still use stays.

Receipt and schedule alone decide which rows become totals: those that were received before the deadline of a window that
has ended, because every copy of their reports is known by then. A segment that is closed earlier, for whatever reason,
keeps its rows until that window has ended (P9).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import structlog

from hushmeter.errors import KeyGone, SegmentLost
from hushmeter.model.arrays import Int64
from hushmeter.model.consent import ConsentTable
from hushmeter.model.key_names import period_key
from hushmeter.model.report import ReportBatch
from hushmeter.model.states import WindowState
from hushmeter.model.time import Window
from hushmeter.pipeline.participation import consent_table
from hushmeter.sealing.copies import copy_key
from hushmeter.sealing.totals import totals
from hushmeter.service.deployment.consent_registers import Registers
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.logs import fields_of

REWRITING_PAUSE_S = 30.0
"""So often segments that were closed late are looked for."""


def ends(context: Context) -> Callable[[Window], bool]:
    """Which release windows have ended, as of now."""
    store = context.store
    # The newest windows are read before those that wait. A window that another sealer begins to close in between is newer
    # than these, and so has not ended here.
    newest = {r.name: store.last_window_start(r.name) for r in context.plan.resolutions}
    waiting = {r.window for r in store.windows([WindowState.CLOSING, WindowState.FIXED])}

    def has_ended(window: Window) -> bool:
        begun = newest[window.resolution]
        return begun is not None and window.start_ms <= begun and window not in waiting

    return has_ended


class Compaction:
    """Rewrites storage windows over which some release windows have ended and others wait. One thread calls.

    Args:
        context: the deployment.
        consent: the sealer's registers.
    """

    def __init__(self, context: Context, consent: Registers) -> None:
        self._context = context
        self._consent = consent
        self._done: dict[int, tuple[str, frozenset[str]]] = {}
        self._next_s = 0.0
        self._log = structlog.get_logger("hushmeter.compaction")

    def run(self, *, now: bool) -> None:
        """Adds up what can be added up; looks for it now, or once in a while."""
        clock = self._context.clock.monotonic_s()
        if not now and clock < self._next_s:
            return
        self._next_s = clock + REWRITING_PAUSE_S
        found = self._context.log.storage_windows()
        self._done = {start: done for start, done in self._done.items() if start in found}
        for start, ended, waiting in self._ready(found):
            self._add_up(start, ended, waiting)

    def _ready(self, starts_ms: tuple[int, ...]) -> Iterator[tuple[int, list[Window], list[Window]]]:
        """Storage windows over which some release windows have ended and others wait, with both."""
        plan, has_ended = self._context.plan, ends(self._context)
        for start in starts_ms:
            end_ms = plan.finest.span.end_of(start)
            over = [r.span.window_of(end_ms) for r in plan.resolutions]
            ended = [window for window in over if has_ended(window)]
            waiting = [window for window in over if window not in ended]
            # Versions of the plan may ask for consent to different texts. Where several of them wait, rows stay as they
            # are.
            versions = {self._context.timeline.at(w.start_ms).version.version for w in waiting}
            if ended and len(versions) == 1:
                yield start, ended, waiting

    def _add_up(self, start_ms: int, ended: list[Window], waiting: list[Window]) -> None:
        context, kept_for = self._context, " ".join(w.resolution for w in waiting)
        # Only these segments may hold a row that was received before the deadline of a window that has ended.
        done = {w.resolution for w in ended}
        segments = {s.segment_id: s.frames for s in context.store.segments([start_ms]) if s.closed and s.resolutions & done}
        state = kept_for, frozenset(segments)
        if self._done.get(start_ms) == state:
            return
        era = context.timeline.at(waiting[0].start_ms)
        fixed = context.store.decisions_through([*ended, *waiting])
        # The consent that the newest window that has ended was sealed with; but none that a waiting window will not be
        # sealed with (P8).
        through = min([max(fixed[w] for w in ended), *(fixed[w] for w in waiting if w in fixed)])
        register = self._consent.through(era, through, context.store.decisions_after)
        period = era.plan.privacy.period.window_of(waiting[0].end_ms)
        fixed_ms = max(map(context.deadline_ms, ended))
        deadlines = [(window, context.deadline_ms(window)) for window in waiting]

        def change(table: ConsentTable, key: bytes, rows: ReportBatch, of: Int64) -> tuple[ReportBatch, Int64]:
            return totals(rows, of, fixed_ms, deadlines, era.catalog, table, key)

        try:
            table = consent_table(context.keys, register, period)
            key = copy_key(context.keys.get_or_create(period_key(period.start_ms)))
            context.log.rewrite(start_ms, segments, partial(change, table, key), kept_for)
        except (SegmentLost, KeyGone) as error:
            # The windows that wait will be LOST for the same cause. Nothing is gained by trying again.
            self._log.error("rows cannot be added up", storage_start_ms=start_ms, **fields_of(error))
        self._done[start_ms] = state
