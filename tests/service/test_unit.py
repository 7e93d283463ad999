"""EraseUnit, GetUnit and their commands, over real sockets: what a unit is answered, and nobody else."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from hushmeter import limits
from hushmeter.access.roles import Role
from hushmeter.api.consent.v1 import consent_pb2 as pb
from hushmeter.channels import ClientIdentity
from hushmeter.cli.app import run
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.patience import await_true
from hushmeter.sdk import IngestClient
from hushmeter.service.sealer import erasures as erasing
from hushmeter.signatures import public_key, sign
from hushmeter.transparency.receipt import RECEIPT, verify_receipt
from hushmeter.transparency.signing import SIGNED_RECORD
from tests.service.calls import ERASE_UNIT, GET_UNIT, INVALID, LIMITED, OK, SET_CONSENT, UNAUTHENTICATED
from tests.service.guarded_service import REQUIRED, UNIT_TOKENS_REQUIRED, Guarded, guarded, standing
from tests.service.running_service import FOUNDED_MS, running


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Erasures that follow each other are not gathered for long."""
    monkeypatch.setattr(erasing, "ERASURES_PAUSE_S", 0.05)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Guarded]:
    """A service that asks for unit tokens."""
    with guarded(tmp_path / "state", UNIT_TOKENS_REQUIRED) as started:
        yield started


def erase(service: Guarded, bearer: str | None, unit: str, token: bytes = b"") -> pb.EraseUnitResponse:
    request = pb.EraseUnitRequest(unit_id=unit, unit_token=token).SerializeToString()
    return pb.EraseUnitResponse.FromString(service.call(ERASE_UNIT, bearer, request)[0])


def held(service: Guarded, bearer: str | None, unit: str, token: bytes = b"") -> pb.GetUnitResponse:
    request = pb.GetUnitRequest(unit_id=unit, unit_token=token).SerializeToString()
    return pb.GetUnitResponse.FromString(service.call(GET_UNIT, bearer, request)[0])


def test_a_units_life(service: Guarded) -> None:
    """What a unit has reported is shown to it, removed when it asks, and shown no more; others' rows stay."""
    consent, ingest = service.credential(Role.CONSENT), service.credential(Role.INGEST)
    tokens = {unit: service.token(consent, unit) for unit in ("a", "b")}
    for unit, token in tokens.items():
        service.decide(consent, unit, token)
    for _ in range(2):
        service.clock.advance_to(service.clock.now_ms() + HOUR_MS)
        for unit, token in tokens.items():
            assert service.submit(ingest, service.report(unit, unit_token=token)).accepted == 1
    before = held(service, consent, "a", tokens["a"])
    assert [(r.window_end_ms - FOUNDED_MS, r.reports, dict(r.points)) for r in before.rows] == [
        (HOUR_MS, 1, {"starts": 1}),
        (2 * HOUR_MS, 1, {"starts": 1}),
    ]
    assert {r.dies_ms for r in before.rows} == {FOUNDED_MS + DAY_MS + 48 * HOUR_MS}
    assert (before.decisions, before.erasure_ms, list(before.kept)) == (1, 0, [])
    answer = erase(service, consent, "a", tokens["a"])
    assert answer.received_at_ms == service.clock.now_ms()
    assert answer.rows_gone_by_ms == answer.received_at_ms + HOUR_MS
    after = held(service, consent, "a", tokens["a"])
    assert (list(after.rows), after.erasure_ms, after.decisions) == ([], answer.received_at_ms, 3)
    assert after.rows_gone_by_ms == answer.rows_gone_by_ms
    await_true(lambda: not service.context.store.erasures())
    assert held(service, consent, "a", tokens["a"]) == after
    assert len(held(service, consent, "b", tokens["b"]).rows) == 2
    lines = [line.what for _, line in service.context.store.access_log()]
    assert lines.count("GetUnit") == 4
    assert not any(word == "a" for line in lines for word in line.split())


