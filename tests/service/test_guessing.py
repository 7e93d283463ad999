"""From what anybody may read no guess of a released value can be tested; whoever may read it can verify it (R1).

Each hash that a non-operator can read is looked at: the guesser has the right values among its guesses, and every way of
hashing them without the salt.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import re
import sqlite3
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from hushmeter.access.roles import GET_RECORD, Role
from hushmeter.analyst import AnalystClient
from hushmeter.api.consent.v1 import consent_pb2
from hushmeter.api.ingest.v1 import ingest_pb2
from hushmeter.api.query.v1 import query_pb2
from hushmeter.api.transparency.v1 import transparency_pb2
from hushmeter.channels import CREDENTIAL_VARIABLE, ClientIdentity
from hushmeter.cli.app import run
from hushmeter.clock import ReplayClock
from hushmeter.errors import LedgerBroken
from hushmeter.ledger.checkpoint import is_checkpoint
from hushmeter.model.ledger import LedgerEntry, LedgerMark, canonical_json, chain_hash
from hushmeter.model.release import Release
from hushmeter.model.stored import Restore
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.patience import await_true
from hushmeter.rehearsal.service import RehearsedService
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.disclosure.public_record import signed_record
from hushmeter.signatures import SIGNING_KEY_NAME
from hushmeter.testing.clock import FakeClock
from hushmeter.testing.mechanisms import ExactMechanisms
from hushmeter.transparency import signing
from hushmeter.transparency.signing import entries_in, verify_record
from tests.service.guarded import Guarded, guarded
from tests.service.running import FOUNDED_MS, PLAN

H = FOUNDED_MS
QUERY = "/hushmeter.api.query.v1.QueryService/"
SHORT_SALTS = [b"", bytes(16), b"\xff" * 16, b"salt", *(n.to_bytes(16, "little") for n in range(1, 9))]
"""What a salt would be that nobody drew."""
COUNTED = PLAN.replace("expected_units: 100}", "expected_units: 100, participants: true}")


def credential_file(tmp_path: Path, bearer: str) -> ClientIdentity:
    """A client's identity with one credential."""
    path = tmp_path / f"{hashlib.sha256(bearer.encode()).hexdigest()[:8]}.credential"
    path.write_text(bearer)
    path.chmod(0o600)
    return ClientIdentity(credential_file=path)


@contextlib.contextmanager
def served(tmp_path: Path, plan: str = PLAN) -> Iterator[Guarded]:
    """A service with real noise, which has released an hour of ten units."""
    with guarded(tmp_path / "state", plan=plan, mechanisms=OpenDPMechanisms()) as service:
        ingest, consent = service.credential(Role.INGEST), service.credential(Role.CONSENT)
        for unit in range(10):
            service.decide(consent, str(unit))
        service.clock.advance_to(H + 30 * MINUTE_MS)
        service.submit(ingest, *(service.report(str(unit)) for unit in range(10)))
        service.clock.advance_to(H + HOUR_MS + 11 * MINUTE_MS)
        await_true(lambda: any(service.context.store.ledger()))
        yield service


def record_of(service: Guarded) -> str:
    """The public record, as anybody gets it."""
    request = transparency_pb2.GetRecordRequest().SerializeToString()
    parts = service.call(GET_RECORD, None, request)
    return b"".join(transparency_pb2.GetRecordResponse.FromString(part).part for part in parts).decode()


def stored(service: Guarded) -> list[Release]:
    """Every release, as the operator has it."""
    return [r for _, r in service.context.store.every_release() if isinstance(r, Release)]


def told_to_others(service: Guarded) -> list[bytes]:
    """All that somebody reads who may not read a release of `starts`: no credential, and every role but its analysts."""
    analyst = service.credential(Role.ANALYST, "research")
    consent, ingest = service.credential(Role.CONSENT), service.credential(Role.INGEST)
    unit = consent_pb2.EraseUnitRequest(unit_id="3").SerializeToString()
    return [
        record_of(service).encode(),
        *service.call(QUERY + "GetLedger", analyst, query_pb2.GetLedgerRequest().SerializeToString()),
        *service.call(QUERY + "ListMetrics", analyst),
        *service.call("/hushmeter.api.ingest.v1.IngestService/GetPlan", ingest),
        *service.call("/hushmeter.api.consent.v1.ConsentService/EraseUnit", consent, unit),
        ingest_pb2.DESCRIPTOR.serialized_pb,
    ]


