"""Signed unit tokens and the limit of one unit, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hushmeter import limits
from hushmeter.access.roles import Role
from hushmeter.api.consent.v1 import consent_pb2
from hushmeter.channels import ClientIdentity
from hushmeter.sdk import IngestClient
from hushmeter.service.deployment.access_rules import AccessRules
from tests.service.calls import (
    DENIED,
    GET_CONSENT,
    INVALID,
    ISSUE_UNIT_TOKEN,
    OK,
    SET_CONSENT,
    UNAUTHENTICATED,
    consent_question,
    unit_token_request,
)
from tests.service.guarded_service import UNIT_TOKENS_REQUIRED, Guarded, guarded, standing
from tests.service.harness import reasons


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Guarded]:
    """A service that asks for unit tokens."""
    with guarded(tmp_path / "state", UNIT_TOKENS_REQUIRED) as running:
        yield running


class TestTokens:
    """One unit cannot report, ask or decide as another."""

    def test_reports(self, service: Guarded) -> None:
        """Only a report with its own unit's token is accepted; the others of its message do not suffer from bad ones."""
        consent, ingest = service.credential(Role.CONSENT), service.credential(Role.INGEST)
        mine, other = service.token(consent, "mine"), service.token(consent, "other")
        for unit, token in (("mine", mine), ("other", other)):
            service.decide(consent, unit, token)
        service.clock.advance_to(service.clock.now_ms() + 120_000)
        flipped = mine[:-1] + bytes([mine[-1] ^ 1])
        longer = (9).to_bytes(1, "big") + mine[1:]
        tokens = [mine, b"", other, flipped, mine[:-1], mine + b"\0", longer, mine * 100, mine]
        answer = service.submit(ingest, *(service.report("mine", unit_token=token) for token in tokens))
        assert reasons(answer) == dict.fromkeys(range(1, 8), "BAD_UNIT_TOKEN")
        assert answer.accepted == 2
        assert all("IssueUnitToken" in r.message and r.retry_after_ms == 0 for r in answer.rejections)

    def test_nothing_is_told_of_a_unit_without_its_token(self, service: Guarded) -> None:
        """Whether a unit gave consent shows in no answer without its token (R3)."""
        consent, ingest = service.credential(Role.CONSENT), service.credential(Role.INGEST)
        service.decide(consent, "given", service.token(consent, "given"))
        service.clock.advance_to(service.clock.now_ms() + 120_000)
        answer = service.submit(ingest, service.report("given"), service.report("never-heard-of"))
        assert reasons(answer) == {0: "BAD_UNIT_TOKEN", 1: "BAD_UNIT_TOKEN"}
        assert service.code(GET_CONSENT, consent, consent_question("given")) == service.code(
            GET_CONSENT, consent, consent_question("never-heard-of")
        )

    def test_consent(self, service: Guarded) -> None:
        """Decisions are recorded and read with the unit's own token alone."""
        consent = service.credential(Role.CONSENT)
        mine, other = service.token(consent, "mine"), service.token(consent, "other")
        for token in (b"", other, mine[:-1]):
            decisions = [service.grant()]
            request = consent_pb2.SetConsentRequest(unit_id="mine", unit_token=token, decisions=decisions)
            for method, message in (
                (SET_CONSENT, request.SerializeToString()),
                (GET_CONSENT, consent_question("mine", token)),
            ):
                code, text = service.code(method, consent, message)
                assert code is UNAUTHENTICATED
                assert "IssueUnitToken" in text
        assert service.context.store.decisions_after(0) == (0, ())
        assert service.code(GET_CONSENT, consent, consent_question("mine", mine))[0] is OK

    def test_expiry(self, service: Guarded) -> None:
        """A token holds for its lifetime, at most 366 days, and not a millisecond longer."""
        consent = service.credential(Role.CONSENT)
        token = service.token(consent, "u", lifetime_s=60)
        service.clock.advance_to(service.clock.now_ms() + 59_999)
        assert service.code(GET_CONSENT, consent, consent_question("u", token))[0] is OK
        service.clock.advance_to(service.clock.now_ms() + 1)
        assert service.code(GET_CONSENT, consent, consent_question("u", token))[0] is UNAUTHENTICATED
        for lifetime_s, code in (
            (limits.UNIT_TOKEN_LIFETIME_MAX_S, OK),
            (limits.UNIT_TOKEN_LIFETIME_MAX_S + 1, INVALID),
            (-1, INVALID),
        ):
            assert service.code(ISSUE_UNIT_TOKEN, consent, unit_token_request("u", lifetime_s))[0] is code
        assert service.code(ISSUE_UNIT_TOKEN, consent, unit_token_request("", 5))[0] is INVALID
        assert service.code(ISSUE_UNIT_TOKEN, consent, unit_token_request("x" * 129, 5))[0] is INVALID

    def test_another_deployments_token(self, service: Guarded, tmp_path: Path) -> None:
        """A token of another deployment is worthless, and the same deployment's holds over a restart."""
        consent = service.credential(Role.CONSENT)
        with guarded(tmp_path / "other", UNIT_TOKENS_REQUIRED) as other:
            foreign = other.token(other.credential(Role.CONSENT), "u")
        assert service.code(GET_CONSENT, consent, consent_question("u", foreign))[0] is UNAUTHENTICATED
        with guarded(tmp_path / "other", UNIT_TOKENS_REQUIRED) as again:
            assert again.code(GET_CONSENT, again.credential(Role.CONSENT), consent_question("u", foreign))[0] is OK

    def test_nobody_issues_tokens_to_themselves(self, service: Guarded) -> None:
        """Where tokens are asked for, so are credentials, and a reporting client may not issue any."""
        assert service.code(ISSUE_UNIT_TOKEN, None, unit_token_request("u", 0))[0] is UNAUTHENTICATED
        assert service.code(ISSUE_UNIT_TOKEN, service.credential(Role.INGEST), unit_token_request("u", 0))[0] is DENIED

    def test_the_client(self, service: Guarded, tmp_path: Path) -> None:
        """A client that knows its units' tokens sends them with everything."""
        identities = {}
        for role in (Role.CONSENT, Role.INGEST):
            (tmp_path / role).write_text(service.credential(role))
            identities[role] = ClientIdentity(credential_file=tmp_path / role)
        with IngestClient(service.target, identity=identities[Role.CONSENT]) as backend:
            tokens = {unit: backend.issue_unit_token(unit).unit_token for unit in ("a", "b")}
        both = {"identity": identities[Role.INGEST], "consent_identity": identities[Role.CONSENT]}
        with IngestClient(service.target, **both, unit_tokens=tokens.__getitem__) as client:
            client.set_consent("a", {"model_tuning": True})
            assert client.consent("a")["model_tuning"]
            service.clock.advance_to(service.clock.now_ms() + 120_000)
            assert client.submit(service.report("a") for _ in range(2)).accepted == 2
            assert reasons(client.validate([service.report("b")])) == {0: "NO_CONSENT"}
            assert [a.accepted for a in client.stream([[service.report("a")], [service.report("a")]])] == [1, 1]


