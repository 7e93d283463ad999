"""Frozen-noise replay: neighbouring data sets through the real service, and every byte that comes out compared.

Noise is frozen, so that released numbers are the same whatever the data. Whatever else differs between two runs tells of
one unit, and fails the audit. The exact vectors that noise hides are compared, too: those of the two runs may differ by
what one unit is charged for, in the charge's own norm, and no further.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Collection, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hushmeter.errors import ConfigError
from hushmeter.model.arrays import Int64
from hushmeter.model.plan import Plan
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, Window
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.reading import parse_recorded
from hushmeter.rehearsal.audit.courses import Foundation, Rehearsal, Reply
from hushmeter.rehearsal.audit.doors import everything, methods_served, unasked_methods
from hushmeter.rehearsal.audit.evidence import Evidence, checked
from hushmeter.rehearsal.audit.frozen import FrozenMechanisms, Hidden
from hushmeter.rehearsal.audit.neighbours import FINE_WINDOWS, NEIGHBOURS, OTHER_UNITS, Course, Neighbour, nobody
from hushmeter.rehearsal.audit.reading import audit_reading
from hushmeter.rehearsal.audit.script import LAST, UNREAD, Script, rules_of
from hushmeter.runtime import collect_seldom, end_with_parent
from hushmeter.service.deployment.logs import silence_logs

_SHOWN = 160
_SPARE_MS = 40 * DAY_MS
LOOKED_AT = (OTHER_UNITS[8], OTHER_UNITS[24], OTHER_UNITS[-1])
"""Other units whose own data is read: with late copies, with one id in two windows, and one that leaves and comes back."""


PROCESSES = 2
"""Rehearsals that run side by side."""
_MEMORY, _ROOM_BYTES = "/dev/shm", 2**28  # noqa: S108


@dataclass
class Transcript:
    """Everything that one rehearsal answered, in order, and the exact vectors that its noise hides.

    Attributes:
        lines: what was asked, and everything that came back.
        hidden: exact vectors, by window and series.
        ended: every window, and how it ended.
        methods: that are served, where they were read.
        read: checks of who may read what, where they were made.
    """

    lines: list[tuple[str, Reply]] = field(default_factory=list)
    hidden: dict[Window, dict[str, Hidden]] = field(default_factory=dict)
    ended: list[tuple[Window, WindowState]] = field(default_factory=list)
    methods: tuple[str, ...] = ()
    read: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One rehearsal that is asked for.

    Attributes:
        neighbour: whose record is in it.
        name: of its directory.
        reads: whether roles, purposes and hashes are tried at its end.
    """

    neighbour: Neighbour
    name: str
    reads: bool = False


def audit_replay(plan_text: str, only: Collection[int] = ()) -> Iterator[Evidence]:
    """Replays every neighbour of one plan.

    Args:
        plan_text: of the operator's own plan.
        only: numbers of neighbours; all where there are none. 0 alone reads one run, and compares nothing.
    """
    chosen = [n for n in NEIGHBOURS if not only or n.number in only]
    runs = [Run(nobody(Course.PLAIN), "plain", reads=True)]
    if chosen:
        runs.append(Run(nobody(Course.PLAIN), "again"))
    for course in Course:
        mine = [n for n in chosen if n.course is course]
        if mine and course is not Course.PLAIN:
            runs.append(Run(nobody(course), course.name))
        runs += [Run(n, f"n{n.number}") for n in mine]
    with tempfile.TemporaryDirectory(prefix="hushmeter-audit-", dir=_in_memory()) as directory:
        place = Path(directory)
        foundation = Foundation.lay(place / "founded", plan_text, _founded_ms(plan_text), OpenDPMechanisms())
        with contextlib.closing(_rehearsed(foundation, place, runs)) as found:
            yield from compare_runs(foundation.plan, found)


def _in_memory() -> str | None:
    """A directory in memory, where there is one with room; None for the usual one. Nothing need survive the audit."""
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _ROOM_BYTES:
        return None
    return _MEMORY