def test_a_withdrawal_is_no_erasure(service: Guarded) -> None:
    """A client cannot give its decisions the source of an erasure: a grant is refused, a withdrawal is told as one."""
    consent = service.credential(Role.CONSENT)
    token = service.token(consent, "u")
    grant = service.grant()
    grant.source = "erasure"
    withdrawal = pb.Decision(purpose=grant.purpose, source="erasure")
    for decision, code in ((grant, INVALID), (withdrawal, OK)):
        request = pb.SetConsentRequest(unit_id="u", unit_token=token, decisions=[decision])
        assert service.code(SET_CONSENT, consent, request.SerializeToString())[0] is code
    found = held(service, consent, "u", token)
    assert (found.decisions, found.erasure_ms, found.rows_gone_by_ms) == (1, 0, 0)


def test_the_receipt(service: Guarded) -> None:
    """It is signed, says what holds and what it cost, names no unit, and is the same for one that nobody knows."""
    consent = service.credential(Role.CONSENT)
    service.decide(consent, "known", token := service.token(consent, "known"))
    answer = erase(service, consent, "known", token)
    unknown = erase(service, consent, "never heard of", service.token(consent, "never heard of"))
    assert answer == unknown
    key = public_key(service.context.keys.get("signing"))
    found = verify_receipt(answer.receipt, key)
    content = found.content
    assert content["deployment"] == service.context.deployment.deployment_id
    assert content["received_at"] == "2026-03-02T00:00:00.000Z"
    assert content["rows_gone_by"] == "2026-03-02T01:00:00.000Z"
    assert content["period"] == {"from": "2026-02-23T00:00:00Z", "to": "2026-03-02T00:00:00Z"}
    costs = {c["span"]: c for c in content["costs_at_most"]}
    assert list(costs) == ["one period (1w)", "any rolling period", "any 30 days", "any year"]
    assert costs["one period (1w)"]["epsilon"] == pytest.approx(4)
    assert 0 < costs["any year"]["delta"] < 1e-7
    assert "known" not in answer.receipt


def test_who_may(service: Guarded) -> None:
    """Without the unit's own token nothing is erased or told, and what is said does not depend on the unit."""
    consent = service.credential(Role.CONSENT)
    service.decide(consent, "mine", mine := service.token(consent, "mine"))
    other = service.token(consent, "other")
    for method, request in ((ERASE_UNIT, pb.EraseUnitRequest), (GET_UNIT, pb.GetUnitRequest)):
        said = set()
        for unit in ("mine", "nobody"):
            for token in (b"", other, mine[:-1]):
                message = request(unit_id=unit, unit_token=token).SerializeToString()
                said.add(service.code(method, consent, message))
        ((code, text),) = said
        assert code is UNAUTHENTICATED
        assert "IssueUnitToken" in text
        for unit in ("", "x" * 129):
            message = request(unit_id=unit, unit_token=mine).SerializeToString()
            code, text = service.code(method, consent, message)
            assert code is INVALID
            assert "1 to 128 bytes" in text
    assert service.context.store.erasures() == ()
    assert service.context.store.count_decisions(b"") == 0
    assert len(service.context.store.decisions_after(0)[1]) == 1


def test_what_is_held_needs_a_token_also_where_nothing_else_does(tmp_path: Path) -> None:
    """Where unit tokens are off, a credential decides for any unit, but is told what is held with its token alone (R3)."""
    with guarded(tmp_path / "state", REQUIRED) as service:
        consent = service.credential(Role.CONSENT)
        service.decide(consent, "mine", b"")
        for token in (b"", service.token(consent, "other")):
            request = pb.GetUnitRequest(unit_id="mine", unit_token=token).SerializeToString()
            code, text = service.code(GET_UNIT, consent, request)
            assert code is UNAUTHENTICATED
            assert "IssueUnitToken" in text
        assert held(service, consent, "mine", service.token(consent, "mine")).decisions == 1


