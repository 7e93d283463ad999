"""Signed statements of a deployment, and what anybody can check of its record with the public key alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hushmeter.errors import LedgerBroken
from hushmeter.ledger.entries import verify_chain
from hushmeter.model.ledger import GENESIS, LedgerEntry, canonical_json
from hushmeter.signatures import is_signed, public_key, sign
from hushmeter.transparency.record import FORMAT


@dataclass(frozen=True, slots=True)
class Statement:
    """A kind of statement that a deployment signs.

    Attributes:
        kind: signed with it, so that no statement can be taken for another.
        name: of its field in the text.
        format: what its content's field `format` says.
    """

    kind: str
    name: str
    format: str

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
            found = json.loads(text)
            content, named, signature = (
                found[self.name],
                bytes.fromhex(found["public_key"]),
                bytes.fromhex(found["signature"]),
            )
            canonical, format_ = canonical_json(content).encode(), content["format"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise LedgerBroken(self.damaged) from None
        if format_ != self.format:
            raise LedgerBroken(f"the {self.name} is of another format; verify it with the hushmeter that made it")
        if key is not None and key != named:
            raise LedgerBroken(f"the {self.name} is signed with the key {named.hex()}, not with {key.hex()}")
        if not is_signed(named, self.kind, canonical, signature):
            raise LedgerBroken(f"the signature is not that of the {self.name}: something in it was changed")
        return content, named


RECORD = Statement("transparency record", "record", FORMAT)


@dataclass(frozen=True, slots=True)
class Verified:
    """What holds of a record.

    Attributes:
        deployment_id: whose.
        as_of: up to when, as it says.
        entries: how many ledger entries it has.
        head: hash of the newest.
        key: that it is signed with.
    """

    deployment_id: str
    as_of: str
    entries: int
    head: str
    key: bytes


def verify(text: str, key: bytes | None = None, earlier: str | None = None) -> Verified:
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
    chain = _chain(record)
    head = chain[-1].entry_hash.hex() if chain else GENESIS.hex()
    if head != record["ledger"]["head"]:
        raise LedgerBroken("the record's ledger does not end with the hash that it names as its head")
    if earlier is not None:
        before, _ = _record_in(earlier, named)
        if before["deployment"] != record["deployment"]:
            raise LedgerBroken(
                f"the earlier record is of deployment {before['deployment']}, this one of {record['deployment']}"
            )
        old, new = before["ledger"]["entries"], record["ledger"]["entries"]
        for number, content in enumerate(old, 1):
            if number > len(new) or new[number - 1] != content:
                raise LedgerBroken(f"history was changed: ledger entry {number} of the earlier record is another one here")
    return Verified(str(record["deployment"]), str(record["as_of"]), len(chain), head, named)


def _record_in(text: str, key: bytes | None) -> tuple[dict[str, Any], bytes]:
    record, named = RECORD.opened(text, key)
    ledger = record.get("ledger")
    if not isinstance(ledger, dict) or not isinstance(ledger.get("entries"), list):
        raise LedgerBroken(RECORD.damaged)
    return record, named


def _chain(record: dict[str, Any]) -> list[LedgerEntry]:
    chain: list[LedgerEntry] = []
    for number, content in enumerate(record["ledger"]["entries"], 1):
        chain.append(LedgerEntry.following(number, chain[-1].entry_hash if chain else GENESIS, str(content)))
    verify_chain(chain)
    return chain
