"""Windows over real sockets: what belongs where, when it is released, and what a stop, loss or rival does not change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import grpc
import pytest

from hushmeter.clock import ReplayClock
from hushmeter.errors import KeyGone, StateConflict
from hushmeter.ledger.entries import verify_budget, verify_chain
from hushmeter.model.key_names import data_key
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.patience import PATIENCE_S, await_true
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.deployment.state_lock import take_lock
from hushmeter.service.sealer.sealer import Sealer
from tests.service.harness import (
    ENDED,
    QUICK_PLAN,
    H,
    agree,
    finish,
    missed,
    read,
    reasons,
    serving,
    states,
    submitted,
)

STOPPING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED}


def test_a_border_belongs_to_the_window_that_ends_there(tmp_path: Path) -> None:
    """An interval that ends at an hour's border sharp is of that hour, a millisecond later of the next; days likewise."""
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        agree(service, "u")
        service.clock.advance_to(H + HOUR_MS + 1)
        borders = [service.starts("u", H + HOUR_MS, 1), service.starts("u", H + HOUR_MS + 1, 2)]
        assert submitted(service, borders).accepted == 2
        service.clock.advance_to(H + DAY_MS + 1)
        borders = [service.starts("u", H + DAY_MS, 4), service.starts("u", H + DAY_MS + 1, 8)]
        assert missed(submitted(service, borders)) == {}
        service.advance(ENDED + DAY_MS)
        assert read(service, "joins", "sum", "1h") == {(0,): 1, (1,): 2, (23,): 4, (24,): 8}
        assert read(service, "joins", "sum", "1d") == {(0,): 7, (24,): 8}


def test_the_deadline_is_sharp(tmp_path: Path) -> None:
    """A millisecond before an hour's deadline a report counts in it; at the deadline it misses it, and its day likewise."""
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        agree(service, "u")
        for deadline, last, lost in (
            (H + HOUR_MS + 10 * MINUTE_MS, {}, {"1h": [0]}),
            (ENDED, {"1h": [0]}, {}),
        ):
            service.clock.advance_to(deadline - 1)
            assert missed(submitted(service, [service.starts("u", H + HOUR_MS, 1)])) == last
            service.clock.advance_to(deadline)
            answer = submitted(service, [service.starts("u", H + HOUR_MS, 10)])
            assert missed(answer) == lost
            assert reasons(answer) == ({} if lost else {0: "TOO_LATE"})
        service.advance(ENDED)
        assert read(service, "joins", "sum", "1h") == {(0,): 1}
        assert read(service, "joins", "sum", "1d") == {(0,): 12}


def test_a_report_of_several_hours_is_of_its_day_alone(tmp_path: Path) -> None:
    """An interval longer than an hour counts in no hour, is not told that it missed one, and counts in its day."""
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        agree(service, "u", "v")
        service.clock.advance_to(H + 3 * HOUR_MS)
        reports = [
            service.starts("u", H + 3 * HOUR_MS, 5, interval_start_ms=H + HOUR_MS),
            service.starts("v", H + 3 * HOUR_MS, 2, interval_start_ms=H + 2 * HOUR_MS),
        ]
        answer = submitted(service, reports)
        assert (answer.accepted, missed(answer)) == (2, {})
        service.advance(ENDED)
        assert read(service, "joins", "sum", "1h") == {(2,): 2}
        assert read(service, "joins", "sum", "1d") == {(0,): 7}


def test_a_metric_of_days_alone_misses_no_hour(tmp_path: Path) -> None:
    """A late report is told only of resolutions at which one of its metrics is released."""
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        agree(service, "u")
        service.clock.advance_to(H + 7 * HOUR_MS)
        recorder = service.client.recorder("u")
        recorder.choose("theme", "dark")
        answer = submitted(service, [finish(recorder, H + HOUR_MS), service.starts("u", H + HOUR_MS)])
        assert (answer.accepted, missed(answer)) == (2, {"1h": [1]})
        service.advance(ENDED)
        assert read(service, "theme", "units", "1d") == {(0,): 1}


