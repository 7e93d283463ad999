"""Releases as they may be told: each is compared with the ledger whenever it is read (R1).

A value that was changed in the database is never served, and where the ledger says that a release was published which is
not there, nobody is told that there was none. `hushmeter ledger verify` compares all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from hushmeter.errors import LedgerBroken, ReleaseAltered
from hushmeter.ledger.checkpoint import checkpoint_of, is_checkpoint, releases_commitment
from hushmeter.ledger.commitments import LOST, Charged, ReleaseName, charged_releases, differences, name_of
from hushmeter.model.release import Release
from hushmeter.model.time import iso
from hushmeter.ports import WindowStore

_AT_ONCE: Final = 32
"""Releases whose entries are read in one transaction."""


def released(
    store: WindowStore, metric: str, view: tuple[str, ...], resolution: str, from_ms: int, to_ms: int
) -> Iterator[tuple[int, Release]]:
    """Releases of windows that end in `(from_ms, to_ms]`, in time order, each with the number of its first ledger entry.

    Raises:
        ReleaseAltered: naming the first that is not what the ledger says, or is missing.
    """
    stored, whole = store.releases(metric, view, resolution, from_ms, to_ms), False
    while not whole:
        page = list(itertools.islice(stored, _AT_ONCE))
        whole = len(page) < _AT_ONCE
        through_ms = to_ms if whole else page[-1][1].window_end_ms
        try:
            charged = charged_releases(store.charged(metric, view, resolution, from_ms + 1, through_ms))
        except LedgerBroken as error:
            raise ReleaseAltered(str(error)) from None
        there = {name_of(release) for _, release in page}
        missing = min((name for name in charged if name not in there), key=_start_of, default=None)
        for number, release in page:
            if missing is not None and _start_of(missing) < release.key.window_start_ms:
                break
            charges = charged.get(name_of(release), {})
            if wrong := _wrong(number, release, charges):
                raise ReleaseAltered(wrong)
            yield min(c.entry.sequence for c in charges.values()), release
        if missing is not None:
            _ensure_just_published(store, missing, charged[missing])
            # A sealer was faster than we: what it has published is told to whoever asks again.
            return
        from_ms = through_ms


def _start_of(name: ReleaseName) -> int:
    return name[-1]


def _ensure_just_published(store: WindowStore, name: ReleaseName, charges: Mapping[str, Charged]) -> None:
    """Raises `ReleaseAltered` unless a release is there by now: entries are read a moment after releases."""
    _, metric, view, resolution, start_ms = name
    end_ms = max(charged.fields["window_end_ms"] for charged in charges.values())
    if name in {name_of(release) for _, release in store.releases(metric, view, resolution, end_ms - 1, end_ms)}:
        return
    raise ReleaseAltered(
        f"{metric} by [{', '.join(view)}], {resolution} from {iso(start_ms)} was released, as the ledger says, and its "
        "release is missing: put the newest state back, or take a backup up with hushmeter restore; ledger verify names all"
    )


def public_from(store: WindowStore) -> int:
    """The number of the ledger entry from which on everybody may read it: that of the newest checkpoint, if any (R1)."""
    return max(store.checkpoints(), default=1)


def _wrong(number: int, release: Release, charges: Mapping[str, Charged]) -> str:
    """In words, what is wrong with a stored release; empty where it is what its ledger entries say."""
    found = "; ".join(differences(release, charges)) if charges else "no ledger entry says that it was released"
    key = release.key
    try:
        window = f"{key.resolution} from {iso(key.window_start_ms)}"
    except (ValueError, OverflowError):
        window = f"{key.resolution} from no moment that there is"
    name = f"release {number} of {key.metric} by [{', '.join(key.view)}], {window}, plan version {key.plan_version}"
    return f"{name}: {found}" if found else ""


def discrepancies(store: WindowStore) -> Iterator[str]:
    """In words, every stored release that is not what the ledger says, and every measurement that is missing.

    Args:
        store: whose ledger holds: see `verify_chain`.
    """
    found: set[int] = set()
    read: list[tuple[int, int, Release]] = []
    for number, release in store.every_release():
        if isinstance(release, ReleaseAltered):
            yield str(release)
            continue
        key, end = release.key, release.window_end_ms
        entries = store.charged(key.metric, key.view, key.resolution, end, end)
        charges = charged_releases(entries).get(name_of(release), {})
        if wrong := _wrong(number, release, charges):
            yield wrong
        sequences = {c.entry.sequence for c in charges.values()}
        if not found.isdisjoint(sequences):
            yield f"release {number} of {key.metric}: another release stands for the same ledger entries"
        found |= sequences
        if sequences:
            read.append((min(sequences), number, release))
    yield from _told_otherwise(store, read)
    yield from _missing(store, found)


def _told_otherwise(store: WindowStore, read: Sequence[tuple[int, int, Release]]) -> Iterator[str]:
    """Releases of before salts: a checkpoint commits to what is told of them and stands in none of their entries."""
    for sequence, salt in store.checkpoints().items():
        checkpoint = checkpoint_of(next(store.ledger(sequence)))
        told = [(number, r.published_at_ms, r.completeness) for at, number, r in read if at <= checkpoint.through]
        if checkpoint.releases != releases_commitment(salt, told):
            yield (
                f"checkpoint {sequence}: of a release before it the number, the time of publication or the completeness "
                "differs, or a release is missing"
            )


def _missing(store: WindowStore, found: set[int]) -> Iterator[str]:
    for entry in store.ledger():
        fields = entry.fields
        if not is_checkpoint(entry) and fields["mechanism"] != LOST and entry.sequence not in found:
            yield (
                f"entry {entry.sequence}: {fields['metric']}, {fields['measurement']}, {fields['resolution']} from "
                f"{iso(int(str(fields['window_start_ms'])))} was released, and its release is missing"
            )