def test_an_open_door_shows_nobody(tmp_path: Path) -> None:
    """Where nobody is asked for tokens units can be erased, as they can withdraw, but nobody is told what they sent."""
    with running(tmp_path / "state") as service:
        service.consent("u")
        service.clock.advance_to(FOUNDED_MS + 30 * MINUTE_MS)
        assert service.client.submit([service.starts("u", service.clock.now_ms())]).accepted == 1
        with pytest.raises(grpc.RpcError) as refused:
            service.client.held("u")
        assert refused.value.code() is UNAUTHENTICATED
        assert "credential create --role consent" in refused.value.details()
        assert service.client.erase("u").rows_gone_by_ms == FOUNDED_MS + 90 * MINUTE_MS
        assert service.client.consent("u") == {"model_tuning": False, "research": False}
        await_true(lambda: not service.context.store.erasures())


def test_too_often(tmp_path: Path) -> None:
    """A unit asks what is held on it ten times a minute, whoever else asks; then it is told when to come back."""
    with guarded(tmp_path / "state", elapsed_s=standing) as service:
        consent = service.credential(Role.CONSENT)
        token = service.token(consent, "u")
        for _ in range(limits.READING_PER_UNIT_AND_MINUTE):
            held(service, consent, "u", token)
        message = pb.GetUnitRequest(unit_id="u", unit_token=token).SerializeToString()
        code, text = service.code(GET_UNIT, consent, message)
        assert code is LIMITED
        assert "more than 10 times a minute" in text
        held(service, consent, "v", service.token(consent, "v"))


