"""Row numbers of subjects, looked up many at once.

A hash table with open addressing and linear probing, in columns: a lookup of a group waits for memory once for all of it
instead of once a unit, so that a million units cost what a thousand do. Subjects are keyed hashes (P3), so that any of
their bits are as good as a hash of them, and nobody can choose ones that collide.
"""

from __future__ import annotations

import numpy as np

from hushmeter.model.arrays import Int64, UInt64

FIRST_SLOTS = 2_048
_NOBODY = -1


class SubjectRows:
    """Numbers subjects from 0, in the order in which they are first seen."""

    def __init__(self) -> None:
        self._count = 0
        # Grows ahead of what is in it; so does the table, at most half of whose slots are taken.
        self._subjects = np.zeros((FIRST_SLOTS // 2, 2), np.uint64)
        self._slots = np.full(FIRST_SLOTS, _NOBODY, np.int32)

    def __len__(self) -> int:
        return self._count

    def since(self, row: int) -> UInt64:
        """The subjects from a row on, uint64[rows, 2]."""
        return self._subjects[row : self._count]

    def find(self, subjects: UInt64) -> Int64:
        """The row of each subject, -1 for one that was never seen.

        Args:
            subjects: uint64[n, 2].

        Returns:
            int64[n].
        """
        rows = np.full(len(subjects), _NOBODY, np.int64)
        left, at = np.arange(len(subjects)), self._first_slots(subjects)
        while len(left):
            found = self._slots[at]
            taken = found != _NOBODY
            same = taken & (self._subjects[found] == subjects[left]).all(axis=1)
            rows[left[same]] = found[same]
            on = taken & ~same
            left, at = left[on], self._next(at[on])
        return rows

    def add(self, subjects: UInt64) -> Int64:
        """The row of each subject, a new one for each that was never seen.

        Args:
            subjects: uint64[n, 2].

        Returns:
            int64[n].
        """
        rows = self.find(subjects)
        unknown = np.flatnonzero(rows == _NOBODY)
        if len(unknown):
            new, first, which = np.unique(subjects[unknown], axis=0, return_index=True, return_inverse=True)
            order = np.argsort(first)
            place = np.argsort(order)
            rows[unknown] = self._count + place[which.ravel()]
            self._append(new[order])
        return rows

    def _append(self, new: UInt64) -> None:
        before, self._count = self._count, self._count + len(new)
        if self._count > len(self._subjects):
            size = 1 << (self._count - 1).bit_length()
            self._subjects = np.concatenate((self._subjects[:before], np.zeros((size - before, 2), np.uint64)))
            self._slots = np.full(2 * size, _NOBODY, np.int32)
            before = 0
        self._subjects[self._count - len(new) : self._count] = new
        self._put(np.arange(before, self._count))

    def _put(self, rows: Int64) -> None:
        at = self._first_slots(self._subjects[rows])
        while len(rows):
            free = self._slots[at] == _NOBODY
            self._slots[at[free]] = rows[free]
            # Of several that came to one free slot, one is in it now.
            on = self._slots[at] != rows
            rows, at = rows[on], self._next(at[on])

    def _first_slots(self, subjects: UInt64) -> Int64:
        return (subjects[:, 1] & np.uint64(len(self._slots) - 1)).astype(np.int64)

    def _next(self, slots: Int64) -> Int64:
        return (slots + 1) & (len(self._slots) - 1)
