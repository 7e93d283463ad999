"""The door over real sockets: what the plan describes is taken, bad reports are refused one by one, retries count once."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from hushmeter import limits
from hushmeter.api.ingest.v1 import ingest_pb2 as pb
from hushmeter.api.ingest.v1 import ingest_pb2_grpc
from hushmeter.api.report.v1.report_pb2 import RejectionReason, Report
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.patience import PATIENCE_S
from hushmeter.sdk import IngestClient
from tests.service.harness import QUICK_PLAN, H, agree, finish, missed, read, reasons, refused, serving, submitted
from tests.service.running_service import Running
from tests.service.wire import packed, submit_bytes, varint, with_points

NOW = H + DAY_MS + 10 * MINUTE_MS
UNIT = "unit-that-must-not-be-named"
OTHER = "other-that-must-not-be-named"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service in its second day, for tests that do not move its clock."""
    with serving(tmp_path_factory.mktemp("ingest") / "state") as service:
        agree(service, UNIT)
        service.consent(OTHER, tuning=True)
        service.clock.advance_to(NOW)
        yield service


def stored(service: Running) -> int:
    """How many bytes of frames the log holds."""
    directory = service.context.log._directory  # type: ignore[attr-defined]
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def points(service: Running, metric: str, **components: int) -> dict[str, list[int]]:
    """Series and values of components of a metric's first partition; `_` in a name stands for itself."""
    found = next(m for m in service.plan.metrics if m.name == metric)
    return {
        "series": [found.first_series + list(found.components).index(name) for name in components],
        "value": list(components.values()),
    }


def stream(service: Running, messages: Sequence[Sequence[Report]]) -> list[pb.StreamReportsResponse]:
    with grpc.insecure_channel(service.target) as channel:
        stub = ingest_pb2_grpc.IngestServiceStub(channel)
        return list(stub.StreamReports((pb.StreamReportsRequest(reports=m) for m in messages), timeout=PATIENCE_S))


def one_of_each(service: Running) -> list[tuple[str, Report]]:
    """A bad report for each reason, but for expiry, which needs another time."""
    far = 2**62
    bad: list[tuple[str, dict[str, object]]] = [
        ("MALFORMED", {"report_id": os.urandom(15)}),
        ("MALFORMED", {"report_id": b""}),
        ("MALFORMED", {"value": [1, 2]}),
        ("BAD_UNIT_ID", {"unit_id": ""}),
        ("BAD_UNIT_ID", {"unit_id": "ä" * 65}),
        ("BAD_INTERVAL", {"interval_start_ms": NOW + 1}),
        ("BAD_INTERVAL", {"interval_start_ms": NOW - DAY_MS - 1}),
        ("BAD_INTERVAL", {"interval_start_ms": 0, "interval_end_ms": 0}),
        ("IN_FUTURE", {"interval_start_ms": far, "interval_end_ms": far + 1}),
        ("TOO_LATE", {"interval_start_ms": H - 1, "interval_end_ms": H}),
        ("UNKNOWN_PLAN_VERSION", {"plan_version": 0}),
        ("UNKNOWN_SERIES", {"series": [2**31], "value": [1]}),
        ("BAD_TOKEN", {"token": ["token-that-must-not-be-named"], "point_token": [1]}),
        ("VALUE_OUT_OF_RANGE", points(service, "joins", total=-1)),
        ("VALUE_OUT_OF_RANGE", points(service, "joins", total=101)),
        ("VALUE_OUT_OF_RANGE", points(service, "drift", total=-51)),
        ("VALUE_OUT_OF_RANGE", points(service, "setup", le_0=1, sum=2_002)),
        ("VALUE_OUT_OF_RANGE", points(service, "setup", sum=5)),
        ("VALUE_OUT_OF_RANGE", points(service, "crashed", true=-1)),
        (
            "TOO_LARGE",
            {"series": [1] * (limits.POINTS_PER_REPORT_MAX + 1), "value": [0] * (limits.POINTS_PER_REPORT_MAX + 1)},
        ),
        ("NO_CONSENT", {"unit_id": "never-asked"}),
        ("NO_CONSENT", {"unit_id": OTHER} | points(service, "crashed", true=1)),
    ]
    return [(reason, service.starts(UNIT, NOW, **changes)) for reason, changes in bad]  # type: ignore[arg-type]


