"""Checks releases against the ledger, which commits to their values (R1); whoever may read them can do so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hushmeter.api.release.v1.release_pb2 import Opening, Release
from hushmeter.errors import LedgerBroken
from hushmeter.ledger.checkpoint import is_checkpoint
from hushmeter.ledger.commitments import COMMITMENT, Charged, charged_releases, values_commitment
from hushmeter.ledger.entries import verify_chain
from hushmeter.model.ledger import LedgerEntry
from hushmeter.model.release import SALT_BYTES
from hushmeter.model.time import iso


@dataclass(frozen=True, slots=True)
class VerifiedReleases:
    """What was found of some releases.

    Attributes:
        verified: how many are what the ledger commits to.
        withheld: how many are older than the public ledger, so that their entries cannot be read.
        head: hash of the newest entry of the ledger, 32 bytes.

    Example:
        >>> found = analyst.verify("calls", resolution="1h")
        >>> found.verified, found.withheld
        (1, 0)
        >>> len(found.head)  # compare it with the head that a colleague's `hushmeter ledger verify` prints
        32
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
    charges = charged_releases(entry for entry in entries if not is_checkpoint(entry))
    holding = withheld = 0
    for release in releases:
        name = release.plan_version, release.metric, tuple(release.view), release.resolution, release.window_start_ms
        charged = charges.get(name, {})
        if not charged and release.release_id < summary.first:
            withheld += 1
            continue
        _ensure_holds(release, charged)
        holding += 1
    return VerifiedReleases(holding, withheld, summary.head_hash)


def _ensure_holds(release: Release, charged: Mapping[str, Charged]) -> None:
    window = f"{release.metric} by [{', '.join(release.view)}], {release.resolution} from {iso(release.window_start_ms)}"
    openings = {opening.measurement: opening for opening in release.openings}
    if openings.keys() != charged.keys():
        raise LedgerBroken(f"{window}: the ledger says that other measurements were released")
    for name, opening in openings.items():
        fields = charged[name].fields
        committed = fields.get(COMMITMENT), fields.get("window_end_ms")
        if committed != (_commitment(release, opening), release.window_end_ms):
            raise LedgerBroken(f"{window}: {name} is not what the ledger commits to")


def _commitment(release: Release, opening: Opening) -> str | None:
    """The commitment that the ledger's entry must have; None where the opening's sizes are wrong."""
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
