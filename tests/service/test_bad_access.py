"""Replayed and back-dated consent, clocks that jump, and files that cannot be used: a clear error, and nothing is lost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from hushmeter import limits
from hushmeter.access.roles import Role
from hushmeter.api.consent.v1 import consent_pb2 as pb
from hushmeter.channels import ClientIdentity
from hushmeter.errors import ConfigError, RateLimited
from hushmeter.model.consent import Decision
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.patience import PATIENCE_S, await_true
from hushmeter.sdk import IngestClient
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.door.tls import read_tls
from hushmeter.service.intake.intake import Intake
from hushmeter.testing.clock import FakeClock
from tests.service.calls import (
    GET_CONSENT,
    GET_PLAN,
    HEALTH_CHECK,
    INVALID,
    LIMITED,
    OK,
    SET_CONSENT,
    UNAUTHENTICATED,
    UNAVAILABLE,
    consent_question,
)
from tests.service.certificates import Authority, tls_config, trusting
from tests.service.deployment_by_hand import opened
from tests.service.guarded_service import UNIT_TOKENS_REQUIRED, Guarded, guarded, standing
from tests.service.harness import reasons
from tests.service.running_service import FOUNDED_MS, Running, running

YEAR_MS = 365 * DAY_MS


def decisions(service: Guarded | Running) -> list[Decision]:
    """All that are recorded."""
    return list(service.context.store.decisions_after(0)[1])


def decide(service: Guarded, unit: str = "u", *, given: bool = True, token: bytes = b"") -> bytes:
    """A request to allow the purpose, or to withdraw."""
    decision = service.grant() if given else pb.Decision(purpose="model_tuning")
    return pb.SetConsentRequest(unit_id=unit, unit_token=token, decisions=[decision]).SerializeToString()


def given_since(service: Guarded, unit: str = "u") -> int:
    """Since when the purpose is allowed; 0 where it is not."""
    (answer,) = service.call(GET_CONSENT, None, consent_question(unit))
    return int(pb.GetConsentResponse.FromString(answer).states[0].given_since_ms)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Guarded]:
    """A service that asks for nothing, half an hour old."""
    with guarded(tmp_path / "state", AccessRules()) as running:
        running.clock.advance_to(FOUNDED_MS + 30 * MINUTE_MS)
        yield running


class TestConsent:
    """Decisions that come again, too early, or about what nobody asked."""

    def test_a_replayed_grant_reaches_nothing_older(self, service: Guarded) -> None:
        """A grant that is sent again after a withdrawal binds from its own receipt; what lies before stays out."""
        grant = decide(service)
        service.call(SET_CONSENT, None, grant)
        first = given_since(service)
        service.clock.advance_to(first + 5 * MINUTE_MS)
        measured = service.report("u")
        assert service.submit(None, measured).accepted == 1
        service.call(SET_CONSENT, None, decide(service, given=False))
        service.clock.advance_to(first + 10 * MINUTE_MS)
        service.call(SET_CONSENT, None, grant)
        assert given_since(service) == first + 10 * MINUTE_MS
        for end_ms in (first + MINUTE_MS, first + 5 * MINUTE_MS, first + 10 * MINUTE_MS):
            late = service.report("u", interval_start_ms=end_ms - 1, interval_end_ms=end_ms)
            assert reasons(service.submit(None, late)) == {0: "NO_CONSENT"}
        assert [d.given for d in decisions(service)] == [True, False, True]

    def test_a_replayed_grant_does_not_bring_rows_back(self, tmp_path: Path) -> None:
        """What came in under consent that was then withdrawn is in no release, although the same unit agreed again."""
        with running(tmp_path) as service:
            service.consent("u", "stays")
            service.clock.advance_to(FOUNDED_MS + 10 * MINUTE_MS)
            now = service.clock.now_ms()
            assert service.client.submit([service.starts("u", now, 7), service.starts("stays", now, 2)]).accepted == 2
            service.clock.advance_to(now + MINUTE_MS)
            service.client.set_consent("u", {"model_tuning": False})
            service.clock.advance_to(now + 2 * MINUTE_MS)
            service.consent("u")
            service.advance(FOUNDED_MS + 2 * HOUR_MS)
            assert service.sums("1h") == {0: 2}

    def test_a_replayed_withdrawal_takes_nothing_more(self, service: Guarded) -> None:
        """A withdrawal that is sent again changes nothing but the sequence."""
        withdrawal = decide(service, given=False)
        for _ in range(3):
            service.call(SET_CONSENT, None, withdrawal)
        assert given_since(service) == 0
        assert [d.given for d in decisions(service)] == [False] * 3

    def test_nobody_dates_a_decision_back(self, service: Guarded) -> None:
        """The receipt is the server's, whatever fields a request has; a report of the time before is refused."""
        early = b"".join(bytes([number << 3 | 1]) + (FOUNDED_MS).to_bytes(8, "little") for number in (6, 7, 8, 9))
        decision = service.grant().SerializeToString() + early
        request = b"\x0a\x01u\x12" + bytes([len(decision)]) + decision + early
        service.call(SET_CONSENT, None, request)
        assert given_since(service) == service.clock.now_ms() == decisions(service)[0].received_at_ms
        assert reasons(service.submit(None, service.report("u"))) == {0: "NO_CONSENT"}

    def test_one_bad_decision_spoils_all(self, service: Guarded) -> None:
        """A request with one decision that cannot be recorded records none of them, whatever is wrong with it."""
        good, research = service.grant(), service.context.plan.purposes[1].text_hash
        for bad in (
            pb.Decision(purpose="ads", given=True),
            pb.Decision(purpose="", given=False),
            pb.Decision(purpose="MODEL_TUNING"),
            pb.Decision(purpose="model_tuning\u200b"),
            pb.Decision(purpose="participants"),
            pb.Decision(purpose="research", given=True),
            pb.Decision(purpose="research", given=True, text_hash=good.text_hash),
            pb.Decision(purpose="research", given=True, text_hash=research, source="settings"),
            pb.Decision(purpose="research", given=True, text_hash=research, locale="en"),
            good,
        ):
            request = pb.SetConsentRequest(unit_id="u", decisions=[good, bad])
            assert service.code(SET_CONSENT, None, request.SerializeToString())[0] is INVALID
        assert decisions(service) == []

    def test_too_many_decisions(self, service: Guarded) -> None:
        """A request of a million decisions is refused for its number, soon."""
        request = pb.SetConsentRequest(unit_id="u", decisions=[pb.Decision()] * 1_000_000).SerializeToString()
        code, text = service.code(SET_CONSENT, None, request)
        assert code is INVALID
        assert f"send 1 to {limits.DECISIONS_PER_REQUEST_MAX}" in text

    def test_one_unit_does_not_fill_the_sequence(self, tmp_path: Path) -> None:
        """A unit that decides too often is told to wait; its withdrawal is taken all the same; others are not affected."""
        with guarded(tmp_path / "state", AccessRules(), elapsed_s=standing) as service:
            most = limits.DECIDING_PER_UNIT_AND_MINUTE
            for _ in range(most):
                service.call(SET_CONSENT, None, decide(service))
            code, text = service.code(SET_CONSENT, None, decide(service))
            assert code is LIMITED
            assert f"more than {most} times a minute" in text
            assert len(decisions(service)) == most
            assert given_since(service) > 0
            for _ in range(3):
                service.call(SET_CONSENT, None, decide(service, given=False))
            assert given_since(service) == 0
            assert len(decisions(service)) == most + 1
            assert service.code(SET_CONSENT, None, decide(service))[0] is LIMITED
            service.call(SET_CONSENT, None, decide(service, "other"))
            assert given_since(service, "other") > 0

    def test_a_withdrawal_right_behind_the_last_grant(self, tmp_path: Path) -> None:
        """A withdrawal beyond the limit is recorded also where the grant before it waits for the same transaction."""
        context = opened(tmp_path, FakeClock(FOUNDED_MS + HOUR_MS))
        worker, most = Intake(context, Meters()), limits.DECIDING_PER_UNIT_AND_MINUTE
        shown = context.plan.purposes[0].text_hash
        grant, withdrawal = (Decision(bytes(16), "tuning", given, 0, shown) for given in (True, False))
        decided = [grant] * most + [withdrawal, grant, withdrawal]
        receipts = [worker._deciding.add(b"u", [decision]) for decision in decided]
        worker._deciding.record()
        assert [isinstance(r.exception(), RateLimited) for r in receipts] == [False] * (most + 1) + [True, False]
        assert [d.given for d in context.store.decisions_after(0)[1]] == [True] * most + [False, False]
        states, _ = receipts[-1].result()
        assert not states["tuning"].given

    def test_a_withdrawal_of_what_does_not_hold_any_more(self, tmp_path: Path) -> None:
        """Beyond the limit a withdrawal is recorded too where the grant was for another text, which may come back."""
        context = opened(tmp_path, FakeClock(FOUNDED_MS + HOUR_MS))
        worker, most = Intake(context, Meters()), limits.DECIDING_PER_UNIT_AND_MINUTE
        grant, withdrawal = (Decision(bytes(16), "tuning", given, 0, b"another text") for given in (True, False))
        for decision in [grant] * most + [withdrawal, withdrawal]:
            worker._deciding.add(b"u", [decision])
            worker._deciding.record()
        assert [d.given for d in context.store.decisions_after(0)[1]] == [True] * most + [False]

    def test_a_replay_without_a_valid_token(self, tmp_path: Path) -> None:
        """Where units prove themselves, a decision that comes again after its token expired is not recorded."""
        with guarded(tmp_path / "state", UNIT_TOKENS_REQUIRED) as service:
            consent = service.credential(Role.CONSENT)
            old = decide(service, token=service.token(consent, "u", lifetime_s=60))
            service.call(SET_CONSENT, consent, old)
            service.clock.advance_to(service.clock.now_ms() + 60_000)
            assert service.code(SET_CONSENT, consent, old)[0] is UNAUTHENTICATED
            assert len(decisions(service)) == 1


