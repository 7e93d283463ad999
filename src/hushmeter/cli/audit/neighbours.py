"""Neighbouring data sets as data: what everybody else does in a rehearsal, and what one unit does beside, or does not.

The script of the others never changes. A neighbour adds one unit's whole record: its reports, decisions and erasures, at
stages of the script. Each has the number of what it tries in the list of neighbours (docs/privacy/audit.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import yaml

from hushmeter.api.consent.v1 import consent_pb2
from hushmeter.api.ingest.v1 import ingest_pb2
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.cli.audit.doors import CONSENT, INGEST, token
from hushmeter.cli.audit.inputs import greedy, modest, reports_of
from hushmeter.cli.audit.rehearsal import Rehearsal, in_parts
from hushmeter.model.time import Window
from hushmeter.service.changing import NEXT_WINDOW, apply_plan

UNIT = "the-one"
OTHERS = 36
OTHER_UNITS = tuple(f"other-{i}" for i in range(OTHERS))
LEAVING = OTHER_UNITS[32:]
"""Those of the others who withdraw and come back."""
_IN_TIME, _TWICE_LATE, _IN_TWO = (*range(8), *range(32, OTHERS)), range(8, 24), range(24, 32)
"""Each sends in one way alone, so that no bound hides which of its copies counts."""
FINE_WINDOWS = 4
"""So many windows of the finest resolution are lived through before the coarsest one ends."""
_SECOND_MS = 1_000
_REPORTS_PER_MESSAGE = 8


class Stage(StrEnum):
    """Where in the script the unit may act; the others act after it."""

    AGREEING = "everybody agrees"
    FIRST = "in the first window"
    SEALING_FIRST = "while the first window is sealed"
    LATE = "late copies"
    BETWEEN = "between copies"
    THIRD = "in the third window"
    FOURTH = "copies in the fourth window"
    BEFORE_LAST = "before the last deadline"
    SEALING_LAST = "while the coarsest window is sealed"


class Act(StrEnum):
    """One thing that the unit does."""

    AGREE = "agrees to everything"
    WITHDRAW = "withdraws everything"
    REPORT = "reports"
    LATE = "reports of the first window"
    GREEDY = "reports more than every bound"
    COPY = "reports under the ids of others"
    RESEND = "sends its last report again"
    ERASE = "erases"
    UNKNOWN_ERASES = "an unknown unit erases"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One unit's record, by stage.

    Attributes:
        number: in the list of docs/privacy/audit.md.
        name: what it tries, in a few words.
        acts: what the unit does at each stage.
        absent: where it must not count at all: in windows of the finest resolution, of the coarsest, or of both.
        like: number of the neighbour whose windows it must not differ from; None where there is none.
    """

    number: int
    name: str
    acts: Mapping[Stage, tuple[Act, ...]]
    absent: frozenset[str] = frozenset()
    like: int | None = None


_FINE, _COARSE, _ALL = frozenset({"finest"}), frozenset({"coarsest"}), frozenset({"finest", "coarsest"})