def test_the_described_plan_is_the_one_that_is_enforced(service: Running) -> None:
    """What a Recorder makes of GetPlan's description is accepted for every metric and every combination of dimensions."""
    assert [(r.name, r.lateness_ms) for r in service.plan.resolutions] == [("1h", 10 * MINUTE_MS), ("1d", 48 * HOUR_MS)]
    assert [(p.name, p.text) for p in service.plan.purposes] == [("tuning", "Tune models."), ("research", "Do research.")]
    assert len(service.plan.plan_hash) == 32
    taken: set[int] = set()
    for metric in service.plan.metrics:
        if metric.name == "short_lived":
            continue
        for values in itertools.product(*(d.values for d in metric.dimensions)):
            where = dict(zip((d.name for d in metric.dimensions), values, strict=True))
            recorder = service.client.recorder(UNIT)
            if metric.kind == pb.METRIC_KIND_COUNTER:
                recorder.count(metric.name, -1_000 if metric.name == "drift" else 1_000, **where)
            elif metric.kind == pb.METRIC_KIND_DISTRIBUTION:
                for value in (-5, 0, 10, 10.5, 99.9, 100, 1e9):
                    recorder.observe(metric.name, value, **where)
            elif metric.kind == pb.METRIC_KIND_FLAG:
                recorder.flag(metric.name, True, **where)
                recorder.flag(metric.name, False, **where)
            else:
                for option in metric.components:
                    recorder.choose(metric.name, option, **where)
            report = finish(recorder, NOW)
            assert submitted(service, [report]).accepted == 1, report
            assert taken.isdisjoint(report.series)
            taken.update(report.series)
    last = service.plan.metrics[-1].first_series
    assert taken == set(range(1, last)), "every series number before the expired metric's has a meaning"


def test_a_message_is_taken_in_part(service: Running) -> None:
    """Of a message with a bad report of each kind, each beside a good one, exactly the good ones are taken."""
    bad = one_of_each(service)
    reports = [r for _, report in bad for r in (report, service.starts(UNIT, NOW))]
    answer = submitted(service, reports)
    assert answer.accepted == len(bad)
    assert reasons(answer) == {2 * i: reason for i, (reason, _) in enumerate(bad)}
    elsewhere = {"UNSPECIFIED", "EXPIRED_METRIC", "BAD_UNIT_TOKEN", "RATE_LIMITED"}
    names = {name.removeprefix("REJECTION_REASON_") for name, _ in RejectionReason.items()}
    assert {reason for reason, _ in bad} == names - elsewhere
    for rejection in answer.rejections:
        assert len(rejection.message) > 20
        assert "must-not-be-named" not in rejection.message
        assert "never-asked" not in rejection.message
    assert (answer.server_time_ms, answer.latest_plan_version) == (NOW, 1)


def test_texts_are_the_same_for_everybody(service: Running) -> None:
    """What a rejection says is a function of reason and plan: it does not change with the values of the report."""
    bad = [(r, report) for r, report in one_of_each(service) if r != "MALFORMED"]
    texts: dict[str, set[str]] = {}
    for (reason, _), rejection in zip(bad, submitted(service, [r for _, r in bad]).rejections, strict=True):
        texts.setdefault(reason, set()).add(rejection.message)
    assert {reason: len(told) for reason, told in texts.items()} == dict.fromkeys(texts, 1)


def test_validation_answers_the_same_and_stores_nothing(service: Running) -> None:
    """ValidateReports gives the answer that SubmitReports then gives, and the log does not grow by it."""
    reports = [
        *(report for _, report in one_of_each(service)),
        service.starts(UNIT, NOW),
        service.starts(UNIT, H + MINUTE_MS),
    ]
    before = stored(service)
    would = service.client.validate(reports)
    assert stored(service) == before
    assert would == submitted(service, reports)
    assert missed(would) == {"1h": [len(reports) - 1]}
    assert stored(service) > before