class TestClocks:
    """The machine's clock jumps."""

    def jump(self, service: Guarded, ms: int) -> None:
        """Sets the wall clock, forwards or back."""
        service.clock._now_ms += ms
        service.clock.advance_to(0)

    def test_credentials(self, tmp_path: Path) -> None:
        """A credential is expired while the clock is beyond its expiry; set right, the clock lets it in again."""
        with guarded(tmp_path / "state") as service:
            bearer = service.credential(expires_at_ms=service.clock.now_ms() + DAY_MS)
            self.jump(service, 2 * DAY_MS)
            code, text = service.code(GET_PLAN, bearer)
            assert code is UNAUTHENTICATED
            assert "expired" in text
            self.jump(service, -2 * DAY_MS)
            assert service.code(GET_PLAN, bearer)[0] is OK
            self.jump(service, -YEAR_MS)
            assert service.code(GET_PLAN, bearer)[0] is OK

    def test_revocations_know_no_clock(self, tmp_path: Path) -> None:
        """A revoked credential stays revoked, however far the clock goes back."""
        with guarded(tmp_path / "state") as service:
            bearer = service.credential()
            assert service.code(GET_PLAN, bearer)[0] is OK
            service.context.store.revoke_credential(bearer.split("_")[1], service.clock.now_ms())
            self.jump(service, -YEAR_MS)
            await_true(lambda: service.code(GET_PLAN, bearer)[0] is UNAUTHENTICATED)

    def test_unit_tokens(self, tmp_path: Path) -> None:
        """A token that has expired at the door stays expired there when the clock goes back; a new one is no worse off."""
        with guarded(tmp_path / "state", UNIT_TOKENS_REQUIRED) as service:
            consent, ingest = service.credential(Role.CONSENT), service.credential(Role.INGEST)
            token = service.token(consent, "u", lifetime_s=3_600)
            service.decide(consent, "u", token)
            service.clock.advance_to(service.clock.now_ms() + 2 * HOUR_MS)
            assert reasons(service.submit(ingest, service.report("u", unit_token=token))) == {0: "BAD_UNIT_TOKEN"}
            self.jump(service, -HOUR_MS - 30 * MINUTE_MS)
            assert reasons(service.submit(ingest, service.report("u", unit_token=token))) == {0: "BAD_UNIT_TOKEN"}
            assert service.code(GET_CONSENT, consent, consent_question("u", token))[0] is UNAUTHENTICATED
            fresh = service.token(consent, "u", lifetime_s=7_200)
            assert service.code(GET_CONSENT, consent, consent_question("u", fresh))[0] is OK
            assert reasons(service.submit(ingest, service.report("u", unit_token=fresh))) != {0: "BAD_UNIT_TOKEN"}

    @pytest.mark.parametrize("jump_ms", [YEAR_MS, -YEAR_MS])
    def test_rate_limits(self, tmp_path: Path, jump_ms: int) -> None:
        """Limits are of time that passes: no jump gives an allowance back, or takes one away."""
        rules = AccessRules(credentials_required=True, messages_per_s=0.001, message_burst=2)
        with guarded(tmp_path / "state", rules, elapsed_s=standing) as service:
            busy, quiet = service.credential(), service.credential()
            assert [service.code(GET_PLAN, busy)[0] for _ in range(3)] == [OK, OK, LIMITED]
            self.jump(service, jump_ms)
            assert service.code(GET_PLAN, busy)[0] is LIMITED
            assert [service.code(GET_PLAN, quiet)[0] for _ in range(3)] == [OK, OK, LIMITED]

    def test_a_units_limit(self, tmp_path: Path) -> None:
        """Nor of one unit's reports."""
        with guarded(tmp_path / "state", AccessRules(unit_reports_per_minute=2), elapsed_s=standing) as service:
            service.decide(None, "u")
            service.clock.advance_to(service.clock.now_ms() + 10 * MINUTE_MS)
            assert reasons(service.submit(None, *(service.report("u") for _ in range(3)))) == {2: "RATE_LIMITED"}
            self.jump(service, 20 * MINUTE_MS)
            assert reasons(service.submit(None, service.report("u"))) == {0: "RATE_LIMITED"}
            self.jump(service, -5 * MINUTE_MS)
            assert reasons(service.submit(None, service.report("u"))) == {0: "RATE_LIMITED"}

    def test_consent(self, service: Guarded) -> None:
        """While the clock is behind what was seen, receipts stand still; of decisions then the later number binds."""
        service.clock.advance_to(FOUNDED_MS + HOUR_MS)
        service.call(SET_CONSENT, None, decide(service))
        since = given_since(service)
        self.jump(service, -40 * MINUTE_MS)
        early = service.report("u", interval_start_ms=FOUNDED_MS, interval_end_ms=FOUNDED_MS + MINUTE_MS)
        assert reasons(service.submit(None, early)) == {0: "NO_CONSENT"}
        service.call(SET_CONSENT, None, decide(service, given=False))
        assert given_since(service) == 0
        service.call(SET_CONSENT, None, decide(service))
        assert given_since(service) == since
        assert reasons(service.submit(None, early)) == {0: "NO_CONSENT"}
        service.call(SET_CONSENT, None, decide(service, given=False))
        assert {d.received_at_ms for d in decisions(service)} == {since}
        service.clock.advance_to(since + 1)
        service.call(SET_CONSENT, None, decide(service))
        assert given_since(service) == since + 1


