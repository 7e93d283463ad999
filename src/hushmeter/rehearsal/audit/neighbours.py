"""Neighbouring data sets as data: what one unit does beside everybody else, or does not.

What the others do never changes within a course (`rehearsal.audit.script`). A neighbour adds one unit's whole record:
its reports, decisions and erasures, at stages of the course. Each has the number of what it tries in the list of neighbours
(docs/privacy/audit.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

UNIT = "the-one"
OTHERS = 36
OTHER_UNITS = tuple(f"other-{i}" for i in range(OTHERS))
FINE_WINDOWS = 4
"""How many windows of the finest resolution a course goes through before the coarsest one ends."""


class Course(StrEnum):
    """What becomes of the service; each run of a course is compared with the run of nobody in that course."""

    PLAIN = "a restart"
    RESTORED = "a backup and a restore"
    KILLED = "kills at the two steps of a claim"
    LIMITED = "limits that are reached"


class Stage(StrEnum):
    """Where in the script the unit may act; the others act after it."""

    AGREEING = "everybody agrees"
    FIRST = "in the first window"
    AMONG = "between copies of one moment"
    SEALING_FIRST = "while the first window is sealed"
    SETTLING_FIRST = "after that attempt"
    LATE = "late copies"
    BETWEEN = "between copies"
    GOING = "before the service ends"
    BACK = "after it has come back"
    THIRD = "in the third window"
    FOURTH = "copies in the fourth window"
    BEFORE_LAST = "before the last deadline"
    SEALING_LAST = "while the coarsest window is sealed"
    SETTLING_LAST = "after that attempt at the coarsest"


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
    REPORT_OFTEN = "reports oftener than it may"
    DECIDE_OFTEN = "decides, erases and asks what is held on it oftener than it may"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One unit's record, by stage.

    Attributes:
        number: in the list of docs/privacy/audit.md.
        name: what it tries, in a few words.
        acts: what the unit does at each stage.
        absent: the resolutions in whose windows the unit must not count at all: `finest`, `coarsest`, or both.
        like: number of a neighbour whose windows must be the same; None where there is none.
        course: the one in which the unit acts.
    """

    number: int
    name: str
    acts: Mapping[Stage, tuple[Act, ...]]
    absent: frozenset[str] = frozenset()
    like: int | None = None
    course: Course = Course.PLAIN


_FINE, _COARSE, _ALL = frozenset({"finest"}), frozenset({"coarsest"}), frozenset({"finest", "coarsest"})


_S, _A, _C = Stage, Act, Course
_AGREES = {_S.AGREEING: (_A.AGREE,)}
_REPORTS = {**_AGREES, _S.FIRST: (_A.REPORT,)}
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
    Neighbour(
        16,
        "reports, copies and erases between others' copies of one moment",
        {**_REPORTS, _S.AMONG: (_A.COPY, _A.ERASE, _A.AGREE), _S.BETWEEN: (_A.COPY, _A.ERASE)},
    ),
    Neighbour(
        17,
        "withdraws after a backup, and reports after the restore",
        {**_REPORTS, _S.GOING: (_A.REPORT, _A.WITHDRAW), _S.BACK: (_A.AGREE,), _S.THIRD: (_A.REPORT,)},
        course=_C.RESTORED,
    ),
    Neighbour(
        18,
        "erases after a backup, and never agrees again",
        {**_AGREES, _S.FIRST: (_A.GREEDY,), _S.GOING: (_A.GREEDY, _A.ERASE), _S.THIRD: (_A.GREEDY,), _S.FOURTH: (_A.COPY,)},
        absent=_COARSE,
        course=_C.RESTORED,
    ),
    Neighbour(
        19,
        "withdraws and erases between a claim and its settlement",
        {**_REPORTS, _S.SETTLING_FIRST: (_A.WITHDRAW, _A.ERASE), _S.SETTLING_LAST: (_A.ERASE,)},
        course=_C.KILLED,
    ),
    Neighbour(
        20,
        "reports and copies between a claim and its settlement",
        {
            **_AGREES,
            _S.FIRST: (_A.GREEDY,),
            _S.SETTLING_FIRST: (_A.LATE, _A.COPY),
            _S.FOURTH: (_A.REPORT,),
            _S.SEALING_LAST: (_A.WITHDRAW,),
            _S.SETTLING_LAST: (_A.AGREE,),
        },
        course=_C.KILLED,
    ),
    Neighbour(
        21,
        "reports oftener than it may",
        {**_AGREES, _S.FIRST: (_A.REPORT_OFTEN,), _S.THIRD: (_A.REPORT_OFTEN,)},
        course=_C.LIMITED,
    ),
    Neighbour(
        22,
        "decides, erases and asks oftener than it may",
        {**_REPORTS, _S.AMONG: (_A.DECIDE_OFTEN,), _S.BEFORE_LAST: (_A.DECIDE_OFTEN,)},
        course=_C.LIMITED,
    ),
    Neighbour(23, "one message more by a shared credential", {_S.LATE: (_A.REPORT,)}, absent=_ALL, course=_C.LIMITED),
)


QUICK = frozenset({4, 8, 11, 16})
"""Numbers of the neighbours that the quick audit replays on its second plan: those that change the most."""


def nobody(course: Course) -> Neighbour:
    """The neighbour without a record, whose run the others of a course are compared with."""
    return Neighbour(0, "nobody", {}, course=course)
