"""What the ledger says of a release, and whether a stored release is that one (C2, R1).

The entry of a measurement commits to its values with a salt, and to all that is told beside them and stands in no other
field. Anybody who has salt and values can check the entry; from the entry alone no guess can be tested, however few values
there are. Old entries, made before there were salts, hold a plain digest of the values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hushmeter.errors import LedgerBroken, ensure
from hushmeter.model.arrays import Int64
from hushmeter.model.ledger import LedgerEntry, canonical_json, chain_hash
from hushmeter.model.release import NoisyVector, PartitionKey, Release

COMMITMENT: Final = "values_commitment"
PLAIN: Final = "values_sha256"
"""The field of old entries, which have no salt; no new entry has it."""
LOST: Final = "lost"
"""The mechanism of a measurement of which nothing was released."""
_LABEL: Final = b"hushmeter released values 1\0"


def values_commitment(
    salt: bytes, values: Int64, *, keys: Sequence[PartitionKey] | None, completeness: float, published_at_ms: int
) -> str:
    """SHA-256 over a label, the salt, what is told beside the values as canonical JSON, a zero byte, and the values.

    Args:
        salt: 16 bytes, of this measurement of this window alone.
        values: int64[partitions, columns], noisy.
        keys: of an open view, the partitions that the rows are of.
        completeness: of the release.
        published_at_ms: of the release.

    Returns:
        64 hexadecimal digits.

    Privacy:
        Without the salt it tells nothing about the values: guesses of 128 random bits are not tried.
    """
    beside = canonical_json(
        {"completeness": completeness, "keys": keys, "published_at_ms": published_at_ms, "shape": list(values.shape)}
    )
    return hashlib.sha256(_LABEL + salt + beside.encode() + b"\0" + _cells(values)).hexdigest()


def commitment_to(release: Release, vector: NoisyVector) -> str:
    """`values_commitment` of one vector of a release."""
    ensure(vector.salt is not None, "what is released has a salt (R1)")
    return values_commitment(
        vector.salt or b"",
        vector.values,
        keys=release.keys,
        completeness=release.completeness,
        published_at_ms=release.published_at_ms,
    )


def _plain_digest(values: Int64, keys: Sequence[PartitionKey] | None) -> str:
    """What old entries, which have no salt, hold: SHA-256 over the partitions, a zero byte, and the values."""
    partitions = json.dumps(keys, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(partitions.encode() + b"\0" + _cells(values)).hexdigest()


def _cells(values: Int64) -> bytes:
    return values.astype("<i8").tobytes()


ReleaseName = tuple[int, str, tuple[str, ...], str, int]
"""Plan version, metric, view, resolution and start of the window."""


@dataclass(frozen=True, slots=True)
class Charged:
    """An entry that says what was released, and its content."""

    entry: LedgerEntry
    fields: Mapping[str, Any]


def charged_releases(entries: Iterable[LedgerEntry]) -> dict[ReleaseName, dict[str, Charged]]:
    """By release and measurement, the entries that say what it is.

    Args:
        entries: any, checkpoints not among them; those of which nothing was released are left out.

    Raises:
        LedgerBroken: naming an entry that cannot be read.
    """
    found: dict[ReleaseName, dict[str, Charged]] = {}
    for entry in entries:
        try:
            f: Mapping[str, Any] = entry.fields
            if f["mechanism"] == LOST:
                continue
            name = f["plan_version"], f["metric"], tuple(f["view"]), f["resolution"], f["window_start_ms"]
            found.setdefault(name, {})[f["measurement"]] = Charged(entry, f)
        except (KeyError, ValueError, TypeError):
            raise LedgerBroken(f"entry {entry.sequence} does not say what it charges") from None
    return found


def name_of(release: Release) -> ReleaseName:
    """What its entries name a release by."""
    key = release.key
    return key.plan_version, key.metric, key.view, key.resolution, key.window_start_ms


def differences(release: Release, charges: Mapping[str, Charged]) -> tuple[str, ...]:
    """In which measurements and fields a stored release is not what the ledger says; none where it is.

    Args:
        release: as it is stored.
        charges: the entries that say what it is, by measurement.

    Returns:
        A text a measurement that differs, without any value.
    """
    vectors = {name.value: vector for name, vector in release.vectors.items()}
    found = []
    for name in sorted(charges.keys() | vectors.keys()):
        if name not in charges:
            found.append(f"{name} stands in no entry")
        elif name not in vectors:
            found.append(f"{name} is missing")
        elif differing := _differing(release, vectors[name], charges[name]):
            found.append(f"{name} differs in {', '.join(differing)}")
    return tuple(found)


def _differing(release: Release, vector: NoisyVector, charged: Charged) -> list[str]:
    entry, fields = charged.entry, charged.fields
    told = {
        "window_end_ms": release.window_end_ms,
        "mechanism": vector.mechanism.value,
        "scale": vector.scale,
        "threshold": vector.threshold,
        "mapped_loss": vector.loss,
        "mapped_delta": vector.delta,
    }
    differing = [name for name, value in told.items() if fields.get(name) != value]
    if chain_hash(entry.previous_hash, entry.content) != entry.entry_hash:
        differing.append("the entry's own hash")
    if not _values_hold(release, vector, fields):
        differing.append("values, salt, completeness or time of publication")
    return differing


def _values_hold(release: Release, vector: NoisyVector, fields: Mapping[str, object]) -> bool:
    if COMMITMENT not in fields:
        return vector.salt is None and fields.get(PLAIN) == _plain_digest(vector.values, release.keys)
    return vector.salt is not None and fields[COMMITMENT] == commitment_to(release, vector)
