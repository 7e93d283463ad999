"""The gate against a hostile client: every method that is served passes it, and what was let in is asked again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from unittest import mock

import grpc
import pytest
from grpc.aio._server import Server as GrpcServer
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from hushmeter import limits
from hushmeter.access.roles import METHODS as TABLE
from hushmeter.access.roles import OPEN, Role, roles_of
from hushmeter.api.ingest.v1 import ingest_pb2
from hushmeter.api.query.v1 import query_pb2
from hushmeter.errors import ConfigError, Failure, KeyUnavailable, StateConflict, StorageFull
from hushmeter.patience import PATIENCE_S, await_true
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.config import read_config
from hushmeter.service.door import known_credentials, statuses
from hushmeter.storage.state.store import SqlStateStore
from tests.service.calls import (
    DENIED,
    GET_LEDGER,
    GET_PLAN,
    HEALTH_CHECK,
    INVALID,
    ISSUE_UNIT_TOKEN,
    LIMITED,
    LIST_METRICS,
    METHODS,
    OK,
    QUERY_RELEASES,
    STREAM,
    SUBMIT,
    UNAUTHENTICATED,
    UNAVAILABLE,
    unit_token_request,
)
from tests.service.guarded_service import Guarded, guarded
from tests.service.running_service import PLAN

INTERNAL = grpc.StatusCode.INTERNAL


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Guarded]:
    """A service that asks for credentials."""
    with guarded(tmp_path / "state") as running:
        yield running


class Told:
    """Takes the place of the log of calls, and keeps its lines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []
        monkeypatch.setattr(statuses, "_log", self)

    def error(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))

    warning = error


def revoke(service: Guarded, bearer: str) -> None:
    """Revokes a credential, and waits until the service knows."""
    service.context.store.revoke_credential(bearer.split("_")[1], service.clock.now_ms())
    await_true(lambda: service.code(GET_PLAN, bearer)[0] is UNAUTHENTICATED)


def stream(service: Guarded, bearer: str | None) -> tuple[SimpleQueue[bytes | None], Any]:
    """An open stream of reports: what is put in is sent, None ends it; and its answers."""
    sent: SimpleQueue[bytes | None] = SimpleQueue()
    return sent, service.begin(STREAM, bearer, iter(sent.get, None))


def some_report(service: Guarded) -> bytes:
    return ingest_pb2.StreamReportsRequest(reports=[service.report("nobody")]).SerializeToString()


def ends_with(answers: Any) -> grpc.StatusCode:
    """How a stream ends."""
    with pytest.raises(grpc.RpcError) as ended:
        list(answers)
    return ended.value.code()


