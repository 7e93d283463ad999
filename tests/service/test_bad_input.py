"""Whatever comes in: each report is judged alone, and every refusal says what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from hushmeter import limits
from hushmeter.api.consent.v1 import consent_pb2, consent_pb2_grpc
from hushmeter.api.ingest.v1 import ingest_pb2 as pb
from hushmeter.api.ingest.v1 import ingest_pb2_grpc
from hushmeter.api.report.v1.report_pb2 import RejectionReason, Report
from hushmeter.ledger.entries import verify_chain
from hushmeter.model.ledger import LedgerEntry
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from tests.service.calls import STREAM, SUBMIT, VALIDATE
from tests.service.running_service import FOUNDED_MS, Running, running
from tests.service.wire import packed, submit_bytes, varint, with_points

NOW = FOUNDED_MS + DAY_MS + 10 * MINUTE_MS
UNIT = "unit-that-must-not-be-named"
FAR_FUTURE = 2**62
TOO_MANY = limits.POINTS_PER_REPORT_MAX + 1


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("bad") / "state") as service:
        service.consent(UNIT, model_tuning=True, research=True)
        service.clock.advance_to(NOW)
        yield service


def numbers(service: Running, metric: str, **components: int) -> dict[str, list[int]]:
    """Series and values of a metric's components on ios."""
    found = next(m for m in service.plan.metrics if m.name == metric)
    names = list(found.components)
    return {
        "series": [found.first_series + names.index(name) for name in components],
        "value": list(components.values()),
    }


BAD: list[tuple[RejectionReason, dict[str, object], str]] = [
    ("MALFORMED", {"report_id": bytes(15)}, "16 random bytes"),
    ("MALFORMED", {"series": [], "value": []}, "no points"),
    ("MALFORMED", {"value": [1, 2]}, "equally long, got 1 and 2"),
    ("BAD_UNIT_ID", {"unit_id": ""}, "1 to 128 bytes"),
    ("BAD_UNIT_ID", {"unit_id": "x" * 129}, "1 to 128 bytes"),
    ("BAD_INTERVAL", {"interval_start_ms": NOW}, "start before it ends"),
    ("BAD_INTERVAL", {"interval_start_ms": NOW - DAY_MS - 1}, r"longest window (1d)"),
    ("BAD_INTERVAL", {"interval_start_ms": -(2**63), "interval_end_ms": 2**63 - 1}, "after 1970"),
    ("IN_FUTURE", {"interval_start_ms": NOW, "interval_end_ms": NOW + limits.CLOCK_SKEW_MAX_MS + 1}, "server_time_ms"),
    ("IN_FUTURE", {"interval_start_ms": FAR_FUTURE - 1, "interval_end_ms": FAR_FUTURE}, "server_time_ms"),
    ("TOO_LATE", {"interval_start_ms": FOUNDED_MS - 2, "interval_end_ms": FOUNDED_MS - 1}, "drop it"),
    ("UNKNOWN_PLAN_VERSION", {"plan_version": 2}, "in force is 1"),
    ("UNKNOWN_SERIES", {"series": [2**32 - 1]}, "GetPlan"),
    ("UNKNOWN_SERIES", {"series": [0]}, "GetPlan"),
    ("VALUE_OUT_OF_RANGE", {"value": [101]}, "clamp before sending"),
    ("VALUE_OUT_OF_RANGE", {"value": [-(2**63)]}, "clamp before sending"),
    ("VALUE_OUT_OF_RANGE", {"metric": ("latency", {"le_0": -1, "sum": 5})}, "counts are 0 to"),
    ("VALUE_OUT_OF_RANGE", {"metric": ("latency", {"le_0": 2, "sum": 2_002})}, "a sum, times its number of events"),
    ("VALUE_OUT_OF_RANGE", {"metric": ("crashed", {"true": limits.COUNT_PER_POINT_MAX + 1})}, "counts are 0 to"),
    ("BAD_TOKEN", {"token": ["a"], "point_token": [1]}, "points of other metrics have none"),
    ("TOO_LARGE", {"series": [1] * TOO_MANY, "value": [1] * TOO_MANY}, "4096"),
    ("NO_CONSENT", {"unit_id": "somebody-else"}, "ask for consent"),
    ("EXPIRED_METRIC", {"metric": ("short_lived", {"total": 1})}, "stop sending"),
]  # type: ignore[list-item]  # fmt: skip


