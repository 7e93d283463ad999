"""In which windows of a period each unit was kept (P7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.arrays import Int64, UInt64
from hushmeter.model.report import pairs_of

_WORD = 64


@dataclass(frozen=True, slots=True)
class KeptWindows:
    """The set of kept windows of each unit, for one metric, resolution and period.

    A set and not a count, so that keeping the same window again changes nothing.

    Attributes:
        pseudonyms: uint64[u, 2], rising, each once.
        windows: uint64[u, words], bit i of word j says whether window 64 j + i of the period was kept.
    """

    pseudonyms: UInt64
    windows: UInt64

    def __post_init__(self) -> None:
        ensure(self.pseudonyms.shape == (len(self.windows), 2), "each unit has a pseudonym and a set of windows")

    @classmethod
    def none(cls, windows: int) -> Self:
        """Of a period that has so many windows, before the first."""
        return cls(np.zeros((0, 2), np.uint64), np.zeros((0, -(-windows // _WORD)), np.uint64))

    def earlier(self, index: int) -> Int64:
        """How many windows before number `index` each unit was kept in, int64[u]."""
        word, bit = divmod(index, _WORD)
        before = self.windows[:, : word + 1].copy()
        before[:, word] &= np.uint64((1 << bit) - 1)
        counts: Int64 = np.bitwise_count(before).sum(axis=1).astype(np.int64)
        return counts

    def windows_of(self, pseudonym: bytes) -> set[int]:
        """The numbers of the windows that one unit was kept in."""
        mine = (self.pseudonyms == pairs_of([pseudonym])).all(axis=1)
        bits = np.unpackbits(self.windows[mine].astype("<u8").view(np.uint8), bitorder="little")
        return set(np.flatnonzero(bits).tolist())

    def keeping(self, pseudonyms: UInt64, index: int) -> KeptWindows:
        """These sets with window number `index` added to some units' sets.

        Args:
            pseudonyms: uint64[k, 2], each once.
            index: of the window in its period.
        """
        word, bit = divmod(index, _WORD)
        ensure(word < self.windows.shape[1], f"a period has no window {index}")
        joined = np.concatenate((self.pseudonyms, pseudonyms))
        units, place = np.unique(joined, axis=0, return_inverse=True)
        windows = np.zeros((len(units), self.windows.shape[1]), np.uint64)
        place = place.ravel()
        windows[place[: len(self.pseudonyms)]] = self.windows
        windows[place[len(self.pseudonyms) :], word] |= np.uint64(1 << bit)
        return KeptWindows(units, windows)
