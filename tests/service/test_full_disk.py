"""A disk that runs full under the service: nothing that was acknowledged is lost, and what was not can be sent again."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from hushmeter.api.consent.v1 import consent_pb2, consent_pb2_grpc
from hushmeter.api.ingest.v1 import ingest_pb2 as pb
from hushmeter.api.ingest.v1 import ingest_pb2_grpc
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.patience import PATIENCE_S, await_true
from hushmeter.storage.log.intake_log import FileIntakeLog
from hushmeter.testing.disk import FaultyDisk
from tests.service.harness import QUICK_PLAN, H, agree, missed, read, refused, serving, states, submitted
from tests.service.running_service import Running

NOW = H + 10 * MINUTE_MS
RELEASED = H + DAY_MS + HOUR_MS
"""The deadline of the first day."""


@contextmanager
def on_faulty_disk(state: Path) -> Iterator[tuple[Running, FaultyDisk]]:
    """A service whose intake log is on a disk that can fail; two units have agreed, and it is ten past the hour."""
    disk = FaultyDisk()
    with serving(state, plan=QUICK_PLAN) as founded:
        clock, context = founded.clock, founded.context
    log = FileIntakeLog(state / "log", context.keys, context.deployment.deployment_id, files=disk)
    with serving(state, clock=clock, parts={"log": log}, plan=QUICK_PLAN) as service:
        agree(service, "u", "v")
        clock.advance_to(NOW)
        yield service, disk


def assert_retryable(error: grpc.RpcError, reason: str) -> None:
    """An error names its kind and says when to try again."""
    details = rpc_status.from_call(error).details
    info, retry = ErrorInfo(), RetryInfo()
    assert [d.Unpack(info) or d.Unpack(retry) for d in details] == [True, True]
    assert (info.domain, info.reason) == ("hushmeter", reason)
    assert 0 < retry.retry_delay.seconds < 60


FULL: list[tuple[str, Callable[[FaultyDisk], None]]] = [
    ("no room at all", lambda disk: setattr(disk, "room_bytes", 0)),
    ("room for half a frame", lambda disk: setattr(disk, "room_bytes", 150)),
    ("found out at the sync", lambda disk: disk.fail_next("datasync", errno.ENOSPC, 1_000)),
    ("over quota", lambda disk: disk.fail_next("write", errno.EDQUOT, 1_000)),
    (
        "and the torn rest stays",
        lambda disk: (setattr(disk, "room_bytes", 150), disk.fail_next("truncate", errno.ENOSPC, 1_000))[0],
    ),
]


@pytest.mark.parametrize("first", [True, False], ids=["before any report", "after a report"])
@pytest.mark.parametrize("fill", [f for _, f in FULL], ids=[name for name, _ in FULL])
def test_a_full_disk_refuses_and_then_counts_once(tmp_path: Path, fill: Callable[[FaultyDisk], None], first: bool) -> None:
    """Whenever the disk runs full, reports are RESOURCE_EXHAUSTED until there is room, and then count once."""
    with on_faulty_disk(tmp_path / "state") as (service, disk):
        kept = service.starts("u", NOW, 2)
        if not first:
            assert submitted(service, [kept]).accepted == 1
        fill(disk)
        report = service.starts("v", NOW, 5)
        for _ in range(3):
            assert_retryable(refused(grpc.StatusCode.RESOURCE_EXHAUSTED, service, [report]), "StorageFull")
        disk.room_bytes = None
        disk._errors.clear()
        assert submitted(service, [report]).accepted == 1
        assert submitted(service, [kept, report]).accepted == 2
        service.advance(H + 2 * HOUR_MS)
        assert states(service, WindowState.RELEASED) == [("1h", 0)]
        assert read(service, "joins", "sum", "1h") == {(0,): 7}


def test_a_disk_that_fails_is_unavailable(tmp_path: Path) -> None:
    """Another error than a full disk is UNAVAILABLE, retryable, and leaves the same."""
    with on_faulty_disk(tmp_path / "state") as (service, disk):
        report = service.starts("u", NOW, 2)
        disk.fail_next("datasync", errno.EIO)
        assert_retryable(refused(grpc.StatusCode.UNAVAILABLE, service, [report]), "Failure")
        assert submitted(service, [report]).accepted == 1
        service.advance(RELEASED)
        assert read(service, "joins", "sum", "1h") == {(0,): 2}


def test_half_of_a_message_that_was_durable_counts_once(tmp_path: Path) -> None:
    """Where a message's first hour was written and its second one did not fit, sending all of it again counts all once."""
    with on_faulty_disk(tmp_path / "state") as (service, disk):
        service.clock.advance_to(H + HOUR_MS + 5 * MINUTE_MS)
        opening = [service.starts("u", H + HOUR_MS), service.starts("u", H + HOUR_MS + MINUTE_MS)]
        assert submitted(service, opening).accepted == 2
        early, late = service.starts("v", H + HOUR_MS, 3), service.starts("v", H + HOUR_MS + MINUTE_MS, 10)
        late.series.extend([late.series[0]] * 3_000)
        late.value.extend([0] * 3_000)
        disk.room_bytes = 10_000
        written = disk.done.count("datasync")
        refused(grpc.StatusCode.RESOURCE_EXHAUSTED, service, [early, late])
        assert disk.done.count("datasync") > written
        disk.room_bytes = None
        assert submitted(service, [early, late]).accepted == 2
        service.advance(RELEASED)
        assert read(service, "joins", "sum", "1h") == {(0,): 4, (1,): 11}
        assert read(service, "joins", "sum", "1d") == {(0,): 15}


