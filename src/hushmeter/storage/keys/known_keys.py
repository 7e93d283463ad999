"""Keys of a deployment whose state store knows which of them exist: one that has existed is never made anew."""

from __future__ import annotations

import hashlib

from hushmeter.errors import KeyGone
from hushmeter.model.key_names import data_key, period_key
from hushmeter.model.ring import RingRecord
from hushmeter.ports import KeyRing, PlanStore

LASTING = ("deployment", "unit-tokens", "signing")
"""Keys that live as long as their deployment."""


class KnownKeys:
    """A `KeyRing` that joins a ring and a state store, which holds a fingerprint of each key from before its first use.

    A ring alone cannot tell a key that was never made from one that is missing, and a new one in its place would read
    nothing, find nobody's decisions and hide the loss.

    Args:
        ring: holds the keys.
        store: holds their fingerprints.
    """

    def __init__(self, ring: KeyRing, store: PlanStore) -> None:
        self._ring = ring
        self._store = store
        self._known: dict[str, bytes] = {}

    def get(self, name: str) -> bytes:
        """See `KeyRing.get`; raises `KeyGone` where the key is another than the one that was used."""
        key, known = self._ring.get(name), self._fingerprint(name)
        if known is not None:
            self._ensure_same(name, key, known)
        return key

    def get_or_create(self, name: str) -> bytes:
        """See `KeyRing.get_or_create`; raises `KeyGone` where the key has existed and is missing, or is another one."""
        if self._fingerprint(name) is not None:
            return self.get(name)
        key = self._ring.get_or_create(name)
        self._known[name] = known = self._store.record_key(name, fingerprint(name, key))
        self._ensure_same(name, key, known)
        return key

    def adopt(self, *, decided: bool) -> None:
        """Records the keys of a ring whose state store knows none: it is new, of an earlier schema, or was restored.

        Args:
            decided: somebody has decided since, so that the deployment's key has been used.

        Raises:
            KeyGone: that key is missing.
        """
        # Whoever reads only, such as a command that shows the public key, records what it used alone.
        if self._fingerprint(LASTING[0]) is not None:
            return
        found = [*(period_key(start) for start in self._ring.periods())]
        found += (data_key(start) for start in self._ring.storage_windows())
        names = [name for name in LASTING if (decided and name == LASTING[0]) or self._has(name)]
        # A key that was destroyed but for its file, or cannot be read, raises when somebody asks for it.
        there = (*names, *(name for name in found if self._has(name)))
        # All or none: a crash in between would make the others look as if they had never been.
        self._store.record_keys({n: fingerprint(n, self._ring.get(n)) for n in there if not self._fingerprint(n)})

    def ensure_lasting(self, *, makes: bool = False) -> None:
        """Makes sure that no key which lives as long as its deployment is missing.

        Args:
            makes: the deployment's own where there never was one.

        Raises:
            KeyGone: one has existed, and is missing or another one.
        """
        if makes:
            self.get_or_create(LASTING[0])
        for name in LASTING:
            if self._fingerprint(name) is not None:
                self.get(name)

    def destroy(self, name: str) -> None:
        """See `KeyRing.destroy`."""
        self._ring.destroy(name)

    def periods(self) -> tuple[int, ...]:
        """See `KeyRing.periods`."""
        return self._ring.periods()

    def storage_windows(self) -> tuple[int, ...]:
        """See `KeyRing.storage_windows`."""
        return self._ring.storage_windows()

    def record(self) -> RingRecord | None:
        """See `KeyRing.record`."""
        return self._ring.record()

    def swap(self, before: RingRecord | None, after: RingRecord) -> None:
        """See `KeyRing.swap`."""
        self._ring.swap(before, after)

    def _has(self, name: str) -> bool:
        try:
            return bool(self._ring.get(name))
        except KeyGone:
            return False

    def _fingerprint(self, name: str) -> bytes | None:
        known = self._known.get(name) or self._store.key_fingerprint(name)
        if known is not None:
            self._known[name] = known
        return known

    def _ensure_same(self, name: str, key: bytes, known: bytes) -> None:
        if fingerprint(name, key) != known:
            raise KeyGone(
                f"key {name} is another one than this state has used; what that one encrypted cannot be read. Put the key"
                " directory back that this deployment has always used"
            )


def fingerprint(name: str, key: bytes) -> bytes:
    """What tells a key from others and nothing of it: a key has 256 random bits, so nobody can guess it."""
    return hashlib.blake2b(key + name.encode(), digest_size=16, person=b"hushmeter-key").digest()
