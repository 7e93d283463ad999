"""Checks releases against the ledger, as whoever may read them can: the ledger commits to their values (R1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hushmeter.api.release.v1.release_pb2 import Opening, Release
from hushmeter.errors import LedgerBroken
from hushmeter.ledger.checkpoint import is_checkpoint
from hushmeter.ledger.commitments import COMMITMENT, LOST, values_commitment
from hushmeter.ledger.entries import verify_chain
from hushmeter.model.ledger import LedgerEntry
from hushmeter.model.release import SALT_BYTES
from hushmeter.model.time import iso

_NAMED_BY = ("plan_version", "metric", "view", "resolution", "window_start_ms", "window_end_ms")
_Name = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class VerifiedReleases:
    """What was found of some releases.

    Attributes:
        verified: how many are what the ledger commits to.
        withheld: how many are from before the public ledger begins: their entries are withheld.
        head: hash of the newest entry of the ledger, 32 bytes.
    """

    verified: int
    withheld: int
    head: bytes


def verified(releases: Iterable[Release], entries: Sequence[LedgerEntry]) -> VerifiedReleases:
    """Compares releases with the entries of a ledger.

    Args:
        releases: whole views, with openings.
        entries: the public ledger.

    Raises:
        LedgerBroken: naming the first window that does not hold, or the entry.
    """
    summary = verify_chain(entries)
    charges: dict[_Name, dict[str, Mapping[str, object]]] = {}
    for fields in (entry.fields for entry in entries if not is_checkpoint(entry)):
        if fields.get("mechanism") != LOST:
            charges.setdefault(_name(fields), {})[str(fields["measurement"])] = fields
    holding = withheld = 0
    for release in releases:
        charged = charges.get(_name_of(release), {})
        if not charged and release.release_id < summary.first:
            withheld += 1
            continue
        _ensure_holds(release, charged)
        holding += 1
    return VerifiedReleases(holding, withheld, summary.head_hash)


def _name(fields: Mapping[str, object]) -> _Name:
    return tuple(tuple(v) if isinstance(v := fields.get(name), list) else v for name in _NAMED_BY)


def _name_of(r: Release) -> _Name:
    return r.plan_version, r.metric, tuple(r.view), r.resolution, r.window_start_ms, r.window_end_ms


def _ensure_holds(release: Release, charged: Mapping[str, Mapping[str, object]]) -> None:
    window = f"{release.metric} by [{', '.join(release.view)}], {release.resolution} from {iso(release.window_start_ms)}"
    openings = {opening.measurement: opening for opening in release.openings}
    if openings.keys() != charged.keys():
        raise LedgerBroken(f"{window}: the ledger says that other measurements were released")
    for name, opening in openings.items():
        if charged[name].get(COMMITMENT) != _commitment(release, opening):
            raise LedgerBroken(f"{window}: {name} is not what the ledger commits to")


def _commitment(release: Release, opening: Opening) -> str | None:
    """What the entry of a release would say; None of an opening that cannot be one."""
    keys = None
    if release.HasField("private_partitions"):
        keys = [(row.public_partition, row.token) for row in release.private_partitions.rows]
    if len(opening.salt) != SALT_BYTES or not opening.columns or len(opening.values) % opening.columns:
        return None
    return values_commitment(
        opening.salt,
        np.array(opening.values, np.int64).reshape(-1, opening.columns),
        keys=keys,
        completeness=release.completeness,
        published_at_ms=release.published_at_ms,
    )