def test_too_many_at_once(service: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where as many questions wait as may, one more is sent away."""
    consent = service.credential(Role.CONSENT)
    token = service.token(consent, "u")
    monkeypatch.setattr(limits, "READING_AT_ONCE_MAX", 0)
    message = pb.GetUnitRequest(unit_id="u", unit_token=token).SerializeToString()
    code, text = service.code(GET_UNIT, consent, message)
    assert code is LIMITED
    assert "try again" in text
    monkeypatch.undo()
    assert held(service, consent, "u", token).decisions == 0


class TestCommands:
    """What somebody does at a terminal."""

    @pytest.fixture
    def files(self, service: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        """A unit that has reported, and files with its id and the credentials."""
        monkeypatch.setenv("COLUMNS", "140")
        consent, ingest = service.credential(Role.CONSENT), service.credential(Role.INGEST)
        token = service.token(consent, "a unit")
        service.decide(consent, "a unit", token)
        service.clock.advance_to(FOUNDED_MS + 30 * MINUTE_MS)
        assert service.submit(ingest, service.report("a unit", unit_token=token)).accepted == 1
        texts = {"unit": "a unit\n", "credential": consent, "ingest": ingest, "token": token.hex(), "bad": "zz"}
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        return {name: str(tmp_path / name) for name in texts}

    def test_show_erase_verify(
        self,
        service: Guarded,
        files: dict[str, str],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A token is asked for where none is given; what is shown, erased and verified is what the service says."""
        options = ["--target", service.target, "--credential-file", files["credential"]]
        asking = ["--unit-id-file", files["unit"], *options]
        assert run(["unit", "show", *asking]) == 0
        shown = capsys.readouterr().out
        assert "starts 1" in shown
        assert "2026-03-05T00:00:00Z" in shown
        assert run(["unit", "show", *asking, "--unit-token-file", files["token"], "--json"]) == 0
        plain = json.loads(capsys.readouterr().out)
        assert plain["rows"][0]["points"] == {"starts": 1}
        assert plain["erasure_received"] is plain["rows_gone_by"] is None
        receipt = tmp_path / "receipt.json"
        monkeypatch.setattr("sys.stdin", io.StringIO("a unit\n"))
        assert run(["erase", "--unit-id-file", "-", *options, "--out", str(receipt)]) == 0
        assert "rows are gone by 2026-03-02T01:30:00Z" in capsys.readouterr().err
        assert run(["erase", *asking, "--out", str(receipt)]) == 2
        assert "never overwritten" in capsys.readouterr().err
        await_true(lambda: not service.context.store.erasures())
        assert run(["unit", "show", *asking]) == 0
        shown = capsys.readouterr().out
        assert "No row of the unit is held" in shown
        assert "stay so that they bind: 3" in shown
        key = public_key(service.context.keys.get("signing")).hex()
        assert run(["unit", "verify", str(receipt), "--public-key", key]) == 0
        shown = capsys.readouterr().out
        assert "the signature holds" in shown
        assert "epsilon 4" in shown
        assert "compare" not in shown
        assert run(["unit", "verify", str(receipt)]) == 0
        assert f"{key}: compare" in capsys.readouterr().out

    def test_refusals(
        self, service: Guarded, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What cannot be used is named; nothing is erased by it."""
        asking = ["--unit-id-file", files["unit"], "--target", service.target]
        mine = [*asking, "--credential-file", files["credential"]]
        for arguments, said in (
            (["unit", "show", *mine, "--unit-token-file", files["bad"]], "holds no token"),
            (["unit", "show", *mine, "--unit-token-file", str(tmp_path / "none")], "cannot read"),
            (["erase", "--unit-id-file", str(tmp_path / "none"), *mine[2:]], "cannot read"),
            (["unit", "show", *asking], "UNAUTHENTICATED"),
            (["erase", *asking, "--credential-file", files["ingest"]], "use one of role consent"),
            (["erase", *mine, "--unit-token-file", files["unit"]], "holds no token"),
            (["erase", *mine, "--out", str(tmp_path / "none" / "receipt")], "the receipt is above"),
        ):
            assert run(arguments) == 2
            assert said in capsys.readouterr().err
        # The last of them was erased: only its receipt could not be written.
        assert len(service.context.store.decisions_after(0)[1]) == 3

    def test_what_is_no_receipt(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A text that was changed, is another statement, or is signed by somebody else does not hold."""
        key, other = bytes(range(32)), bytes(32)
        content = {
            "format": RECEIPT.format,
            "deployment": "ab",
            "received_at": "now",
            "what_holds": ["All."],
            "costs_at_most": [{"meaning": "little", "delta": 1e-8}],
        }
        good = RECEIPT.signed(content, key)
        signature = sign(key, SIGNED_RECORD.kind, RECEIPT.format.encode()).hex()
        for number, (text, said) in enumerate(
            (
                (good.replace("All.", "Nothing."), "something in it was changed"),
                (RECEIPT.signed(content, other), "not with"),
                (SIGNED_RECORD.signed({"format": SIGNED_RECORD.format}, key), "no erasure receipt"),
                (RECEIPT.signed({**content, "format": "other"}, key), "another format"),
                (RECEIPT.signed({**content, "costs_at_most": [1]}, key), "no erasure receipt"),
                (RECEIPT.signed({"format": RECEIPT.format}, key), "no erasure receipt"),
                (json.dumps({**json.loads(good), "signature": signature}), "something in it was changed"),
                ("{", "no erasure receipt"),
                ("[]", "no erasure receipt"),
            )
        ):
            path = tmp_path / str(number)
            path.write_text(text)
            assert run(["unit", "verify", str(path), "--public-key", public_key(key).hex()]) == 1
            assert said in capsys.readouterr().err
        (tmp_path / "good").write_text(good)
        assert run(["unit", "verify", str(tmp_path / "good"), "--public-key", public_key(key).hex()]) == 0


def test_the_client_sends_its_token(service: Guarded, tmp_path: Path) -> None:
    """A client that knows its unit's token erases and sees that unit, and no other."""
    (tmp_path / "credential").write_text(service.credential(Role.CONSENT))
    identity = ClientIdentity(credential_file=tmp_path / "credential")
    with IngestClient(service.target, identity=identity) as backend:
        tokens = {"mine": backend.issue_unit_token("mine").unit_token}
    with IngestClient(service.target, identity=identity, unit_tokens=lambda unit: tokens.get(unit, b"")) as client:
        client.set_consent("mine", {"model_tuning": True})
        assert client.held("mine").decisions == 1
        assert verify_receipt(client.erase("mine").receipt).content["privacy_unit"] == "device"
        assert client.consent("mine") == {"model_tuning": False, "research": False}
        with pytest.raises(grpc.RpcError):
            client.erase("other")