def test_each_resolution_goes_in_order_and_never_early(tmp_path: Path) -> None:
    """At every step no window is released before its deadline, and all before it are, once, as zeros if need be."""
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        store, released = service.context.store, list[tuple[str, int, int]]()
        publish = store.publish

        def watched(window: object, *rest: object) -> None:
            publish(window, *rest)  # type: ignore[arg-type]
            released.append((window.resolution, window.start_ms, service.clock.now_ms()))  # type: ignore[attr-defined]

        store.publish = watched  # type: ignore[method-assign]
        for minutes in (69, 70, 71, 189, 190, 24 * 60 + 59, 25 * 60, 25 * 60 + 10):
            service.advance(H + minutes * MINUTE_MS)
        hours = [start for name, start, _ in released if name == "1h"]
        assert hours == [H + i * HOUR_MS for i in range(25)]
        assert [start for name, start, _ in released if name == "1d"] == [H]
        for name, start, now in released:
            resolution = service.context.plan.resolution(name)
            assert now >= resolution.deadline_ms(resolution.span.window_from(start))
        rows = service.analyst.releases("setup", ["platform"], resolution="1h").to_pylist()
        assert {r["value"] for r in rows} == {0.0}
        assert len(rows) == 25 * 3 * 6


def test_raw_rows_die_when_their_day_is_released(tmp_path: Path) -> None:
    """Rows and data key of an hour outlive its release, and not that of its day; a late report's rows, too."""
    log = tmp_path / "state" / "log"
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        agree(service, "u")
        service.clock.advance_to(H + 20 * MINUTE_MS)
        submitted(service, [service.starts("u", H + 20 * MINUTE_MS)])
        service.advance(H + 7 * HOUR_MS)
        assert missed(submitted(service, [service.starts("u", H + 30 * MINUTE_MS)])) == {"1h": [0]}
        service.advance(ENDED - 1)
        assert service.context.log.storage_windows() == (H,)
        assert len(service.context.keys.get(data_key(H))) == 32
        service.advance(ENDED)
        await_true(lambda: not [p for p in log.rglob("*") if p.is_file()])
        await_true(lambda: not list(log.iterdir()))
        with pytest.raises(KeyGone):
            service.context.keys.get(data_key(H))
        with pytest.raises(KeyGone):
            service.context.keys.get_or_create(data_key(H))
        assert read(service, "joins", "sum", "1d") == {(0,): 2}


def test_a_stop_in_mid_window_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Reports that are sent while the service stops, and what was refused again after it, count exactly once."""
    state, clock = tmp_path / "state", ReplayClock(H)
    reports, taken = list[list[object]](), set[int]()
    with ThreadPoolExecutor(4) as pool:
        with serving(state, clock=clock, plan=QUICK_PLAN) as service:
            agree(service, *(f"u{i}" for i in range(4)))
            clock.advance_to(H + 10 * MINUTE_MS)
            reports = [[service.starts(f"u{i}", H + 10 * MINUTE_MS) for _ in range(60)] for i in range(4)]
            halfway, stopped = threading.Event(), threading.Event()

            def send(sender: int) -> None:
                for number, report in enumerate(reports[sender]):
                    if number == 59:
                        stopped.wait(PATIENCE_S)
                    try:
                        assert submitted(service, [report]).accepted == 1  # type: ignore[list-item]
                    except grpc.RpcError as error:
                        # gRPC itself cancels a call that comes in just when the server stops listening.
                        assert error.code() in STOPPING  # noqa: PT017
                    else:
                        taken.add(sender * 60 + number)
                    if number == 20:
                        halfway.set()

            sending = [pool.submit(send, i) for i in range(4)]
            halfway.wait(PATIENCE_S)
        stopped.set()
        for done in sending:
            done.result(PATIENCE_S)
    assert 20 <= len(taken) < 240
    with serving(state, clock=clock, plan=QUICK_PLAN) as service:
        clock.advance_to(H + 20 * MINUTE_MS)
        again = [r for i, rs in enumerate(reports) for n, r in enumerate(rs) if i * 60 + n not in taken or n < 5]
        assert submitted(service, again).accepted == len(again)  # type: ignore[arg-type]
        service.advance(ENDED)
        assert read(service, "joins", "sum", "1h") == {(0,): 240}
        assert read(service, "joins", "sum", "1d") == {(0,): 240}
        assert states(service, WindowState.LOST) == []


def test_two_services_on_one_state_count_once(tmp_path: Path) -> None:
    """Two workers and two sealers of one state, each with its own connections, release what both took in, once."""
    state, clock = tmp_path / "state", ReplayClock(H)
    with (
        serving(state, clock=clock, plan=QUICK_PLAN) as one,
        serving(state, clock=clock, plan=QUICK_PLAN, joins=True) as two,
    ):
        agree(one, "u")
        agree(two, "v")
        clock.advance_to(H + 10 * MINUTE_MS)
        shared = one.starts("u", H + 10 * MINUTE_MS, 1)
        for service in (one, two):
            own = service.starts("v", H + 10 * MINUTE_MS, 10)
            assert submitted(service, [shared, own]).accepted == 2
        two.consent("v", research=False)
        assert one.client.consent("v") == {"tuning": True, "research": False}
        one.advance(ENDED)
        assert read(two, "joins", "sum", "1h") == {(0,): 21}
        assert read(two, "joins", "sum", "1d") == {(0,): 21}
        hours = states(one, WindowState.RELEASED)
        assert hours == [("1h", i) for i in range(23)] + [("1d", 0), ("1h", 23)]
        verify_budget(verify_chain(one.context.store.ledger()), one.context.deployment.budget)


def test_two_sealers_share_the_work_safely(tmp_path: Path) -> None:
    """Sealers that run at once release each window once, charge it once, and neither loses one."""
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        agree(service, "u")
        service.clock.advance_to(H + 10 * MINUTE_MS)
        submitted(service, [service.starts("u", H + 10 * MINUTE_MS, 3)])
        others = [Sealer(service.context, Meters()) for _ in range(2)]
        threads = [threading.Thread(target=s.run) for s in others]
        for thread in threads:
            thread.start()
        service.advance(ENDED)
        for sealer, thread in zip(others, threads, strict=True):
            sealer.stop()
            thread.join()
        assert len(states(service, WindowState.RELEASED)) == 25
        assert read(service, "joins", "sum", "1h") == {(0,): 3}
        rows = service.analyst.releases("joins", resolution="1h", statistics=["sum"]).to_pylist()
        assert len(rows) == len({r["release_id"] for r in rows}) == 24
        summary = verify_chain(service.context.store.ledger())
        charged = [(e.fields["metric"], str(e.fields["view"]), e.fields["measurement"], e.fields["resolution"],
                    e.fields["window_start_ms"]) for e in service.context.store.ledger()]  # fmt: skip
        assert len(charged) == len(set(charged)) == summary.count


def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    """A second holder of a state's lock is refused, naming the first; when the first lets go the next may have it."""
    with take_lock(tmp_path), pytest.raises(StateConflict, match="serves"):
        take_lock(tmp_path)
    take_lock(tmp_path).close()