def bad_report(service: Running, changes: dict[str, object]) -> Report:
    changes = dict(changes)
    if "metric" in changes:
        name, components = changes.pop("metric")  # type: ignore[misc]
        changes |= numbers(service, name, **components)
    return service.starts(UNIT, NOW, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("reason", "changes", "told"), BAD, ids=lambda v: str(v)[:50])
def test_each_bad_report_is_refused_alone(service: Running, reason: str, changes: dict[str, object], told: str) -> None:
    """A bad report is refused with its reason and what is allowed; good ones beside it are taken; validation agrees."""
    if reason == "EXPIRED_METRIC":
        service.clock.advance_to(FOUNDED_MS + 2 * DAY_MS)
    end = service.clock.now_ms() if reason == "EXPIRED_METRIC" else NOW
    bad = bad_report(service, changes)
    if reason == "EXPIRED_METRIC":
        bad.interval_start_ms, bad.interval_end_ms = end - 1, end
    reports = [service.starts(UNIT, end), bad, service.starts(UNIT, end)]
    would = service.client.validate(reports)
    answer = service.client.submit(reports)
    assert (would.accepted, list(would.rejections)) == (answer.accepted, list(answer.rejections))
    assert answer.accepted == 2
    (rejection,) = answer.rejections
    assert rejection.index == 1
    assert RejectionReason.Name(rejection.reason) == f"REJECTION_REASON_{reason}"
    assert told in rejection.message
    assert UNIT not in rejection.message


def test_every_reason_is_tested() -> None:
    """The closed set of reasons is what is tested above and, where access is limited, in `test_unit_tokens`."""
    from hushmeter.model import report

    assert {reason for reason, _, _ in BAD} | {"BAD_UNIT_TOKEN", "RATE_LIMITED"} == {r.name for r in report.RejectionReason}
    assert {f"REJECTION_REASON_{r.name}": r.value for r in report.RejectionReason} == {
        k: v for k, v in RejectionReason.items() if v
    }


def test_encodings_of_points(service: Running) -> None:
    """Split packed runs are whole; points sent one by one, or with odd lengths, are refused as malformed."""
    one = (service.plan.metrics[0].first_series).to_bytes(4, "little")
    report, value = service.starts(UNIT, NOW), (1).to_bytes(8, "little")
    assert submit_bytes(service, with_points(report, packed(7, one, one) + packed(8, value, value))).accepted == 1
    unpacked = varint(7 << 3 | 5) + one + varint(8 << 3 | 1) + value
    for points, told in (
        (unpacked, "must be packed"),
        (unpacked + packed(7, one) + packed(8, value), "must be packed"),
        (packed(7, one[:3]) + packed(8, value), "whole numbers of 4 and 8 bytes"),
        (packed(7, one), "equally long, got 1 and 0"),
    ):
        (rejection,) = submit_bytes(service, with_points(report, points)).rejections
        assert rejection.reason == 1
        assert told in rejection.message


