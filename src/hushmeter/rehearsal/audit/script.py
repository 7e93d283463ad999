"""What everybody else does in a rehearsal, course by course, with one neighbour's acts in it.

Every course has the same stages. A course differs in what becomes of the service at them: a restart or a restore, a sealer
that is killed, limits that the others or one unit reach.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Final

import yaml

from hushmeter import limits
from hushmeter.api.consent.v1 import consent_pb2
from hushmeter.api.ingest.v1 import ingest_pb2
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.model.time import Window
from hushmeter.rehearsal.audit.courses import RULES, Killed, Rehearsal, Reply, in_parts
from hushmeter.rehearsal.audit.doors import CONSENT, INGEST, token
from hushmeter.rehearsal.audit.inputs import greedy, modest, reports_of
from hushmeter.rehearsal.audit.neighbours import OTHER_UNITS, OTHERS, UNIT, Act, Course, Neighbour, Stage
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.plan_change import NEXT_WINDOW, apply_plan

UNREAD, LAST = "before the last deadline", "last window"
"""The stage at which the audit reads nothing, and the stage at which it reads everything."""
LEAVING = OTHER_UNITS[32:]
"""Those of the others who withdraw and come back; their worker is the unit's."""
_AT_ONCE, _TWICE_LATE, _IN_TWO, _ONCE = range(8), range(8, 24), range(24, 32), range(32, OTHERS)
"""Other units by the way in which they send; each has one way, so that no bound hides which of its copies counts."""
_SECOND_MS = 1_000
_REPORTS_PER_MESSAGE = 8
_OFTEN = 32
"""Reports of one unit in a minute, of a course with limits; none of the others sends as many."""
LIMITED_RULES: Final = dataclasses.replace(
    # The rate is so low that no message is allowed anew during a rehearsal, however long that takes by the machine's clock.
    RULES,
    unit_reports_per_minute=_OFTEN,
    messages_per_s=1e-6,
    message_burst=800,
)


def rules_of(course: Course) -> AccessRules:
    """What a course asks of those who come in."""
    return LIMITED_RULES if course is Course.LIMITED else RULES


