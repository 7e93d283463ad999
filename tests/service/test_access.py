"""Who may come in, over real sockets: roles, credentials, their limits, and the access log."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2

from hushmeter import limits
from hushmeter.access.credentials import AccessLine
from hushmeter.access.roles import METHODS as TABLE
from hushmeter.access.roles import Role, roles_of
from hushmeter.analyst import AnalystClient
from hushmeter.api.ingest.v1 import ingest_pb2
from hushmeter.api.query.v1 import query_pb2
from hushmeter.channels import CREDENTIAL_VARIABLE, ClientIdentity
from hushmeter.errors import ConfigError, Failure
from hushmeter.patience import PATIENCE_S, await_true
from hushmeter.sdk import IngestClient
from hushmeter.service.deployment.access_rules import AccessRules
from tests.service.calls import (
    DENIED,
    GET_PLAN,
    HEALTH_CHECK,
    INVALID,
    LIMITED,
    LIST_METRICS,
    METHODS,
    OK,
    QUERY_RELEASES,
    STREAM,
    SUBMIT,
    UNAUTHENTICATED,
    UNAVAILABLE,
)
from tests.service.guarded_service import Guarded, guarded, standing

MUST_NOT = [(method, role) for method in METHODS for role in Role if role not in roles_of(method)]
MAY = [(method, role) for method in METHODS for role in Role if role in roles_of(method)]


def short(name: str) -> str:
    """A method's own name; a role as it is."""
    return name.rpartition("/")[2]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A service that asks for credentials, shared by tests that leave nothing behind that others see."""
    with guarded(tmp_path_factory.mktemp("access") / "state") as running:
        yield running


def question(metric: str) -> bytes:
    return query_pb2.QueryReleasesRequest(metric=metric, resolution="1h").SerializeToString()


class TestRoles:
    """Which role may call which method."""

    def test_every_method_has_a_row(self) -> None:
        """The table of roles names every method of the service's own, and no other but reflection."""
        own = {name for name in TABLE if name.startswith("/hushmeter.")}
        assert own == set(METHODS)

    def test_unknown_methods_are_the_operators(self) -> None:
        """A method that nobody thought of is for operators alone, who may call everything."""
        assert roles_of("/hushmeter.api.new.v1.NewService/Do") == {Role.OPERATOR}
        assert all(Role.OPERATOR in roles for roles in TABLE.values())

    @pytest.mark.parametrize(("method", "role"), MUST_NOT, ids=short)
    def test_refused(self, service: Guarded, method: str, role: Role) -> None:
        """A role that must not call a method is told so, with the role that may, and it stands in the access log."""
        code, text = service.code(method, bearer := service.credential(role))
        assert code is DENIED
        assert f"role {role} may not call {method.rpartition('/')[2]}; use one of role" in text
        *_, (_, line) = service.context.store.access_log()
        assert line == AccessLine(bearer.split("_")[1], method.rpartition("/")[2], service.clock.now_ms(), (), text)

    @pytest.mark.parametrize(("method", "role"), MAY, ids=short)
    def test_let_in(self, service: Guarded, method: str, role: Role) -> None:
        """A role that may call a method reaches it: an empty request is answered, or refused for what it lacks."""
        code, _ = service.code(method, service.credential(role))
        assert code in {OK, INVALID}

    @pytest.mark.parametrize("method", METHODS, ids=short)
    def test_nobody(self, service: Guarded, method: str) -> None:
        """Without a credential no method answers, and what to do is said."""
        code, text = service.code(method)
        assert code is UNAUTHENTICATED
        assert "hushmeter credential create" in text

    def test_health_stays_open(self, service: Guarded) -> None:
        """Load balancers need no credential."""
        (answer,) = service.call(HEALTH_CHECK)
        assert health_pb2.HealthCheckResponse.FromString(answer).status == health_pb2.HealthCheckResponse.SERVING

    def test_methods_that_do_not_exist(self, service: Guarded) -> None:
        """Who may not come in learns nothing about which methods there are."""
        assert service.code("/hushmeter.api.x.v1.X/Y")[0] is UNAUTHENTICATED
        assert service.code("/hushmeter.api.x.v1.X/Y", service.credential(Role.INGEST))[0] is DENIED
        assert service.code("/hushmeter.api.x.v1.X/Y", service.credential())[0] is grpc.StatusCode.UNIMPLEMENTED


