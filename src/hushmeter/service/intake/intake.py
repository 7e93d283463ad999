"""One ingest worker: group commit and consent decisions, one after another on one thread.

A group commit stamps the reports that wait with one receipt, admits them, appends one frame a storage window, and answers
when the frames are durable and the worker's lease is known to hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
import structlog

from hushmeter import limits
from hushmeter.access.rates import UnitRates
from hushmeter.access.unit_tokens import ISSUER_KEY_NAME, invalid_among
from hushmeter.consent.register import ConsentRegister
from hushmeter.errors import Failure, HushmeterError, KeyGone, LeaseLost, Overloaded
from hushmeter.ingest.admission import Admission, Door, rejections_of
from hushmeter.ingest.by_version import admit_by
from hushmeter.ingest.copies import Copies
from hushmeter.ingest.identity import pseudonyms_of, subject_of, subjects_of
from hushmeter.ingest.raw import RawReports, SentReports
from hushmeter.model.arrays import Int64
from hushmeter.model.consent import Decision, PurposeState
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.consent_registers import Registers
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.logs import fields_of
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.deployment.plan_timeline import Era, era_at, versions_at
from hushmeter.service.intake.decisions import Answer, Deciding
from hushmeter.service.intake.open_segments import OpenSegments
from hushmeter.service.intake.queue import IntakeQueue, Outcome

_T = TypeVar("_T")
TICK_S = 0.2
LINGER_S = 0.005
LINGER_FROM = 8
PERIOD_KEYS_MAX = 16
LEASE_RETRIES_MAX = 3
_NOTHING = -1


class IntakeWorker:
    """Takes reports and decisions in; see the module's text for its promises.

    Args:
        context: the deployment.
        meters: operators' metrics.
        rules: what is asked of units; nothing by default.
    """

    def __init__(self, context: Context, meters: Meters, rules: AccessRules | None = None) -> None:
        self._context = context
        self._meters = meters
        self.rules = rules or AccessRules()
        self._registers = Registers()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="intake")
        self._queue = IntakeQueue()
        self._validating = 0
        self._wake = asyncio.Event()
        self._stopping = False
        self._lately = 0
        self._next_tick_s = 0.0
        self._task: asyncio.Task[None] | None = None
        self._segments = OpenSegments(context)
        self._log = structlog.get_logger("hushmeter.worker")
        self._deployment_key = context.keys.get_or_create("deployment")
        self._period_keys: dict[int, bytes] = {}
        self._rates = UnitRates(per_minute) if (per_minute := self.rules.unit_reports_per_minute) else None
        self._deciding = Deciding(context, self.subject, self._follow, self._states, self._segments.now_ms)
        self._copies = Copies()
        self._followed = _NOTHING
        self._doors: dict[int, Door] = {}
        self._eras: tuple[Era, ...] = ()
        self._open_until_ms = 0

    async def start(self) -> None:
        """Registers the worker and begins to commit."""
        await self._in_order(self._segments.enlist)
        loop = asyncio.get_running_loop()

        def jumped() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._tick_now)

        self._context.clock.on_jump(jumped)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Commits what waits, closes every segment and retires; afterwards nothing is taken."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
        await self._in_order(self._retire)
        self._thread.shutdown()

    def now_ms(self) -> int:
        """The door's time, by which unit tokens are issued and expire; it does not go back when the clock does."""
        return self._segments.seen_ms()

    def submit(self, sent: SentReports) -> asyncio.Future[Outcome]:
        """Takes reports in; the answer is there when what was accepted is durable.

        Raises:
            Overloaded: too many reports wait already, or the worker is stopping.
            Failure: the log could not be written; nothing was acknowledged.
        """
        if self._stopping:
            raise Overloaded
        pending = self._queue.put(sent)
        self._wake.set()
        return pending.answer

    async def validate(self, sent: SentReports) -> Outcome:
        """Answers as `submit` would, and stores nothing; as bounded as what waits for the disk, and told alike."""
        if self._validating + len(sent) > limits.QUEUED_REPORTS_MAX:
            raise Overloaded

        def judge() -> Outcome:
            now = self._segments.now_ms()
            self._follow()
            admission = self._admit(RawReports.of([sent]), now)
            return self._outcome(admission, 0, len(sent), now)

        self._validating += len(sent)
        try:
            return await self._in_order(judge)
        finally:
            self._validating -= len(sent)

    async def decide(self, unit_id: bytes, decisions: Sequence[Decision]) -> Answer:
        """Records decisions of one unit, durably, and says what binds now and when they were received.

        Args:
            unit_id: the unit.
            decisions: with any subject and receipt; both are filled in here.
        """
        return await self._recorded(self._deciding.add(unit_id, decisions))

    async def erase(self, unit_id: bytes) -> int:
        """Withdraws all that a unit allows, records that its rows are to be removed, and says when that was received.

        Every worker ends its segments: rows in later ones were taken with consent that was given anew.
        """
        _, received_at_ms = await self._recorded(self._deciding.add_erasure(unit_id))
        return received_at_ms

    async def consent_of(self, unit_id: bytes) -> dict[str, PurposeState]:
        """What a unit's decisions are now, and what it still allows that only windows of earlier versions ask."""

        def read() -> dict[str, PurposeState]:
            self._follow()
            return self._states(self.subject(unit_id))

        return await self._in_order(read)

    async def allowed_by(self, unit_id: bytes) -> tuple[dict[int, Int64], int]:
        """Since when a unit has allowed each purpose, by version of the plan whose windows wait; and the door's time."""

        def read() -> tuple[dict[int, Int64], int]:
            self._follow_plan()
            self._follow()
            waiting = [era for era in self._eras if era.version.version in self._doors]
            mine = [self.subject(unit_id)]
            since = {era.version.version: self._registers.of(era).given_since(mine)[0] for era in waiting}
            return since, self._segments.now_ms()

        return await self._in_order(read)

    def subject(self, unit_id: bytes) -> bytes:
        """What decisions and erasures know a unit by."""
        return subject_of(self._deployment_key, unit_id)

    def _follow_plan(self) -> None:
        """Opens a door for each era of the plan; knocks a wall where an era's last window is over."""
        timeline, now = self._context.timeline, self._segments.now_ms()
        if timeline.eras is self._eras and now < self._open_until_ms:
            return
        self._eras, opened = timeline.eras, timeline.open_at(now)
        self._open_until_ms = min(era.takes_until_ms() for era in opened)
        self._registers.need(opened)
        # Also one that is new: it must know all decisions before its era begins.
        self._followed = _NOTHING
        self._follow()
        self._doors = {era.version.version: self._door(era, opened) for era in opened}

    def _states(self, subject: bytes) -> dict[str, PurposeState]:
        """Where a unit stands on what the plan asks, and what it allows of what waiting windows of versions before ask."""
        in_force = self._register().states(subject)
        now = era_at(self._eras, self._segments.now_ms())
        before = [e for e in self._eras if e.version.version in self._doors and e.from_ms < now.from_ms]
        return self._registers.allowed(before, subject) | in_force

    def _register(self) -> ConsentRegister:
        """Who allows what the plan in force asks."""
        self._follow_plan()
        return self._registers.of(era_at(self._eras, self._segments.now_ms()))

    def _door(self, era: Era, opened: Sequence[Era]) -> Door:
        context = self._context
        return Door(
            era.columns,
            context.first_starts,
            lambda unit_ids: subjects_of(self._deployment_key, unit_ids),
            self._registers.of(era).given_since,
            lambda period, subjects: pseudonyms_of(self._period_key(period), subjects),
            partial(invalid_among, context.keys.get_or_create(ISSUER_KEY_NAME)) if self.rules.unit_tokens else None,
            tuple(e.version.version for e in opened),
        )

    def _tick_now(self) -> None:
        self._next_tick_s = 0.0
        self._wake.set()

    async def _recorded(self, answer: Future[Answer]) -> Answer:
        # Whichever call's turn comes first records what waits, so many decisions share one transaction.
        await self._in_order(self._deciding.record)
        return answer.result()

    async def _in_order(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _run(self) -> None:
        while not (self._stopping and not self._queue):
            if not self._queue:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), TICK_S)
            self._wake.clear()
            if self._lately >= LINGER_FROM:
                # Many send at once: what each group costs is soon shared by more of them.
                await asyncio.sleep(LINGER_S)
            await self._commit_group()
            if self._context.clock.monotonic_s() < self._next_tick_s:
                continue
            self._next_tick_s = self._context.clock.monotonic_s() + TICK_S
            try:
                await self._in_order(self._tick)
            except Exception as error:
                # Whatever it is, the worker must go on committing.
                self._meters.failures.labels("tick").inc()
                self._log.warning("tick failed, will try again", **fields_of(error))

    async def _commit_group(self) -> None:
        group = self._queue.take_group()
        self._lately = len(group)
        if not group:
            return
        answers = await self._in_order(lambda: self._answers([p.sent for p in group]))
        for pending, answer in zip(group, answers, strict=True):
            pending.tell(answer)

    # What follows runs on the intake thread alone.

    def _answers(self, messages: Sequence[SentReports]) -> Sequence[Outcome | Exception]:
        """Commits messages together; where one of them may be why that fails, one by one, so that it alone is refused.

        Decisions that wait are recorded first: a report never overtakes the withdrawal that was sent before it.
        The disk fails all alike; a defect, an hour whose key is gone or a unit that finds no room is a matter of some.
        """
        self._deciding.record()
        try:
            with self._meters.commit_seconds.time():
                return self._commit(messages)
        except Exception as error:
            # Every caller must hear of it, whatever it is.
            if not isinstance(error, Overloaded):
                self._meters.failures.labels("commit").inc()
                self._log.error("commit failed", **fields_of(error))
            if len(messages) == 1 or (isinstance(error, Failure) and not isinstance(error, KeyGone)):
                return [error] * len(messages)
        return [answer for message in messages for answer in self._answers([message])]

    def _commit(self, messages: Sequence[SentReports]) -> list[Outcome]:
        raw = RawReports.of(messages)
        for _ in range(LEASE_RETRIES_MAX):
            try:
                admission, now = self._commit_once(raw)
                break
            except LeaseLost:
                self._log.warning("declared dead while paused; starting over under another name")
                self._segments.enlist()
        else:
            raise LeaseLost("this worker was declared dead again and again: is the machine overloaded? Try again later")
        self._meters.committed(admission.reasons)
        if not admission.reasons.any() and not admission.missed.any():
            return [Outcome(len(sent), (), {}, now) for sent in messages]
        borders = np.cumsum([0, *(len(m) for m in messages)]).tolist()
        return [self._outcome(admission, a, b, now) for a, b in itertools.pairwise(borders)]

    def _commit_once(self, raw: RawReports) -> tuple[Admission, int]:
        while True:
            now = self._segments.now_ms()
            # Read once the group is formed, so that what is taken depends neither on when this worker last looked
            # nor on what others decide (P8), and a segment that was registered a moment ago takes no row of before (R3).
            self._follow()
            admission = self._admit(raw, now)
            starts = np.unique(admission.storage_starts).tolist()
            closed = [start for start in starts if not self._segments.takes(start, now)]
            if not closed:
                break
            # Registering takes time and may teach us the time, so the reports are stamped and judged anew.
            for start in closed:
                self._segments.open(start)
        self._segments.append(self._copies.rows(admission.batch, admission.storage_starts, now))
        self._copies.settle()
        if self._rates is not None:
            self._rates.settle()
        return admission, now

    def _admit(self, raw: RawReports, now_ms: int) -> Admission:
        self._follow_plan()
        # What ended in an era whose windows are all over is too late at the oldest door that is open as well.
        of_report = np.maximum(versions_at(self._eras, raw.interval_end_ms), min(self._doors))
        admission = admit_by(raw, self._doors, of_report, now_ms)
        if self._rates is None:
            return admission
        judged = self._rates.judge(admission.subjects, self._context.clock.monotonic_s())
        if judged.crowded:
            raise Overloaded
        return admission.without(judged.over)

    def _outcome(self, admission: Admission, first: int, last: int, now_ms: int) -> Outcome:
        rejections = rejections_of(admission, first, last, self._context.plan)
        missed = {
            resolution.name: np.flatnonzero(admission.missed[first:last, column]).tolist()
            for column, resolution in enumerate(self._context.plan.resolutions)
            if admission.missed[first:last, column].any()
        }
        return Outcome(last - first - len(rejections), rejections, missed, now_ms)

    def _period_key(self, period_start_ms: int) -> bytes:
        key = self._period_keys.get(period_start_ms)
        if key is None:
            key = self._context.keys.get_or_create(f"period/{period_start_ms}")
            if len(self._period_keys) >= PERIOD_KEYS_MAX:
                self._period_keys.pop(min(self._period_keys))
            self._period_keys[period_start_ms] = key
        return key

    def _forget_period_keys(self) -> None:
        """Forgets the keys of periods that take no report any more: a key that the ring destroys must live nowhere (P3).

        So it is with one that has gone: what is taken under it could never be released.
        """
        plan, now = self._context.plan, self._segments.now_ms()
        for start in list(self._period_keys):
            end = plan.privacy.period.end_of(start)
            if all(self._context.deadline_ms(r.span.window_of(end)) <= now for r in plan.resolutions):
                del self._period_keys[start]
                continue
            try:
                self._context.keys.get(f"period/{start}")
            except KeyGone:
                del self._period_keys[start]

    def _follow(self) -> None:
        """Takes in what any process has recorded by now.

        No report is taken with consent given after an erasure before the segments of that time take none any more (R3).
        """
        decided = self._context.store.decided()
        if decided.newest != self._followed:
            decisions_after = self._copies.following(self._context.store.decisions_after, self._period_keys)
            self._registers.follow(decisions_after, decided.newest)
            self._segments.end_through(decided.erasing_through)
            self._followed = decided.newest

    def _tick(self) -> None:
        self._forget_period_keys()
        try:
            self._context.timeline.follow()
        except HushmeterError as error:
            # An unapproved version must not cost this worker its lease.
            self._meters.failures.labels("plan").inc()
            self._log.error("the plan's newest version is not followed", **fields_of(error))
        self._follow_plan()
        try:
            self._segments.tick()
        except LeaseLost:
            self._log.warning("declared dead while paused; starting over under another name")
            self._segments.enlist()
        self._follow()

    def _retire(self) -> None:
        try:
            self._segments.retire()
        except Failure as error:
            self._log.warning("could not sign off; the sealer will notice", error=str(error))