class Script:
    """Runs one rehearsal: the others' script with one neighbour's acts in it.

    Args:
        service: the rehearsal, as it was founded.
        neighbour: the unit's record.
    """

    def __init__(self, service: Rehearsal, neighbour: Neighbour) -> None:
        self._service = service
        self._neighbour = neighbour
        self._course = neighbour.course
        self._plan = service.plan
        self._fine = service.plan.finest
        self._span_ms = self._fine.span.length_ms
        self._start_ms = service.foundation.founded_ms
        self._acts = 0
        self._sent: list[Report] = []

    def stages(self) -> Iterator[str]:
        """Goes through the script; yields wherever everything readable is to be read."""
        yield from self._until_the_service_ends()
        away_ms = self._span_ms // 8
        if self._course is Course.RESTORED:
            self._service.restore(away_ms)
            self._one(Stage.BACK)
            # After a restore no earlier consent counts.
            self._decide_all(OTHER_UNITS, given=True)
            yield "restored"
        else:
            self._service.restart(away_ms)
            self._one(Stage.BACK)
        yield from self._until_the_coarsest_ends()

    def _until_the_service_ends(self) -> Iterator[str]:
        service, half = self._service, self._span_ms // 2
        service.clock.advance_to(self._start_ms + self._span_ms // 4)
        self._one(Stage.AGREEING)
        self._decide_all(OTHER_UNITS, given=True)
        service.clock.advance_to(self._start_ms + half)
        self._one(Stage.FIRST)
        self._send([r for i in _ONCE for r in self._modest(i, self._now(), "first", id_of=200 + i)])
        self._at_both_workers(_AT_ONCE, self._now(), "first", 200)
        self._one(Stage.AMONG)
        self._at_both_workers(_AT_ONCE, self._now(), "first", 200, again=True)
        yield "first reports"

        self._sealing(Stage.SEALING_FIRST, Stage.SETTLING_FIRST, self._deadline(self._first), LEAVING)
        yield "first window"

        service.clock.advance_to(self._now() + self._span_ms // 8)
        self._decide_all(LEAVING, given=True)
        self._one(Stage.LATE)
        late = self._start_ms + half + self._span_ms // 4 + self._span_ms // 16
        self._at_both_workers(_TWICE_LATE, late, "late", 0)
        self._one(Stage.BETWEEN)
        yield "late reports"

        self._change_plan()
        if self._course is Course.RESTORED:
            service.back_up()
        service.advance(self._deadline(self._first) + self._span_ms)
        self._at_both_workers(_TWICE_LATE, late + 7, "late", 0, again=True)
        self._one(Stage.GOING)
        yield "late copies"

    def _until_the_coarsest_ends(self) -> Iterator[str]:
        service, half = self._service, self._span_ms // 2
        service.clock.advance_to(max(self._now() + _SECOND_MS, self._start_ms + 2 * self._span_ms + 3 * self._span_ms // 4))
        self._one(Stage.THIRD)
        lateness = self._fine.deadline_ms(self._first) - self._first.end_ms
        service.clock.advance_to(
            self._start_ms + 3 * self._span_ms + max(2 * _SECOND_MS, min(lateness, self._span_ms) // 2)
        )
        self._one(Stage.FOURTH)
        third = self._start_ms + 2 * self._span_ms + half
        in_time = [r for i in _IN_TWO for r in self._modest(i, self._now(), "two", high=i % 2 == 0, id_of=100 + i)]
        in_third = [r for i in _IN_TWO for r in self._modest(i, third, "two", high=i % 2 == 1, id_of=100 + i)]
        self._send(in_time)
        self._send(in_third)
        yield "one id in two windows"

        last = self._coarsest
        service.advance(self._deadline(last) - 2 * _SECOND_MS)
        self._one(Stage.BEFORE_LAST)
        yield UNREAD
        self._sealing(Stage.SEALING_LAST, Stage.SETTLING_LAST, self._deadline(last), LEAVING[:2])
        if self._course is Course.LIMITED:
            self._crowd()
        yield LAST

    @property
    def _first(self) -> Window:
        return self._fine.span.window_of(self._start_ms + 1)

    @property
    def _coarsest(self) -> Window:
        return self._plan.coarsest.span.window_of(self._start_ms + 3 * self._span_ms + 1)

    def _now(self) -> int:
        return self._service.clock.now_ms()

    def _deadline(self, window: Window) -> int:
        return self._service.context.deadline_ms(window)

    def _sealing(self, stage: Stage, settling: Stage, until_ms: int, leaving: tuple[str, ...]) -> None:
        """Ends a window; the unit acts while noise is drawn for it, and afterwards some of the others withdraw.

        Where the window is sealed again, the others withdraw before its noise is drawn again: whether it is sealed again or
        not, the clock stands at the same moment. In the course KILLED the sealer is killed: at the first window while it
        draws, so that the claim is CLAIMED; at the coarsest before it publishes, so that the claim is DRAWN.

        Args:
            stage: the unit's acts at it come while noise is drawn.
            settling: the unit's acts at it come after the first attempt, which may have been killed.
            until_ms: when the window is due.
            leaving: those of the others who withdraw.
        """
        mechanisms, store, drawn, done, dead = self._service.mechanisms, self._service.store, [0], [False], [False]
        killed = self._course is Course.KILLED

        def afterwards() -> None:
            if drawn[0] and not done[0]:
                done[0] = True
                self._one(settling)
                self._decide_all(leaving, given=False)

        def draw() -> None:
            drawn[0] += 1
            if drawn[0] > 1:
                afterwards()
                return
            self._one(stage)
            if killed and stage is Stage.SEALING_FIRST:
                raise Killed

        def publish() -> None:
            if killed and stage is Stage.SEALING_LAST and not dead[0]:
                dead[0] = True
                raise Killed

        mechanisms.on_draw, store.on_publish = draw, publish
        try:
            self._service.advance(until_ms, afterwards)
            afterwards()
        finally:
            mechanisms.on_draw = store.on_publish = lambda: None

    def _one(self, stage: Stage) -> None:
        for act in self._neighbour.acts.get(stage, ()):
            self._acts += 1
            self._act(act)

    def _act(self, act: Act) -> None:
        now, catalog, purposes = self._now(), self._service.context.catalog, self._plan.purpose_names
        version, seed = self._service.context.plan.version, f"act {self._acts}"
        length = self._span_ms // 16
        few = modest(catalog, 0, high=True, purposes=purposes)
        match act:
            case Act.AGREE | Act.WITHDRAW:
                self._decide(UNIT, given=act is Act.AGREE)
            case Act.REPORT | Act.LATE:
                end = now if act is Act.REPORT else self._start_ms + self._span_ms // 2 + self._span_ms // 4
                self._send(reports_of(few, UNIT, version, end, length, seed))
            case Act.RESEND:
                self._send(list(self._sent), worker=self._acts % 2)
            case Act.GREEDY:
                self._send(reports_of(greedy(catalog, purposes), UNIT, version, now, length, seed))
            case Act.COPY:
                ids = [_id(i) for i in (*range(8, 12), *range(116, 120), *range(200, 204))]
                copies = [reports_of(few, UNIT, version, now, length, f"{seed}/{i.hex()}", i) for i in ids]
                self._send([r for reports in copies for r in reports])
            case Act.REPORT_OFTEN:
                for i in range(_OFTEN + _REPORTS_PER_MESSAGE):
                    self._send(reports_of(few, UNIT, version, now, length, f"{seed}/{i}"))
            case Act.DECIDE_OFTEN:
                self._decide_often()
            case Act.ERASE | Act.UNKNOWN_ERASES:
                self._call_of("EraseUnit", UNIT if act is Act.ERASE else "unknown-to-all")

    def _decide_often(self) -> None:
        """More decisions, erasures and questions than a unit may have in a minute."""
        for i in range(limits.DECIDING_PER_UNIT_AND_MINUTE + 1):
            self._decide(UNIT, given=i % 2 == 0)
        for _ in range(limits.ERASING_PER_UNIT_AND_MINUTE + 1):
            self._call_of("EraseUnit", UNIT)
            self._call_of("GetUnit", UNIT)

    def _call_of(self, method: str, unit: str) -> None:
        """Calls EraseUnit or GetUnit for a unit, whose requests have the same fields, at the worker of `UNIT`."""
        asked = consent_pb2.EraseUnitRequest(unit_id=unit, unit_token=token(self._service, unit))
        self._service.call(CONSENT + method, "consent", asked.SerializeToString(), worker=1)

    def _crowd(self) -> None:
        """Others send by one credential until it may send no more; keeps the refusals, not how many messages passed."""
        refused = self._service.flood(INGEST + "StreamReports", "ingest", LIMITED_RULES.message_burst + 1, worker=1)
        self._service.told.append(("a flood", refused))
        for method in ("GetPlan", "SubmitReports", "ValidateReports"):
            self._service.told.append((f"{method} after a flood", self._service.call(INGEST + method, "ingest", worker=1)))

    def _modest(self, i: int, end_ms: int, seed: str, *, high: bool = True, id_of: int) -> list[Report]:
        catalog, version = self._service.context.catalog, self._service.context.plan.version
        points = modest(catalog, i, high=high, purposes=self._plan.purpose_names)
        return reports_of(points, OTHER_UNITS[i], version, end_ms, self._span_ms // 16, f"{seed}/{end_ms}", _id(id_of))

    def _at_both_workers(self, units: range, end_ms: int, seed: str, first_id: int, *, again: bool = False) -> None:
        """Some others send a report; `again` sends it to the other worker, under its id, with values of the other end."""
        for parity in (0, 1):
            high = (parity == 0) != again
            mine = units[parity::2]
            reports = [r for i in mine for r in self._modest(i, end_ms, seed, high=high, id_of=first_id + i)]
            self._send(reports, worker=parity ^ again)

    def _send(self, reports: list[Report], worker: int | None = None) -> None:
        """Sends reports to their unit's worker, or to `worker`; records the acknowledgements of others than `UNIT`."""
        for part in in_parts(reports, _REPORTS_PER_MESSAGE):
            for report in part:
                report.unit_token = token(self._service, report.unit_id)
            request = ingest_pb2.SubmitReportsRequest(reports=part).SerializeToString()
            door = _worker_of(part[0].unit_id) if worker is None else worker
            reply = self._service.call(INGEST + "SubmitReports", "ingest", request, worker=door)
            if part[0].unit_id == UNIT:
                self._sent = list(part)
            else:
                self._tell("acknowledgement", reply)

    def _decide_all(self, units: Sequence[str], *, given: bool) -> None:
        for unit in units:
            self._tell(f"decision of {unit}", self._decide(unit, given=given))

    def _decide(self, unit: str, *, given: bool) -> Reply:
        asking = self._service.context.plan.asking
        locale, source = (next(iter(listed), "") for listed in (asking.languages, asking.sources))
        decisions = [
            consent_pb2.Decision(purpose=p.name, given=given, text_hash=p.text_hash, locale=locale, source=source)
            for p in self._service.context.plan.purposes
        ]
        request = consent_pb2.SetConsentRequest(unit_id=unit, unit_token=token(self._service, unit), decisions=decisions)
        return self._service.call(CONSENT + "SetConsent", "consent", request.SerializeToString(), worker=_worker_of(unit))

    def _tell(self, what: str, reply: Reply) -> None:
        self._service.told.append((f"{what} at {self._now()}", reply))

    def _change_plan(self) -> None:
        """Applies a new version of the plan in the middle of the period, with another description and the same prices."""
        text = self._service.context.timeline.recorded()[-1].plan_text
        changed = yaml.safe_load(text)
        changed["version"] += 1
        first = next(iter(changed["metrics"].values()))
        first["description"] += " In other words."
        written = yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)
        apply_plan(self._service.context.store, self._service.mechanisms, written, NEXT_WINDOW, self._now())


def _worker_of(unit: str) -> int:
    return 1 if unit == UNIT or unit in LEAVING else 0


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")
