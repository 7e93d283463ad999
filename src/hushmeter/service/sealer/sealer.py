"""The sealer: every window leaves OPEN at its deadline and ends RELEASED or LOST, also one that received nothing (T3).

All progress is in the state store and the key ring's record, so a sealer that is killed anywhere goes on where it was, as
`hushmeter.pipeline.claims` says. Two sealers on one state do no harm: each window is claimed, and they take turns.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator

import structlog

from hushmeter import limits
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
from hushmeter.service.sealer.leases import fenced
from hushmeter.service.sealer.totals_rewriting import Compaction, ends

POLL_S = 0.25


class Sealer:
    """Closes, seals, publishes and scrubs windows when they are due. One thread calls.

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
        self._claims = context.claims()
        self._seen_beats: dict[str, tuple[int, float]] = {}
        self._swept = False
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
                # Whatever it is, other windows must go on.
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
            # It may be on a window that has ended here, so that no turn comes; another sealer may be at it.
            with contextlib.suppress(StateConflict), self._context.publications.turn():
                self._claims.ended()
        self._bury_the_dead()
        try:
            return self._seal_due()
        finally:
            # Whatever keeps windows waiting, such as a plan that nobody has approved, keeps nobody's rows.
            with self._others_go_on("erasures"):
                self._erasing.run()

    def _seal_due(self) -> int:
        self._context.timeline.follow()
        self._close_due()
        ended = self._end_ready()
        self._destroy_ended()
        with self._others_go_on("totals"):
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

    def _bury_the_dead(self) -> None:
        """Retires workers whose beat has stood still for a lease, and fences what they left open.

        The sealer itself may be paused between any two steps: a beat counts as new as it can be when it is first seen, and
        its age is that of the moment before it was seen again.
        """
        store, clock = self._context.store, self._context.clock
        before = clock.monotonic_s()
        beats = store.beats()
        after = clock.monotonic_s()
        self._seen_beats = {
            worker: seen if (seen := self._seen_beats.get(worker)) and seen[0] == count else (count, after)
            for worker, count in beats.items()
        }
        for worker, (count, since) in self._seen_beats.items():
            if before - since >= limits.LEASE_S and store.declare_dead(worker, count):
                self._log.warning("a worker's lease ran out; fencing its segments", worker=worker)

    def _end_ready(self) -> int:
        """Ends windows by deadline, so that the order tells nobody which of them had to wait for a late report (R1, T3)."""
        ended, held = 0, set[str]()
        due = self._context.store.windows([WindowState.CLOSING, WindowState.FIXED])
        for record in sorted(due, key=self._turn):
            if self._stopping:
                break
            # A later window of a resolution never overtakes an earlier one (P7).
            if record.window.resolution in held:
                continue
            try:
                if not self._rows_fixed(record):
                    break
                self._erasing.before(record)
                self._end(record)
            except NotServing:
                raise
            except StateConflict as conflict:
                held.add(record.window.resolution)
                self._log.warning("another sealer was here", window=str(record.window), error=str(conflict))
                continue
            except Exception as error:
                # Something that an operator can mend, or a defect; the window waits, and those after it.
                held.add(record.window.resolution)
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
            # What another process, or an earlier attempt, has claimed ends first (C7); it may be this window.
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

    def _destroy_ended(self) -> None:
        """Destroys what no window needs any more, and what an earlier attempt or another process left of it (P3, P7)."""
        context, plan = self._context, self._context.plan
        periods = {plan.privacy.period.end_of(start): start for start in context.keys.periods()}
        ended = self._ended(periods)
        self._consent.keep([start for end_ms, start in periods.items() if end_ms not in ended])
        for end_ms in ended:
            with self._others_go_on(f"period/{periods[end_ms]}"):
                # The key goes last: while it is there, the next poll comes back to all of this.
                context.store.forget_kept_windows(periods[end_ms])
                context.keys.destroy(f"period/{periods[end_ms]}")
        found = context.log.storage_windows()
        if not self._swept:
            # Also keys without files, which a crash or a restore leaves; later ones have files, or die at the next start.
            found = (*found, *context.keys.storage_windows())
        starts = {plan.finest.span.end_of(start): start for start in found}
        for end_ms in self._ended(starts):
            with self._others_go_on(f"data/{starts[end_ms]}"):
                context.store.mark_scrubbed(starts[end_ms])
                context.keys.destroy(f"data/{starts[end_ms]}")
                context.log.destroy(starts[end_ms])
        self._swept = True

    @contextlib.contextmanager
    def _others_go_on(self, key: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._meters.failures.labels("scrub").inc()
            self._log.error("destruction failed, will try again", key=key, **fields_of(error))

    def _ended(self, moments_ms: Iterable[int]) -> list[int]:
        """Those moments whose release windows have ended at every resolution."""
        has_ended, resolutions = ends(self._context), self._context.plan.resolutions
        return [m for m in moments_ms if all(has_ended(r.span.window_of(m)) for r in resolutions)]
