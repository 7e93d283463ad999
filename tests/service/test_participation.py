"""Bounded participation over real sockets: in which windows a unit counts, who is told, and what is kept of it (P7)."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import grpc
import numpy as np
import pytest

from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.clock import ReplayClock
from hushmeter.errors import KeyGone
from hushmeter.ingest.identity import pseudonym_of, subject_of
from hushmeter.ledger.entries import spending_of, verify_budget, verify_chain
from hushmeter.model.key_names import period_key
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, WEEK_MS
from hushmeter.patience import await_true
from hushmeter.sealing.participation import decrypted
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.sealer.sealer import Sealer
from tests.plans import plan_text
from tests.service.harness import H, finish, read, states, submitted
from tests.service.running_service import Running, running

PLAN = plan_text(
    """
  calls:
    kind: counter
    dimensions: {platform: {values: [ios, web], scope: unit}}
    views: [[], [platform]]
    per_unit: {range: [0, 1000], max_windows: {1d: 2}}
    statistics: [units, sum, clamped]
  crashed:
    <<: *common
    kind: flag
    purposes: [tuning, research]
    dimensions: {}
    views: [[]]
    per_unit: {max_windows: {1d: 1}}
    statistics: [units, rate]
  starts:
    <<: *common
    per_unit: {range: [0, 1000]}
""",
    purposes="tuning: Tune., research: Do research.",
    resolutions="1d: {lateness: 2h}",
    delta="1e-6",
)
UNCOUNTED = PLAN.replace("unit: device", "unit: device, participants: false")
LATE_PLAN = PLAN.replace("lateness: 2h", "lateness: 48h")

PRESENT = {"always": "1111111", "weekend": "0000011", "gaps": "1010101", "later": "0001111", "once": "0010000"}
"""On which days of the week each unit reports."""
AMOUNT = {unit: 2**number for number, unit in enumerate(PRESENT)}
"""What each unit counts a day, so that a sum tells who is in it."""


def seen_from(unit: str, end_ms: int, service: Running) -> Report:
    """What a unit counts in the minute before a moment, of every metric that it allows."""
    recorder = service.client.recorder(unit)
    platform = "web" if unit in {"weekend", "later"} else "ios"
    recorder.count("calls", AMOUNT.get(unit, 1), platform=platform)
    recorder.count("starts", AMOUNT.get(unit, 1), platform=platform)
    recorder.flag("crashed", True)
    return finish(recorder, end_ms)


def send(service: Running, end_ms: int, units: Sequence[str]) -> None:
    """Moves on to a moment, and has units report."""
    service.advance(end_ms)
    answer = submitted(service, [seen_from(unit, end_ms, service) for unit in units])
    assert answer.accepted == len(units)


def noon(day: int) -> int:
    return H + day * DAY_MS + 12 * HOUR_MS


def due(day: int) -> int:
    """The deadline of a day."""
    return H + (day + 1) * DAY_MS + 2 * HOUR_MS


def kept_days(pattern: str, most: int) -> set[int]:
    """The first days that a unit is present in."""
    return set([day for day, mark in enumerate(pattern) if mark == "1"][:most])


def expected(most: int, value: Callable[[str], int] = AMOUNT.__getitem__) -> dict[tuple[object, ...], float]:
    """A total by hour of the day's start, zeros left out."""
    days = {day: sum(value(u) for u, p in PRESENT.items() if day in kept_days(p, most)) for day in range(7)}
    return {(24 * day,): float(total) for day, total in days.items() if total}


def day_of(row: dict[str, object]) -> int:
    return int(row["window_start"].timestamp() * 1000 - H) // DAY_MS  # type: ignore[attr-defined]


def rows(service: Running, metric: str, view: Sequence[str] = (), **options: object) -> list[dict[str, object]]:
    found: list[dict[str, object]] = service.analyst.releases(metric, view, resolution="1d", **options).to_pylist()  # type: ignore[arg-type]
    return found