def _rehearsed(foundation: Foundation, place: Path, runs: Sequence[Run]) -> Generator[tuple[Run, Transcript]]:
    """Each run and its transcript, in their order, however many processes rehearse."""
    if len(runs) == 1:
        yield runs[0], rehearse(foundation, place / runs[0].name, runs[0])
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, initializer=_begin) as pool:
        found = [pool.submit(rehearse, foundation, place / run.name, run) for run in runs]
        try:
            for run, transcript in zip(runs, found, strict=True):
                yield run, transcript.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Prepares a process that rehearses; its logs are silent, as courses lose windows on purpose."""
    end_with_parent()
    silence_logs()
    collect_seldom()


def compare_runs(plan: Plan, runs: Iterator[tuple[Run, Transcript]]) -> Iterator[Evidence]:
    """Every check of every run, each beside the run of nobody in its course."""
    bases: dict[Course, Transcript] = {}
    found: dict[int, Transcript] = {}
    finest, coarsest = plan.finest.span.name, plan.coarsest.span.name
    for run, other in runs:
        neighbour, course = run.neighbour, run.neighbour.course
        if course not in bases:
            bases[course] = other
            yield from _shown_by_nobody(course, other)
            continue
        base, name = bases[course], f"{neighbour.number}: {neighbour.name}"
        if not neighbour.acts:
            yield checked("replay 0: the same twice", _difference(base, other))
            continue
        found[neighbour.number] = other
        yield checked(f"replay {name}", _difference(base, other), trials=len(base.lines))
        yield checked(f"sensitivity {name}", _excess(base, other), trials=sum(map(len, base.hidden.values())))
        if neighbour.absent:
            names = {"finest": finest, "coarsest": coarsest}
            yield checked(f"absent {name}", _counted(base, other, {names[a] for a in neighbour.absent}))
        if neighbour.like in found:
            every = {r.span.name for r in plan.resolutions}
            yield checked(f"once {name}", _counted(found[neighbour.like], other, every))


def _shown_by_nobody(course: Course, base: Transcript) -> Iterator[Evidence]:
    """What the run of nobody shows by itself: who may read what, and that the course went as it should."""
    if course is Course.PLAIN:
        forgotten = unasked_methods(base.methods)
        note = f"nothing is asked at {', '.join(forgotten)}" if forgotten else ""
        yield checked("doors", note, trials=len(base.methods))
        yield from base.read
    yield checked(f"replay: {course.value}", _went_otherwise(course, base))


def _counted(one: Transcript, other: Transcript, resolutions: set[str]) -> str:
    """The first window in which something counts that must not, in words; empty where there is none."""
    for window, hidden in one.hidden.items():
        if window.resolution in resolutions:
            for series, vector in hidden.items():
                beside = other.hidden.get(window, {}).get(series)
                if beside is None or moved_vectors(vector, beside).any():
                    return f"{series} of {window} counts what it must not"
    return ""


def rehearse(foundation: Foundation, directory: Path, run: Run) -> Transcript:
    """Runs the script once, in a copy of the foundation at `directory`."""
    found = Transcript()
    rules = rules_of(run.neighbour.course)
    mechanisms = _mechanisms()
    mechanisms.hidden = {}
    with Rehearsal(foundation, directory, mechanisms, rules) as service:
        for stage in Script(service, run.neighbour).stages():
            last = stage == LAST
            if stage != UNREAD:
                units = LOOKED_AT if last else LOOKED_AT[:2]
                found.lines += [(f"{stage}: {asked}", reply) for asked, reply in everything(service, units, last=last)]
        found.lines += service.told
        if run.reads:
            found.methods = methods_served(service)
            found.read = tuple(audit_reading(service, found.methods))
        found.hidden, found.ended = service.seen, service.ended()
    return found


@functools.cache
def _mechanisms() -> FrozenMechanisms:
    """One double for all rehearsals of this process, which run one after another and ask for the same prices."""
    return FrozenMechanisms(OpenDPMechanisms())


def _founded_ms(plan_text: str) -> int:
    """A moment at which every metric of the plan may be measured, a few windows before a window of each resolution ends."""
    plan: Plan = parse_recorded(plan_text)
    expiries = [m.expires_ms for m in plan.metrics]
    day = min(expiries) - _SPARE_MS
    ends = plan.coarsest.span.window_of(day).end_ms
    founded = ends - FINE_WINDOWS * plan.finest.span.length_ms
    if max(expiries) > founded + 366 * DAY_MS:
        raise ConfigError("the metrics of this plan expire more than a year apart: there is no day on which it may begin")
    return founded


def _went_otherwise(course: Course, base: Transcript) -> str:
    """What did not happen in a course though its replay relies on it; empty where the course went as it should."""
    lost = [window for window, state in base.ended if state is not WindowState.RELEASED]
    if not any(h.values.any() for hidden in base.hidden.values() for h in hidden.values()):
        return "nobody's reports were counted"
    match course:
        case Course.PLAIN if lost:
            return f"windows ended without a release: {', '.join(map(str, lost[:3]))}"
        case Course.RESTORED if not lost:
            return "no window was lost by the restore"
        case Course.KILLED if len(lost) != 1:
            return f"{len(lost)} windows were lost to kills; one is, and what was drawn is published"
        case Course.LIMITED if all(reply.code != "RESOURCE_EXHAUSTED" for _, reply in base.lines):
            return "nobody reached the limit of a credential"
    return ""


def _difference(one: Transcript, other: Transcript) -> str:
    """The first answer that differs, in words; empty where all are the same."""
    if len(one.lines) != len(other.lines):
        return f"{len(one.lines)} answers without the unit, {len(other.lines)} with it"
    for (asked, a), (_, b) in zip(one.lines, other.lines, strict=True):
        if a != b:
            return f"{asked} tells of the unit: {_shown(a, b)}"
    if one.ended != other.ended:
        return "windows ended otherwise"
    return ""


def _shown(a: Reply, b: Reply) -> str:
    """The first difference of two replies, in words."""
    if (a.code, a.details) != (b.code, b.details):
        return f"{a.code} {a.details!r} without it, {b.code} {b.details!r} with it"[:_SHOWN]
    if a.metadata != b.metadata:
        return f"{a.metadata} without it, {b.metadata} with it"[:_SHOWN]
    left, right = b"".join(a.messages), b"".join(b.messages)
    at = next((i for i, (x, y) in enumerate(zip(left, right, strict=False)) if x != y), min(len(left), len(right)))
    return f"byte {at} of {len(left)} and {len(right)}: {left[at - 8 : at + 24]!r}, {right[at - 8 : at + 24]!r}"


def _excess(one: Transcript, other: Transcript) -> str:
    """The first vector, window or series that one unit moved further than is charged, in words; empty where none is."""
    windows: dict[str, int] = {}
    for window in one.hidden:
        if window not in other.hidden:
            return f"{window} was published without the unit alone"
        for series, hidden in one.hidden[window].items():
            beside = other.hidden[window].get(series)
            if beside is None:
                return f"{series} of {window} was released without the unit alone"
            note = _too_far(hidden, beside)
            if note:
                return f"{series} of {window}: {note}"
            windows[series] = windows.get(series, 0) + bool(moved_vectors(hidden, beside).any())
            if windows[series] > hidden.measurement.windows:
                return f"{series}: one unit moves {windows[series]} windows; {hidden.measurement.windows} are charged"
    return ""


def _too_far(a: Hidden, b: Hidden) -> str:
    """What is wrong with the move from one vector to another, in the charge's norm, with whole numbers."""
    steps = [int(x) for x in moved_vectors(a, b)]
    m, laplace = a.measurement, a.charge.mechanism.laplace
    shown = sum(map(abs, steps)) if laplace else sum(x * x for x in steps)
    claimed = m.l1 if laplace else m.l2_squared
    if shown > claimed:
        norm = "L1 norm" if laplace else "square of the L2 norm"
        return f"one unit moves it by {shown} in the {norm}; {claimed} is charged"
    return ""


def moved_vectors(a: Hidden, b: Hidden) -> Int64:
    """How far a vector moves, int64[cells]; a private partition of one side alone counts as 0 on the other."""
    if a.keys is None or b.keys is None:
        if a.values.shape != b.values.shape:
            return np.full(1, np.iinfo(np.int32).max, np.int64)
        return (b.values - a.values).ravel()
    left, right = (dict(zip(h.keys or (), h.values[:, 0].tolist(), strict=True)) for h in (a, b))
    return np.array([right.get(k, 0) - left.get(k, 0) for k in sorted({*left, *right})], np.int64)
