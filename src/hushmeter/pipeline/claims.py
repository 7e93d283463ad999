"""How a window is ended once over all copies of a state and all crashes: claims in the key ring's record (C7).

A ring has one record. Whoever ends a window moves it, each step one compare-and-set that is durable before the next begins:

    none --claim--> CLAIMED --draw--> DRAWN --publish--> none, and the head is that of the publication
                       |                |
                       '------lose------+----> LOST --mark lost--> none, and the head is that of the lost window
    none --lose-----------------------------'

Who may do what
    claim     the state whose epoch and ledger's head are the record's and whose decisions reach the record's;
              only where nothing is claimed, and no window of the resolution that ends as late was ever claimed.
    draw      the claim's owner alone: the process that made it, from its memory. A copy of the state, the same host after
              a kill, the same process number or epoch: none of them has what was drawn.
    publish   whoever has the bytes that DRAWN names by their SHA-256. They lie beside the state, encrypted under the
              period's key, and were durable before the claim became DRAWN.
    lose      whoever finds a claim that it cannot publish, in the ring before the state.
    settle    whoever comes next. Nothing else is claimed before.

What a crash leaves, and what the next process does
    before CLAIMED      nothing: no noise was drawn. The window is sealed again.
    CLAIMED             noise may have been drawn, and nobody has seen it: LOST, charged. It is not drawn again.
    CLAIMED, in memory  the disk refused the bytes or the record, and the owner lives: it tries again with the same bytes.
    DRAWN, bytes there  they are published: the same noise, the same entries, the same sets of kept windows.
    DRAWN, bytes gone   another state may have published them: LOST, charged, and metrics of bounded participation rest for
                        the period, because the sets of kept windows are unknown, as after a restore.
    LOST                the state is told, as often as it takes.
    ended in the state  the record's head moves, nothing else.

Two sealers of one state take turns by a lock beside the publications, which the kernel gives back when its holder ends:
without it each would find the other's claim, and lose the window. Nothing but windows rests on that lock.

A process that was paused between two steps and goes on finds that its compare-and-set is refused, and stops. Where it was
paused just before it writes to a state that nobody else uses, that state ends with the one noise that was ever drawn, and
is refused from then on. Where the record cannot be written, the step fails, and nothing is released.

References:
    docs/decisions/0029-one-record-for-all-copies.md.
    M. Burrows: The Chubby lock service for loosely-coupled distributed systems (2006), section 2.4, for why a lock without
    a number that rises would not do.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hushmeter.errors import InvariantError, KeyGone, StateConflict, ensure
from hushmeter.model.key_names import period_key
from hushmeter.model.ledger import DraftEntry, LedgerMark, PrivacyBudget, PrivacyLoss
from hushmeter.model.publication import Publication, head_after
from hushmeter.model.ring import Claim, ClaimState, PlanMark, RingRecord
from hushmeter.model.states import WindowState
from hushmeter.model.time import Window
from hushmeter.ports import KeyRing, Publications, StateStore, WindowStore

_NONCE_BYTES: Final = 12


def ring_record(keys: KeyRing) -> RingRecord:
    """The record of a deployment that was opened once."""
    record = keys.record()
    if record is None:
        raise InvariantError("the key ring of a deployment that is open holds no record")
    return record


def move_record(keys: KeyRing, change: Callable[[RingRecord], RingRecord]) -> RingRecord:
    """Changes the record in one step, and returns what it is then; again where another process came between.

    Args:
        keys: hold the record.
        change: from the record as it is; raises where it may not be changed.
    """
    while True:
        before = ring_record(keys)
        try:
            after = change(before)
        except StateConflict:
            # `change` reads the state too. Another process may have published since the record was read: then the record
            # has moved, and both are read again.
            if ring_record(keys) == before:
                raise
            continue
        if after == before:
            return before
        try:
            keys.swap(before, after)
        except StateConflict:
            continue
        return after


def ensure_newest(record: RingRecord, store: StateStore) -> None:
    """Refuses a state that is not the one whose history the keys have seen (C7).

    A state whose ledger ends where an open claim ends is the newest one as well; a state may be ahead in decisions that
    were not answered yet.

    Raises:
        StateConflict: it was copied, or taken back to an earlier day, or was restored elsewhere meanwhile.
    """
    head = store.ledger_head(record.head.deployment_id)
    claimed = None if record.claim is None else record.claim.head
    if head not in (record.head, claimed):
        raise StateConflict(
            f"this state {_how_it_differs(record, head, store)}: its ledger has {head.sequence} entries, and entry "
            f"{record.head.sequence} is the newest that its keys have seen. State or keys were copied or taken back; going "
            "on would release windows a second time. Put the newest state and keys back, or take a backup up with "
            "hushmeter restore"
        )
    known = record.decision
    if known.sequence and store.decision_mark(known.sequence) != known:
        raise StateConflict(
            f"this state is older than its keys: decision {known.sequence} was answered, and is not in it, or another one "
            "is. A withdrawal may be missing, so nothing is taken or released. Put the newest state back (with its -wal "
            "file), or take a backup up with hushmeter restore, which asks everybody again"
        )


def _how_it_differs(record: RingRecord, head: LedgerMark, store: WindowStore) -> str:
    if head.sequence < record.head.sequence:
        return "is older than its keys"
    at = next(store.ledger(record.head.sequence), None) if record.head.sequence else None
    if at is not None and at.entry_hash != record.head.entry_hash:
        return "has another history than its keys have seen"
    return "is newer than its keys, which were taken back"


class Claims:
    """The claims of one process of a state. One thread calls.

    Args:
        epoch: in which the state serves.
        plan: the newest version that is followed.
        keys: hold the record.
        store: the state.
        publications: beside it.
    """

    def __init__(
        self, epoch: str, plan: Callable[[], PlanMark], keys: KeyRing, store: StateStore, publications: Publications
    ) -> None:
        self._epoch, self._plan = epoch, plan
        self._keys, self._store, self._publications = keys, store, publications
        # What this process has drawn and not published yet: the claim's owner, the publication, and its encrypted bytes.
        self._remembered: tuple[str, Publication, bytes] | None = None

    def follow(self) -> RingRecord:
        """Notes what this state knows and the record does not, and returns the record.

        Raises:
            NotServing: another state serves.
            StateConflict: this state is not the newest one.
        """
        return move_record(self._keys, self._current)

    def claim(self, window: Window, head: LedgerMark, period_start_ms: int, loss: PrivacyLoss) -> str:
        """Claims a window, and returns the claim's owner, who may draw.

        Args:
            window: see `RingRecord.claimed`, as for the others.
            head: of the ledger when its price was asked; `StateConflict` where it is another one by now.
            period_start_ms: the period that pays.
            loss: what it has been charged then.
        """
        owner = secrets.token_hex(16)

        def claimed(record: RingRecord) -> RingRecord:
            if record.head != head:
                raise StateConflict(f"another window ended while {window} was sealed; it is sealed again")
            self._ensure_waiting(window)
            return self._current(record).claimed(window, owner, period_start_ms, loss)

        move_record(self._keys, claimed)
        # Every earlier claim has ended, so nobody needs the bytes of an earlier publication any more.
        self._publications.clear()
        return owner

    def remember(self, owner: str, publication: Publication) -> None:
        """Keeps in memory what the owner of a claim has drawn; from now on it is published, or nothing is."""
        key, nonce = self._key(publication.period_start_ms), os.urandom(_NONCE_BYTES)
        plain = self._publications.encoded(publication)
        self._remembered = owner, publication, nonce + AESGCM(key).encrypt(nonce, plain, owner.encode())

    def draw(self, owner: str) -> None:
        """CLAIMED -> DRAWN, once the bytes of what was drawn are durable.

        Raises:
            StateConflict: somebody else has settled the claim.
            StorageFull, Failure: the disk refused; the claim stays, and the same bytes are tried again.
        """
        if self._remembered is None or self._remembered[0] != owner:
            raise InvariantError("noise that is published was drawn by this process")
        _, publication, content = self._remembered
        self._publications.put(owner, content)
        digest = hashlib.sha256(content).hexdigest()
        move_record(self._keys, lambda r: self._serving(r).drawn(owner, digest, publication.head))

    def remembers(self, owner: str) -> bool:
        """Whether this process has drawn under a claim."""
        return self._remembered is not None and self._remembered[0] == owner

    def drawn(self, claim: Claim, period_start_ms: int) -> Publication | None:
        """What a DRAWN claim names; None where its bytes are not there, or are not those."""
        drawn_here = self._remembered if self.remembers(claim.owner) else None
        content = self._publications.get(claim.owner) if drawn_here is None else drawn_here[2]
        if content is None or hashlib.sha256(content).hexdigest() != claim.publication:
            return None
        try:
            key = self._key(period_start_ms)
            plain = AESGCM(key).decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], claim.owner.encode())
        except (KeyGone, InvalidTag):
            return None
        return self._publications.decoded(plain)

    def publish(self, claim: Claim, publication: Publication, budget: PrivacyBudget) -> None:
        """Publishes in the state what a DRAWN claim names, and ends the claim."""
        self._ensure_unchanged(claim)
        if not self._has_ended(claim.window):
            self._store.publish(
                publication.window,
                publication.releases,
                publication.entries,
                publication.period_start_ms,
                budget,
                publication.kept,
            )
        self._end(claim)

    def lose(
        self, window: Window, entries: Sequence[DraftEntry], period_start_ms: int, loss: PrivacyLoss, budget: PrivacyBudget
    ) -> None:
        """Ends a window LOST: claimed or not, in the ring before the state.

        Args:
            window: which; where it is claimed, whoever claimed it stops.
            entries: its whole charge.
            period_start_ms: the period that pays.
            loss: what the period has been charged then.
            budget: of one period.
        """

        def lost(record: RingRecord) -> RingRecord:
            serving, head = self._serving(record), head_after(record.head, entries)
            if record.claim is None or record.claim.window != window:
                self._ensure_waiting(window)
                return self._current(serving).losing(window, secrets.token_hex(16), period_start_ms, loss, head)
            unpublished = record.claim.state is ClaimState.DRAWN and self.drawn(record.claim, period_start_ms) is None
            return serving.lost(record.claim.owner, head, period_start_ms if unpublished else None)

        claim = move_record(self._keys, lost).claim_on(window)
        self._ensure_unchanged(claim)
        if not self._has_ended(window):
            self._store.mark_lost(window, entries, period_start_ms, budget)
        self._end(claim)

    def ended(self) -> tuple[Window, WindowState] | Claim | None:
        """What the record's claim asks for.

        Returns:
            The window that a claim was on, with how it ended, where the state has that already and only the record was
            behind; the claim where its window has not ended; None where nothing is claimed.
        """
        claim = self.follow().claim
        if claim is None or not self._has_ended(claim.window):
            return claim
        self._end(claim)
        return claim.window, WindowState.RELEASED if claim.state is ClaimState.DRAWN else WindowState.LOST

    def _end(self, claim: Claim) -> None:
        head = self._store.ledger_head(ring_record(self._keys).head.deployment_id)
        ensure(head == claim.head, f"window {claim.window} ended in another entry of the ledger than its claim names")
        move_record(self._keys, lambda r: self._serving(r).ended(claim.owner))
        if self.remembers(claim.owner):
            self._remembered = None

    def _ensure_unchanged(self, claim: Claim) -> None:
        """Looks at the record once more, so that whoever was paused does not go on."""
        if self._serving(ring_record(self._keys)).claim != claim:
            raise StateConflict(f"another process has settled the claim on window {claim.window} meanwhile")

    def _serving(self, record: RingRecord) -> RingRecord:
        record.ensure_serving(self._epoch)
        return record

    def _current(self, record: RingRecord) -> RingRecord:
        """The record with what this state knows; raises where the state may not go on."""
        ensure_newest(self._serving(record), self._store)
        return record.decided(self._store.decision_mark()).following(self._plan())

    def _ensure_waiting(self, window: Window) -> None:
        if self._has_ended(window):
            raise StateConflict(f"window {window} has ended already; another sealer of this state was here")

    def _has_ended(self, window: Window) -> bool:
        begun = self._store.last_window_start(window.resolution)
        waiting = self._store.windows([WindowState.CLOSING, WindowState.FIXED])
        return begun is not None and window.start_ms <= begun and window not in {r.window for r in waiting}

    def _key(self, period_start_ms: int) -> bytes:
        key = self._keys.get(period_key(period_start_ms))
        return hashlib.blake2b(key=key, person=b"publication", digest_size=32).digest()