class TestEveryMethod:
    """Methods as the running server has them, so that none can be forgotten."""

    def test_each_role_at_each_method_that_is_served(self, tmp_path: Path) -> None:
        """Whatever handlers the server has: nobody enters any but health without a credential, and no role one too many."""
        served: set[str] = set()
        register = GrpcServer.add_generic_rpc_handlers

        def spy(server: GrpcServer, handlers: Any) -> None:
            for handler in handlers:
                served.update(handler._method_handlers)
            register(server, handlers)

        with mock.patch.object(GrpcServer, "add_generic_rpc_handlers", spy), guarded(tmp_path / "state") as service:
            closed = sorted(m for m in served if m not in OPEN)
            assert set(closed) == set(TABLE), "each method that is served has its row, and each row its method"
            assert {m for m in closed if m.startswith("/hushmeter.")} == set(METHODS), "calls.FILES lists every service"
            assert served - set(closed) == OPEN
            with grpc.insecure_channel(service.target) as channel:
                bearer = ("authorization", f"Bearer {service.credential()}")
                metadata = [bearer]

                class Proving(grpc.StreamStreamClientInterceptor):  # type: ignore[type-arg]
                    def intercept_stream_stream(self, go: Any, details: Any, requests: Any) -> Any:
                        return go(details._replace(metadata=metadata), requests)

                listed = ProtoReflectionDescriptorDatabase(grpc.intercept_channel(channel, Proving())).get_services()
            assert {m.split("/")[1] for m in served} == set(listed), "reflection hides no service"
            for method in closed:
                assert service.code(method)[0] is UNAUTHENTICATED, method
                for role in Role:
                    code, _ = service.code(method, service.credential(role))
                    assert (code is DENIED) == (role not in roles_of(method)), (method, role, code)

    def test_an_unknown_methods_name_goes_nowhere(self, service: Guarded) -> None:
        """What somebody writes in place of a method's name is neither noted nor told back."""
        text = "what-is-planted-here"
        bearer = service.credential(Role.INGEST)
        code, told = service.code(f"/hushmeter.api.{text}.v1.X/{text}", bearer)
        assert code is DENIED
        *_, (_, line) = service.context.store.access_log()
        assert line.what == "an unknown method"
        assert text not in told + repr(line)

    def test_refusals_do_not_fill_the_log(self, service: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
        """That a role may not call a method is noted once a minute, of each credential and method."""
        ingest, consent = service.credential(Role.INGEST), service.credential(Role.CONSENT)
        for _ in range(5):
            for bearer in (ingest, consent):
                for method in (QUERY_RELEASES, GET_LEDGER, "/a/b", "/c/d"):
                    assert service.code(method, bearer)[0] is DENIED
        lines = [(line.credential_id, line.what) for _, line in service.context.store.access_log()]
        assert len(lines) == len(set(lines)) == 6
        monkeypatch.setattr(limits, "REFUSAL_NOTED_S", 0.0)
        assert service.code(QUERY_RELEASES, ingest)[0] is DENIED
        assert len(list(service.context.store.access_log())) == 7

    def test_a_defect_in_the_gate_lets_nobody_in(self, service: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
        """An error that nobody foresaw ends the call as INTERNAL; its text is neither told nor logged."""

        def fail(*_: object) -> None:
            raise ZeroDivisionError("a secret detail")

        log = Told(monkeypatch)
        monkeypatch.setattr(known_credentials, "proves", fail)
        code, told = service.code(GET_PLAN, service.credential())
        assert code is INTERNAL
        assert "ZeroDivisionError" in str(log.lines)
        assert "secret" not in told + str(log.lines)


class TestTime:
    """How long a refusal takes tells nothing."""

    def test_forged_and_unknown_wait_alike(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A forged secret of a credential that exists costs its sender what an unknown id costs: a look at the store."""
        monkeypatch.setattr(limits, "CREDENTIALS_FOLLOWED_S", 1_000.0)
        looks, look = [], SqlStateStore.credentials

        def counted(store: SqlStateStore, known: int = 0) -> object:
            looks.append(known)
            return look(store, known)

        with guarded(tmp_path / "state") as service:
            good = service.credential()
            assert service.code(GET_PLAN, good)[0] is OK
            monkeypatch.setattr(SqlStateStore, "credentials", counted)
            forged, unknown = good[:-43] + "A" * 43, f"hm_{'0' * 16}_{'A' * 43}"
            for bearer, so_far in ((good, 0), (forged, 1), (unknown, 2), (forged, 3), ("hm__", 3), (good, 3)):
                assert (service.code(GET_PLAN, bearer)[0] is OK) == (bearer == good)
                assert len(looks) == so_far


class TestWhatWasLetIn:
    """Streams and long answers end with what let them in."""

    def test_before_the_first_credential(self, tmp_path: Path) -> None:
        """The first credential closes the door also to streams that are open without one."""
        with guarded(tmp_path / "state", AccessRules()) as service:
            sent, answers = stream(service, None)
            sent.put(some_report(service))
            next(answers)
            service.credential()
            await_true(lambda: service.code(GET_PLAN)[0] is UNAUTHENTICATED)
            sent.put(some_report(service))
            assert ends_with(answers) is UNAUTHENTICATED
            sent.put(None)

    @pytest.mark.parametrize("jump_ms", [1, 10**12])
    def test_an_expired_credentials_stream(self, service: Guarded, jump_ms: int) -> None:
        """A stream takes nothing from the millisecond on in which its credential expires."""
        now = service.clock.now_ms()
        sent, answers = stream(service, service.credential(Role.INGEST, expires_at_ms=now + 1))
        sent.put(some_report(service))
        next(answers)
        service.clock.advance_to(now + jump_ms)
        sent.put(some_report(service))
        assert ends_with(answers) is UNAUTHENTICATED
        sent.put(None)

    def test_unreadable_credentials(self, service: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
        """A stream takes nothing while nobody can tell whether its credential still holds."""
        monkeypatch.setattr(limits, "CREDENTIALS_FOLLOWED_S", 0.05)
        bearer = service.credential(Role.INGEST)
        sent, answers = stream(service, bearer)
        sent.put(some_report(service))
        next(answers)

        def fail(*_: object) -> None:
            raise Failure("the disk is gone")

        monkeypatch.setattr(SqlStateStore, "credentials", fail)
        monkeypatch.setattr(limits, "CREDENTIALS_STALE_S", 0.1)
        await_true(lambda: service.code(GET_PLAN, bearer)[0] is UNAVAILABLE)
        sent.put(some_report(service))
        assert ends_with(answers) is UNAVAILABLE
        sent.put(None)

    @pytest.mark.parametrize("method", [GET_LEDGER, QUERY_RELEASES])
    def test_long_answers(self, service: Guarded, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        """An answer of many messages ends where its credential is revoked on the way."""
        monkeypatch.setattr(limits, "LEDGER_ENTRIES_PER_ANSWER_MESSAGE", 1)
        monkeypatch.setattr(limits, "RELEASES_PER_ANSWER_MESSAGE", 1)
        bearer = service.credential(Role.ANALYST)
        service.clock.advance_to(service.clock.now_ms() + 20 * 3_600_000)
        store = service.context.store
        await_true(lambda: len(list(store.releases("starts", (), "1h", 0, 2**61))) > 5)
        name = "ledger" if method == GET_LEDGER else "releases"
        read: Callable[..., Iterator[object]] = getattr(SqlStateStore, name)

        def revoked_on_the_way(store: SqlStateStore, *arguments: Any) -> Iterator[object]:
            for number, item in enumerate(read(store, *arguments)):
                if number == 2:
                    revoke(service, bearer)
                yield item

        monkeypatch.setattr(SqlStateStore, name, revoked_on_the_way)
        message = query_pb2.QueryReleasesRequest(metric="starts", resolution="1h").SerializeToString()
        answers = service.begin(method, bearer, iter([message if method == QUERY_RELEASES else b""]))
        assert ends_with(answers) is UNAUTHENTICATED


class TestOpenDoor:
    """A service that asks nobody who they are."""

    def test_issues_no_tokens(self, tmp_path: Path) -> None:
        """While nobody is asked who they are no unit token is issued: it would hold when they are."""
        with guarded(tmp_path / "state", AccessRules()) as service:
            code, text = service.code(ISSUE_UNIT_TOKEN, None, unit_token_request("u", 0))
            assert code is DENIED
            assert "hushmeter credential create --role consent" in text
            consent = service.credential(Role.CONSENT)
            await_true(lambda: service.code(ISSUE_UNIT_TOKEN, consent, unit_token_request("u", 0))[0] is OK)

    def test_health_tells_of_services_alone(self, service: Guarded) -> None:
        """Health is open to all, and answers about services alone."""
        request = health_pb2.HealthCheckRequest(service="what-is-planted-here").SerializeToString()
        assert service.code(HEALTH_CHECK, None, request)[0] is grpc.StatusCode.NOT_FOUND
        assert service.code(HEALTH_CHECK, None, b"\x0a\x14what-is-planted-here" + b"\xff")[0] is not OK


class TestQuestions:
    """What an analyst asks for."""

    CAPPED = PLAN.replace("range: [0, 100]}", "range: [0, 100], max_windows: {1h: 24}}").replace(
        "purposes: [model_tuning, research]\n    per_unit: {}",
        "purposes: [research]\n    per_unit: {max_windows: {1h: 24}}",
    )

    def rows(self, service: Guarded, bearer: str, metric: str, by: str, *values: str) -> set[str]:
        """The values that rows of a built-in metric are about."""
        filters = [query_pb2.PartitionFilter(dimension=by, values=values)] if values else []
        request = query_pb2.QueryReleasesRequest(metric=metric, view=[by], resolution="1h", filters=filters)
        answers = service.call(QUERY_RELEASES, bearer, request.SerializeToString())
        releases = [r for a in answers for r in query_pb2.QueryReleasesResponse.FromString(a).releases]
        return {label for r in releases for e in r.estimates for label in e.partition}

    def test_built_in_metrics(self, tmp_path: Path) -> None:
        """Of what the service counts by itself an analyst is told the rows of its own purposes, and no other's by name."""
        with guarded(tmp_path / "state", plan=self.CAPPED) as service:
            service.clock.advance_to(service.clock.now_ms() + 2 * 3_600_000)
            await_true(lambda: len(list(service.context.store.ledger())) > 5)
            mine, all_of = service.credential(Role.ANALYST, "research"), service.credential()
            for metric, by, own, foreign in (
                ("participants", "purpose", "research", "model_tuning"),
                ("capped", "metric", "crashed", "starts"),
            ):
                assert {own, foreign} <= self.rows(service, all_of, metric, by)
                assert self.rows(service, mine, metric, by) == {own}
                assert self.rows(service, mine, metric, by, own) == {own}
                for values in ((foreign,), (own, foreign)):
                    with pytest.raises(grpc.RpcError) as refused:
                        self.rows(service, mine, metric, by, *values)
                    assert refused.value.code() is DENIED
                    *_, (_, line) = service.context.store.access_log()
                    assert (line.what, line.purposes) == (f"QueryReleases {metric}", ())
                    assert "may ask for research; people allowed" in line.refused

    def test_unknown_metrics_are_noted_without_their_name(self, service: Guarded) -> None:
        """A question about a metric that is not stands in the access log, what was written in its place does not."""
        request = query_pb2.QueryReleasesRequest(metric="what-is-planted-here", resolution="1h").SerializeToString()
        assert service.code(QUERY_RELEASES, service.credential(Role.ANALYST), request)[0] is INVALID
        *_, (_, line) = service.context.store.access_log()
        assert line.what == "QueryReleases of an unknown metric"

    def test_questions_are_bounded(self, service: Guarded) -> None:
        """Many names make no long answer: beyond the bound a question is refused, and what is echoed is short."""
        bearer, most = service.credential(Role.ANALYST), limits.NAMES_PER_QUESTION_MAX
        for names, told in ((most, "has platform"), (most + 1, f"at most {most}")):
            request = query_pb2.QueryReleasesRequest(metric="starts", resolution="1h", view=["x"] * names)
            code, text = service.code(QUERY_RELEASES, bearer, request.SerializeToString())
            assert code is INVALID
            assert told in text
        long = "x" * (limits.MESSAGE_MAX_BYTES - 1_000)
        for request in (
            query_pb2.QueryReleasesRequest(metric=long, resolution="1h"),
            query_pb2.QueryReleasesRequest(metric="starts", resolution=long),
            query_pb2.QueryReleasesRequest(metric="starts", resolution="1h", view=[long]),
            query_pb2.QueryReleasesRequest(metric="starts", resolution="1h", statistics=[long]),
            query_pb2.QueryReleasesRequest(
                metric="starts", resolution="1h", filters=[query_pb2.PartitionFilter(dimension=long)]
            ),
        ):
            code, text = service.code(QUERY_RELEASES, bearer, request.SerializeToString())
            assert code is INVALID
            assert len(text) < 1_000


def test_a_secret_in_the_wrong_field_is_not_told(tmp_path: Path) -> None:
    """A configuration with a secret where no field is names the field alone."""
    (tmp_path / "config.yaml").write_text("master_key: 00112233445566778899\n")
    with pytest.raises(ConfigError, match="master_key: ") as caught:
        read_config(tmp_path / "config.yaml", {})
    assert "00112233" not in str(caught.value)


def test_anonymous_calls_leave_no_line(tmp_path: Path) -> None:
    """Where nobody is asked who they are, there is nobody to note."""
    with guarded(tmp_path / "state", AccessRules()) as service:
        assert service.code(LIST_METRICS)[0] is OK
        assert service.code(SUBMIT)[0] is OK
        assert list(service.context.store.access_log()) == []


@pytest.mark.parametrize("error", [Failure, StorageFull, ConfigError, StateConflict, KeyUnavailable])
def test_files_of_the_service_are_its_operators(
    service: Guarded, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """What failed on the service's machine is said in its log; callers learn that it failed, and whether to try again."""

    def fail(*_: object) -> None:
        raise error("the state store /srv/secret/state.db failed")

    bearer, log = service.credential(Role.ANALYST), Told(monkeypatch)
    assert service.code(LIST_METRICS, bearer)[0] is OK
    monkeypatch.setattr(SqlStateStore, "record_access", fail)
    code, text = service.code(LIST_METRICS, bearer)
    assert code in {UNAVAILABLE, LIMITED, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED}
    assert "send the same again later" in text
    assert "secret" not in text
    assert "/srv/secret/state.db" in str(log.lines)


def test_questions_do_not_keep_the_gate_from_learning(service: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """While every thread that answers questions is busy, a new credential is let in, and a revoked one is not."""
    may_end, bearer = threading.Event(), service.credential(Role.ANALYST)

    def wait(*_: object) -> None:
        may_end.wait(PATIENCE_S)

    monkeypatch.setattr(SqlStateStore, "record_access", wait)
    calls = [service.begin(LIST_METRICS, bearer, iter([b""])) for _ in range(100)]
    try:
        other = service.credential(Role.INGEST)
        assert service.code(GET_PLAN, other)[0] is OK
        revoke(service, other)
    finally:
        may_end.set()
    assert all(list(call) for call in calls)
