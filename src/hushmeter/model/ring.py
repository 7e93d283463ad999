"""The key ring's record of a deployment (C7): a value, its encoding, and every way in which it may change.

`hushmeter.pipeline.claims` says who changes it when, and what is left after a crash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final

from hushmeter.errors import NotServing, StateConflict, ensure
from hushmeter.model.ledger import GENESIS, LedgerMark, PrivacyLoss, canonical_json
from hushmeter.model.time import Window, iso

PERIODS_KEPT: Final = 8
"""So many periods' charges stand in the record; late windows of a period are over long before it falls out."""


class ClaimState(StrEnum):
    """How far a claim has come."""

    CLAIMED = "CLAIMED"
    """Its owner may draw noise for the window, from its memory; nobody else ever does."""
    DRAWN = "DRAWN"
    """The publication exists, and is published as it is, by whoever holds its bytes."""
    LOST = "LOST"
    """The window is charged in full, and never released."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The one window that is being ended.

    Attributes:
        window: which.
        owner: 128 random bits, drawn for this claim alone: a copy of a process is not its owner.
        state: how far it has come.
        head: the ledger's head once the window has ended; None while it is CLAIMED.
        publication: SHA-256 of the publication's bytes where it is DRAWN, hexadecimal; empty else.
    """

    window: Window
    owner: str
    state: ClaimState = ClaimState.CLAIMED
    head: LedgerMark | None = None
    publication: str = ""

    def __post_init__(self) -> None:
        ensure((self.head is None) == (self.state is ClaimState.CLAIMED), "a claim names the head that it ends in")
        ensure(bool(self.publication) == (self.state is ClaimState.DRAWN), "what was drawn has a hash, and nothing else")


@dataclass(frozen=True, slots=True)
class Serving:
    """Which state serves a deployment.

    Attributes:
        epoch: 128 random bits, drawn when it began to serve; the state holds them too.
        host, pid: of the process that began.
        since_ms: when.
        state_dir: where the state lies.
    """

    epoch: str
    host: str
    pid: int
    since_ms: int
    state_dir: str

    def __str__(self) -> str:
        return f"{self.state_dir} on {self.host} (pid {self.pid}, since {iso(self.since_ms)})"


@dataclass(frozen=True, slots=True)
class DecisionMark:
    """The newest decision, and with it the newest erasure: an erasure is recorded together with its withdrawals.

    Attributes:
        sequence: its number; 0 where nobody has decided yet.
        digest: 32 bytes, over what is recorded of it for good.
    """

    sequence: int = 0
    digest: bytes = GENESIS


@dataclass(frozen=True, slots=True)
class PlanMark:
    """The newest version of the plan; 0 and no hash where none has been noted yet."""

    version: int = 0
    plan_hash: str = ""


