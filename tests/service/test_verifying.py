"""Whoever may read a release can verify all of it, and nobody gets a salt with a part of it (R1)."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import grpc
import pytest

from hushmeter.access.roles import Role
from hushmeter.analyst import AnalystClient
from hushmeter.api.query.v1 import query_pb2
from hushmeter.channels import CREDENTIAL_VARIABLE, ClientIdentity
from hushmeter.cli.app import run
from hushmeter.errors import LedgerBroken
from hushmeter.transparency.signing import verify_record
from tests.service.calls import INVALID, QUERY_RELEASES
from tests.service.noisy_service import record_of, served
from tests.service.running_service import PLAN

COUNTED = PLAN.replace("expected_units: 100}", "expected_units: 100, participants: true}")


def credential_file(tmp_path: Path, bearer: str) -> ClientIdentity:
    """A client's identity with one credential."""
    path = tmp_path / f"{hashlib.sha256(bearer.encode()).hexdigest()[:8]}.credential"
    path.write_text(bearer)
    path.chmod(0o600)
    return ClientIdentity(credential_file=path)


def test_whoever_may_read_can_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An analyst of the purpose verifies every release, against ledger and record; another analyst is told nothing."""
    with served(tmp_path) as service:
        mine = credential_file(tmp_path, service.credential(Role.ANALYST, "model_tuning"))
        record = tmp_path / "record.json"
        record.write_text(record_of(service))
        with AnalystClient(service.target, identity=mine) as client:
            for view in ((), ("platform",)):
                found = client.verify("starts", view, resolution="1h")
                assert (found.verified, found.withheld) == (1, 0)
                assert client.verify("starts", view, resolution="1h", record=record.read_text()) == found
            assert found.head.hex() == verify_record(record.read_text()).head
            with pytest.raises(LedgerBroken, match="signed with the key"):
                client.verify("starts", resolution="1h", record=record.read_text(), public_key=bytes(32))
        asked = ["query", "starts", "--resolution", "1h", "--verify", "--target", service.target]
        asked += ["--credential-file", str(mine.credential_file)]
        assert run([*asked, "--record", str(record)]) == 0
        assert "1 releases are what the ledger commits to" in capsys.readouterr().out
        assert run([*asked, "--statistic", "sum"]) != 0
        other = credential_file(tmp_path, service.credential(Role.ANALYST, "research"))
        with AnalystClient(service.target, identity=other) as client, pytest.raises(grpc.RpcError, match="PERMISSION"):
            client.verify("starts", resolution="1h")


@pytest.mark.parametrize("field", ["value", "salt", "completeness", "published_at_ms", "window", "measurement", "metric"])
def test_what_was_told_otherwise_is_not_verified(tmp_path: Path, field: str) -> None:
    """A service that tells another value than the one it published, in any field, is found out by its reader."""
    from hushmeter.analyst.verifying import verified

    with served(tmp_path) as service:
        analyst = service.credential(Role.ANALYST, "model_tuning")
        asked = query_pb2.QueryReleasesRequest(metric="starts", view=["platform"], resolution="1h", openings=True)
        answers = service.call(QUERY_RELEASES, analyst, asked.SerializeToString())
        (release,) = query_pb2.QueryReleasesResponse.FromString(answers[0]).releases
        entries = list(service.context.store.ledger())
    assert verified([release], entries).verified == 1
    match field:
        case "value":
            release.openings[0].values[1] += 1
        case "salt":
            release.openings[0].salt = bytes(16)
        case "completeness":
            release.completeness = 1.0 - release.completeness
        case "published_at_ms":
            release.published_at_ms += 1
        case "window":
            release.window_end_ms += 1
        case "measurement":
            del release.openings[0]
        case _:
            release.metric = "stops"
    with pytest.raises(LedgerBroken, match=r"starts|stops"):
        verified([release], entries)


def test_openings_are_of_whole_views(tmp_path: Path) -> None:
    """A salt would test guesses of cells that are filtered away; so that nobody gets it who reads some cells alone."""
    with served(tmp_path, COUNTED) as service:
        both = service.credential(Role.ANALYST, "model_tuning", "research")
        one = service.credential(Role.ANALYST, "research")
        participants = query_pb2.QueryReleasesRequest(
            metric="participants", view=["purpose"], resolution="1h", openings=True
        )
        answers = service.call(QUERY_RELEASES, both, participants.SerializeToString())
        told = [r for a in answers for r in query_pb2.QueryReleasesResponse.FromString(a).releases]
        assert told
        assert all(len(o.salt) == 16 for r in told for o in r.openings)
        code, text = service.code(QUERY_RELEASES, one, participants.SerializeToString())
        assert (code, "whoever reads the whole of it" in text) == (INVALID, True)
        for changed in (
            query_pb2.QueryReleasesRequest(roll_up_time=True),
            query_pb2.QueryReleasesRequest(
                view=["platform"], filters=[query_pb2.PartitionFilter(dimension="platform", values=["ios"])]
            ),
        ):
            asked = query_pb2.QueryReleasesRequest(metric="starts", resolution="1h", openings=True)
            asked.MergeFrom(changed)
            assert service.code(QUERY_RELEASES, both, asked.SerializeToString())[0] is code
        plain = query_pb2.QueryReleasesRequest(metric="starts", resolution="1h").SerializeToString()
        answers = service.call(QUERY_RELEASES, both, plain)
        assert not any(r.openings for a in answers for r in query_pb2.QueryReleasesResponse.FromString(a).releases)


def test_the_documented_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Python of docs/transparency.md verifies a release against a record in the working directory."""
    text = (Path(__file__).parents[2] / "docs" / "transparency.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    with served(tmp_path) as service:
        (tmp_path / "record.json").write_text(record_of(service))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv(CREDENTIAL_VARIABLE, service.credential(Role.ANALYST, "model_tuning"))
        exec(code[1].replace("127.0.0.1:50551", service.target), {})  # noqa: S102
    assert "1 releases hold; 0 are from before the public ledger begins" in capsys.readouterr().out
