"""What waits for its group commit in one worker: so many reports, points and tokens at most, first come first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hushmeter import limits
from hushmeter.errors import Overloaded
from hushmeter.ingest.raw import SentReports
from hushmeter.model.report import Rejection


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message's reports.

    Attributes:
        accepted: how many are durable.
        rejections: the others.
        missed: resolution name to indices of accepted reports that came too late for it.
        received_at_ms: the server's receipt.
    """

    accepted: int
    rejections: Sequence[Rejection]
    missed: dict[str, list[int]]
    received_at_ms: int

    @property
    def plain(self) -> bool:
        """Whether every report was accepted for every window."""
        return not self.rejections and not self.missed


@dataclass(frozen=True, slots=True)
class Pending:
    """One message that waits, and where its answer goes."""

    sent: SentReports
    points: int
    answer: asyncio.Future[Outcome]

    def tell(self, answer: Outcome | Exception) -> None:
        """Answers whoever still waits."""
        if self.answer.cancelled():
            return
        if isinstance(answer, Exception):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


class IntakeQueue:
    """Messages in order of arrival. Used on the event loop alone."""

    def __init__(self) -> None:
        self._waiting: deque[Pending] = deque()
        self._reports = 0
        self._points = 0
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, sent: SentReports) -> Pending:
        """Adds a message.

        Raises:
            Overloaded: more reports, points or tokens would wait than may; it does not say which, for that is about
                others (R4).
        """
        points = sent.points
        if (
            self._reports + len(sent) > limits.QUEUED_REPORTS_MAX
            or self._points + points > limits.QUEUED_POINTS_MAX
            or self._tokens + sent.tokens > limits.QUEUED_TOKENS_MAX
        ):
            raise Overloaded
        pending = Pending(sent, points, asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        self._reports += len(sent)
        self._points += points
        self._tokens += sent.tokens
        return pending

    def take_group(self) -> list[Pending]:
        """Takes what one group commit should hold: the first message, and more up to the group's bounds."""
        group: list[Pending] = []
        reports, points = 0, 0
        while self._waiting and reports < limits.GROUP_COMMIT_REPORTS_MAX and points < limits.GROUP_COMMIT_POINTS_MAX:
            group.append(self._waiting.popleft())
            reports += len(group[-1].sent)
            points += group[-1].points
        self._reports -= reports
        self._points -= points
        self._tokens -= sum(pending.sent.tokens for pending in group)
        return group
