"""Group commit: reports that wait are stamped with one receipt, admitted, made durable, and answered together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import structlog

from hushmeter.errors import Failure, HushmeterError, KeyGone, LeaseLost, Overloaded
from hushmeter.ingest.admission import Admission, rejections_of
from hushmeter.ingest.raw import RawReports, SentReports
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.logs import fields_of
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.intake.decisions import Deciding
from hushmeter.service.intake.doors import Doors
from hushmeter.service.intake.open_segments import OpenSegments
from hushmeter.service.intake.period_keys import PeriodKeys
from hushmeter.service.intake.queue import Outcome

LEASE_RETRIES_MAX = 3


class Commits:
    """What the commit thread of one worker does. It alone calls, one call after another.

    Args:
        context: the deployment.
        meters: operators' metrics.
        segments: where rows go.
        period_keys: forgotten at each tick where their time is over.
        doors: what is admitted.
        deciding: decisions that wait; they are recorded before reports are committed.
    """

    def __init__(
        self,
        context: Context,
        meters: Meters,
        segments: OpenSegments,
        period_keys: PeriodKeys,
        doors: Doors,
        deciding: Deciding,
    ) -> None:
        self._context = context
        self._meters = meters
        self._segments = segments
        self._period_keys = period_keys
        self._doors = doors
        self._deciding = deciding
        self._log = structlog.get_logger("hushmeter.worker")

    def enlist(self) -> None:
        """Registers the worker with the state store, under a new name; what it held under another one is the sealer's."""
        self._segments.enlist()

    def answers(self, messages: Sequence[SentReports]) -> Sequence[Outcome | Exception]:
        """Commits messages together, and says what each one is answered.

        Decisions that wait are recorded first: no report is admitted against a withdrawal that was sent before it.
        Where committing the messages together fails, one of them may be the cause: by a defect, by an hour whose key is
        gone, or by a unit that finds no room. Each message is then committed by itself, so that only the cause is refused.
        A disk or a database that fails refuses all of them alike.
        """
        self._deciding.record()
        try:
            with self._meters.commit_seconds.time():
                return self._commit(messages)
        except Exception as error:
            # Whatever the error is, every caller must hear of it.
            if not isinstance(error, Overloaded):
                self._meters.failures.labels("commit").inc()
                self._log.error("commit failed", **fields_of(error))
            if len(messages) == 1 or (isinstance(error, Failure) and not isinstance(error, KeyGone)):
                return [error] * len(messages)
        return [answer for message in messages for answer in self.answers([message])]

    def judge(self, sent: SentReports) -> Outcome:
        """Says what one message would be answered now, and stores nothing."""
        now = self._segments.now_ms()
        self._doors.follow_decisions()
        admission = self._doors.admit(RawReports.of([sent]), now)
        return self._outcome(admission, 0, len(sent), now)

    def tick(self) -> None:
        """Does what is due by time alone: keys, versions of the plan, deadlines, the lease, and others' decisions."""
        self._period_keys.forget_ended(self._segments.now_ms())
        try:
            self._context.timeline.follow()
        except HushmeterError as error:
            # A version that nobody has approved must not cost this worker its lease.
            self._meters.failures.labels("plan").inc()
            self._log.error("the plan's newest version is not followed", **fields_of(error))
        self._doors.follow_plan()
        try:
            self._segments.tick()
        except LeaseLost:
            self._start_over()
        self._doors.follow_decisions()

    def retire(self) -> None:
        """Closes every segment and signs the worker off."""
        try:
            self._segments.retire()
        except Failure as error:
            self._log.warning("could not sign off; the sealer will notice", error=str(error))

    def _commit(self, messages: Sequence[SentReports]) -> list[Outcome]:
        raw = RawReports.of(messages)
        for _ in range(LEASE_RETRIES_MAX):
            try:
                admission, now = self._commit_once(raw)
                break
            except LeaseLost:
                self._start_over()
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
            # Decisions are read for each group anew. So neither the moment at which this worker last read them nor what
            # others decide has a say in what is admitted (P8). Nor does a segment that was registered a moment ago take a
            # row of a unit that was erased before (R3).
            self._doors.follow_decisions()
            admission = self._doors.admit(raw, now)
            starts = np.unique(admission.storage_starts).tolist()
            closed = [start for start in starts if not self._segments.takes(start, now)]
            if not closed:
                break
            # Registering takes time, and may teach the worker a later time. So the reports are stamped and judged again.
            for start in closed:
                self._segments.open(start)
        self._segments.append(self._doors.rows(admission, now))
        self._doors.settle()
        return admission, now

    def _outcome(self, admission: Admission, first: int, last: int, now_ms: int) -> Outcome:
        """What became of the reports `first` to `last` (exclusive)."""
        plan = self._context.plan
        rejections = rejections_of(admission, first, last, plan)
        missed = {
            resolution.name: np.flatnonzero(admission.missed[first:last, column]).tolist()
            for column, resolution in enumerate(plan.resolutions)
            if admission.missed[first:last, column].any()
        }
        return Outcome(last - first - len(rejections), rejections, missed, now_ms)

    def _start_over(self) -> None:
        self._log.warning("declared dead while paused; starting over under another name")
        self.enlist()
