"""A checkpoint: an entry that stands for all entries before it and tells nothing of them but what they spent (R1).

Old entries, made before there were salts, hold plain digests of released values. Their other fields are public, so that
guesses of the values could be tested against each of their hashes. Whoever is no operator therefore reads the ledger from
its checkpoint on. The checkpoint follows no hash: it commits to the hash of the entry before it with a salt, which the
operator keeps.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from hushmeter.errors import InvariantError, LedgerBroken, ensure
from hushmeter.model.ledger import LedgerEntry, PrivacyLoss, Spending, canonical_json, fraction_of, fraction_text
from hushmeter.model.release import SALT_BYTES
from hushmeter.model.time import has_date

NO_SALTS: Final[Mapping[int, bytes]] = MappingProxyType({})
_KEY: Final = "checkpoint"
_BEGINS: Final = f'{{"{_KEY}":'
"""No content of a charge begins so: names are in order, and its first is `cap`."""
_HEAD_LABEL: Final = b"hushmeter checkpoint head 1\0"
_RELEASES_LABEL: Final = b"hushmeter checkpoint releases 1\0"


@dataclass(slots=True)
class Past:
    """What is told of the entries before a checkpoint.

    Attributes:
        spent: by start of the period, what was charged, and how often.
        charged_until_ms: newest end of a window that was charged; 0 where none was.
        released_from_ms: oldest end of a window that was released; None where none was.
    """

    spent: defaultdict[int, Counter[Spending]] = field(default_factory=lambda: defaultdict(Counter))
    charged_until_ms: int = 0
    released_from_ms: int | None = None

    def add(self, period_start_ms: int, spending: Spending, window_end_ms: int, *, released: bool) -> None:
        """Adds one charge."""
        self.spent[period_start_ms][spending] += 1
        self.charged_until_ms = max(self.charged_until_ms, window_end_ms)
        if released:
            first = self.released_from_ms
            self.released_from_ms = window_end_ms if first is None else min(first, window_end_ms)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says.

    Attributes:
        deployment: whose ledger.
        through: number of the entry before it.
        head: commitment to that entry's hash.
        releases: commitment to what is told of the releases before it and stands in none of their entries.
        past: what is told of the entries before it.
    """

    deployment: str
    through: int
    head: str
    releases: str
    past: Past

    def __post_init__(self) -> None:
        ensure(self.through >= 1, "a checkpoint stands for something")

    def content(self) -> str:
        """The content of its entry."""
        spent = [
            [start, s.series, s.cap, fraction_text(s.loss.amount), fraction_text(s.loss.delta), count]
            for start, counted in sorted(self.past.spent.items())
            for s, count in sorted(
                counted.items(), key=lambda c: (c[0].series, c[0].cap, c[0].loss.amount, c[0].loss.delta)
            )
        ]
        said = {
            "deployment": self.deployment,
            "through": self.through,
            "head": self.head,
            "releases": self.releases,
            "charged_until_ms": self.past.charged_until_ms,
            "released_from_ms": self.past.released_from_ms,
            "spent": spent,
        }
        return canonical_json({_KEY: said})


def is_checkpoint(entry: LedgerEntry) -> bool:
    """Whether an entry is one; it spends nothing."""
    return entry.content.startswith(_BEGINS)


def checkpoint_of(entry: LedgerEntry) -> Checkpoint:
    """What a checkpoint says; raises `LedgerBroken` where it says nothing that hushmeter writes."""
    try:
        said: dict[str, Any] = json.loads(entry.content)[_KEY]
        released = said["released_from_ms"]
        past = Past(
            charged_until_ms=int(said["charged_until_ms"]), released_from_ms=None if released is None else int(released)
        )
        for start, series, cap, amount, delta, count in said["spent"]:
            loss = PrivacyLoss(fraction_of(amount), fraction_of(delta))
            past.spent[int(start)][Spending(str(series), int(cap), loss)] = int(count)
        found = Checkpoint(str(said["deployment"]), int(said["through"]), str(said["head"]), str(said["releases"]), past)
        sane = all(has_date(start) for start in past.spent) and all(
            s.cap >= 1 and n >= 1 for counted in past.spent.values() for s, n in counted.items()
        )
        # An entry that says anything else, a number as text or a row twice, differs from the text that is written of what
        # was read.
        if not sane or found.content() != entry.content or found.through != entry.sequence - 1:
            raise ValueError
    except (KeyError, ValueError, TypeError, AttributeError, ArithmeticError, InvariantError):
        raise LedgerBroken(f"entry {entry.sequence} is no checkpoint that hushmeter wrote") from None
    return found


def head_commitment(salt: bytes, through: int, head: bytes) -> str:
    """SHA-256 over a label, the salt, and number and hash of the entry before a checkpoint."""
    return hashlib.sha256(_HEAD_LABEL + _checked(salt) + f"{through}".encode() + b"\0" + head).hexdigest()


def releases_commitment(salt: bytes, told: Iterable[tuple[int, int, float]]) -> str:
    """SHA-256 over a label, the salt, and of each earlier release number, time of publication and completeness.

    Args:
        salt: of the checkpoint.
        told: by number.
    """
    digest = hashlib.sha256(_RELEASES_LABEL + _checked(salt))
    for number, published_at_ms, completeness in told:
        digest.update(f"{number},{published_at_ms},{completeness.hex()}\n".encode())
    return digest.hexdigest()


def _checked(salt: bytes) -> bytes:
    ensure(len(salt) == SALT_BYTES, f"a salt is {SALT_BYTES} bytes")
    return salt