def digests_without_salt(values: tuple[int, ...], release: Release) -> Iterator[bytes]:
    """Every digest that somebody who knows all but the salt makes of a guess."""
    cells = struct.pack(f"<{len(values)}q", *values)
    columns = [len(values), 1]
    for salt, shape in itertools.product(SHORT_SALTS, (columns, columns[::-1])):
        beside = canonical_json(
            {
                "completeness": release.completeness,
                "keys": release.keys,
                "published_at_ms": release.published_at_ms,
                "shape": shape,
            }
        ).encode()
        for told in (b"null\0", beside + b"\0", b""):
            for label in (b"", b"hushmeter released values 1\0"):
                yield hashlib.sha256(label + salt + told + cells).digest()
                yield hashlib.sha256(label + told + cells + salt).digest()
    for text in (str(values), ",".join(map(str, values)), json.dumps(values)):
        yield hashlib.sha256(text.encode()).digest()


def guesses(release: Release) -> Iterator[tuple[int, ...]]:
    """For each vector of a few cells, the values themselves and those beside them."""
    for vector in release.vectors.values():
        cells = tuple(vector.values.ravel().tolist())
        if len(cells) <= 3:
            yield from itertools.product(*(range(cell - 1, cell + 2) for cell in cells))


def found_in(told: list[bytes], releases: list[Release]) -> int:
    """How many guesses are confirmed by a digest in what was told, in binary or in hexadecimal digits."""
    return sum(
        digest in text or digest.hex().encode() in text
        for release in releases
        for values in guesses(release)
        for digest in digests_without_salt(values, release)
        for text in told
    )


def test_guesses_of_released_values_cannot_be_tested(tmp_path: Path) -> None:
    """Of vectors of one to three cells nobody learns anything from the record, the ledger, the plan and receipts."""
    with served(tmp_path) as service:
        told, releases = told_to_others(service), stored(service)
        small = [v for r in releases for v in r.vectors.values() if v.values.size <= 3]
        assert len(small) > 10
        assert found_in(told, releases) == 0
        # The guesser would have seen it: the same digest without salt, told beside the rest, is found.
        leaked = hashlib.sha256(b"null\0" + small[0].values.astype("<i8").tobytes()).hexdigest()
        assert found_in([*told, leaked.encode()], releases) > 0