@pytest.mark.parametrize("method", [SUBMIT, VALIDATE])
def test_messages_that_are_none(service: Running, method: str) -> None:
    """Bytes that are no protobuf, or too many reports, are INVALID_ARGUMENT; too many bytes are RESOURCE_EXHAUSTED."""
    many = pb.SubmitReportsRequest(reports=[Report()] * (limits.REPORTS_PER_MESSAGE_MAX + 1)).SerializeToString()
    for message, told in (
        (b"\x0a\xff", "not a valid protobuf"),
        (bytes(range(1, 65)) + b"\x07", "protobuf"),
        (many, "at most 10000"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            submit_bytes(service, message, method)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert told in caught.value.details()
    with pytest.raises(grpc.RpcError) as caught:
        submit_bytes(service, bytes(limits.MESSAGE_MAX_BYTES + 1), method)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_stream_is_acknowledged_in_order(service: Running) -> None:
    """Each message of a stream has one answer, in order; a malformed one ends the stream with a clear status."""
    end = service.clock.now_ms()
    messages = [[service.starts(UNIT, end)] * n for n in range(40)]
    with grpc.insecure_channel(service.target) as channel:
        stub = ingest_pb2_grpc.IngestServiceStub(channel)
        answers = list(stub.StreamReports(pb.StreamReportsRequest(reports=m) for m in messages))
        assert [a.sequence for a in answers] == list(range(40))
        assert [a.acknowledgement.accepted for a in answers] == list(range(40))
        raw = channel.stream_stream(STREAM)
        good = pb.StreamReportsRequest(reports=messages[1]).SerializeToString()
        call = raw(iter([good, b"\x0a\xff", good]))
        assert pb.StreamReportsResponse.FromString(next(call)).acknowledgement.accepted == 1
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_too_many_waiting_are_told_when_to_come_back(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the queue's bound the door answers RESOURCE_EXHAUSTED with RetryInfo, and takes nothing."""
    monkeypatch.setattr(limits, "QUEUED_REPORTS_MAX", 3)
    end = service.clock.now_ms()
    with grpc.insecure_channel(service.target) as channel:
        stub = ingest_pb2_grpc.IngestServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.SubmitReports(pb.SubmitReportsRequest(reports=[service.starts(UNIT, end)] * 4))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = rpc_status.from_call(caught.value)
        assert any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details)
        assert (
            stub.SubmitReports(pb.SubmitReportsRequest(reports=[service.starts(UNIT, end)] * 3)).acknowledgement.accepted
            == 3
        )


def test_consent_that_cannot_be_recorded(service: Running) -> None:
    """Unknown purposes, two decisions about one, none at all, and oversized fields are refused with what is allowed."""
    decision, shown = consent_pb2.Decision, service.plan.purposes[1].text_hash
    with grpc.insecure_channel(service.target) as channel:
        stub = consent_pb2_grpc.ConsentServiceStub(channel)
        for unit, decisions, told in (
            ("", [decision(purpose="research", given=True)], "1 to 128 bytes"),
            ("u", [decision(purpose="ads", given=True)], "its purposes are model_tuning, research"),
            ("u", [], "send 1 to 64"),
            ("u", [decision(purpose="research"), decision(purpose="research", given=True)], "one a purpose"),
            ("u", [decision(purpose="research", given=True, text_hash=bytes(65))], "another text"),
            (
                "u",
                [decision(purpose="research", given=True, text_hash=shown, source="x")],
                "leave it out: the plan lists none",
            ),
            ("u", [decision(purpose="research", given=True, text_hash=shown, locale="en")], "locale is none that the plan"),
            ("u", [decision(purpose="research", given=True)], "without text_hash"),
            ("u", [decision(purpose="research", given=True, text_hash=service.plan.purposes[0].text_hash)], "another text"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                stub.SetConsent(consent_pb2.SetConsentRequest(unit_id=unit, decisions=decisions))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert told in caught.value.details()
        states = stub.GetConsent(consent_pb2.GetConsentRequest(unit_id="never-seen")).states
        assert [(s.purpose, s.given, s.given_since_ms) for s in states] == [
            ("model_tuning", False, 0),
            ("research", False, 0),
        ]


def test_health_and_reflection(service: Running) -> None:
    """Each service is SERVING and is listed by reflection."""
    with grpc.insecure_channel(service.target) as channel:
        listed = set(ProtoReflectionDescriptorDatabase(channel).get_services())
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("ingest.v1.IngestService", "consent.v1.ConsentService", "query.v1.QueryService"):
            full = f"hushmeter.api.{name}"
            assert full in listed
            assert (
                health.Check(health_pb2.HealthCheckRequest(service=full)).status == health_pb2.HealthCheckResponse.SERVING
            )


def test_questions_without_an_answer(service: Running) -> None:
    """A refused question ends with INVALID_ARGUMENT and says what to ask instead."""
    for question, told in (
        ({"metric": "stars", "resolution": "1h"}, "did you mean starts"),
        ({"metric": "starts", "resolution": "1w"}, "released at 1h, 1d"),
        ({"metric": "starts", "resolution": "1h", "roll_up_time": True, "statistics": ["units"]}, "cannot be added up"),
        ({"metric": "starts", "view": ["colour"], "resolution": "1h"}, "has platform"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            service.analyst.releases(**question)  # type: ignore[arg-type]
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert told in caught.value.details()


def test_releases_state_their_cost_and_the_ledger_holds(service: Running) -> None:
    """Every row states rho, epsilon and delta; listing names the budget; the ledger that is served verifies."""
    service.advance(FOUNDED_MS + 2 * DAY_MS + HOUR_MS)
    table = service.analyst.releases("latency", ["platform"], resolution="1h", where={"platform": "ios"})
    assert set(table["platform"].to_pylist()) == {"ios"}
    assert min(table["rho"].to_pylist()) > 0
    assert 0 < max(table["epsilon"].to_pylist()) < 4
    for delta in table["delta"].to_pylist():
        assert delta == pytest.approx(1e-8, rel=1e-15)
        assert Fraction(delta) <= Fraction("1e-8"), "never above what the plan says"
    rolled = service.analyst.releases("starts", resolution="1h", roll_up_time=True, statistics=["sum"]).to_pylist()
    apart = service.analyst.releases("starts", resolution="1h", statistics=["sum"]).to_pylist()
    assert rolled[0]["value"] == sum(r["value"] for r in apart)
    assert rolled[0]["rolled_up_from"] == len(apart)
    budget = service.analyst.metrics().budget
    assert (budget.epsilon, budget.period, budget.privacy_unit) == (4.0, "1w", "device")
    assert {budget.delta} == set(table["delta"].to_pylist())
    entries = [LedgerEntry(e.sequence, e.content, e.previous_hash, e.entry_hash) for e in service.analyst.ledger()]
    summary = verify_chain(entries)
    assert summary.count == len(entries) > 0


def test_an_unreadable_state_is_told(tmp_path: Path) -> None:
    """A state directory that is a file, and a database that is none, are told by name."""
    from hushmeter.clock import ReplayClock
    from hushmeter.errors import ConfigError
    from hushmeter.service.deployment.config import Config, read_config
    from hushmeter.service.deployment.opening import open_context
    from hushmeter.testing.mechanisms import ExactMechanisms

    (tmp_path / "file").write_text("no directory")
    with pytest.raises(ConfigError, match="choose another state_dir"):
        open_context(Config(state_dir=tmp_path / "file"), ReplayClock(FOUNDED_MS), ExactMechanisms())
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.db").write_bytes(b"this is not a database at all, really not" * 100)
    with pytest.raises(ConfigError, match=r"state\.db"):
        open_context(Config(state_dir=tmp_path / "state"), ReplayClock(FOUNDED_MS), ExactMechanisms())
    for fields, told in (({"workers": 0}, "workers"), ({"listen": "nowhere"}, "listen"), ({"log_format": "xml"}, "json")):
        with pytest.raises(ConfigError, match=told):
            read_config(None, fields)
    (tmp_path / "config.yaml").write_text("wrokers: 2\n")
    with pytest.raises(ConfigError, match=r"wrokers.*known fields: .*workers"):
        read_config(tmp_path / "config.yaml", {})


def test_a_defect_in_one_message_does_not_harm_others(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a message makes the commit fail through a defect, it alone is refused, as INTERNAL and without details."""
    from concurrent.futures import ThreadPoolExecutor

    from hushmeter.ingest import by_version as several

    admit = several.admit

    def defective(raw: object, *rest: object) -> object:
        if b"poison" in raw.unit_ids:  # type: ignore[attr-defined]
            raise ZeroDivisionError("a secret detail")
        return admit(raw, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(several, "admit", defective)
    end = service.clock.now_ms()
    units = ["poison", *([UNIT] * 20)]
    with grpc.insecure_channel(service.target) as channel, ThreadPoolExecutor(len(units)) as pool:
        stub = ingest_pb2_grpc.IngestServiceStub(channel)

        def send(unit: str) -> object:
            try:
                request = pb.SubmitReportsRequest(reports=[service.starts(unit, end)])
                return stub.SubmitReports(request).acknowledgement.accepted
            except grpc.RpcError as error:
                return error.code(), error.details()

        answers = list(pool.map(send, units))
    assert answers[1:] == [1] * 20
    code, details = answers[0]  # type: ignore[misc]
    assert code in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
    assert "secret" not in details
