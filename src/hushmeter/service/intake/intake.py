"""One worker's intake: reports and decisions that come in are queued on the event loop, and recorded by one other thread.

| class | does | called by |
| --- | --- | --- |
| `Intake` | queues what comes in, forms groups, hands them over, passes answers on | the event loop |
| `Deciding` | holds decisions until they are recorded | the event loop adds, the commit thread records |
| `Commits` | commits groups, renews the lease, closes segments | the commit thread |
| `Doors` | follows plan and decisions, judges reports | the commit thread |
| `PeriodKeys` | keeps the keys of pseudonyms, and forgets them | the commit thread |
| `OpenSegments` | writes rows, under a lease | the commit thread; `seen_ms` anybody |

A caller has the answer to its reports when their rows are durable and the worker's lease is known to hold;
`hushmeter.service.intake.open_segments` begins with what that rests on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import structlog

from hushmeter import limits
from hushmeter.errors import Overloaded
from hushmeter.ingest.identity import subject_of
from hushmeter.ingest.raw import SentReports
from hushmeter.model.arrays import Int64
from hushmeter.model.consent import Decision, PurposeState
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.logs import fields_of
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.intake.commits import Commits
from hushmeter.service.intake.decisions import Answer, Deciding
from hushmeter.service.intake.doors import Doors
from hushmeter.service.intake.open_segments import OpenSegments
from hushmeter.service.intake.period_keys import PeriodKeys
from hushmeter.service.intake.queue import IntakeQueue, Outcome

_T = TypeVar("_T")
TICK_S = 0.2
LINGER_S = 0.005
LINGER_FROM = 8


class Intake:
    """Takes the reports and decisions of one worker in. The event loop alone calls.

    Args:
        context: the deployment.
        meters: operators' metrics.
        rules: what is asked of units; nothing by default.

    Attributes:
        rules: as given.
    """

    def __init__(self, context: Context, meters: Meters, rules: AccessRules | None = None) -> None:
        self.rules = rules or AccessRules()
        self._clock = context.clock
        self._meters = meters
        self._log = structlog.get_logger("hushmeter.worker")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commits")
        self._queue = IntakeQueue()
        self._validating = 0
        self._wake = asyncio.Event()
        self._stopping = False
        self._lately = 0
        self._next_tick_s = 0.0
        self._task: asyncio.Task[None] | None = None
        key = context.keys.get_or_create("deployment")
        self._subject = partial(subject_of, key)
        segments, period_keys = OpenSegments(context), PeriodKeys(context)
        self._seen_ms = segments.seen_ms
        self._doors = Doors(context, self.rules, key, period_keys, segments)
        self._deciding = Deciding(context, self._subject, self._doors.follow_decisions, self._doors.states, segments.now_ms)
        self._commits = Commits(context, meters, segments, period_keys, self._doors, self._deciding)

    async def start(self) -> None:
        """Registers the worker and begins to commit."""
        await self._in_order(self._commits.enlist)
        loop = asyncio.get_running_loop()

        def jumped() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._tick_now)

        self._clock.on_jump(jumped)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Commits what waits, closes every segment and retires; afterwards nothing is taken."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
        await self._in_order(self._commits.retire)
        self._thread.shutdown()

    def now_ms(self) -> int:
        """The door's time, by which unit tokens are issued and expire; it does not go back when the clock does."""
        return self._seen_ms()

    def subject(self, unit_id: bytes) -> bytes:
        """What decisions and erasures know a unit by."""
        return self._subject(unit_id)

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
        """Answers as `submit` would, and stores nothing.

        Raises:
            Overloaded: too many reports wait to be judged already; what `submit` says in such a case, word for word.
        """
        if self._validating + len(sent) > limits.QUEUED_REPORTS_MAX:
            raise Overloaded
        self._validating += len(sent)
        try:
            return await self._in_order(partial(self._commits.judge, sent))
        finally:
            self._validating -= len(sent)

    async def decide(self, unit_id: bytes, decisions: Sequence[Decision]) -> Answer:
        """Records decisions of one unit, durably, and says what binds now and when they were received.

        Args:
            unit_id: the unit.
            decisions: with any subject and receipt; both are filled in when they are recorded.
        """
        return await self._recorded(self._deciding.add(unit_id, decisions))

    async def erase(self, unit_id: bytes) -> int:
        """Withdraws all that a unit allows, records that its rows are to be removed, and says when that was received.

        Every worker ends the segments that it had registered by then. Rows in later segments are not removed: the unit has
        agreed again before they were taken.
        """
        _, received_at_ms = await self._recorded(self._deciding.add_erasure(unit_id))
        return received_at_ms

    async def consent_of(self, unit_id: bytes) -> dict[str, PurposeState]:
        """What a unit's decisions are now, and what it still allows that only windows of earlier versions ask."""
        return await self._in_order(partial(self._doors.consent_of, self._subject(unit_id)))

    async def allowed_by(self, unit_id: bytes) -> tuple[dict[int, Int64], int]:
        """Since when a unit has allowed each purpose, by version of the plan whose windows wait; and the door's time."""
        return await self._in_order(partial(self._doors.allowed_since, self._subject(unit_id)))

    def _tick_now(self) -> None:
        self._next_tick_s = 0.0
        self._wake.set()

    async def _recorded(self, answer: Future[Answer]) -> Answer:
        # The first of several calls that wait records for all of them, so many decisions share one transaction.
        await self._in_order(self._deciding.record)
        return answer.result()

    async def _in_order(self, work: Callable[[], _T]) -> _T:
        """Has the commit thread do something after all that it was given before."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _run(self) -> None:
        while not (self._stopping and not self._queue):
            if not self._queue:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), TICK_S)
            self._wake.clear()
            if self._lately >= LINGER_FROM:
                # Many callers send at once. The longer a group is gathered, the more of them share what it costs.
                await asyncio.sleep(LINGER_S)
            await self._commit_group()
            if self._clock.monotonic_s() < self._next_tick_s:
                continue
            self._next_tick_s = self._clock.monotonic_s() + TICK_S
            try:
                await self._in_order(self._commits.tick)
            except Exception as error:
                # Whatever the error is, the worker must go on committing.
                self._meters.failures.labels("tick").inc()
                self._log.warning("tick failed, will try again", **fields_of(error))

    async def _commit_group(self) -> None:
        group = self._queue.take_group()
        self._lately = len(group)
        if not group:
            return
        answers = await self._in_order(lambda: self._commits.answers([p.sent for p in group]))
        for pending, answer in zip(group, answers, strict=True):
            pending.tell(answer)
