"""Plain numpy, as one would write it at first: unique and lexsort over whole columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.sealing.workload import HIGH, LOW, SALT, Answer, Workload
from hushmeter.model.arrays import Int64, UInt64
from hushmeter.sealing.mixing import mix


@dataclass(frozen=True, slots=True)
class Plain:
    """A window as columns of values.

    Attributes:
        workload: the window.
        l0: partitions of one unit that are kept.
        reports: int64[m], the report of each value.
    """

    workload: Workload
    l0: int
    reports: Int64

    @classmethod
    def of(cls, workload: Workload, l0: int) -> Plain:
        """Prepares a workload."""
        return cls(workload, l0, workload.reports)

    def run(self) -> Answer:
        """Seals the window."""
        _, partitions, totals = self._kept()
        count = self.workload.partition_count
        sums = np.zeros(count, np.int64)
        np.add.at(sums, partitions, np.clip(totals, LOW, HIGH))
        return Answer(np.bincount(partitions, minlength=count), sums)

    def answer(self) -> Answer:
        """What it says, to be compared."""
        return self.run()

    def kept_by_unit(self) -> Int64:
        """How many units keep so many partitions, from 0 on."""
        units, _, _ = self._kept()
        return np.bincount(np.unique(units, return_counts=True)[1])

    def points(self) -> tuple[Int64, Int64, Int64]:
        """Unit, partition and value of each point of a report that counts."""
        return self._chosen()[1:]

    def _chosen(self) -> tuple[UInt64, Int64, Int64, Int64]:
        """The same, after the units' pseudonyms."""
        w = self.workload
        _, first = np.unique(np.column_stack((w.pseudonyms, w.report_ids)), axis=0, return_index=True)
        fleet, number = np.unique(w.pseudonyms, axis=0, return_inverse=True)
        single = np.zeros(len(w.pseudonyms), np.bool_)
        single[first] = True
        allowed = np.isin(_words(fleet), _words(w.allowed))[number]
        chosen = (single & allowed)[self.reports]
        return fleet, number[self.reports[chosen]], w.partitions[chosen].astype(np.int64), w.values[chosen]

    def _kept(self) -> tuple[Int64, Int64, Int64]:
        """Unit, partition and total of each pair that is kept."""
        w = self.workload
        fleet, of_points, partitions, values = self._chosen()
        pairs, place = np.unique(of_points * w.partition_count + partitions, return_inverse=True)
        totals = np.zeros(len(pairs), np.int64)
        np.add.at(totals, place, values)
        units, partitions = np.divmod(pairs, w.partition_count)
        order = np.lexsort((mix(bases(fleet)[units] + mix((partitions + 1).astype(np.uint64))), units))
        rank = np.arange(len(order)) - np.searchsorted(units, units)
        kept = order[rank < self.l0]
        return units[kept], partitions[kept], totals[kept]


def bases(fleet: UInt64) -> UInt64:
    """The start of each unit's keyed order, uint64[u]: the order that hushmeter takes, written down again."""
    high, low = np.frombuffer(SALT, ">u8").astype(np.uint64)
    return mix(fleet[:, 0] ^ high) + mix(fleet[:, 1] ^ low)


def _words(pairs: UInt64) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    return np.ascontiguousarray(pairs).view("V16").ravel()