@dataclass(frozen=True, slots=True)
class RingRecord:
    """What the keys of a deployment have seen (C7); changed by compare-and-set alone.

    Attributes:
        head: of the ledger, with the deployment's id.
        decision: the newest decision that was answered.
        plan: the newest version of the plan that was followed.
        charged: by start of the period, what its windows have been charged, those that were only claimed included.
        newest: by resolution, the end of the newest window ever claimed; it never falls.
        rests: starts of periods in which metrics of bounded participation are not released any more: a publication was
            drawn, and its bytes, with the sets of kept windows, are lost.
        serving: the state that serves; None before the first.
        claim: the window that is being ended; None most of the time.
    """

    head: LedgerMark
    decision: DecisionMark = DecisionMark()
    plan: PlanMark = PlanMark()
    charged: Mapping[int, PrivacyLoss] = field(default_factory=dict)
    newest: Mapping[str, int] = field(default_factory=dict)
    rests: frozenset[int] = frozenset()
    serving: Serving | None = None
    claim: Claim | None = None

    @property
    def was_used(self) -> bool:
        """Whether anything was decided, claimed or published under it: then it is never another deployment's."""
        return bool(self.head.sequence or self.decision.sequence or self.newest or self.claim)

    def ensure_serving(self, epoch: str) -> None:
        """Raises `NotServing`, naming who serves now, unless it is the state of this epoch."""
        if self.serving is None or self.serving.epoch != epoch:
            raise NotServing(
                f"another state of this deployment serves: {self.serving or 'not known which'}. Nothing is taken or "
                "released here any more. If that one is not wanted, stop it and start the one that is; delete copies, and "
                "move a deployment with state and keys together"
            )

    def served_by(self, serving: Serving) -> RingRecord:
        """Another state serves from now on."""
        return replace(self, serving=serving)

    def decided(self, decision: DecisionMark) -> RingRecord:
        """A decision was recorded; the newest one stays."""
        return replace(self, decision=decision) if decision.sequence > self.decision.sequence else self

    def following(self, plan: PlanMark) -> RingRecord:
        """A version of the plan is followed.

        Raises:
            StateConflict: a newer version was followed before, or another one of that number (C6).
        """
        if plan.version < self.plan.version or (plan.version == self.plan.version and plan != self.plan):
            raise StateConflict(
                f"version {self.plan.version} of the plan (hash {self.plan.plan_hash}) has been in force, and this state "
                f"does not know it: it knows version {plan.version} ({plan.plan_hash[:12]}...). Apply that very version "
                "with hushmeter plan apply; nothing is taken or released before"
            )
        return replace(self, plan=plan)

    def claimed(self, window: Window, owner: str, period_start_ms: int, loss: PrivacyLoss) -> RingRecord:
        """Claims a window.

        Args:
            window: later than every one of its resolution that was ever claimed.
            owner: of the claim.
            period_start_ms: the period that pays.
            loss: what the period has been charged once the window has ended.

        Raises:
            StateConflict: a window is claimed, or this one has been before.
        """
        self._ensure_unclaimed()
        if self.was_claimed(window):
            raise StateConflict(f"window {window} has been claimed before, in this state or another; it is not drawn again")
        newest = {**self.newest, window.resolution: window.end_ms}
        return replace(self.charging(period_start_ms, loss), newest=newest, claim=Claim(window, owner))

    def losing(self, window: Window, owner: str, period_start_ms: int, loss: PrivacyLoss, head: LedgerMark) -> RingRecord:
        """Claims a window that is LOST from the beginning, also one that was claimed before.

        Args:
            window: which; as of `claimed`, like the next three.
            owner: of the claim.
            period_start_ms: the period that pays.
            loss: what it has been charged then.
            head: of the ledger once it has ended.
        """
        self._ensure_unclaimed()
        end_ms = max(window.end_ms, self.newest.get(window.resolution, window.end_ms))
        newest, claim = {**self.newest, window.resolution: end_ms}, Claim(window, owner, ClaimState.LOST, head)
        return replace(self.charging(period_start_ms, loss), newest=newest, claim=claim)

    def claim_on(self, window: Window) -> Claim:
        """The claim, which is on a window; `StateConflict` where there is none, or it is on another one."""
        if self.claim is None or self.claim.window != window:
            raise StateConflict(f"another process has settled the claim on window {window} meanwhile")
        return self.claim

    def was_claimed(self, window: Window) -> bool:
        """Whether noise may have been drawn for a window, or for a later one of its resolution, in any history."""
        return window.end_ms <= self.newest.get(window.resolution, window.start_ms)

    def drawn(self, owner: str, publication: str, head: LedgerMark) -> RingRecord:
        """CLAIMED -> DRAWN: noise was drawn by the claim's owner, and the bytes of the publication are durable."""
        claim = self._own(owner)
        ensure(claim.state is ClaimState.CLAIMED, f"noise for window {claim.window} is drawn once")
        return replace(self, claim=replace(claim, state=ClaimState.DRAWN, head=head, publication=publication))

    def lost(self, owner: str, head: LedgerMark, rests: int | None = None) -> RingRecord:
        """To LOST, from any state of the claim: the window is charged, and never released.

        Args:
            owner: of the claim.
            head: of the ledger once the window has ended.
            rests: start of its period where what was drawn cannot be had any more.
        """
        claim = replace(self._own(owner), state=ClaimState.LOST, head=head, publication="")
        return replace(self, claim=claim, rests=self.rests if rests is None else self.rests | {rests})

    def ended(self, owner: str) -> RingRecord:
        """The claimed window has ended in the state: the head moves, and the claim goes."""
        head = self._own(owner).head
        if head is None:
            raise StateConflict("a window that is only claimed cannot have ended")
        return replace(self, head=head, claim=None)

    def restored(self, head: LedgerMark, decision: DecisionMark, charged: Mapping[int, PrivacyLoss]) -> RingRecord:
        """The history goes on from a backup: what was claimed, charged and planned since never falls."""
        record = replace(self, head=head, decision=decision, claim=None)
        for start, loss in charged.items():
            record = record.charging(start, loss)
        return record

    def charging(self, period_start_ms: int, loss: PrivacyLoss) -> RingRecord:
        """A period has been charged so much; what it was charged before never falls."""
        before = self.charged.get(period_start_ms, PrivacyLoss())
        charged = {**self.charged, period_start_ms: before.at_least(loss)}
        kept = sorted(charged)[-PERIODS_KEPT:]
        rests = frozenset(start for start in self.rests if start >= kept[0])
        return replace(self, charged={start: charged[start] for start in kept}, rests=rests)

    def _ensure_unclaimed(self) -> None:
        if self.claim is not None:
            raise StateConflict(f"window {self.claim.window} is claimed, and ends before another one is claimed")

    def _own(self, owner: str) -> Claim:
        if self.claim is None or self.claim.owner != owner:
            raise StateConflict(
                "another process has settled the claim on this window meanwhile; it is no longer ours to end"
            )
        return self.claim