def lived(state: Path, stops: Sequence[int] = ()) -> list[dict[str, object]]:
    """A week of reports in halves of days, with the service stopped before some of the halves; all that is told then.

    While the service is stopped the clock goes on to the next half, so that days fall due meanwhile.
    """
    clock = ReplayClock(H)
    told: list[dict[str, object]] = []
    for first, last in itertools.pairwise([0, *stops, 15]):
        clock.advance_to(H + first * DAY_MS // 2 + 8 * HOUR_MS)
        with running(state, clock=clock, plan=PLAN) as service:
            if first == 0:
                service.consent(*PRESENT, tuning=True, research=True)
            for half in range(first, min(last, 14)):
                units = [u for u, p in PRESENT.items() if p[half // 2] == "1" and (u in {"always", "later"}) == half % 2]
                send(service, H + half * DAY_MS // 2 + 9 * HOUR_MS, units)
            if last == 15:
                service.advance(due(6))
                for metric in service.analyst.metrics().metrics:
                    for view in metric.views:
                        told += rows(service, metric.name, view.dimensions)
                assert states(service, WindowState.LOST) == []
    return [{k: v for k, v in row.items() if k not in {"completeness", "release_id"}} for row in told]


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A week in which units report on their days, and the Monday after it, with everybody."""
    with running(tmp_path_factory.mktemp("participation") / "state", plan=PLAN) as service:
        service.consent(*PRESENT, tuning=True, research=True)
        for day in range(7):
            send(service, noon(day), [unit for unit, pattern in PRESENT.items() if pattern[day] == "1"])
        send(service, noon(7), list(PRESENT))
        service.advance(due(7))
        yield service


def of_week(found: dict[tuple[object, ...], float]) -> dict[tuple[object, ...], float]:
    return {key: value for key, value in found.items() if int(str(key[0])) < 7 * 24}


def test_a_unit_counts_in_its_first_windows_alone(week: Running) -> None:
    """Each metric keeps of every unit the first days that it bounds, in every statistic; what is not bounded keeps all."""
    assert of_week(read(week, "calls", "sum", "1d")) == expected(2)
    assert of_week(read(week, "calls", "units", "1d")) == expected(2, lambda _: 1)
    assert of_week(read(week, "crashed", "units", "1d")) == expected(1, lambda _: 1)
    assert of_week(read(week, "starts", "sum", "1d")) == expected(7)
    web = {day: value for (day, name), value in read(week, "calls", "sum", "1d", ["platform"]).items() if name == "web"}
    assert web == {3 * 24: 8, 4 * 24: 8, 5 * 24: 2, 6 * 24: 2, 7 * 24: 10}


def test_a_new_period_begins_anew(week: Running) -> None:
    """On the first day of the next week every unit counts again, in each metric."""
    everybody = sum(AMOUNT.values())
    assert read(week, "calls", "sum", "1d")[7 * 24,] == everybody
    assert read(week, "crashed", "units", "1d")[7 * 24,] == len(PRESENT)
    assert rows(week, "capped", ["metric"], start=H + WEEK_MS)[0]["value"] == 0


def test_the_share_that_is_left_out_is_told(week: Running) -> None:
    """`capped` is the share of a day's units that do not count any more, by metric that bounds them, with its noise."""
    told = {(day_of(r), r["by_metric"]): r for r in rows(week, "capped", ["metric"])}
    for metric, most in (("calls", 2), ("crashed", 1)):
        for day in range(7):
            present = [p for p in PRESENT.values() if p[day] == "1"]
            left_out = [p for p in present if day not in kept_days(p, most)]
            row = told[day, metric]
            assert row["value"] == pytest.approx(len(left_out) / len(present))
            assert 0 <= row["interval_low"] <= row["value"] <= row["interval_high"] <= 1  # type: ignore[operator]
            assert row["noise_std"] > 0  # type: ignore[operator]
    assert told[4, "calls"]["value"] == pytest.approx(2 / 3)
    assert {r["by_metric"] for r in rows(week, "capped", ["metric"], where={"metric": "crashed"})} == {"crashed"}


def test_bounded_series_are_marked(week: Running) -> None:
    """Each release says in how many windows of a period one unit counts; zero where it counts in all."""
    for metric, most in (("calls", 2), ("crashed", 1), ("starts", 0), ("participants", 0), ("capped", 0)):
        for view in next(m for m in week.analyst.metrics().metrics if m.name == metric).views:
            assert {r["max_windows"] for r in rows(week, metric, view.dimensions)} == {most}


def test_a_period_pays_for_the_windows_that_count(week: Running) -> None:
    """A unit pays for as many days of a series as it can be in, and so a whole week spends the budget exactly (C2)."""
    entries = [e for e in week.context.store.ledger() if e.fields["period_start_ms"] == H]
    budget = week.context.deployment.budget
    summary = verify_chain(week.context.store.ledger())
    verify_budget(summary, budget)
    assert summary.by_period[H].amount == budget.loss.amount
    caps = {str(e.fields["metric"]): spending_of(e).cap for e in entries}
    assert caps == {"calls": 2, "crashed": 1, "starts": 7, "participants": 7, "capped": 7}
    assert len({e.fields["window_start_ms"] for e in entries if e.fields["metric"] == "crashed"}) == 7
    price = {m: sum(spending_of(e).loss.amount for e in entries if e.fields["metric"] == m) for m in caps}
    assert sum(price.values()) > budget.loss.amount


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    """A week that is stopped in mid-window, and over deadlines, tells exactly what an undisturbed one does."""
    undisturbed = lived(tmp_path / "one")
    assert {day_of(r): r["value"] for r in undisturbed if (r["metric"], r["statistic"]) == ("starts", "sum")}
    assert lived(tmp_path / "two", stops=[1, 4, 7]) == undisturbed


def test_a_publication_that_fails_keeps_nothing(tmp_path: Path) -> None:
    """A day whose publication fails before it is durable is kept once, when it succeeds; one that fails after it, too."""
    with running(tmp_path / "state", plan=PLAN) as service:
        service.consent("always", tuning=True)
        store, failures = service.context.store, list[int]()
        publish = store.publish

        def failing(window: object, *rest: object) -> None:
            day = (window.start_ms - H) // DAY_MS  # type: ignore[attr-defined]
            if day == 0 and failures.count(0) < 3:
                failures.append(0)
                raise OSError("before")
            publish(window, *rest)  # type: ignore[arg-type]
            if day == 1:
                failures.append(1)
                raise OSError("after")

        store.publish = failing  # type: ignore[method-assign]
        for day in range(4):
            send(service, noon(day), ["always"])
        service.advance(due(3))
        assert failures == [0, 0, 0, 1]
        assert read(service, "calls", "sum", "1d") == {(0,): 1, (24,): 1}
        assert [r["value"] for r in rows(service, "capped", ["metric"])][::2] == [0, 0, 1, 1]


def test_two_sealers_keep_the_same_windows(tmp_path: Path) -> None:
    """Two sealers at once keep each unit in no window more than one sealer does."""
    with running(tmp_path / "state", plan=PLAN) as service:
        service.consent(*PRESENT, tuning=True)
        second = Sealer(service.context, Meters())
        thread = threading.Thread(target=second.run)
        thread.start()
        for day in range(7):
            send(service, noon(day), [unit for unit, pattern in PRESENT.items() if pattern[day] == "1"])
        service.advance(due(6))
        second.stop()
        thread.join()
        assert read(service, "calls", "sum", "1d") == expected(2)


def test_windows_are_kept_in_the_order_of_time(tmp_path: Path) -> None:
    """Where reports of a later day arrive first, the earlier day counts all the same: windows are kept, not arrivals."""
    with running(tmp_path / "state", plan=LATE_PLAN) as service:
        service.consent("u", tuning=True)
        service.clock.advance_to(noon(1))
        reports = [seen_from("u", moment, service) for moment in (noon(1), noon(1) - HOUR_MS, noon(0))]
        assert [submitted(service, [report]).accepted for report in reports] == [1, 1, 1]
        send(service, noon(2), ["u"])
        service.advance(due(4))
        assert read(service, "calls", "sum", "1d") == {(0,): 1, (24,): 2}
        assert read(service, "starts", "sum", "1d") == {(0,): 1, (24,): 2, (48,): 1}


def test_a_withdrawal_does_not_renew_a_units_windows(tmp_path: Path) -> None:
    """What was kept stays kept when consent is withdrawn and given again; a day that was withdrawn in time is not kept."""
    with running(tmp_path / "state", plan=PLAN) as service:
        service.consent("kept", "spared", tuning=True)
        send(service, noon(0), ["kept", "spared"])
        service.consent("spared", tuning=False)
        send(service, noon(1), ["kept"])
        service.advance(due(1))
        service.consent("kept", tuning=False)
        service.clock.advance_to(due(1) + HOUR_MS)
        service.consent("kept", "spared", tuning=True)
        for day in (2, 3, 4):
            send(service, noon(day), ["kept", "spared"])
        service.advance(due(4))
        assert read(service, "calls", "units", "1d") == {(0,): 1, (24,): 1, (48,): 1, (72,): 1}
        assert read(service, "starts", "units", "1d") == {(0,): 1, (24,): 1, (48,): 2, (72,): 2, (96,): 2}
        calls = [r["value"] for r in rows(service, "capped", ["metric"], where={"metric": "calls"})]
        assert calls == [0, 0, 0.5, 0.5, 1]


def test_kept_windows_are_encrypted_and_die_with_their_period(tmp_path: Path) -> None:
    """No file of the state shows a pseudonym of a kept unit; the sets are there under the period's key, and go with it."""
    state = tmp_path / "state"
    with running(state, plan=PLAN) as service:
        service.consent(*PRESENT, tuning=True, research=True)
        for day in range(3):
            send(service, noon(day), [unit for unit, pattern in PRESENT.items() if pattern[day] == "1"])
        service.advance(due(2))
        store, keys = service.context.store, service.context.keys
        key = keys.get(period_key(H))
        subjects = {u: subject_of(keys.get("deployment"), u.encode()) for u in PRESENT}
        pseudonyms = {u: pseudonym_of(key, subject) for u, subject in subjects.items()}
        sealed = {metric: store.kept_windows(metric, "1d", H) for metric in ("calls", "crashed")}
        for metric, most in (("calls", 2), ("crashed", 1)):
            sets = decrypted(sealed[metric] or b"", key, f"{metric}/1d/{H}".encode())
            held = {p.astype(">u8").tobytes(): int(days[0]) for p, days in zip(sets.pseudonyms, sets.windows, strict=True)}
            days = {u: sum(1 << d for d in kept_days(p[:3], most)) for u, p in PRESENT.items()}
            assert held == {pseudonyms[u]: bits for u, bits in days.items() if bits}
        _ensure_unseen(state, [*pseudonyms.values(), *(u.encode() for u in ("weekend", "always"))])
        service.advance(due(6))
        await_true(lambda: H not in keys.periods())
        with pytest.raises(KeyGone):
            keys.get(period_key(H))
        assert store.kept_windows("calls", "1d", H) is None
        assert store.kept_windows("crashed", "1d", H) is None
        assert store.kept_windows("calls", "1d", H + WEEK_MS) is None
    with closing(sqlite3.connect(next(state.glob("*.db")))) as database:
        assert database.execute("select count(*) from kept_windows").fetchone() == (0,)
    _ensure_unseen(state, list(pseudonyms.values()))


def _ensure_unseen(state: Path, secrets: Sequence[bytes]) -> None:
    """Looks for 16 bytes as they are, and with either half turned round, as an integer of the other order would be."""
    files: list[bytes] = []

    def all_read() -> bool:
        # A running service replaces files at any moment: then all of them are read again.
        with suppress(FileNotFoundError):
            files[:] = [path.read_bytes() for path in state.rglob("*") if path.is_file()]
            return True
        return False

    await_true(all_read)
    assert sum(len(f) for f in files) > 10_000
    for secret in secrets:
        turned = np.frombuffer(secret, ">u8").astype("<u8").tobytes() if len(secret) == 16 else secret
        assert not any(form in file for file in files for form in (secret, turned))


# Who took part.


def test_participants_are_those_who_may_count(tmp_path: Path) -> None:
    """Units that report and allow a purpose at sealing are counted once each; silent, asked and withdrawn ones are not."""
    with running(tmp_path / "state", plan=PLAN) as service:
        service.consent("both", "withdraws", "silent", tuning=True, research=True)
        service.consent("half", tuning=True)
        service.consent("refuses", tuning=False, research=False)
        send(service, noon(0), ["both", "withdraws", "half"])
        send(service, noon(0) + HOUR_MS, ["both", "half"])
        stranger = service.starts("never", noon(0) + HOUR_MS)
        refused = service.starts("refuses", noon(0) + HOUR_MS)
        assert submitted(service, [stranger, refused]).accepted == 0
        service.consent("withdraws", research=False)
        service.advance(due(0))
        assert read(service, "participants", "units", "1d", ["purpose"]) == {(0, "tuning"): 3, (0, "research"): 1}
        assert {r["selected"] for r in rows(service, "participants", ["purpose"])} == {False}


def test_opting_out_is_not_mistaken_for_silence(tmp_path: Path) -> None:
    """A metric without units on a day is told apart: with participants nothing happened, without them nobody allowed it."""
    with running(tmp_path / "state", plan=PLAN) as service:
        service.consent("u", "v", tuning=True, research=True)
        for day in range(3):
            service.advance(noon(day))
            recorders = [service.client.recorder(unit) for unit in ("u", "v")]
            for recorder in recorders:
                recorder.count("starts", 1, platform="ios")
                if day != 1:
                    recorder.flag("crashed", True)
            assert submitted(service, [finish(r, noon(day)) for r in recorders]).accepted == 2
            if day == 1:
                service.advance(due(1))
                service.consent("u", "v", research=False)
        service.advance(due(2))
        of_research = {
            d: n for (d, name), n in read(service, "participants", "units", "1d", ["purpose"]).items() if name == "research"
        }
        assert read(service, "crashed", "units", "1d") == {(0,): 2}
        assert of_research == {0: 2, 24: 2}, "on the second day nothing happened, on the third all had opted out"
        assert read(service, "starts", "sum", "1d") == {(0,): 2, (24,): 2, (48,): 2}


def test_a_plan_may_leave_participants_uncounted(tmp_path: Path) -> None:
    """Without participants in the plan they are neither listed, nor answered, nor paid for."""
    with running(tmp_path / "state", plan=UNCOUNTED) as service:
        assert [m.name for m in service.analyst.metrics().metrics] == ["calls", "crashed", "starts", "capped"]
        with pytest.raises(grpc.RpcError, match="there is no metric 'participants'"):
            rows(service, "participants", ["purpose"])
        service.advance(due(0))
        assert "participants" not in {e.fields["metric"] for e in service.context.store.ledger()}
