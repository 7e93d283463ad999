"""The audit judges two runs: whatever tells of the unit fails a check by its name, and where nothing does, all hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, Window
from hushmeter.rehearsal.audit import doors
from hushmeter.rehearsal.audit.courses import Reply
from hushmeter.rehearsal.audit.frozen import Hidden
from hushmeter.rehearsal.audit.neighbours import NEIGHBOURS, Course, Neighbour, nobody
from hushmeter.rehearsal.audit.plans import AUDIT_PLANS
from hushmeter.rehearsal.audit.replay import Run, Transcript, compare_runs
from hushmeter.rehearsal.audit.run import Trial

(PLAN, ZCDP), (_, PURE) = (Trial(text, quick=True, numbers=frozenset()).priced() for text in AUDIT_PLANS)
FIRST, SECOND, THIRD = (Window("1h", n * HOUR_MS, (n + 1) * HOUR_MS) for n in range(3))
WINDOWS = (FIRST, SECOND, THIRD)
REPORTS, LATE, ABSENT, AGAIN = (next(n for n in NEIGHBOURS if n.number == number) for number in (1, 2, 14, 15))
FINE = Reply((b"some bytes",), "OK", "", (("key", "value"),))


def hidden(name: str, *moved: int, metric: str = "counted", laplace: bool = False) -> Hidden:
    """The exact vector of a measurement of an hour; cells hold 5 each, and the first ones are moved."""
    items = (PURE if laplace else ZCDP).items["1h"]
    charge = next(i for i in items if (i.measurement.metric, i.measurement.name.value) == (metric, name))
    cells = charge.measurement.partitions * charge.measurement.columns
    values = np.full(cells, 5, np.int64)
    values[: len(moved)] += np.array(moved, np.int64)
    return Hidden(charge.measurement, charge, values.reshape(-1, 1))


def private(**counts: int) -> Hidden:
    """The counts of private partitions."""
    charge = next(i for i in ZCDP.items["1h"] if i.mechanism.selects and i.measurement.view == ("name",))
    keys = tuple((0, name) for name in sorted(counts))
    return Hidden(charge.measurement, charge, np.array([[counts[k]] for _, k in keys], np.int64).reshape(-1, 1), keys)


def transcript(**series: Hidden) -> Transcript:
    """A run of three windows in which the same was answered, and in whose every window the same vectors are hidden."""
    vectors = series or {"units": hidden("units")}
    return Transcript(
        [("question", FINE), ("another question", FINE)],
        {window: dict(vectors) for window in WINDOWS},
        [(window, WindowState.RELEASED) for window in WINDOWS],
    )


def found(base: Transcript, other: Transcript, neighbour: Neighbour = REPORTS) -> dict[str, str]:
    """What is found by each check that fails, by the first word of its name."""
    runs = iter([(Run(nobody(Course.PLAIN), "plain"), base), (Run(neighbour, "one"), other)])
    return {e.name.split()[0]: e.note for e in compare_runs(PLAN, runs) if not e.holds}


def test_two_runs_that_are_the_same_hold() -> None:
    """Where nothing differs no check fails, whoever was in the second run."""
    assert found(transcript(), transcript()) == {}
    assert found(transcript(), transcript(), nobody(Course.PLAIN)) == {}


def answered(reply: Reply) -> Callable[[Transcript], None]:
    return lambda run: run.lines.__setitem__(1, ("another question", reply))


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (
            answered(replace(FINE, code="NOT_FOUND", details="no")),
            "OK '' without it, NOT_FOUND 'no'",
        ),
        (
            answered(replace(FINE, metadata=())),
            "(('key', 'value'),) without it, () with it",
        ),
        (answered(replace(FINE, messages=(b"some bite",))), "byte 6 of 10 and 9: "),
        (
            answered(replace(FINE, messages=(b"some bytes", b"!"))),
            "byte 10 of 10 and 11: ",
        ),
        (lambda run: run.lines.pop(), "2 answers without the unit, 1 with it"),
        (lambda run: run.ended.pop(), "windows ended otherwise"),
    ],
    ids=["status", "metadata", "bytes", "length", "answers", "windows"],
)
def test_whatever_is_answered_otherwise_is_found(change: Callable[[Transcript], None], note: str) -> None:
    """A status, a header, a byte, an answer or a window's end that differs is told, with both sides of it."""
    other = transcript()
    change(other)
    failed = found(transcript(), other)
    assert failed.keys() == {"replay"}
    assert failed["replay"].removeprefix("another question tells of the unit: ").startswith(note)
    assert found(transcript(), other, nobody(Course.PLAIN)) == failed


@pytest.mark.parametrize("laplace", [False, True], ids=["L2 norm", "L1 norm"])
def test_a_vector_may_move_as_far_as_is_charged(*, laplace: bool) -> None:
    """In the charge's own norm the last step is charged, and one more is found."""
    m = hidden("sum", laplace=laplace).measurement
    assert m.l0 == 1
    base, other = (transcript(sum=hidden("sum", laplace=laplace)) for _ in range(2))
    other.hidden[SECOND]["sum"] = hidden("sum", m.bound, laplace=laplace)
    assert found(base, other) == {}
    other.hidden[SECOND]["sum"] = hidden("sum", -m.bound - 1, laplace=laplace)
    shown = f"{m.bound + 1} in the L1 norm" if laplace else f"{(m.bound + 1) ** 2} in the square of the L2 norm"
    most = m.l1 if laplace else m.l2_squared
    assert found(base, other) == {"sensitivity": f"sum of {SECOND}: one unit moves it by {shown}; {most} is charged"}


