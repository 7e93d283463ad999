"""From what anybody may read no guess of a released value can be tested (R1).

Each hash that a non-operator can read is looked at: the guesser has the right values among its guesses, and every way of
hashing them without the salt.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from hushmeter.access.roles import Role
from hushmeter.api.consent.v1 import consent_pb2
from hushmeter.api.ingest.v1 import ingest_pb2
from hushmeter.api.query.v1 import query_pb2
from hushmeter.model.ledger import canonical_json
from hushmeter.model.release import Release
from hushmeter.transparency.signing import entries_in
from tests.service.calls import ERASE_UNIT, GET_LEDGER, GET_PLAN, LIST_METRICS
from tests.service.guarded_service import Guarded
from tests.service.noisy_service import SHORT_SALTS, record_of, served


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
        *service.call(GET_LEDGER, analyst, query_pb2.GetLedgerRequest().SerializeToString()),
        *service.call(LIST_METRICS, analyst),
        *service.call(GET_PLAN, ingest),
        *service.call(ERASE_UNIT, consent, unit),
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