def encode_record(record: RingRecord) -> bytes:
    """A record as canonical JSON: equal records have equal bytes."""
    serving, claim = record.serving, record.claim
    fields = {
        "deployment_id": record.head.deployment_id,
        "sequence": record.head.sequence,
        "entry_hash": record.head.entry_hash.hex(),
        "decision": [record.decision.sequence, record.decision.digest.hex()],
        "plan": [record.plan.version, record.plan.plan_hash],
        "charged": [[start, str(loss.amount), str(loss.delta)] for start, loss in sorted(record.charged.items())],
        "newest": record.newest,
        "rests": sorted(record.rests),
        "serving": None
        if serving is None
        else [serving.epoch, serving.host, serving.pid, serving.since_ms, serving.state_dir],
        "claim": None
        if claim is None
        else [
            [claim.window.resolution, claim.window.start_ms, claim.window.end_ms],
            claim.owner,
            claim.state.value,
            None if claim.head is None else [claim.head.sequence, claim.head.entry_hash.hex()],
            claim.publication,
        ],
    }
    return canonical_json(fields).encode()


def decode_record(content: bytes) -> RingRecord:
    """The inverse of `encode_record`. It also reads the mark of an older ring, which says how far the ledger had come.

    Raises:
        ValueError: the bytes are no record.
    """
    try:
        f: dict[str, Any] = json.loads(content)
        head = LedgerMark(f["deployment_id"], f["sequence"], bytes.fromhex(f["entry_hash"]))
        if "claim" not in f:
            return RingRecord(head)
        sequence, digest = f["decision"]
        return RingRecord(
            head,
            DecisionMark(sequence, bytes.fromhex(digest)),
            PlanMark(*f["plan"]),
            {start: PrivacyLoss(Fraction(amount), Fraction(delta)) for start, amount, delta in f["charged"]},
            f["newest"],
            frozenset(f["rests"]),
            None if f["serving"] is None else Serving(*f["serving"]),
            None if f["claim"] is None else _claim(head.deployment_id, *f["claim"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no record: {error}") from None


def _claim(
    deployment_id: str, window: list[Any], owner: str, state: str, head: list[Any] | None, publication: str
) -> Claim:
    ends_in = None if head is None else LedgerMark(deployment_id, head[0], bytes.fromhex(head[1]))
    return Claim(Window(*window), owner, ClaimState(state), ends_in, publication)