_S, _A = Stage, Act
_AGREES = {_S.AGREEING: (_A.AGREE,)}
_REPORTS = {**_AGREES, _S.FIRST: (_A.REPORT,)}
NOBODY = Neighbour(0, "nobody", {})
NEIGHBOURS: tuple[Neighbour, ...] = (
    Neighbour(1, "reports in time", _REPORTS),
    Neighbour(2, "reports too late for all but the coarsest window", {**_AGREES, _S.LATE: (_A.LATE,)}, absent=_FINE),
    Neighbour(3, "one id in two hours", {**_AGREES, _S.FIRST: (_A.COPY,), _S.FOURTH: (_A.COPY,)}),
    Neighbour(4, "reports alone in a window whose others are late", {**_AGREES, _S.THIRD: (_A.REPORT,)}),
    Neighbour(
        5, "withdraws while a window is sealed, without a row", {**_AGREES, _S.SEALING_FIRST: (_A.WITHDRAW,)}, absent=_ALL
    ),
    Neighbour(
        6,
        "withdraws while a window is sealed, and agrees again",
        {**_REPORTS, _S.SEALING_FIRST: (_A.WITHDRAW,), _S.BETWEEN: (_A.AGREE,)},
    ),
    Neighbour(7, "an unknown unit erases between others' copies", {_S.BETWEEN: (_A.UNKNOWN_ERASES,)}, absent=_ALL),
    Neighbour(
        8, "erases between others' copies", {**_AGREES, _S.FIRST: (_A.GREEDY,), _S.BETWEEN: (_A.ERASE,)}, absent=_COARSE
    ),
    Neighbour(
        9,
        "erases while a window is sealed, agrees and reports again",
        {**_REPORTS, _S.SEALING_FIRST: (_A.ERASE, _A.AGREE), _S.THIRD: (_A.REPORT,)},
    ),
    Neighbour(
        10,
        "withdraws before the coarsest window ends, and agrees while it is sealed",
        {**_REPORTS, _S.BEFORE_LAST: (_A.WITHDRAW,), _S.SEALING_LAST: (_A.AGREE,)},
        absent=_COARSE,
    ),
    Neighbour(
        11,
        "at every limit in every window",
        {
            **_AGREES,
            _S.FIRST: (_A.GREEDY, _A.COPY),
            _S.LATE: (_A.GREEDY, _A.LATE),
            _S.THIRD: (_A.GREEDY,),
            _S.FOURTH: (_A.GREEDY, _A.COPY),
        },
    ),
    Neighbour(12, "erases before the coarsest window ends", {**_REPORTS, _S.BEFORE_LAST: (_A.ERASE,)}, absent=_COARSE),
    Neighbour(
        13, "erases while the coarsest window is sealed", {**_AGREES, _S.FOURTH: (_A.REPORT,), _S.SEALING_LAST: (_A.ERASE,)}
    ),
    Neighbour(14, "reports without ever agreeing", {_S.FIRST: (_A.GREEDY,), _S.FOURTH: (_A.REPORT,)}, absent=_ALL),
    Neighbour(
        15,
        "sends the same report again and again, at both workers",
        {**_REPORTS, _S.LATE: (_A.RESEND,), _S.THIRD: (_A.RESEND,), _S.BEFORE_LAST: (_A.RESEND,)},
        like=1,
    ),
)


QUICK = frozenset({4, 8, 11})
"""Those of the quick audit's second plan: those that move the most."""