def test_tokens_are_not_read_where_nobody_asks(tmp_path: Path) -> None:
    """Where unit tokens are off, whatever is in their field changes nothing."""
    with guarded(tmp_path / "state", AccessRules()) as service:
        service.decide(None, "u", b"nonsense")
        service.clock.advance_to(service.clock.now_ms() + 120_000)
        assert service.submit(None, service.report("u", unit_token=b"x" * 10_000)).accepted == 1


class TestUnitLimit:
    """So many reports of one unit a minute."""

    RULES = AccessRules(unit_reports_per_minute=3)

    def test_its_own_reports_alone(self, tmp_path: Path) -> None:
        """A unit beyond its limit has its own further reports rejected with when to send them again, and nobody else's."""
        with guarded(tmp_path / "state", self.RULES, elapsed_s=standing) as service:
            for unit in ("busy", "quiet"):
                service.decide(None, unit)
            service.clock.advance_to(service.clock.now_ms() + 120_000)
            units = ["busy", "quiet", "busy", "busy", "busy", "quiet", "busy"]
            answer = service.submit(None, *map(service.report, units))
            assert reasons(answer) == {4: "RATE_LIMITED", 6: "RATE_LIMITED"}
            assert {r.retry_after_ms for r in answer.rejections} == {60_000}
            assert answer.accepted == 5
            assert reasons(service.submit(None, service.report("busy"))) == {0: "RATE_LIMITED"}
            assert service.submit(None, service.report("quiet")).accepted == 1

    def test_what_was_not_taken_does_not_count(self, tmp_path: Path) -> None:
        """Reports that are rejected for another reason, or only judged, take nothing of a unit's allowance."""
        with guarded(tmp_path / "state", self.RULES, elapsed_s=standing) as service:
            service.clock.advance_to(service.clock.now_ms() + 120_000)
            for _ in range(2):
                assert set(reasons(service.submit(None, *map(service.report, "uuuu"))).values()) == {"NO_CONSENT"}
            service.decide(None, "u")
            service.clock.advance_to(service.clock.now_ms() + 120_000)
            with IngestClient(service.target) as client:
                assert client.validate(map(service.report, "uuuu")).accepted == 3
                assert client.validate(map(service.report, "uuuu")).accepted == 3
            assert service.submit(None, *map(service.report, "uuuu")).accepted == 3