def test_a_stream_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """A stream that meets a full disk ends RESOURCE_EXHAUSTED; what it acknowledged counts, what is left can be resent."""
    with on_faulty_disk(tmp_path / "state") as (service, disk):
        messages = [[service.starts("u", NOW, 1)] for _ in range(6)]
        acknowledged = []

        def requests() -> Iterator[pb.StreamReportsRequest]:
            for number, reports in enumerate(messages):
                await_true(lambda number=number: len(acknowledged) >= min(number, 3))  # type: ignore[misc]
                if number == 3:
                    disk.room_bytes = 0
                yield pb.StreamReportsRequest(reports=reports)

        with grpc.insecure_channel(service.target) as channel:
            stub = ingest_pb2_grpc.IngestServiceStub(channel)
            answers = stub.StreamReports(requests(), timeout=PATIENCE_S)
            with pytest.raises(grpc.RpcError) as caught:
                acknowledged.extend(answer.sequence for answer in answers)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert_retryable(caught.value, "StorageFull")
        assert acknowledged == [0, 1, 2]
        disk.room_bytes = None
        assert submitted(service, [m[0] for m in messages[3:]]).accepted == 3
        service.advance(RELEASED)
        assert read(service, "joins", "sum", "1d") == {(0,): 6}


def test_reading_and_consent_go_on(tmp_path: Path) -> None:
    """While the log's disk is full, consent is recorded, validation and queries answer, and the plan is told."""
    with on_faulty_disk(tmp_path / "state") as (service, disk):
        assert submitted(service, [service.starts("u", NOW, 2)]).accepted == 1
        disk.room_bytes = 0
        report = service.starts("v", NOW, 5)
        refused(grpc.StatusCode.RESOURCE_EXHAUSTED, service, [report])
        assert service.client.validate([report]).accepted == 1
        service.consent("u", tuning=False)
        assert service.client.consent("u") == {"tuning": False, "research": True}
        assert service.client.plan() == service.plan
        assert service.analyst.releases("joins", resolution="1h").num_rows == 0
        disk.room_bytes = None
        service.advance(RELEASED)
        assert read(service, "joins", "sum", "1d") == {}


