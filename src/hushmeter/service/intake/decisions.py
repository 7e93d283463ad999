"""Decisions and erasures that wait: the commit thread records all of them together, in one transaction."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from hushmeter import limits
from hushmeter.access.rates import UnitRates
from hushmeter.errors import Overloaded, RateLimited
from hushmeter.ingest.admission import RATE_RETRY_MS
from hushmeter.model.consent import ERASURE, Decision, PurposeState
from hushmeter.service.deployment.context import Context

_OFTEN = f"the unit decides more than {limits.DECIDING_PER_UNIT_AND_MINUTE} times a minute"
_DECIDES_TOO_OFTEN = (
    f"{_OFTEN}; what it allows was not recorded: send that again in a minute (a withdrawal is taken at any time)"
)
_ERASES_TOO_OFTEN = (
    f"the unit asks to be erased more than {limits.ERASING_PER_UNIT_AND_MINUTE} times a minute; the erasure was not "
    "recorded: send it again in a minute (SetConsent withdraws at any time)"
)

Answer = tuple[dict[str, PurposeState], int]
"""What binds now, by purpose, and when the decisions were received."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    unit_id: bytes
    decisions: Sequence[Decision]
    erases: bool
    answer: Future[Answer] = field(default_factory=Future)

    @property
    def limited(self) -> bool:
        """Whether a unit that asks too often is refused this request; one that only withdraws is answered all the same."""
        return self.erases or any(d.given for d in self.decisions)


class Deciding:
    """What units decide, until it is recorded. Any thread calls `add` and `add_erasure`, the commit thread alone `record`.

    Args:
        context: the deployment.
        subject: from a unit's id to its subject.
        follow: reads what any worker has recorded by now.
        states: where a subject stands on each purpose that it can decide about, by what was followed.
        now_ms: the worker's time, which does not go back when the machine's clock is set back. The store stamps no decision
            before an earlier one: by a time that goes back, a stranger's decision would move the receipts of others (P9).
    """

    def __init__(
        self,
        context: Context,
        subject: Callable[[bytes], bytes],
        follow: Callable[[], object],
        states: Callable[[bytes], dict[str, PurposeState]],
        now_ms: Callable[[], int],
    ) -> None:
        self._context = context
        self._subject, self._follow, self._states, self._now_ms = subject, follow, states, now_ms
        self._waiting: deque[_Waiting] = deque()
        self._rates = UnitRates(limits.DECIDING_PER_UNIT_AND_MINUTE)
        self._erasures = UnitRates(limits.ERASING_PER_UNIT_AND_MINUTE)

    def add(self, unit_id: bytes, decisions: Sequence[Decision]) -> Future[Answer]:
        """Takes decisions of one unit, with any subject and receipt: both are filled in when they are recorded."""
        return self._add(_Waiting(unit_id, decisions, erases=False))

    def add_erasure(self, unit_id: bytes) -> Future[Answer]:
        """Takes an erasure: it withdraws every purpose that any version of the plan has (P8, R3)."""
        nobody = bytes(16)
        names = self._context.timeline.purposes()
        withdrawals = [Decision(nobody, name, given=False, received_at_ms=0, source=ERASURE) for name in names]
        return self._add(_Waiting(unit_id, withdrawals, erases=True))

    def record(self) -> None:
        """Records all that waits, in one transaction, and tells each caller what binds now, or the failure.

        The store stamps the receipt inside the transaction, so that receipts and numbers of decisions have one order (P8).
        The same is written and answered for a unit that is known here as for one that is not (R3).
        """
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not waiting:
            return
        try:
            subjects = [self._subject(w.unit_id) for w in waiting]
            refusals = self._refusals(waiting, subjects)
            if refusals:
                self._follow()
            admitted = [i for i in range(len(waiting)) if i not in refusals]
            granted = {subjects[i] for i in admitted if any(d.given for d in waiting[i].decisions)}
            taken = [
                dataclasses.replace(d, subject=subject)
                for i, subject in enumerate(subjects)
                for d in waiting[i].decisions
                if i not in refusals or (not waiting[i].erases and self._still_taken(d, subject, granted))
            ]
            erased = {subjects[i] for i in admitted if waiting[i].erases}
            received_at_ms = self._context.store.record_decisions(taken, self._now_ms, erased)
            # The rates count what is recorded, also where a line below fails and its caller hears of that.
            self._rates.settle()
            self._erasures.settle()
            self._context.answered()
            self._follow()
            states = [self._states(subject) for subject in subjects]
        except Exception as error:
            # Whatever the error is, every caller must hear of it: each waits for an answer of its own.
            for w in waiting:
                w.answer.set_exception(error)
            return
        for i, (state, w) in enumerate(zip(states, waiting, strict=True)):
            if w.limited and (refusal := refusals.get(i)):
                w.answer.set_exception(refusal)
            else:
                w.answer.set_result((state, received_at_ms))

    def _refusals(self, waiting: Sequence[_Waiting], subjects: Sequence[bytes]) -> dict[int, RateLimited | Overloaded]:
        """Why requests of units that ask too often are refused, by index; `record` takes what they withdraw all the same.

        Erasures are counted in a table of their own. Where it is full, a unit that is new to it is not refused.
        """
        now_s, refusals = self._context.clock.monotonic_s(), dict[int, RateLimited | Overloaded]()
        for erases, rates, text in ((False, self._rates, _DECIDES_TOO_OFTEN), (True, self._erasures, _ERASES_TOO_OFTEN)):
            mine = [i for i, w in enumerate(waiting) if w.erases is erases]
            judged = rates.judge([subjects[i] for i in mine], now_s)
            refusals |= {mine[at]: RateLimited(text, RATE_RETRY_MS / 1000) for at in judged.over}
            if not erases:
                refusals |= {mine[at]: Overloaded() for at in judged.crowded}
        return refusals

    def _add(self, waiting: _Waiting) -> Future[Answer]:
        self._waiting.append(waiting)
        return waiting.answer

    def _still_taken(self, decision: Decision, subject: bytes, granted: Collection[bytes]) -> bool:
        """Whether a decision of a unit that decides too often is recorded: it withdraws what is not withdrawn yet.

        Args:
            decision: of the unit.
            subject: the unit.
            granted: subjects that agree to something in the same transaction, which is not in their states yet.
        """
        if decision.given:
            return False
        state = self._states(subject).get(decision.purpose)
        return state is not None and (subject in granted or state.given or state.outdated or state.undecided)