def _remove(path: Path) -> None:
    path.unlink()


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [_remove, _flip, _cut])
def test_a_lost_segment_is_charged_and_told(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """A damaged segment makes its hour and its day LOST: charged as if released, never released; the next ones go on."""
    state = tmp_path / "state"
    with serving(state, plan=QUICK_PLAN) as service:
        agree(service, "u")
        service.clock.advance_to(H + 10 * MINUTE_MS)
        submitted(service, [service.starts("u", H + 10 * MINUTE_MS)])
        (segment,) = (state / "log").rglob("*.frames")
        harm(segment)
        service.advance(H + HOUR_MS + 20 * MINUTE_MS)
        submitted(service, [service.starts("u", H + HOUR_MS + 20 * MINUTE_MS, 4)])
        service.advance(ENDED)
        submitted(service, [service.starts("u", ENDED, 8)])
        service.advance(ENDED + 2 * HOUR_MS)
        assert sorted(states(service, WindowState.LOST)) == [("1d", 0), ("1h", 0)]
        assert read(service, "joins", "sum", "1h") == {(1,): 4, (24,): 8}
        assert read(service, "joins", "sum", "1d") == {}
        prices: dict[str, dict[int, Fraction]] = {"1h": {}, "1d": {}}
        for entry in service.context.store.ledger():
            f = entry.fields
            of_window, start = prices[str(f["resolution"])], int(str(f["window_start_ms"]))
            of_window[start] = of_window.get(start, Fraction(0)) + Fraction(str(f["loss"]))
            assert (f["mechanism"] == "lost") == (start == H)
        assert len(set(prices["1h"].values())) == 1
        assert sum(prices["1d"].values()) > 0
        verify_budget(verify_chain(service.context.store.ledger()), service.context.deployment.budget)
        await_true(lambda: H not in service.context.log.storage_windows())


def test_a_destroyed_data_key_loses_its_windows_alone(tmp_path: Path) -> None:
    """Without its data key an hour is LOST, and a worker that goes on serving takes reports of other hours."""
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        agree(service, "u")
        service.clock.advance_to(H + 10 * MINUTE_MS)
        submitted(service, [service.starts("u", H + 10 * MINUTE_MS)])
        service.context.keys.destroy(data_key(H))
        service.advance(H + HOUR_MS + 20 * MINUTE_MS)
        assert states(service, WindowState.LOST) == [("1h", 0)]
        assert submitted(service, [service.starts("u", H + HOUR_MS + 20 * MINUTE_MS, 4)]).accepted == 1
        service.advance(H + 3 * HOUR_MS)
        assert read(service, "joins", "sum", "1h") == {(1,): 4}
