"""What other units do decides neither what of a unit counts, nor what it is told about itself (P9, R4).

Each test plays one unit's record in several worlds, which differ in what others do, in which worker takes what, in when
files are written anew and in how late the sealer is; and compares all that the unit is told, and all that is released.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hushmeter.model.consent import ERASURE, Decision
from hushmeter.model.states import WindowState
from hushmeter.model.time import MINUTE_MS
from hushmeter.service.deployment.context import Context
from hushmeter.service.disclosure.unit_holdings import HeldErasure, Holdings
from hushmeter.service.sealer.totals_rewriting import Compaction
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import PLAN, H, Hand, capped, opened, sealer_of, sums, windows

CAPPED = capped("1h: 3, 1d: 1")
ONE, TWO, THREE, FOUR = (bytes([n]) * 16 for n in range(1, 5))


@dataclass
class Played:
    """A deployment while a world is played.

    Attributes:
        context, clock: of it.
        workers: that take reports.
    """

    context: Context
    clock: FakeClock
    workers: list[Hand]

    def send(self, worker: int, unit: str, end_ms: int, value: int, report_id: bytes | None = None) -> None:
        """One worker takes a report in."""
        assert len(self.workers[worker].send(unit, end_ms, value, report_id).admitted) == 1

    def erase(self, unit: str, workers: int = 2) -> None:
        """A unit asks for its erasure, and workers that hear of it end their segments."""
        subject = self.workers[0].subject(unit)
        withdrawal = Decision(subject, "tuning", given=False, received_at_ms=0, source=ERASURE)
        self.context.store.record_decisions([withdrawal], self.clock.now_ms, {subject})
        for worker in self.workers[:workers]:
            worker.segments.end_through(self.context.store.decided().erasing_through)


Act = Callable[[Played], object]


@dataclass(frozen=True)
class World:
    """What differs.

    Attributes:
        acts: what others do, by minute since the foundation.
        second: the worker that takes every other report of the unit.
        late: minutes between which the sealer stands still.
        compacts: whether rows become totals.
    """

    acts: Mapping[int, Act] = field(default_factory=dict)
    second: int = 0
    late: range = range(0)
    compacts: bool = True


def stranger_erases(played: Played) -> None:
    played.erase("nobody knows me")


def stranger_erases_at_one_worker(played: Played) -> None:
    played.erase("nobody knows me", 1)


def strangers_report(played: Played) -> None:
    for worker in range(2):
        played.send(worker, "stranger", played.clock.now_ms(), 1, ONE)


def strangers_report_late(played: Played) -> None:
    for worker in range(2):
        played.send(worker, "stranger", H + 20 * MINUTE_MS, 1)


WORLDS = {
    "strangers report first": World({5: strangers_report}),
    "a stranger erases": World(dict.fromkeys((100, 185, 195, 250, 305, 318, 350, 800), stranger_erases)),
    "strangers' late reports and erasures": World(
        {182: strangers_report_late, 186: stranger_erases, 187: strangers_report}
    ),
    "two workers": World(second=1),
    "two workers, and a stranger erases": World(dict.fromkeys((33, 62, 185, 250, 350), stranger_erases), second=1),
    "one worker hears late of an erasure": World({185: stranger_erases_at_one_worker, 240: stranger_erases}, second=1),
    "the sealer is late": World(late=range(60, 280)),
    "the sealer is late, and a stranger erases": World({185: stranger_erases, 270: stranger_erases}, late=range(100, 280)),
    "the sealer is late for the day": World(late=range(1_490, 1_560)),
    "rows stay rows": World(compacts=False),
}


RECORDS = ("reports", "withdraws", "erases")


def own_record(record: str, world: World) -> dict[int, Act]:
    """What the unit does, by minute since the foundation: resends, ids in two hours, decisions, an erasure."""
    other = world.second

    def decides(given: bool) -> Act:
        return lambda played: played.workers[0].decide("me", given=given)

    def sends(worker: int, end: int, value: int, report_id: bytes) -> Act:
        return lambda played: played.send(worker, "me", H + end * MINUTE_MS, value, report_id)

    if record == "nothing":
        return {}
    if record == "hours":
        return {1: decides(True), 65: sends(0, 64, 3, ONE), 66: sends(0, 50, 4, ONE)}
    withdraws: dict[int, Act] = {290: sends(0, 289, 12, TWO), 300: decides(False), 302: decides(True)}
    erases: dict[int, Act] = {700: lambda played: played.erase("me"), 705: decides(True)}
    return {
        1: decides(True),
        30: sends(0, 30, 3, ONE),
        31: sends(other, 29, 50, ONE),
        40: sends(other, 40, 4, TWO),
        65: sends(0, 64, 5, ONE),
        68: sends(other, 41, 60, TWO),
        180: sends(0, 50, 6, THREE),
        181: sends(other, 45, 11, FOUR),
        183: sends(0, 46, 90, FOUR),
        190: sends(other, 51, 70, THREE),
        200: sends(0, 30, 80, ONE),
        250: sends(other, 110, 7, TWO),
        310: sends(other, 308, 8, ONE),
        315: sends(0, 309, 9, ONE),
        720: sends(0, 719, 10, ONE),
        721: sends(other, 718, 90, ONE),
        **(withdraws if record == "withdraws" else {}),
        **(erases if record == "erases" else {}),
    }


_BUSY = {minute for record in RECORDS for minute in own_record(record, World())} | {
    minute for world in WORLDS.values() for minute in world.acts
}
MINUTES = sorted({*range(0, 27 * 60, 60), 70, 130, 280, *(minute + later for minute in _BUSY for later in range(2))})
"""When the unit asks: each minute after something happens, and now and then else, until its day is over."""


def play(
    state_dir: Path, world: World, acts: Mapping[int, Act], plan: str = PLAN
) -> tuple[list[tuple[int, Holdings]], dict[str, dict[int, int]]]:
    """What a unit is told before and after each turn of the sealer; and the sums that are released."""
    with pytest.MonkeyPatch.context() as patch:
        if not world.compacts:
            patch.setattr(Compaction, "run", lambda *_, **__: None)
        clock = FakeClock(H)
        context = opened(state_dir, clock, plan)
        played = Played(context, clock, [Hand(context), Hand(context)])
        played.workers[0].decide("stranger")
        sealer, told = sealer_of(context), []
        for minute in MINUTES:
            clock.set(H + minute * MINUTE_MS)
            for worker in played.workers:
                worker.segments.tick()
            for happens in (world.acts, acts):
                if minute in happens:
                    happens[minute](played)
            told.append((minute, played.workers[0].held("me")))
            for worker in played.workers:
                worker.segments.tick()
            if minute not in world.late:
                sealer.run_due()
            told.append((minute, played.workers[0].held("me")))
        assert windows(context, WindowState.LOST) == []
        released = {resolution: sums(context, resolution) for resolution in ("1h", "1d")}
        context.store.close()
        return told, released


@dataclass
class Plays:
    """What was played already, by record and world."""

    directory: Path
    done: dict[tuple[str, str], tuple[list[tuple[int, Holdings]], dict[str, dict[int, int]]]] = field(default_factory=dict)

    def of(self, record: str, name: str) -> tuple[list[tuple[int, Holdings]], dict[str, dict[int, int]]]:
        """What a record is told in a world, and what is released there."""
        if (record, name) not in self.done:
            world = WORLDS.get(name, World())
            self.done[record, name] = play(self.directory / f"{record} {name}", world, own_record(record, world))
        return self.done[record, name]


@pytest.fixture(scope="module")
def plays(tmp_path_factory: pytest.TempPathFactory) -> Plays:
    return Plays(tmp_path_factory.mktemp("worlds"))


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("name", WORLDS)
def test_a_unit_is_told_and_counts_the_same_in_every_world(plays: Plays, name: str, record: str) -> None:
    """Erasures and reports of strangers, workers, a late sealer and totals change no answer and no tally (P2, P9, R4)."""
    told, released = plays.of(record, "alone")
    beside, together = plays.of(record, name)
    assert beside == told
    _, of_others = plays.of("nothing", name)
    for resolution, found in released.items():
        others = of_others[resolution]
        assert together[resolution] == {hour: found.get(hour, 0) + others.get(hour, 0) for hour in {*found, *others}}


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize(
    "name", ["the sealer is late, and a stranger erases", "the sealer is late for the day", "rows stay rows"]
)
def test_in_how_many_windows_a_unit_was_kept_is_told_by_the_schedule(tmp_path: Path, name: str, record: str) -> None:
    """Whether a window is published at its deadline or hours later moves no answer; the sets agree in the end (P7, R4)."""
    told, _ = play(tmp_path / "alone", World(), own_record(record, World()), CAPPED)
    beside, _ = play(tmp_path / "beside", WORLDS[name], own_record(record, WORLDS[name]), CAPPED)
    assert beside == told
    kept = {minute: {k.resolution: k.windows for k in answer.kept} for minute, answer in told}
    # From the deadline on, and up to the cap.
    assert (kept[60], kept[70], kept[130]) == ({}, {"1h": 1}, {"1h": 2})
    assert kept[MINUTES[-1]] == {"1h": 3, "1d": 1}


def test_strangers_do_not_decide_in_which_order_hours_are_read(plays: Plays) -> None:
    """One id in two hours is two reports, also in the day, whichever hour had its first segment first (P2)."""
    for name in ("alone", "strangers report first"):
        _, released = plays.of("hours", name)
        strangers = plays.of("nothing", name)[1]["1d"].get(0, 0)
        assert released["1d"] == {0: 3 + 4 + strangers}


def test_what_the_record_comes_to(plays: Plays) -> None:
    """The first copies count, once a storage window; a unit is told each report once, until its day is over."""
    told, released = plays.of("reports", "alone")
    assert released == {"1h": {0: 7, 1: 5, 5: 8, 11: 10}, "1d": {0: 3 + 4 + 5 + 6 + 7 + 8 + 10 + 11}}
    answers = dict(told)
    at_the_end = answers[MINUTES[-1]]
    assert (at_the_end.rows, at_the_end.erasure) == ((), None)
    assert [(r.reports, r.points) for r in answers[722].rows] == [(n, {"starts": 1}) for n in (4, 2, 1, 1)]


def test_an_erasure_is_told_by_its_receipt(plays: Plays) -> None:
    """From its receipt on none of the earlier rows is told, and until when they are gone; later ones are (R4)."""
    told, released = plays.of("erases", "alone")
    asked = H + 700 * MINUTE_MS
    for minute, answer in told:
        if 700 <= minute < 24 * 60:
            assert sum(r.reports for r in answer.rows) == (1 if minute >= 720 else 0)
        expected = HeldErasure(asked, asked + 60 * MINUTE_MS) if 700 <= minute < 760 else None
        assert answer.erasure == expected
    assert released["1d"] == {0: 10}