def test_a_stream_gives_the_same_answers(service: Running) -> None:
    """A stream answers each message as a call of its own would, numbered from 0 in order, with indices of that message."""
    bad = [report for _, report in one_of_each(service)]
    good = service.starts(UNIT, NOW)
    messages = [[good, *bad], [], [*bad, good], *([b] for b in bad), [good, service.starts(UNIT, H + MINUTE_MS)]]
    answers = stream(service, messages)
    assert [a.sequence for a in answers] == list(range(len(messages)))
    assert [a.acknowledgement for a in answers] == [submitted(service, m) for m in messages]


def test_limits_are_where_they_are_said_to_be(service: Running) -> None:
    """The largest of everything that is allowed is accepted: points, ids, intervals, skew, values and counts."""
    most = limits.POINTS_PER_REPORT_MAX
    edge = [
        service.starts(UNIT, NOW, series=[service.plan.metrics[0].first_series] * most, value=[100] * most),  # type: ignore[arg-type]
        service.starts(UNIT, NOW, interval_start_ms=NOW - DAY_MS),
        service.starts(UNIT, NOW + limits.CLOCK_SKEW_MAX_MS),
        service.starts(UNIT, H + MINUTE_MS + 1, interval_start_ms=H + MINUTE_MS),
        service.starts(UNIT, NOW, **points(service, "crashed", true=limits.COUNT_PER_POINT_MAX, false=0)),  # type: ignore[arg-type]
        service.starts(UNIT, NOW, **points(service, "setup", le_0=3, sum=6_000)),  # type: ignore[arg-type]
        service.starts(UNIT, NOW, **points(service, "drift", total=-50)),  # type: ignore[arg-type]
        service.starts(UNIT, NOW, **points(service, "joins", total=100)),  # type: ignore[arg-type]
        service.starts(UNIT, NOW, report_id=bytes(16)),
        service.starts(UNIT, NOW, report_id=b"\xff" * 16),
    ]
    answer = submitted(service, edge)
    assert reasons(answer) == {}
    assert answer.accepted == len(edge)
    long = "ä" * (limits.UNIT_ID_MAX_BYTES // 2)
    agree(service, long)
    assert reasons(submitted(service, [service.starts(long, NOW)])) == {0: "NO_CONSENT"}, "agreed after the interval began"


def test_a_message_may_be_as_full_as_is_said(service: Running) -> None:
    """A message of exactly the largest number of reports is taken; the texts of its rejections are bounded."""
    report = service.starts("never-asked", NOW)
    answer = submitted(service, [report] * limits.REPORTS_PER_MESSAGE_MAX)
    assert len(answer.rejections) == limits.REPORTS_PER_MESSAGE_MAX
    assert sum(bool(r.message) for r in answer.rejections) == limits.REJECTION_MESSAGES_MAX
    assert set(reasons(answer).values()) == {"NO_CONSENT"}
    error = refused(grpc.StatusCode.INVALID_ARGUMENT, service, [report] * (limits.REPORTS_PER_MESSAGE_MAX + 1))
    assert f"at most {limits.REPORTS_PER_MESSAGE_MAX}" in error.details()  # type: ignore[attr-defined]
    info = ErrorInfo()
    assert [d.Unpack(info) for d in rpc_status.from_call(error).details] == [True]
    assert (info.reason, info.domain) == ("MalformedMessage", "hushmeter")


def test_a_message_may_be_as_large_as_is_said(service: Running) -> None:
    """A message of exactly the largest size is judged; one byte more is RESOURCE_EXHAUSTED, and so on a stream."""
    empty = service.starts("", NOW, series=[], value=[], report_id=b"").SerializeToString()
    filler = limits.MESSAGE_MAX_BYTES - len(empty) - 20
    report = service.starts("x", NOW, series=[], value=[], report_id=bytes(filler))
    request = pb.SubmitReportsRequest(reports=[report])
    report.report_id = bytes(filler + limits.MESSAGE_MAX_BYTES - request.ByteSize())
    message = pb.SubmitReportsRequest(reports=[report]).SerializeToString()
    assert len(message) == limits.MESSAGE_MAX_BYTES
    assert reasons(submit_bytes(service, message)) == {0: "MALFORMED"}
    with pytest.raises(grpc.RpcError) as caught:
        submit_bytes(service, message + b"\x00")
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    report.report_id += b"\x00"
    with pytest.raises(grpc.RpcError) as caught:
        stream(service, [[service.starts(UNIT, NOW)], [report]])
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_bytes_are_judged_report_by_report(service: Running) -> None:
    """A unit_id that is not UTF-8, or columns of another wire type, spoil one report of a message, not its neighbours."""
    good = pb.SubmitReportsRequest(reports=[service.starts(UNIT, NOW)]).SerializeToString()
    no_text = service.starts("x" * 4, NOW).SerializeToString().replace(b"xxxx", b"\xff\xfe\xfd\xfc")
    one = service.plan.metrics[0].first_series.to_bytes(4, "little")
    as_varints = varint(7 << 3) + varint(1) + varint(8 << 3) + varint(1)
    halves = packed(7, one[:2], one[2:]) + packed(8, bytes(3), bytes(5))
    spoiled = [
        ("BAD_UNIT_ID", varint(1 << 3 | 2) + varint(len(no_text)) + no_text),
        ("MALFORMED", with_points(service.starts(UNIT, NOW), as_varints)),
        ("MALFORMED", with_points(service.starts(UNIT, NOW), packed(7, one + b"\x00") + packed(8, bytes(8)))),
    ]
    answer = submit_bytes(service, b"".join(good + bad for _, bad in spoiled))
    assert answer.accepted == len(spoiled)
    assert reasons(answer) == {2 * i + 1: reason for i, (reason, _) in enumerate(spoiled)}
    # An encoder may cut a packed field anywhere between values; cut within one, it is still the same array.
    assert submit_bytes(service, with_points(service.starts(UNIT, NOW), halves)).accepted == 1


def test_too_much_at_once_is_told_to_come_back(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the queue's bound a call and a stream end RESOURCE_EXHAUSTED with RetryInfo; one that fits is taken after."""
    monkeypatch.setattr(limits, "QUEUED_REPORTS_MAX", 5)
    six = [service.starts(UNIT, NOW) for _ in range(6)]
    before = stored(service)
    info, retry = ErrorInfo(), RetryInfo()
    with pytest.raises(grpc.RpcError) as caught:
        stream(service, [six])
    for error in (refused(grpc.StatusCode.RESOURCE_EXHAUSTED, service, six), caught.value):
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
        assert [d.Unpack(info) or d.Unpack(retry) for d in rpc_status.from_call(error).details] == [True, True]
        assert (info.reason, retry.retry_delay.seconds) == ("Overloaded", 1)
    assert stored(service) == before
    assert submitted(service, six[:5]).accepted == 5


def test_a_retry_counts_once_by_every_way(tmp_path: Path) -> None:
    """One report sent by call and by stream, twice in one message, over two connections and after its hour counts once."""
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        agree(service, "u", "v")
        service.clock.advance_to(H + 10 * MINUTE_MS)
        report, twin = service.starts("u", H + 10 * MINUTE_MS, 3), service.starts("v", H + 10 * MINUTE_MS, 10)
        twin.report_id = report.report_id
        assert submitted(service, [report, report, twin]).accepted == 3
        assert service.client.submit([report]).accepted == 1
        assert [a.acknowledgement.accepted for a in stream(service, [[report], [report, twin]])] == [1, 2]
        service.clock.advance_to(H + 40 * MINUTE_MS)
        assert submitted(service, [report]).accepted == 1
        service.advance(H + 2 * HOUR_MS)
        assert missed(submitted(service, [report])) == {"1h": [0]}
        service.advance(H + DAY_MS + HOUR_MS)
        assert reasons(submitted(service, [report])) == {0: "TOO_LATE"}
        assert read(service, "joins", "sum", "1h") == {(0,): 13}
        assert read(service, "joins", "sum", "1d") == {(0,): 13}


def test_one_id_with_two_contents_counts_as_one_of_them(tmp_path: Path) -> None:
    """Where a client uses one id for two contents, one of them counts, the same in every resolution (P2)."""
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        agree(service, "u")
        service.clock.advance_to(H + 10 * MINUTE_MS)
        ids = {"report_id": os.urandom(16)}
        for count in (3, 5, 7, 3):
            assert submitted(service, [service.starts("u", H + 10 * MINUTE_MS, count, **ids)]).accepted == 1
        service.advance(H + DAY_MS + HOUR_MS)
        hours, days = read(service, "joins", "sum", "1h"), read(service, "joins", "sum", "1d")
        assert hours == days
        assert hours[0,] in (3, 5, 7)


def test_many_connections_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    """Reports that many connections send at once, each twice, and each unit's own, add up exactly."""
    with serving(tmp_path / "state", plan=QUICK_PLAN) as service:
        units = [f"unit-{i}" for i in range(8)]
        agree(service, *units)
        service.clock.advance_to(H + 10 * MINUTE_MS)
        sets = [[service.starts(u, H + 10 * MINUTE_MS, i + 1) for _ in range(5)] for i, u in enumerate(units)]
        together = threading.Barrier(2 * len(sets))

        def send(reports: Sequence[Report]) -> int:
            together.wait(PATIENCE_S)
            return sum(submitted(service, [report]).accepted for report in reports)

        with ThreadPoolExecutor(2 * len(sets)) as pool:
            assert list(pool.map(send, sets + sets)) == [5] * 2 * len(sets)
        service.advance(H + DAY_MS + HOUR_MS)
        assert read(service, "joins", "sum", "1d") == {(0,): 5 * sum(range(1, 9))}
        assert read(service, "joins", "units", "1h") == {(0,): 8}


def test_an_expired_metric_is_refused_from_the_end_of_its_day(tmp_path: Path) -> None:
    """A metric is taken on its last day, refused from the midnight after it, and leaves its neighbours alone."""
    with serving(tmp_path / "state") as service:
        agree(service, "u")
        midnight = H + 2 * DAY_MS
        assert next(m for m in service.plan.metrics if m.name == "short_lived").expires_ms == midnight
        service.clock.advance_to(midnight - 1)
        last = service.starts("u", midnight - 1, **points(service, "short_lived", total=1))  # type: ignore[arg-type]
        assert submitted(service, [last]).accepted == 1
        service.clock.advance_to(midnight)
        answer = submitted(service, [last, service.starts("u", midnight)])
        assert reasons(answer) == {0: "EXPIRED_METRIC"}
        assert answer.accepted == 1


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"])
def test_the_client_tries_again_what_a_stopping_server_refuses(code: str) -> None:
    """Whatever a server says to calls that come in while it stops, the SDK tries them again, so nobody sees a restart."""
    answers = iter([None, pb.SubmitReportsResponse(acknowledgement=pb.Acknowledgement(accepted=1))])

    def submit(_request: bytes, context: grpc.ServicerContext) -> pb.SubmitReportsResponse:
        answer = next(answers)
        if answer is None:
            context.abort(grpc.StatusCode[code], "stopping")
        return answer

    method = grpc.unary_unary_rpc_method_handler(submit, None, pb.SubmitReportsResponse.SerializeToString)
    handler = grpc.method_handlers_generic_handler("hushmeter.api.ingest.v1.IngestService", {"SubmitReports": method})
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, (handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with IngestClient(f"127.0.0.1:{port}") as client:
                assert client.submit([Report()]).accepted == 1
        finally:
            server.stop(None).wait()