def test_sealing_waits_for_room(tmp_path: Path) -> None:
    """A window that is due on a full disk is neither lost nor released without its rows: it waits, in order, for room."""
    with on_faulty_disk(tmp_path / "state") as (service, disk):
        assert submitted(service, [service.starts("u", NOW, 2)]).accepted == 1
        disk.room_bytes = 0
        tried = len(disk.done)
        service.clock.advance_to(H + 3 * HOUR_MS)
        await_true(lambda: disk.done[tried:].count("create") >= 2)
        assert service.analyst.releases("joins", resolution="1h").num_rows == 0
        assert states(service, WindowState.LOST) == []
        disk.room_bytes = None
        service.advance(H + 3 * HOUR_MS)
        assert states(service, WindowState.RELEASED) == [("1h", 0), ("1h", 1)]
        assert read(service, "joins", "sum", "1h") == {(0,): 2}
        # The hour's rows become totals after its release, in a file that is new for a moment.
        await_true(lambda: not list((tmp_path / "state" / "log").rglob("*.new")))


def test_a_deadline_that_passes_on_a_full_disk_is_told(tmp_path: Path) -> None:
    """A report that could not be taken before its hour's deadline is taken for its day alone, and says so."""
    with on_faulty_disk(tmp_path / "state") as (service, disk):
        report = service.starts("u", NOW, 2)
        disk.room_bytes = 0
        refused(grpc.StatusCode.RESOURCE_EXHAUSTED, service, [report])
        service.clock.advance_to(H + HOUR_MS + 10 * MINUTE_MS)
        refused(grpc.StatusCode.RESOURCE_EXHAUSTED, service, [report])
        disk.room_bytes = None
        assert missed(submitted(service, [report])) == {"1h": [0]}
        service.advance(RELEASED)
        assert read(service, "joins", "sum", "1h") == {}
        assert read(service, "joins", "sum", "1d") == {(0,): 2}


def test_a_full_state_store_refuses_and_recovers(tmp_path: Path) -> None:
    """Where the state's own disk is full, decisions are RESOURCE_EXHAUSTED and do not bind; with room they are taken."""
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        agree(service, "u")
        service.clock.advance_to(NOW)
        # Every connection that the pool may use is told, whichever thread has it next.
        database = service.context.store._database  # type: ignore[attr-defined]

        def limit(pages: int | None) -> None:
            connections = [database._reader.connect() for _ in range(4)]
            for connection in connections:
                here = pages or connection.exec_driver_sql("PRAGMA page_count").scalar()
                connection.exec_driver_sql(f"PRAGMA max_page_count={here}")
            for connection in connections:
                connection.close()

        limit(None)
        shown = service.plan.purposes[0].text_hash
        decisions = [consent_pb2.Decision(purpose="tuning", given=True, text_hash=shown)]
        codes = set()
        asked = []
        with grpc.insecure_channel(service.target) as channel:
            stub = consent_pb2_grpc.ConsentServiceStub(channel)
            for number in range(400):
                unit = f"unit-{number}"
                try:
                    stub.SetConsent(consent_pb2.SetConsentRequest(unit_id=unit, decisions=decisions), timeout=PATIENCE_S)
                except grpc.RpcError as error:
                    codes.add(error.code())
                    assert_retryable(error, "StorageFull")
                    asked.append(unit)
                    if len(asked) == 3:
                        break
            assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            states_of = stub.GetConsent(consent_pb2.GetConsentRequest(unit_id=asked[0]), timeout=PATIENCE_S).states
            assert not any(s.given for s in states_of)
        limit(1_000_000)
        for unit in asked:
            assert service.client.set_consent(unit, {"tuning": True})["tuning"]
        assert submitted(service, [service.starts("u", NOW, 2)]).accepted == 1
        service.advance(RELEASED)
        assert read(service, "joins", "sum", "1d") == {(0,): 2}
