"""From report to release over real sockets: windows, lateness, consent, restart, loss."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import grpc
import pytest

from hushmeter.errors import ConfigError, KeyGone, StateConflict
from hushmeter.ledger.entries import verify_budget, verify_chain
from hushmeter.model.key_names import data_key, period_key
from hushmeter.model.ledger import LedgerEntry
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS, WEEK_MS
from hushmeter.patience import PATIENCE_S, await_true
from hushmeter.sdk import Recorder
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.deployment.state_lock import take_lock
from hushmeter.service.processes.supervisor import take_port
from hushmeter.service.sealer.sealer import Sealer
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.service.running_service import FOUNDED_MS, PLAN, running

H = FOUNDED_MS
QUICK_PLAN = PLAN.replace("lateness: 48h", "lateness: 1h")
"""Days end sooner, so that fewer hours are to be sealed before one is released."""
ENDED = H + DAY_MS + HOUR_MS
"""The deadline of the first day, by the quick plan."""


def test_one_report_becomes_releases_of_every_statistic(tmp_path: Path) -> None:
    """What the SDK records of one unit is what is released of it, in its hour and its day."""
    with running(tmp_path / "state", plan=QUICK_PLAN) as service:
        service.consent("u", model_tuning=True, research=True)
        recorder = service.client.recorder("u")
        recorder.count("starts", 3, platform="ios")
        for latency in (5, 10, 11, 2_000):
            recorder.observe("latency", latency, platform="ios")
        recorder.flag("crashed", True, platform="ios")
        recorder.choose("theme", "dark", platform="ios")
        service.clock.advance_to(H + 30 * MINUTE_MS)
        report = recorder.report(H, H + 30 * MINUTE_MS)
        assert report is not None
        assert service.client.submit([report]).accepted == 1
        service.advance(ENDED)
        for resolution in ("1h", "1d"):

            def first(metric: str, statistic: str, resolution: str = resolution) -> list[float]:
                rows = service.analyst.releases(metric, resolution=resolution, statistics=[statistic]).to_pylist()
                return [r["value"] for r in rows if r["window_start"].timestamp() * 1000 == H]

            assert first("starts", "units") == [1.0]
            assert first("starts", "sum") == [3.0]
            assert first("latency", "mean") == [(5 + 10 + 11 + 1_000) // 4]
            assert first("latency", "histogram") == [0.5, 0.25, 0.25]
            assert first("crashed", "rate") == [1.0]
            assert first("theme", "rate") == [0.0, 1.0]


def test_a_report_six_hours_late_misses_its_hour_and_is_in_its_day(tmp_path: Path) -> None:
    """A late report is told which resolution it missed, is absent there, and counts in the other (T2)."""
    with running(tmp_path / "state", plan=QUICK_PLAN) as service:
        service.consent("u", "v")
        service.advance(H + 7 * HOUR_MS)
        late = service.client.submit([service.starts("u", H + HOUR_MS, 5), service.starts("v", H + 7 * HOUR_MS, 2)])
        assert late.accepted == 2
        assert [(m.resolution, list(m.indices)) for m in late.missed] == [("1h", [0])]
        service.advance(ENDED)
        assert service.sums("1h") == {6: 2.0}
        assert service.sums("1d") == {0: 7.0}


def test_every_window_is_released_once_at_its_deadline(tmp_path: Path) -> None:
    """Windows end in order, none before its deadline, also those that received nothing (T3)."""
    with running(tmp_path / "state") as service:
        service.advance(H + HOUR_MS + 10 * MINUTE_MS - 1)
        assert service.analyst.releases("starts", resolution="1h").num_rows == 0
        service.advance(H + HOUR_MS + 10 * MINUTE_MS)
        assert service.analyst.releases("starts", resolution="1h", statistics=["sum"]).num_rows == 1
        service.advance(H + 4 * DAY_MS)
        rows = service.analyst.releases("starts", resolution="1h", statistics=["sum"]).to_pylist()
        starts = [int(r["window_start"].timestamp() * 1000) for r in rows]
        assert starts == [H + i * HOUR_MS for i in range(4 * 24 - 1)]
        assert {r["value"] for r in rows} == {0.0}


def test_raw_rows_and_keys_die_with_the_last_window(tmp_path: Path) -> None:
    """After the day is released its segments are gone and their keys destroyed; before, they are there and unreadable."""
    state = tmp_path / "state"
    with running(state, plan=QUICK_PLAN) as service:
        service.consent("a-very-visible-unit")
        service.clock.advance_to(H + 10 * MINUTE_MS)
        service.client.submit([service.starts("a-very-visible-unit", H + 10 * MINUTE_MS)])
        service.advance(H + 2 * HOUR_MS)
        stored = [p for p in (state / "log").rglob("*") if p.is_file()]
        assert stored
        assert service.context.keys.get(data_key(H))
        service.advance(ENDED)
        await_true(lambda: not any(p.is_file() for p in (state / "log").rglob("*")))
        with pytest.raises(KeyGone):
            service.context.keys.get(data_key(H))
        assert service.context.keys.get(period_key(H))
        service.advance(H + WEEK_MS + HOUR_MS)
        await_true(lambda: H not in service.context.keys.periods())
        with pytest.raises(KeyGone):
            service.context.keys.get(period_key(H))
    for path in state.rglob("*"):
        if path.is_file():
            assert b"a-very-visible-unit" not in path.read_bytes(), path


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    """A service that is stopped in mid-window counts everything once; windows that fell due meanwhile are released."""
    state = tmp_path / "state"
    with running(state, plan=QUICK_PLAN) as service:
        service.consent("u", "v")
        service.clock.advance_to(H + 20 * MINUTE_MS)
        kept = service.starts("u", H + 20 * MINUTE_MS, 2)
        service.client.submit([kept])
        clock = service.clock
    clock.advance_to(H + 50 * MINUTE_MS)
    with running(state, clock=clock, plan=QUICK_PLAN) as service:
        service.client.submit([kept, service.starts("v", H + 50 * MINUTE_MS, 4)])
    clock.advance_to(H + 5 * HOUR_MS)
    with running(state, clock=clock, plan=QUICK_PLAN) as service:
        service.advance(H + 5 * HOUR_MS)
        assert service.sums("1h") == {0: 6.0}
        service.advance(ENDED)
        assert service.sums("1d") == {0: 6.0}
        row = service.analyst.releases("starts", resolution="1h", statistics=["sum"]).to_pylist()[1]
        assert row["completeness"] == 0.0


def test_consent_is_enforced_at_the_door_and_at_sealing(tmp_path: Path) -> None:
    """Without consent nothing is stored; a withdrawal reaches what is not yet released; a new grant brings nothing back."""
    with running(tmp_path / "state", plan=QUICK_PLAN) as service:
        service.consent("u", "v", "w")
        service.clock.advance_to(H + 10 * MINUTE_MS)
        reports = [service.starts(unit, H + 10 * MINUTE_MS, 10) for unit in ("u", "v", "w", "never")]
        answer = service.client.submit(reports)
        assert answer.accepted == 3
        service.consent("v", model_tuning=False)
        service.advance(H + 2 * HOUR_MS)
        assert service.sums("1h") == {0: 20.0}
        service.consent("w", model_tuning=False)
        service.clock.advance_to(H + 3 * HOUR_MS)
        service.consent("w", model_tuning=True)
        service.advance(ENDED)
        assert service.sums("1d") == {0: 10.0}


def test_an_interval_that_began_before_consent_is_refused(tmp_path: Path) -> None:
    """What was measured before the decision is refused, also when the report comes after it (P8)."""
    with running(tmp_path / "state") as service:
        service.clock.advance_to(H + 10 * MINUTE_MS)
        service.consent("u")
        early = service.starts("u", H + 10 * MINUTE_MS)
        service.clock.advance_to(H + 20 * MINUTE_MS)
        answer = service.client.submit([early, service.starts("u", H + 20 * MINUTE_MS)])
        assert [(r.index, r.reason) for r in answer.rejections] == [(0, 10)]
        assert service.client.consent("u") == {"model_tuning": True, "research": False}


def test_duplicates_count_once_across_connections(tmp_path: Path) -> None:
    """A report that is sent again, in the same message, later, or over another connection, counts once (P2)."""
    from hushmeter.sdk import IngestClient

    with running(tmp_path / "state", plan=QUICK_PLAN) as service:
        service.consent("u")
        service.clock.advance_to(H + 10 * MINUTE_MS)
        report = service.starts("u", H + 10 * MINUTE_MS, 7)
        assert service.client.submit([report, report]).accepted == 2
        with IngestClient(service.target) as other:
            assert other.submit([report]).accepted == 1
        service.advance(ENDED)
        assert service.sums("1h") == {0: 7.0}
        assert service.sums("1d") == {0: 7.0}


def test_a_window_whose_segment_is_gone_is_lost_by_name(tmp_path: Path) -> None:
    """A missing segment makes its windows LOST: charged, never released; other windows go on (C6)."""
    state = tmp_path / "state"
    with running(state) as service:
        service.consent("u")
        service.clock.advance_to(H + 10 * MINUTE_MS)
        service.client.submit([service.starts("u", H + 10 * MINUTE_MS)])
        for path in (state / "log").rglob("*.frames"):
            path.unlink()
        service.advance(H + 3 * HOUR_MS)
        assert [str(r.window) for r in service.context.store.windows([WindowState.LOST])] == ["1h 2026-03-02T00:00:00Z"]
        rows = service.analyst.releases("starts", resolution="1h", statistics=["sum"]).to_pylist()
        assert [int(r["window_start"].timestamp() * 1000) for r in rows] == [H + HOUR_MS]
        entries = [LedgerEntry(e.sequence, e.content, e.previous_hash, e.entry_hash) for e in service.analyst.ledger()]
        verify_budget(verify_chain(entries), service.context.deployment.budget)
        assert {e.fields["window_start_ms"] for e in entries if e.fields["mechanism"] == "lost"} == {H}


def test_two_sealers_release_each_window_once(tmp_path: Path) -> None:
    """Two sealers on one state do no harm: each window has one release, and the ledger holds."""
    with running(tmp_path / "state", plan=QUICK_PLAN) as service:
        service.consent("u")
        service.clock.advance_to(H + 10 * MINUTE_MS)
        service.client.submit([service.starts("u", H + 10 * MINUTE_MS, 3)])
        second = Sealer(service.context, Meters())
        thread = threading.Thread(target=second.run)
        thread.start()
        service.advance(ENDED)
        second.stop()
        thread.join()
        rows = service.analyst.releases("starts", resolution="1h", statistics=["sum"]).to_pylist()
        assert [int(r["window_start"].timestamp() * 1000) for r in rows] == [H + i * HOUR_MS for i in range(24)]
        assert service.sums("1h") == {0: 3.0}
        verify_budget(verify_chain(service.context.store.ledger()), service.context.deployment.budget)


def test_one_state_is_served_by_one_supervisor(tmp_path: Path) -> None:
    """A second supervisor on the same state is refused with the first one's process id."""
    with take_lock(tmp_path), pytest.raises(StateConflict, match=r"another process \(pid \d+\) serves"):
        take_lock(tmp_path)


