"""Signed statements of a deployment, and what anybody can check of its record with the public key alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hushmeter.errors import LedgerBroken
from hushmeter.ledger.entries import LedgerSummary, verify_chain
from hushmeter.model.ledger import GENESIS, LedgerEntry, PrivacyLoss, canonical_json
from hushmeter.model.time import iso
from hushmeter.signatures import is_signed, public_key, sign
from hushmeter.transparency.record import FORMAT


@dataclass(frozen=True, slots=True)
class Statement:
    """A kind of statement that a deployment signs.

    Attributes:
        kind: signed with it, so that no statement can be taken for another.
        name: of its field in the text.
        format: what its content's field `format` says.
        earlier: what it said before; such texts are still read.
    """

    kind: str
    name: str
    format: str
    earlier: tuple[str, ...] = ()

    @property
    def damaged(self) -> str:
        """What is said of a text that is no such statement."""
        return f"this is no {self.kind} that hushmeter wrote, or it is damaged"

    def signed(self, content: dict[str, object], private_key: bytes) -> str:
        """A content as JSON, with its signature.

        Args:
            content: of JSON's types.
            private_key: of the deployment, 32 bytes.
        """
        signature = sign(private_key, self.kind, canonical_json(content).encode())
        public = public_key(private_key).hex()
        return canonical_json({self.name: content, "public_key": public, "signature": signature.hex()})

    def opened(self, text: str, key: bytes | None) -> tuple[dict[str, Any], bytes]:
        """The content of a text, and the public key that it is signed with, once that is checked.

        Args:
            text: what `signed` wrote.
            key: that it must be; None takes the one that the text itself names.

        Raises:
            LedgerBroken: naming what does not hold.
        """
        try:
            found = json.loads(text, object_pairs_hook=_without_doubles)
            content, named, signature = (
                found[self.name],
                bytes.fromhex(found["public_key"]),
                bytes.fromhex(found["signature"]),
            )
            canonical, format_ = canonical_json(content).encode(), content["format"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise LedgerBroken(self.damaged) from None
        if found != {self.name: content, "public_key": named.hex(), "signature": signature.hex()}:
            raise LedgerBroken(f"the text has more than a {self.name}, its key and its signature, or writes them otherwise")
        if format_ not in (self.format, *self.earlier):
            raise LedgerBroken(f"the {self.name} is of another format; verify it with the hushmeter that made it")
        if key is not None and key != named:
            raise LedgerBroken(f"the {self.name} is signed with the key {named.hex()}, not with {key.hex()}")
        if not is_signed(named, self.kind, canonical, signature):
            raise LedgerBroken(f"the signature is not that of the {self.name}: something in it was changed")
        return content, named


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; one that has a name twice says different things to different readers."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


SIGNED_RECORD = Statement("transparency record", "record", FORMAT, ("hushmeter transparency record 1",))


@dataclass(frozen=True, slots=True)
class Verified:
    """What holds of a record.

    Attributes:
        deployment_id: whose.
        as_of: up to when, as it says.
        first: number of its first ledger entry; those before it are withheld.
        entries: how many ledger entries it has.
        head: hash of the newest.
        key: that it is signed with.
        compared: how many entries an earlier record and this one both have; None where there is no earlier one.
    """

    deployment_id: str
    as_of: str
    first: int
    entries: int
    head: str
    key: bytes
    compared: int | None


def verify_record(text: str, key: bytes | None = None, earlier: str | None = None) -> Verified:
    """Checks signature and hash chain of a record, and that an earlier one is its beginning.

    Args:
        text: as `RECORD` signs it.
        key: public key of the deployment; None takes the one that the text itself names, which proves nothing about whose
            record it is.
        earlier: another text of the same deployment, from before.

    Raises:
        LedgerBroken: naming what does not hold.
    """
    record, named = _record_in(text, key)
    chain = entries_in(record)
    summary = verify_chain(chain)
    head = summary.head_hash.hex()
    if head != record["ledger"]["head"]:
        raise LedgerBroken("the record's ledger does not end with the hash that it names as its head")
    compared = None
    if earlier is not None:
        before, _ = _record_in(earlier, named)
        if before["deployment"] != record["deployment"]:
            raise LedgerBroken(
                f"the earlier record is of deployment {before['deployment']}, this one of {record['deployment']}"
            )
        compared = _ensure_goes_on(entries_in(before), chain, summary)
    deployment, as_of = str(record["deployment"]), str(record["as_of"])
    return Verified(deployment, as_of, summary.first, summary.count, head, named, compared)


def _ensure_goes_on(before: list[LedgerEntry], chain: list[LedgerEntry], summary: LedgerSummary) -> int:
    """How many entries two ledgers share: all of the earlier one's that are not withheld in the later one."""
    content = {entry.sequence: entry.content for entry in chain}
    shared = [entry for entry in before if entry.sequence >= summary.first]
    for entry in shared:
        if content.get(entry.sequence) != entry.content:
            raise LedgerBroken(
                f"history was changed: ledger entry {entry.sequence} of the earlier record is another one here"
            )
    for start, loss in verify_chain(before).by_period.items():
        if not loss.within(summary.by_period.get(start, PrivacyLoss())):
            raise LedgerBroken(f"history was changed: the period from {iso(start)} costs less than in the earlier record")
    return len(shared)


def _record_in(text: str, key: bytes | None) -> tuple[dict[str, Any], bytes]:
    record, named = SIGNED_RECORD.opened(text, key)
    ledger = record.get("ledger")
    if not isinstance(ledger, dict) or not isinstance(ledger.get("entries"), list):
        raise LedgerBroken(SIGNED_RECORD.damaged)
    return record, named


def entries_in(record: dict[str, Any]) -> list[LedgerEntry]:
    """The ledger's entries of a record, chained; whether they hold is for `verify_chain` to say."""
    first = record["ledger"].get("first", 1)
    chain: list[LedgerEntry] = []
    for number, content in enumerate(record["ledger"]["entries"], first if isinstance(first, int) else 1):
        chain.append(LedgerEntry.following(number, chain[-1].entry_hash if chain else GENESIS, str(content)))
    return chain