class Script:
    """Runs one rehearsal: the others' script with one neighbour's acts in it.

    Args:
        service: the rehearsal, as it was founded.
        neighbour: the unit's record.
    """

    def __init__(self, service: Rehearsal, neighbour: Neighbour) -> None:
        self._service = service
        self._neighbour = neighbour
        self._plan = service.plan
        self._fine = service.plan.finest
        self._span_ms = self._fine.span.length_ms
        self._start_ms = service.foundation.founded_ms
        self._acts = 0
        self._sent: list[Report] = []

    def stages(self) -> Iterator[str]:
        """Goes through the script; yields wherever everything readable is to be read."""
        service, half = self._service, self._span_ms // 2
        service.clock.advance_to(self._start_ms + self._span_ms // 4)
        self._one(Stage.AGREEING)
        for unit in OTHER_UNITS:
            self._decide(unit, given=True)
        service.clock.advance_to(self._start_ms + half)
        self._one(Stage.FIRST)
        self._send([r for i in _IN_TIME for r in self._modest(i, self._now(), "first")])
        yield "first reports"

        self._sealing(Stage.SEALING_FIRST, self._deadline(self._first), LEAVING)
        yield "first window"

        service.clock.advance_to(self._now() + self._span_ms // 8)
        for unit in LEAVING:
            self._decide(unit, given=True)
        self._one(Stage.LATE)
        late = self._start_ms + half + self._span_ms // 4 + self._span_ms // 16
        self._send([r for i in _TWICE_LATE for r in self._modest(i, late, "late", high=i % 2 == 0, id_of=i)])
        self._one(Stage.BETWEEN)
        yield "late reports"

        self._change_plan()
        service.advance(self._deadline(self._first) + self._span_ms)
        self._send([r for i in _TWICE_LATE for r in self._modest(i, late + 7, "late", high=i % 2 == 1, id_of=i)])
        yield "late copies"
        service.restart()

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
        yield "before the last deadline"
        self._sealing(Stage.SEALING_LAST, self._deadline(last), LEAVING[:2])
        yield "last window"

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

    def _sealing(self, stage: Stage, until_ms: int, leaving: tuple[str, ...]) -> None:
        """Ends a window; the unit acts while noise is drawn for it, and afterwards some of the others withdraw.

        Where the window is sealed again, the others withdraw before its noise is drawn again: the clock stands at the same
        moment, whether it is or not.
        """
        mechanisms, drawn, left = self._service.mechanisms, [0], [False]

        def leave() -> None:
            if drawn[0] and not left[0]:
                left[0] = True
                for unit in leaving:
                    self._decide(unit, given=False)

        def draw() -> None:
            drawn[0] += 1
            if drawn[0] == 1:
                self._one(stage)
            else:
                leave()

        mechanisms.on_draw = draw
        try:
            self._service.advance(until_ms, leave)
            leave()
        finally:
            mechanisms.on_draw = lambda: None

    def _one(self, stage: Stage) -> None:
        for act in self._neighbour.acts.get(stage, ()):
            self._acts += 1
            self._act(act)

    def _act(self, act: Act) -> None:
        now, catalog, purposes = self._now(), self._service.context.catalog, self._plan.purpose_names
        version, seed = self._service.context.plan.version, f"act {self._acts}"
        length = self._span_ms // 16
        match act:
            case Act.AGREE | Act.WITHDRAW:
                self._decide(UNIT, given=act is Act.AGREE)
            case Act.REPORT | Act.LATE:
                end = now if act is Act.REPORT else self._start_ms + self._span_ms // 2 + self._span_ms // 4
                points = modest(catalog, 0, high=True, purposes=purposes)
                self._send(reports_of(points, UNIT, version, end, length, seed))
            case Act.RESEND:
                self._send(list(self._sent), worker=self._acts % 2)
            case Act.GREEDY:
                self._send(reports_of(greedy(catalog, purposes), UNIT, version, now, length, seed))
            case Act.COPY:
                points = modest(catalog, 0, high=True, purposes=purposes)
                copies = [reports_of(points, UNIT, version, now, length, f"{seed}/{i}", _id(i)) for i in range(8, 12)]
                copies += [
                    reports_of(points, UNIT, version, now, length, f"{seed}/{i}", _id(100 + i)) for i in range(16, 20)
                ]
                self._send([r for reports in copies for r in reports])
            case Act.ERASE | Act.UNKNOWN_ERASES:
                unit = UNIT if act is Act.ERASE else "unknown-to-all"
                request = consent_pb2.EraseUnitRequest(unit_id=unit, unit_token=token(self._service, unit))
                self._service.call(CONSENT + "EraseUnit", "consent", request.SerializeToString(), worker=1)

    def _modest(self, i: int, end_ms: int, seed: str, *, high: bool = True, id_of: int | None = None) -> list[Report]:
        catalog, version = self._service.context.catalog, self._service.context.plan.version
        points = modest(catalog, i, high=high, purposes=self._plan.purpose_names)
        report_id = None if id_of is None else _id(id_of)
        return reports_of(points, OTHER_UNITS[i], version, end_ms, self._span_ms // 16, f"{seed}/{end_ms}", report_id)

    def _send(self, reports: list[Report], worker: int | None = None) -> None:
        """Sends reports at the worker of their unit; the doors answer one by one what became of them."""
        for part in in_parts(reports, _REPORTS_PER_MESSAGE):
            for report in part:
                report.unit_token = token(self._service, report.unit_id)
            request = ingest_pb2.SubmitReportsRequest(reports=part).SerializeToString()
            door = _worker_of(part[0].unit_id) if worker is None else worker
            reply = self._service.call(INGEST + "SubmitReports", "ingest", request, worker=door)
            if part[0].unit_id == UNIT:
                self._sent = list(part)
            else:
                self._service.told.append((f"acknowledgement at {self._now()}", reply))

    def _decide(self, unit: str, *, given: bool) -> None:
        asking = self._service.context.plan.asking
        locale, source = (next(iter(listed), "") for listed in (asking.languages, asking.sources))
        decisions = [
            consent_pb2.Decision(purpose=p.name, given=given, text_hash=p.text_hash, locale=locale, source=source)
            for p in self._service.context.plan.purposes
        ]
        request = consent_pb2.SetConsentRequest(unit_id=unit, unit_token=token(self._service, unit), decisions=decisions)
        reply = self._service.call(CONSENT + "SetConsent", "consent", request.SerializeToString(), worker=_worker_of(unit))
        if unit != UNIT:
            self._service.told.append((f"decision of {unit} at {self._now()}", reply))

    def _change_plan(self) -> None:
        """A new version in the middle of the period: other words, the same prices."""
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