def test_one_port_is_served_by_one_service() -> None:
    """A port that another service has taken is refused, though its own workers share it."""
    taken = take_port("127.0.0.1:0")
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    with taken, socket.socket() as worker:
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(("127.0.0.1", taken.getsockname()[1]))
        worker.listen()
        with pytest.raises(ConfigError, match="choose another address"):
            take_port(address)


def test_a_wrong_master_key_is_refused(tmp_path: Path) -> None:
    """A state opened with another master key is refused at once, and works again with the right one."""
    state = tmp_path / "state"
    with running(state) as service:
        clock = service.clock
    key = tmp_path / "state-keys" / "master.key"
    right = key.read_bytes()
    key.write_text("ab" * 32)
    with pytest.raises(Exception, match="master key") as caught:
        open_context(Config(state_dir=state), clock, ExactMechanisms())
    assert "ab" * 32 not in str(caught.value)
    key.write_bytes(right)
    open_context(Config(state_dir=state), clock, ExactMechanisms()).store.close()


def test_another_plan_is_refused(tmp_path: Path) -> None:
    """A state is served with the plan that it was founded with; without any plan a new state is not founded."""
    from tests.service.running_service import ReplayClock

    with pytest.raises(ConfigError, match="no plan was given"):
        open_context(Config(state_dir=tmp_path / "new"), ReplayClock(H), ExactMechanisms())
    with running(tmp_path / "state") as service:
        clock = service.clock
    with pytest.raises(ConfigError, match="runs version 1 of its plan"):
        open_context(
            Config(state_dir=tmp_path / "state"), clock, ExactMechanisms(), PLAN.replace("epsilon: 4", "epsilon: 3")
        )


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A full disk answers RESOURCE_EXHAUSTED with a time to try again; the same report is taken when there is room."""
    from google.rpc.error_details_pb2 import RetryInfo
    from grpc_status import rpc_status

    from hushmeter.api.ingest.v1 import ingest_pb2, ingest_pb2_grpc
    from hushmeter.storage.log.intake_log import FileIntakeLog
    from hushmeter.testing.disk import FaultyDisk

    state = tmp_path / "state"
    disk = FaultyDisk()
    with running(state, plan=QUICK_PLAN) as service:
        clock = service.clock
        context = service.context
    log = FileIntakeLog(state / "log", context.keys, context.deployment.deployment_id, files=disk)
    with running(state, clock=clock, parts={"log": log}, plan=QUICK_PLAN) as service:
        service.consent("u", "v")
        clock.advance_to(H + 10 * MINUTE_MS)
        assert service.client.submit([service.starts("u", H + 10 * MINUTE_MS, 2)]).accepted == 1
        disk.room_bytes = 0
        report = service.starts("v", H + 10 * MINUTE_MS, 5)
        with grpc.insecure_channel(service.target) as channel:
            stub = ingest_pb2_grpc.IngestServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.SubmitReports(ingest_pb2.SubmitReportsRequest(reports=[report]))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = rpc_status.from_call(caught.value)
        assert any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details)
        disk.room_bytes = None
        assert service.client.submit([report]).accepted == 1
        service.advance(ENDED)
        assert service.sums("1h") == {0: 7.0}
        assert service.sums("1d") == {0: 7.0}


def test_the_recorder_keeps_to_the_plan() -> None:
    """The SDK's recorder refuses what the plan does not have, leaves out what is not allowed, and clamps."""
    from hushmeter.api.ingest.v1.ingest_pb2 import (
        METRIC_KIND_COUNTER,
        DimensionDescription,
        MetricDescription,
        PlanDescription,
    )

    metric = MetricDescription(
        name="starts", kind=METRIC_KIND_COUNTER, resolution="0.5", purposes=["p"], components=["total"], first_series=9,
        range_high=10, dimensions=[DimensionDescription(name="os", values=["a", "b"])],
    )  # fmt: skip
    plan = PlanDescription(version=2, metrics=[metric])
    silent = Recorder(plan, "u", [])
    silent.count("starts", 1, os="a")
    assert silent.report(0, 1) is None
    recorder = Recorder(plan, "u", ["p"])
    recorder.count("starts", 2, os="b")
    recorder.count("starts", 100, os="a")
    report = recorder.report(0, 1)
    assert report is not None
    assert dict(zip(report.series, report.value, strict=True)) == {10: 4, 9: 10}
    assert recorder.report(1, 2) is None
    for wrong in (
        lambda: recorder.count("stops"),
        lambda: recorder.count("starts", os="c"),
        lambda: recorder.count("starts"),
        lambda: recorder.observe("starts", 1, os="a"),
    ):
        with pytest.raises(ValueError, match=r"starts|stops"):
            wrong()


def test_a_late_report_does_not_hold_up_the_hour_it_missed(tmp_path: Path) -> None:
    """A segment that a late report opens before the sealer notices the deadline is not waited for by the hour.

    Found by the tests of bad input: the hour then waited until the day's deadline.
    """
    with running(tmp_path / "state", plan=QUICK_PLAN) as service:
        service.consent("u")
        store = service.context.store
        # The sealer sleeps between polls; here it is held back until the worker has registered its segment.
        begin_closing = store.begin_closing
        registered = threading.Event()
        store.begin_closing = lambda *of: (registered.wait(PATIENCE_S), begin_closing(*of))[1]  # type: ignore[method-assign]
        service.clock.advance_to(H + HOUR_MS + 15 * MINUTE_MS)
        answer = service.client.submit([service.starts("u", H + 30 * MINUTE_MS, 3)])
        assert [m.resolution for m in answer.missed] == ["1h"]
        registered.set()
        service.advance(H + HOUR_MS + 15 * MINUTE_MS)
        assert service.analyst.releases("starts", resolution="1h", statistics=["sum"]).num_rows == 1
        service.advance(ENDED)
        assert service.sums("1d") == {0: 3.0}
