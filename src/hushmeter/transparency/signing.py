"""The record as a signed text, and what anybody can check of it with the public key alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hushmeter.errors import LedgerBroken
from hushmeter.ledger.entries import verify_chain
from hushmeter.model.ledger import GENESIS, LedgerEntry, canonical_json
from hushmeter.signatures import is_signed, public_key, sign
from hushmeter.transparency.record import FORMAT

KIND = "transparency record"


def signed(record: dict[str, object], private_key: bytes) -> str:
    """The record as JSON, with its signature.

    Args:
        record: as `record_of` makes it.
        private_key: of the deployment, 32 bytes.
    """
    signature = sign(private_key, KIND, canonical_json(record).encode())
    return canonical_json({"record": record, "public_key": public_key(private_key).hex(), "signature": signature.hex()})


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
        text: what `signed` wrote.
        key: public key of the deployment; None takes the one that the text itself names, which proves nothing about whose
            record it is.
        earlier: another text of the same deployment, from before.

    Raises:
        LedgerBroken: naming what does not hold.
    """
    record, named = _signed_part(text, key)
    chain = _chain(record)
    head = chain[-1].entry_hash.hex() if chain else GENESIS.hex()
    if head != record["ledger"]["head"]:
        raise LedgerBroken("the record's ledger does not end with the hash that it names as its head")
    if earlier is not None:
        before, _ = _signed_part(earlier, named)
        if before["deployment"] != record["deployment"]:
            raise LedgerBroken(
                f"the earlier record is of deployment {before['deployment']}, this one of {record['deployment']}"
            )
        old, new = before["ledger"]["entries"], record["ledger"]["entries"]
        for number, content in enumerate(old, 1):
            if number > len(new) or new[number - 1] != content:
                raise LedgerBroken(f"history was changed: ledger entry {number} of the earlier record is another one here")
    return Verified(str(record["deployment"]), str(record["as_of"]), len(chain), head, named)


def _signed_part(text: str, key: bytes | None) -> tuple[dict[str, Any], bytes]:
    try:
        found = json.loads(text)
        record, named, signature = found["record"], bytes.fromhex(found["public_key"]), bytes.fromhex(found["signature"])
        canonical = canonical_json(record).encode()
        known = record["format"] == FORMAT and isinstance(record["ledger"]["entries"], list)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise LedgerBroken("this is no transparency record that hushmeter wrote, or it is damaged") from None
    if not known:
        raise LedgerBroken("the record is of another format; verify it with the hushmeter that made it")
    if key is not None and key != named:
        raise LedgerBroken(f"the record is signed with the key {named.hex()}, not with {key.hex()}")
    if not is_signed(named, KIND, canonical, signature):
        raise LedgerBroken("the signature is not that of the record: something in it was changed")
    return record, named


def _chain(record: dict[str, Any]) -> list[LedgerEntry]:
    chain: list[LedgerEntry] = []
    for number, content in enumerate(record["ledger"]["entries"], 1):
        chain.append(LedgerEntry.following(number, chain[-1].entry_hash if chain else GENESIS, str(content)))
    verify_chain(chain)
    return chain