class TestCredentials:
    """Bad ones, and how soon changes bind."""

    def test_bad_ones_answer_alike(self, service: Guarded, tmp_path: Path) -> None:
        """Forged, cut, revoked, unknown and foreign credentials get one answer; none of it says which."""
        good = service.credential()
        revoked = service.credential(revoked_at_ms=service.clock.now_ms())
        _, name, secret = good.split("_", 2)
        flipped = secret[:-2] + ("A" if secret[-2] != "A" else "B") + secret[-1]
        with guarded(tmp_path / "foreign") as other:
            foreign = other.credential()
        bad = [
            f"hm_{name}_{flipped}",
            f"hm_{'0' * 16}_{secret}",
            good[:-1],
            good + "A",
            good.upper(),
            "hm__",
            "x",
            revoked,
            foreign,
            f"hm_{name}_{'A' * 43}",
        ]
        answers = {service.code(GET_PLAN, text) for text in bad}
        assert len(answers) == 1
        assert answers.pop()[0] is UNAUTHENTICATED
        assert service.code(GET_PLAN, good)[0] is OK

    def test_expired(self, service: Guarded) -> None:
        """That a credential has expired is said to who proves its secret alone."""
        gone = service.credential(expires_at_ms=service.clock.now_ms())
        code, text = service.code(GET_PLAN, gone)
        assert code is UNAUTHENTICATED
        assert "expired" in text
        code, text = service.code(GET_PLAN, gone[:-43] + "A" * 43)
        assert code is UNAUTHENTICATED
        assert "expired" not in text
        assert service.code(GET_PLAN, service.credential(expires_at_ms=service.clock.now_ms() + 1))[0] is OK

    def test_header(self, service: Guarded) -> None:
        """Another scheme is no credential; the scheme's case does not matter."""
        good = service.credential()
        for header in (f"Basic {good}", good, "Bearer"):
            with pytest.raises(grpc.RpcError) as refused:
                service.call(GET_PLAN, authorization=header)
            assert refused.value.code() is UNAUTHENTICATED
        assert service.call(GET_PLAN, authorization=f"bearer {good}")

    def test_revoked_while_it_runs(self, service: Guarded) -> None:
        """A revocation binds at the next look, without a restart; looks are less than two seconds apart."""
        assert limits.CREDENTIALS_FOLLOWED_S < 2
        bearer = service.credential()
        assert service.code(GET_PLAN, bearer)[0] is OK
        service.context.store.revoke_credential(bearer.split("_")[1], service.clock.now_ms())
        await_true(lambda: service.code(GET_PLAN, bearer)[0] is UNAUTHENTICATED)

    def test_a_stream_ends_with_its_credential(self, service: Guarded) -> None:
        """A stream that is open when its credential is revoked takes no message any more."""
        bearer, more = service.credential(Role.INGEST), threading.Semaphore(1)

        def messages() -> Iterator[bytes]:
            while more.acquire(timeout=PATIENCE_S):
                yield ingest_pb2.StreamReportsRequest(reports=[service.report("nobody")]).SerializeToString()

        answers = service.begin(STREAM, bearer, messages())
        next(answers)
        service.context.store.revoke_credential(bearer.split("_")[1], service.clock.now_ms())
        await_true(lambda: service.code(GET_PLAN, bearer)[0] is UNAUTHENTICATED)
        more.release()
        with pytest.raises(grpc.RpcError) as ended:
            next(answers)
        assert ended.value.code() is UNAUTHENTICATED

    def test_the_first_credential_closes_the_door(self, tmp_path: Path) -> None:
        """A service without credentials is open; soon after the first one is made it asks everybody, and stays so."""
        with guarded(tmp_path / "state", AccessRules()) as open_service:
            assert open_service.code(GET_PLAN)[0] is OK
            assert open_service.code(LIST_METRICS)[0] is OK
            bearer = open_service.credential()
            await_true(lambda: open_service.code(GET_PLAN)[0] is UNAUTHENTICATED)
            assert open_service.code(GET_PLAN, bearer)[0] is OK
            open_service.context.store.revoke_credential(bearer.split("_")[1], open_service.clock.now_ms())
            await_true(lambda: open_service.code(GET_PLAN, bearer)[0] is UNAUTHENTICATED)
            assert open_service.code(GET_PLAN)[0] is UNAUTHENTICATED

    def test_unreadable_credentials(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where credentials cannot be read for too long nobody is let in, and it is told as a failure that may pass."""
        passed = [0.0]
        with guarded(tmp_path / "state", elapsed_s=lambda: passed[0]) as running:
            bearer = running.credential()
            assert running.code(GET_PLAN, bearer)[0] is OK

            def fail(*_: object) -> None:
                raise Failure("the disk is gone")

            with monkeypatch.context() as broken:
                broken.setattr("hushmeter.storage.state.store.SqlStateStore.credentials", fail)
                passed[0] += limits.CREDENTIALS_STALE_S
                assert running.code(GET_PLAN, bearer)[0] is OK
                passed[0] += 0.001
                assert running.code(GET_PLAN, bearer)[0] is UNAVAILABLE
            await_true(lambda: running.code(GET_PLAN, bearer)[0] is OK)


class TestPurposes:
    """What an analyst may ask about."""

    def test_outside(self, service: Guarded) -> None:
        """A metric of other purposes is refused with the reason; answers, refusals and lists stand in the access log."""
        before = len(list(service.context.store.access_log()))
        bearer = service.credential(Role.ANALYST, "research")
        assert service.code(QUERY_RELEASES, bearer, question("crashed"))[0] is OK
        code, text = service.code(QUERY_RELEASES, bearer, question("starts"))
        assert code is DENIED
        assert "this credential may ask for research; people allowed starts for model_tuning alone" in text
        assert service.code(LIST_METRICS, bearer)[0] is OK
        lines = [line for _, line in service.context.store.access_log(before)]
        name, now = bearer.split("_")[1], service.clock.now_ms()
        assert lines == [
            AccessLine(name, "QueryReleases crashed", now, ("research",)),
            AccessLine(name, "QueryReleases starts", now, (), text),
            AccessLine(name, "ListMetrics", now),
        ]

    def test_refused_before_anything_is_told(self, service: Guarded) -> None:
        """Outside its purposes a question is refused for that, whatever else is wrong with it."""
        bearer = service.credential(Role.ANALYST, "research")
        wrong = query_pb2.QueryReleasesRequest(metric="starts", resolution="7h", view=["x"]).SerializeToString()
        assert service.code(QUERY_RELEASES, bearer, wrong)[0] is DENIED

    def test_an_operator_may_ask_all(self, service: Guarded) -> None:
        """An operator needs no purposes, and is noted with those that the answer may be used for."""
        bearer = service.credential()
        assert service.code(QUERY_RELEASES, bearer, question("crashed"))[0] is OK
        *_, (_, line) = service.context.store.access_log()
        assert line.purposes == ("model_tuning", "research")

    def test_nothing_is_answered_that_cannot_be_noted(self, service: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the access log cannot be written there is no answer."""

        def fail(*_: object) -> None:
            raise Failure("the disk is gone")

        monkeypatch.setattr("hushmeter.storage.state.store.SqlStateStore.record_access", fail)
        assert service.code(LIST_METRICS, service.credential())[0] is UNAVAILABLE

    def test_no_address_anywhere(self, service: Guarded, capfd: pytest.CaptureFixture[str]) -> None:
        """Neither the access log nor the process's log holds a client's address, a secret or a unit (R2)."""
        bearer = service.credential(Role.ANALYST)
        service.code(QUERY_RELEASES, bearer, question("starts"))
        service.code(SUBMIT, bearer)
        service.code(GET_PLAN, bearer + "x")
        written = repr(list(service.context.store.access_log())) + "".join(capfd.readouterr())
        assert bearer.split("_", 2)[2] not in written
        assert "127.0.0.1" not in written


class TestLimits:
    """So many messages of one credential."""

    RULES = AccessRules(credentials_required=True, messages_per_s=0.01, message_burst=3)

    def retry_of(self, error: grpc.RpcError) -> float:
        (packed,) = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
        retry = RetryInfo()
        assert any(detail.Unpack(retry) for detail in Status.FromString(packed).details)
        return retry.retry_delay.ToMilliseconds() / 1000

    def test_one_credential(self, tmp_path: Path) -> None:
        """Beyond its burst a credential is refused; another one is not affected, nor are withdrawals."""
        with guarded(tmp_path / "state", self.RULES, elapsed_s=standing) as running:
            busy, quiet = running.credential(Role.INGEST), running.credential(Role.INGEST)
            for _ in range(3):
                running.call(GET_PLAN, busy)
            with pytest.raises(grpc.RpcError) as refused:
                running.call(GET_PLAN, busy)
            assert refused.value.code() is LIMITED
            assert self.retry_of(refused.value) == 1
            running.call(GET_PLAN, quiet)
            operator = running.credential()
            for _ in range(3):
                running.call(GET_PLAN, operator)
            with pytest.raises(grpc.RpcError):
                running.call(GET_PLAN, operator)
            running.decide(operator, "u")

    def test_a_stream(self, tmp_path: Path) -> None:
        """Each message of a stream counts; what came before the limit is acknowledged all the same."""
        with guarded(tmp_path / "state", self.RULES, elapsed_s=standing) as running:
            sent = iter([ingest_pb2.StreamReportsRequest(reports=[running.report("u")]).SerializeToString()] * 9)
            answers = running.begin(STREAM, running.credential(Role.INGEST), sent)
            for _ in range(2):
                next(answers)
            with pytest.raises(grpc.RpcError) as ended:
                next(answers)
            assert ended.value.code() is LIMITED


class TestClients:
    """The clients prove themselves by file or environment."""

    def test_by_file_and_environment(self, service: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each client finds its credential in the file that is named, or else in the environment."""
        files = {}
        for role in (Role.INGEST, Role.CONSENT):
            files[role] = ClientIdentity(credential_file=tmp_path / role)
            (tmp_path / role).write_text(service.credential(role) + "\n")
        target = service.target
        with IngestClient(target, identity=files[Role.INGEST], consent_identity=files[Role.CONSENT]) as client:
            client.set_consent("by-file", {"model_tuning": True})
            service.clock.advance_to(service.clock.now_ms() + 120_000)
            assert client.submit([service.report("by-file")]).accepted == 1
            assert [a.accepted for a in client.stream([[service.report("by-file")]])] == [1]
        monkeypatch.setenv(CREDENTIAL_VARIABLE, service.credential(Role.ANALYST))
        with AnalystClient(target) as analyst:
            assert analyst.releases("starts", resolution="1h").num_rows == 0
            assert {m.name: list(m.purposes) for m in analyst.metrics().metrics}["crashed"] == ["model_tuning", "research"]

    def test_what_is_no_credential(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A missing file, and text that is no credential, are told; the text is not."""
        with pytest.raises(ConfigError, match="cannot be read"):
            IngestClient("127.0.0.1:1", identity=ClientIdentity(credential_file=tmp_path / "none"))
        (tmp_path / "wrong").write_text("sesame")
        with pytest.raises(ConfigError, match="begins with hm_") as caught:
            IngestClient("127.0.0.1:1", identity=ClientIdentity(credential_file=tmp_path / "wrong"))
        assert "sesame" not in str(caught.value)
        monkeypatch.setenv(CREDENTIAL_VARIABLE, "sesame")
        with pytest.raises(ConfigError, match=CREDENTIAL_VARIABLE):
            AnalystClient("127.0.0.1:1")

    def test_never_in_plain_text_to_another_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A credential does not leave this machine unencrypted."""
        monkeypatch.setenv(CREDENTIAL_VARIABLE, "hm_x")
        with pytest.raises(ConfigError, match="plain text"):
            AnalystClient("telemetry.example.com:443")


def test_reflection_needs_a_credential(service: Guarded) -> None:
    """Reflection is for those who may come in."""
    method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    assert service.code(method)[0] is UNAUTHENTICATED
    assert service.code(method, service.credential(Role.INGEST))[0] is OK