def test_one_unit_may_move_as_many_windows_as_are_charged() -> None:
    """Of a measurement that charges two windows of a period, a third that moves is found."""
    windows = hidden("units").measurement.windows
    assert windows == 2
    for moved in (windows, windows + 1):
        other = transcript()
        for window in WINDOWS[:moved]:
            other.hidden[window]["units"] = hidden("units", 1)
        failed = found(transcript(), other)
        assert failed == ({} if moved == windows else {"sensitivity": "units: one unit moves 3 windows; 2 are charged"})


def test_what_only_one_run_publishes_is_found() -> None:
    """A window or a series that is there without the unit alone tells of the unit."""
    without_window, without_series = transcript(), transcript()
    del without_window.hidden[THIRD]
    assert found(transcript(), without_window) == {"sensitivity": f"{THIRD} was published without the unit alone"}
    del without_series.hidden[THIRD]["units"]
    assert found(transcript(), without_series) == {"sensitivity": f"units of {THIRD} was released without the unit alone"}


def test_vectors_of_two_shapes_are_as_far_apart_as_can_be() -> None:
    """A vector that has more cells with the unit is found."""
    other = transcript()
    other.hidden[FIRST]["units"] = replace(hidden("units"), values=np.full((9, 1), 5, np.int64))
    assert found(transcript(), other)["sensitivity"].startswith(f"units of {FIRST}: one unit moves it by ")


def test_a_private_partition_of_one_side_counts_as_none_on_the_other() -> None:
    """One unit may bring as many partitions as are charged, each by one; others that change places do not matter."""
    base = transcript(named=private(a=3, b=4))
    l0 = private(a=1).measurement.l0
    names = "cdefgh"[:l0]
    assert found(base, transcript(named=private(a=3, b=4, **dict.fromkeys(names, 1)))) == {}
    assert "sensitivity" in found(base, transcript(named=private(a=3, b=4, **dict.fromkeys(names + "z", 1))))
    assert "sensitivity" in found(base, transcript(named=private(a=3, b=4 + l0 + 1)))


@pytest.mark.parametrize("window", [FIRST, THIRD])
def test_a_unit_that_must_not_count_is_found_where_it_does(window: Window) -> None:
    """A unit that came too late, or never agreed, moves no vector, however little."""
    other = transcript()
    other.hidden[window]["units"] = hidden("units", 1)
    for neighbour in (LATE, ABSENT):
        assert found(transcript(), other, neighbour) == {"absent": f"units of {window} counts what it must not"}
    assert found(transcript(), other) == {}


def test_a_report_that_counts_again_is_found() -> None:
    """The run with copies is compared with the one without: what moves between the two was counted again."""
    first, again = transcript(), transcript()
    for run in (first, again):
        run.hidden[FIRST]["units"] = hidden("units", 1)
    again.hidden[SECOND]["units"] = hidden("units", 1)
    runs = [(nobody(Course.PLAIN), transcript()), (REPORTS, first), (AGAIN, again)]
    failed = {e.name: e.note for e in compare_runs(PLAN, iter([(Run(n, "run"), t) for n, t in runs])) if not e.holds}
    assert failed == {f"once 15: {AGAIN.name}": f"units of {SECOND} counts what it must not"}


def went(course: Course, run: Transcript) -> str:
    """What the run of nobody shows of its course."""
    (note,) = [
        e.note for e in compare_runs(PLAN, iter([(Run(nobody(course), "base"), run)])) if e.name.startswith("replay: ")
    ]
    return note


def lost(count: int, code: str = "OK") -> Transcript:
    """A run in which so many windows were lost, and one call ended with a status."""
    run = transcript()
    run.ended = [(w, WindowState.LOST if n < count else WindowState.RELEASED) for n, w in enumerate(WINDOWS)]
    run.lines.append(("a flood", replace(FINE, code=code)))
    return run


@pytest.mark.parametrize(
    ("course", "right", "wrong", "words"),
    [
        (Course.PLAIN, lost(0), lost(1), f"windows ended without a release: {FIRST}"),
        (Course.RESTORED, lost(1), lost(0), "no window was lost by the restore"),
        (Course.KILLED, lost(1), lost(2), "2 windows were lost to kills; one is"),
        (Course.KILLED, lost(1), lost(0), "0 windows were lost to kills; one is"),
        (Course.LIMITED, lost(0, "RESOURCE_EXHAUSTED"), lost(0), "nobody reached the limit of a credential"),
    ],
)
def test_a_course_that_did_not_happen_proves_nothing(
    course: Course, right: Transcript, wrong: Transcript, words: str
) -> None:
    """Where no window is lost, no limit reached or nobody counted, the replay fails: it has not tried what it says."""
    assert went(course, right) == ""
    assert went(course, wrong).startswith(words)
    nothing = {"units": replace(hidden("units"), values=np.zeros((1, 1), np.int64))}
    assert went(course, replace(right, hidden=dict.fromkeys(WINDOWS, nothing))) == "nobody's reports were counted"


def test_a_method_that_nobody_asks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that somebody may call and that the audit does not ask fails the run of nobody."""
    method = doors.CONSENT + "GetUnit"
    runs = [(Run(nobody(Course.PLAIN), "base"), replace(transcript(), methods=(method,)))]
    assert all(e.holds for e in compare_runs(PLAN, iter(runs)))
    monkeypatch.delitem(doors.PROBES, method)
    assert [e.note for e in compare_runs(PLAN, iter(runs)) if e.name == "doors"] == [f"nothing is asked at {method}"]
