"""The sealer: every window leaves OPEN at its deadline and ends RELEASED or LOST, also one that received nothing (T3).

The life of a window (`hushmeter.model.states`): who moves it, what is durable then, and what a crash after that leaves.

    step                       durable after it                          a crash then, and who goes on
    -------------------------  ----------------------------------------  -------------------------------------------------
    1 its deadline passes      nothing: OPEN has no record               a sealer that comes late begins at 2, with the
                                                                         same cut-off of consent
    2 `_close_due`             state: CLOSING, with the newest segment   segments and decisions that come later are not
      OPEN -> CLOSING          registered so far and the newest          the window's, whenever it is sealed
                               decision received before the deadline
    3 `_segments_final`        state: each segment closed, with its      a segment that is closed stays so; the others are
                               number of frames: by its owner, or by     waited for
                               `leases.fenced` where that is retired
    4 `_rows_fixed`            state: FIXED                             the rows never change again, but for step 5
      CLOSING -> FIXED
    5 `Erasing.before`         log: without the rows that were to go     erasing twice is erasing once
    6 `tally_window`           nothing: the tally is in memory           it is sealed again, from the same rows with the
                                                                         same consent, to the same tally
    7 `Claims.claim`           ring: CLAIMED, its period charged         noise may have been drawn: LOST, never drawn again
    8 `Claims.draw`            disk: the bytes of what was drawn;        before DRAWN as after 7; after it whoever comes
                               then ring: DRAWN, with their hash         next publishes those bytes, or without them LOST
    9 `Claims.publish`         state, in one transaction: RELEASED,      the window has ended; the ring is behind, and
      FIXED -> RELEASED       releases, charge, sets of kept windows    whoever comes next moves it
   10 the claim ends           ring: no claim, the ledger's new head     nothing is left to do

A window is LOST instead where its rows, its key or a decision of its consent are missing, where an open view has too many
partitions, where noise could not be drawn, where another history has claimed it, where a claim was left that cannot be
published, or where its operator gives it up (`giving_up`). Then the ring's claim becomes LOST in place of steps 7 and 8,
and step 9 is FIXED -> LOST: the whole charge, no release. Whoever finds such a claim repeats step 9 until that is there.
A restore loses windows by itself (`hushmeter.service.deployment.restoring`).

Whatever else goes wrong makes the window wait where it is, such as a full disk or a key that cannot be read. Later windows
of its resolution wait behind it (P7); those of other resolutions go on. A segment that is still open holds up every window
that comes later in the order of deadlines: so the order of publication tells nobody whose report came late (R1).

Who settles: steps 7 to 10 of one window end before step 7 of any other. `_end` takes the turn beside the publications and
settles the claim that it finds, whoever made it, before it seals. `run_due` takes a claim off the ring whose window the
state has ended, also where no window is due. Two sealers of one state do no harm; `hushmeter.pipeline.claims` says why, and
what a copy of a state may do.

Once all windows over some rows have ended, `Scrubbing` destroys their keys and then their files. While some of them wait,
`Compaction` leaves totals of those rows for them, and `Erasing` removes what units asked for.
"""

from __future__ import annotations

import contextlib
import threading

import structlog

from hushmeter.errors import NotServing, StateConflict
from hushmeter.model.states import WindowState
from hushmeter.pipeline.settlement import settle
from hushmeter.pipeline.window_release import release_window
from hushmeter.ports import WindowRecord
from hushmeter.service.deployment.consent_registers import Registers
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.logs import fields_of
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.sealer.erasures import Erasing
from hushmeter.service.sealer.leases import Leases, fenced
from hushmeter.service.sealer.scrubbing import Scrubbing, others_go_on
from hushmeter.service.sealer.totals_rewriting import Compaction

POLL_S = 0.25