def test_every_hash_that_is_told_is_accounted_for(tmp_path: Path) -> None:
    """No digest is told to everybody but those of the chain, of public texts, and commitments with a salt."""
    with served(tmp_path) as service:
        text = record_of(service)
        record = json.loads(text)
        content = record["record"]
        entries = entries_in(content)
        fields = [entry.fields for entry in entries]
        public = {content["plan"]["plan_hash"], content["ledger"]["head"], record["public_key"]}
        public |= {purpose["text_sha256"] for purpose in content["purposes"]}
        public |= {f["values_commitment"] for f in fields} | {entry.entry_hash.hex() for entry in entries}
        assert set(re.findall(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", text)) <= public
        assert "values_sha256" not in text
        assert set(fields[0]) == {
            *("deployment", "plan", "plan_version", "plan_hash", "metric", "view", "measurement", "resolution"),
            *("window_start_ms", "window_end_ms", "period_start_ms", "mechanism", "currency", "norm", "l2_squared"),
            *("sensitivity", "l0", "cap", "scale", "threshold", "loss", "delta", "mapped_loss", "mapped_delta"),
            "values_commitment",
        }


def test_the_salts_are_kept_with_the_values_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A salt stands in the payload of its release, and in no other table, record, ledger entry or log line."""
    with served(tmp_path) as service:
        told, releases = told_to_others(service), stored(service)
        service.context.store.back_up(tmp_path / "backup.db")
    salts = [v.salt for r in releases for v in r.vectors.values()]
    assert len(set(salts)) == len(salts) > 10
    assert all(salt is not None and len(salt) == 16 for salt in salts)
    database = sqlite3.connect(tmp_path / "backup.db")
    others: list[bytes] = [repr(releases).encode(), "".join(capsys.readouterr()).encode(), *told]
    for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'releases'"):
        for row in database.execute(f'SELECT * FROM "{table}"'):  # noqa: S608
            others += [cell if isinstance(cell, bytes) else str(cell).encode() for cell in row]
    database.close()
    everything = b"\n".join(others)
    assert not [s for s in salts if s is not None and (s in everything or s.hex().encode() in everything)]


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
        answers = service.call(QUERY + "QueryReleases", analyst, asked.SerializeToString())
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
        answers = service.call(QUERY + "QueryReleases", both, participants.SerializeToString())
        told = [r for a in answers for r in query_pb2.QueryReleasesResponse.FromString(a).releases]
        assert told
        assert all(len(o.salt) == 16 for r in told for o in r.openings)
        code, text = service.code(QUERY + "QueryReleases", one, participants.SerializeToString())
        assert (code, "whoever reads the whole of it" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        for changed in (
            query_pb2.QueryReleasesRequest(roll_up_time=True),
            query_pb2.QueryReleasesRequest(
                view=["platform"], filters=[query_pb2.PartitionFilter(dimension="platform", values=["ios"])]
            ),
        ):
            asked = query_pb2.QueryReleasesRequest(metric="starts", resolution="1h", openings=True)
            asked.MergeFrom(changed)
            assert service.code(QUERY + "QueryReleases", both, asked.SerializeToString())[0] is code
        plain = query_pb2.QueryReleasesRequest(metric="starts", resolution="1h").SerializeToString()
        answers = service.call(QUERY + "QueryReleases", both, plain)
        assert not any(r.openings for a in answers for r in query_pb2.QueryReleasesResponse.FromString(a).releases)


ARCHIVE = Path(__file__).parents[1] / "data" / "state_of_schema_7.tar.gz"


def test_entries_of_before_salts_are_withheld(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A state of before: nothing that is public confirms a guess, though the guesser knows all else of each entry.

    What the operator verifies is whole, and what was charged before still counts.
    """
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    before = sqlite3.connect(tmp_path / "state" / "state.db")
    rows = before.execute("SELECT sequence, content, previous_hash, entry_hash FROM ledger ORDER BY sequence").fetchall()
    before.close()
    old = [LedgerEntry(*row) for row in rows]
    assert len(old) == 4
    assert all("values_sha256" in entry.content for entry in old)
    clock = FakeClock(H + HOUR_MS + 12 * MINUTE_MS)
    context = open_context(Config(state_dir=tmp_path / "state"), clock, ExactMechanisms())
    context = dataclasses.replace(context, mechanisms=OpenDPMechanisms())
    text = signed_record(context)
    (checkpoint,) = (entry for entry in context.store.ledger() if is_checkpoint(entry))
    context.store.close()
    # The guesser who guesses right has all of these.
    known = [h for e in old for h in (e.entry_hash, bytes.fromhex(str(e.fields["values_sha256"])))]
    for digest in known:
        made = [digest, chain_hash(digest, checkpoint.content)]
        made += [hashlib.sha256(digest).digest()]
        for salt in SHORT_SALTS:
            labels = (b"", b"hushmeter checkpoint head 1\0")
            made += [hashlib.sha256(label + salt + told + digest).digest() for label in labels for told in (b"", b"4\0")]
        assert not [d for d in made if d.hex() in text]
    assert not any(entry.content in text.replace('\\"', '"') for entry in old)
    found = verify_record(text)
    assert (found.first, found.entries) == (5, 1)
    assert json.loads(text)["record"]["privacy"]["spent"][0]["epsilon"] > 0
    file = tmp_path / "record.json"
    file.write_text(text)
    assert run(["transparency", "verify", str(file)]) == 0
    said = capsys.readouterr().out
    assert "The first 4 entries of the ledger are from before salts" in said
    assert "They are withheld" in said


def test_a_service_withholds_them_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`GetLedger` begins with the checkpoint, whoever asks and from where on; an answer of before salts has no opening."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    clock = ReplayClock(H + 2 * HOUR_MS + 12 * MINUTE_MS)
    context = open_context(Config(state_dir=tmp_path / "state"), clock, ExactMechanisms())
    with RehearsedService(context, clock) as service:
        client = service.analyst
        await_true(lambda: len(list(context.store.ledger())) > 5)
        for asked in (0, 1, 3, 5):
            assert next(client.ledger(asked)).sequence == 5
        assert next(client.ledger(6)).sequence == 6
        found = client.verify("starts", resolution="1h")
        assert (found.verified, found.withheld) == (1, 1)
        # The sealer goes on meanwhile: the checkpoint need not be among the newest twenty entries.
        for command in (["verify"], ["show", "--limit", "1000"], ["show", "--as-json"]):
            assert run(["ledger", *command, "--target", service.target]) == 0
            assert "checkpoint" in capsys.readouterr().out


def test_a_record_of_before_the_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It shares no entry with one that begins at the checkpoint: costs alone are compared, and `verify` says so."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    clock = FakeClock(H + HOUR_MS + 12 * MINUTE_MS)
    context = open_context(Config(state_dir=tmp_path / "state"), clock, ExactMechanisms())
    context = dataclasses.replace(context, mechanisms=OpenDPMechanisms())
    text, key, old = signed_record(context), context.keys.get(SIGNING_KEY_NAME), list(context.store.ledger())[:4]
    context.store.close()
    content = json.loads(text)["record"]

    def of_before(contents: list[str]) -> str:
        chain = entries_in({"ledger": {"entries": contents}})
        ledger = {"head": chain[-1].entry_hash.hex(), "entries": contents}
        return signing.SIGNED_RECORD.signed(content | {"format": "hushmeter transparency record 1", "ledger": ledger}, key)

    before = of_before([entry.content for entry in old])
    assert verify_record(before).entries == 4
    assert verify_record(text, earlier=before).compared == 0
    assert verify_record(text, earlier=text).compared == 1
    dearer = json.dumps(dict(old[0].fields) | {"loss": "1/8"}, sort_keys=True, separators=(",", ":"))
    with pytest.raises(LedgerBroken, match="costs less than in the earlier record"):
        verify_record(text, earlier=of_before([dearer]))
    for name, written in (("before", before), ("after", text)):
        (tmp_path / name).write_text(written)
    assert run(["transparency", "verify", str(tmp_path / "after"), "--earlier", str(tmp_path / "before")]) == 0
    assert "have no entry in common" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "in_backup", "published", "told"),
    [
        (True, 4, 9, False),
        (True, 5, 9, False),
        (True, 9, 5, False),
        (True, 6, 9, True),
        (False, 0, 9, False),
        (False, 3, 9, True),
    ],
)
def test_a_head_of_before_a_restore_is_told_with_salts_alone(
    tmp_path: Path, old: bool, in_backup: int, published: int, told: bool
) -> None:
    """What keys had seen published is a hash too: where entries of before salts may stand behind it, it is withheld."""
    if old:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(tmp_path, filter="data")
    clock = FakeClock(H + HOUR_MS + 12 * MINUTE_MS)
    context = open_context(Config(state_dir=tmp_path / "state"), clock, ExactMechanisms(), None if old else PLAN)
    context = dataclasses.replace(context, mechanisms=OpenDPMechanisms())
    mark = LedgerMark(context.deployment.deployment_id, published, b"h" * 32)
    context.store.record_restore(Restore(clock.now_ms(), in_backup, mark))
    (restore,) = json.loads(signed_record(context))["record"]["restores"]
    assert restore["ledger_entries_published_before"] == published
    assert restore["head_before"] == ((b"h" * 32).hex() if told else None)
    context.store.close()


def test_a_new_deployment_has_no_checkpoint(tmp_path: Path) -> None:
    """A ledger that has had salts from the beginning is public from its first entry on."""
    with guarded(tmp_path / "state") as service:
        service.clock.advance_to(H + HOUR_MS + 11 * MINUTE_MS)
        await_true(lambda: any(service.context.store.ledger()))
        assert service.context.store.checkpoints() == {}
        record = json.loads(record_of(service))["record"]
        assert (record["ledger"]["first"], record["ledger"]["withheld"]) == (1, None)


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