class TestFiles:
    """Certificates that do not fit, and files of clients that cannot be used."""

    def test_certificates_out_of_their_time(self, tmp_path: Path) -> None:
        """A certificate that is not valid yet serves nobody; a client whose certificate has ended is not served."""
        authority = Authority(tmp_path)
        pair = authority.issue("server")
        with pytest.raises(ConfigError, match="not now; renew it, or correct this machine's clock"):
            read_tls(tls_config(pair), int(dt.datetime(2019, 1, 1, tzinfo=dt.UTC).timestamp() * 1000))
        ended = authority.issue("ended", end=dt.datetime(2021, 1, 1, tzinfo=dt.UTC))
        tls = read_tls(tls_config(pair, tls_client_ca=authority.file), FOUNDED_MS)
        channel = trusting(authority, authority.issue("client"))
        with guarded(tmp_path / "state", tls=tls, channel=channel) as service:
            assert service.code(HEALTH_CHECK)[0] is OK
            for client in (ended, None):
                with grpc.secure_channel(service.target, trusting(authority, client)) as other:
                    with pytest.raises(grpc.RpcError) as refused:
                        other.unary_unary(HEALTH_CHECK)(b"", timeout=PATIENCE_S)
                    assert refused.value.code() is UNAVAILABLE

    def test_files_of_clients(self, tmp_path: Path) -> None:
        """Each file that cannot be used is named, with what it should hold; nothing of what it holds is told."""
        authority = Authority(tmp_path)
        pair, nonsense = authority.issue("client"), tmp_path / "nonsense"
        nonsense.write_bytes(b"sesame\0\xff")
        for identity, words in (
            (ClientIdentity(ca_file=tmp_path), "authority file .* cannot be read .Is a directory"),
            (ClientIdentity(ca_file=nonsense), "authority file .* holds nothing in PEM form"),
            (
                ClientIdentity(client_certificate=nonsense, client_key=pair.key),
                "certificate file .* holds nothing in PEM form",
            ),
            (
                ClientIdentity(client_certificate=pair.certificate, client_key=nonsense),
                "key file .* holds nothing in PEM form",
            ),
            (ClientIdentity(credential_file=tmp_path), "credential file .* cannot be read"),
            (ClientIdentity(credential_file=nonsense), "holds no credential"),
            (ClientIdentity(credential_file=pair.key), "holds no credential"),
        ):
            with pytest.raises(ConfigError, match=words) as refused:
                IngestClient("127.0.0.1:1", identity=identity)
            assert "sesame" not in str(refused.value)
            assert "PRIVATE" not in str(refused.value)


def test_streams_of_one_connection_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who needs no credential, at the health service, holds so many streams a connection open; others are not affected."""
    monkeypatch.setattr(limits, "STREAMS_PER_CONNECTION_MAX", 3)
    own = [("grpc.use_local_subchannel_pool", 1)]
    with guarded(tmp_path / "state") as service, grpc.insecure_channel(service.target, own) as busy:
        watches = [busy.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=PATIENCE_S) for _ in range(3)]
        for watch in watches:
            next(watch)
        with pytest.raises(grpc.RpcError) as waited:
            busy.unary_unary(HEALTH_CHECK)(b"", timeout=0.5)
        assert waited.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert service.code(HEALTH_CHECK)[0] is OK
        watches.pop().cancel()
        busy.unary_unary(HEALTH_CHECK)(b"", timeout=PATIENCE_S)