class Sealer:
    """Decides when windows close, and ends those that are due, one after another. One thread calls.

    Args:
        context: the deployment.
        meters: operators' metrics.
        processes: how many may seal one large window side by side.
    """

    def __init__(self, context: Context, meters: Meters, processes: int = 1) -> None:
        self._context = context
        self._meters = meters
        self._processes = processes
        self._consent = Registers()
        self._compaction = Compaction(context, self._consent)
        self._erasing = Erasing(context, meters)
        self._leases = Leases(context)
        self._scrubbing = Scrubbing(context, meters, self._consent)
        self._claims = context.claims()
        self._wake = threading.Event()
        self._stopping = False
        self._log = structlog.get_logger("hushmeter.sealer")
        context.clock.on_jump(self._wake.set)

    def run(self) -> None:
        """Works until `stop` is called from another thread."""
        while not self._stopping:
            try:
                self.run_due()
            except NotServing as error:
                self._meters.failures.labels("sealer").inc()
                self._log.error("sealing has ended for good", **fields_of(error))
                return
            except Exception as error:
                # A defect ends no sealer: other windows must go on.
                self._meters.failures.labels("sealer").inc()
                self._log.error("sealing failed, will try again", **fields_of(error))
            self._wake.wait(POLL_S)
            self._wake.clear()

    def stop(self) -> None:
        """Makes `run` return when the window in hand is done."""
        self._stopping = True
        self._wake.set()

    def run_due(self) -> int:
        """Does everything that is due now; returns how many windows ended.

        Raises:
            NotServing: another state of the deployment serves; nothing was done.
        """
        if self._claims.follow().claim is not None:
            # The claim may be on a window that the state has ended already, so that no attempt below comes to it. Where
            # another sealer has the turn, that sealer ends the claim.
            with contextlib.suppress(StateConflict), self._context.publications.turn():
                self._claims.ended()
        self._leases.bury()
        try:
            return self._seal_due()
        finally:
            # Erasures go on while windows wait, whatever they wait for: a plan that nobody has approved is one such thing.
            with others_go_on(self._meters, "erasures"):
                self._erasing.run()

    def _seal_due(self) -> int:
        self._context.timeline.follow()
        self._close_due()
        ended = self._end_ready()
        self._scrubbing.run()
        with others_go_on(self._meters, "totals"):
            self._compaction.run(now=ended > 0)
        return ended

    def _close_due(self) -> None:
        """OPEN -> CLOSING for every window whose deadline has passed, each resolution strictly in time order.

        The deadline is also the cut-off of its consent, which is fixed here, however late the sealer comes (P8).
        """
        now = self._context.clock.now_ms()
        for column in range(len(self._context.plan.resolutions)):
            for window in self._context.upcoming(column):
                deadline_ms = self._context.deadline_ms(window)
                if self._stopping or deadline_ms > now:
                    break
                self._context.store.begin_closing(window, deadline_ms)

    def _end_ready(self) -> int:
        """Ends windows by deadline, so that the order tells nobody which of them had to wait for a late report (R1, T3)."""
        ended, waiting = 0, set[str]()
        due = self._context.store.windows([WindowState.CLOSING, WindowState.FIXED])
        for record in sorted(due, key=self._turn):
            if self._stopping:
                break
            # A later window of a resolution never overtakes an earlier one (P7).
            if record.window.resolution in waiting:
                continue
            try:
                if not self._rows_fixed(record):
                    break
                self._erasing.before(record)
                self._end(record)
            except NotServing:
                raise
            except StateConflict as conflict:
                waiting.add(record.window.resolution)
                self._log.warning("another sealer was here", window=str(record.window), error=str(conflict))
                continue
            except Exception as error:
                # An operator can mend it, or it is a defect of ours: this window waits, and those behind it.
                waiting.add(record.window.resolution)
                self._meters.failures.labels("seal").inc()
                self._log.error("window waits", window=str(record.window), **fields_of(error))
                continue
            ended += 1
        if ended == len(due):
            self._consent.need(self._context.timeline.open_at(self._context.clock.now_ms()))
        return ended

    def _turn(self, record: WindowRecord) -> tuple[int, str]:
        window = record.window
        return self._context.deadline_ms(window), window.resolution

    def _rows_fixed(self, record: WindowRecord) -> bool:
        """Whether a window is FIXED, or is now, since its segments are final."""
        if record.state is WindowState.CLOSING:
            if not self._segments_final(record):
                return False
            self._context.store.mark_fixed(record.window)
        return True

    def _segments_final(self, record: WindowRecord) -> bool:
        """Whether every segment that may hold rows of a window is closed; a dead worker's are fenced on the way."""
        store = self._context.store
        starts = [w.start_ms for w in self._context.plan.finest.span.tiles(record.window)]
        alive = store.beats()
        segments = store.segments(starts, record.last_segment, record.window.resolution)
        closed = [fenced(self._context, segment, alive) for segment in segments]
        return all(closed)

    def _end(self, record: WindowRecord) -> None:
        with self._context.publications.turn():
            # A claim of another process, or of an earlier attempt, ends first (C7). It may be the claim on this window.
            settled = settle(self._claims, self._context.sealing_ports)
            if settled is not None and settled[0] == record.window:
                state = settled[1]
            else:
                with self._meters.seal_seconds.time():
                    state = self._release(record)
        self._meters.windows.labels(state.value).inc()
        level = self._log.error if state is WindowState.LOST else self._log.info
        level("window ended", window=str(record.window), state=state.value)

    def _release(self, record: WindowRecord) -> WindowState:
        """Seals and publishes a window with the consent that its cut-off fixed, at every attempt (P8)."""
        context, window = self._context, record.window
        era = context.timeline.at(window.start_ms)
        consent = self._consent.through(era, record.decisions_through, context.store.decisions_after)
        return release_window(record, context.sealing_ports(window, self._processes), self._claims, consent)
