"""Entries of a ledger of before salts are told to nobody, and what was charged then still counts (R1)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from hushmeter.cli.app import run
from hushmeter.clock import ReplayClock
from hushmeter.errors import LedgerBroken
from hushmeter.ledger.checkpoint import is_checkpoint
from hushmeter.model.ledger import LedgerEntry, LedgerMark, chain_hash
from hushmeter.model.stored import Restore
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.patience import await_true
from hushmeter.rehearsal.service import RehearsedService
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.disclosure.public_record import signed_record
from hushmeter.signatures import SIGNING_KEY_NAME
from hushmeter.storage.state.database import Database, url_of
from hushmeter.testing.clock import FakeClock
from hushmeter.testing.mechanisms import ExactMechanisms
from hushmeter.transparency import signing
from hushmeter.transparency.signing import entries_in, verify_record
from tests.kept_states import OF_SCHEMA_7, migrated, unpacked
from tests.service.guarded_service import guarded
from tests.service.noisy_service import SHORT_SALTS, H, record_of
from tests.service.running_service import PLAN


def opened(state_dir: Path, plan: str | None = None) -> Context:
    """A state soon after the one of before was left; what is released from now on has noise."""
    clock = FakeClock(H + HOUR_MS + 12 * MINUTE_MS)
    context = open_context(Config(state_dir=state_dir), clock, ExactMechanisms(), plan)
    return dataclasses.replace(context, mechanisms=OpenDPMechanisms())


def test_entries_of_before_salts_are_withheld(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A state of before: nothing that is public confirms a guess, though the guesser knows all else of each entry.

    What the operator verifies is whole, and what was charged before still counts.
    """
    before = sqlite3.connect(unpacked(OF_SCHEMA_7, tmp_path) / "state.db")
    rows = before.execute("SELECT sequence, content, previous_hash, entry_hash FROM ledger ORDER BY sequence").fetchall()
    before.close()
    Database.migrate(url_of(tmp_path / "state" / "state.db"))
    old = [LedgerEntry(*row) for row in rows]
    assert len(old) == 4
    assert all("values_sha256" in entry.content for entry in old)
    context = opened(tmp_path / "state")
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
    migrated(OF_SCHEMA_7, tmp_path)
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
    migrated(OF_SCHEMA_7, tmp_path)
    context = opened(tmp_path / "state")
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
        migrated(OF_SCHEMA_7, tmp_path)
    context = opened(tmp_path / "state", None if old else PLAN)
    mark = LedgerMark(context.deployment.deployment_id, published, b"h" * 32)
    context.store.record_restore(Restore(context.clock.now_ms(), in_backup, mark))
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
