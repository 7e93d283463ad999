"""Exact bounded aggregates of one window: secret, mergeable, and never outside the sealing job."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from hushmeter import limits
from hushmeter.errors import TooManyPartitions, ensure
from hushmeter.model.arrays import Int64, UInt64
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.release import PartitionKey
from hushmeter.model.time import Window

ViewKey = tuple[str, tuple[str, ...]]
"""A metric and a view of it."""


@dataclass(frozen=True, slots=True, order=True)
class VectorKey:
    """Which vector of a tally: a metric, a view and a row of the calibration table."""

    metric: str
    view: tuple[str, ...]
    name: MeasurementName


@dataclass(frozen=True, slots=True)
class Tally:
    """The exact bounded aggregates of some units in one window.

    Tallies of disjoint sets of units add up, exactly and in any order; nobody but the sealing job may see one.

    Attributes:
        window: the release window.
        vectors: int64[partitions, columns] by key.
        overflows: int64[partitions, columns] by key of those vectors that int64 does not hold: a cell is that of the vector
            plus 2^64 times this one. `saturated` ends them.
        keys: of each open view the private partitions that the rows of its vectors are, in rising order.
        kept: by metric with bounded participation, the pseudonyms that this window keeps, uint64[k, 2] (P7).
    """

    window: Window
    vectors: Mapping[VectorKey, Int64]
    keys: Mapping[ViewKey, tuple[PartitionKey, ...]] = field(default_factory=dict)
    kept: Mapping[str, UInt64] = field(default_factory=dict)
    overflows: Mapping[VectorKey, Int64] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, vector in self.vectors.items():
            keys = self.keys.get((key.metric, key.view))
            ensure(keys is None or len(keys) == len(vector), f"{key.metric}: a vector has a row for each private partition")

    def __add__(self, other: Tally) -> Tally:
        ensure(self.window == other.window and self.vectors.keys() == other.vectors.keys(), "tallies of different windows")
        ensure(
            self.keys.keys() == other.keys.keys() and self.kept.keys() == other.kept.keys(), "tallies of different plans"
        )
        merged = {view: merged_keys(keys, other.keys[view]) for view, keys in self.keys.items()}
        vectors, overflows = {}, {}
        for key, vector in self.vectors.items():
            places = merged.get((key.metric, key.view))
            rows = (None, None) if places is None else places[1:]
            count = len(vector) if places is None else len(places[0])
            vectors[key], overflow = _sum(_placed(vector, rows[0], count), _placed(other.vectors[key], rows[1], count))
            for side, at in zip((self, other), rows, strict=True):
                if key in side.overflows:
                    overflow = overflow + _placed(side.overflows[key], at, count)
            if overflow.any():
                overflows[key] = overflow
        kept = {metric: np.concatenate((units, other.kept[metric])) for metric, units in self.kept.items()}
        return Tally(self.window, vectors, {view: keys for view, (keys, _, _) in merged.items()}, kept, overflows)

    def saturated(self) -> Tally:
        """What may be measured: each cell, or the end of int64 that it lies beyond.

        Privacy:
            Sums are exact until here, so they do not depend on which units were added up first, and a unit moves a cell by
            what it adds, whatever number of units others pretend to be. Ending a number at a bound moves two numbers no
            further apart (P6; docs/privacy/README.md).
        """
        if not self.overflows:
            return self
        ends, vectors = np.iinfo(np.int64), dict(self.vectors)
        for key, overflow in self.overflows.items():
            vectors[key] = np.where(overflow > 0, ends.max, np.where(overflow < 0, ends.min, vectors[key]))
        return replace(self, vectors=vectors, overflows={})

    def without(self, metrics: Collection[str]) -> Tally:
        """The aggregates of the other metrics."""
        vectors = {key: vector for key, vector in self.vectors.items() if key.metric not in metrics}
        keys = {view: found for view, found in self.keys.items() if view[0] not in metrics}
        kept = {metric: units for metric, units in self.kept.items() if metric not in metrics}
        overflows = {key: overflow for key, overflow in self.overflows.items() if key.metric not in metrics}
        return Tally(self.window, vectors, keys, kept, overflows)

    def __repr__(self) -> str:
        """Says which window it is of and no number: a tally must not reach a log by accident (R2)."""
        return f"Tally({self.window}, {len(self.vectors)} secret vectors)"


def _placed(vector: Int64, rows: list[int] | None, count: int) -> Int64:
    """A vector's rows where they stand among so many, zeros elsewhere; as it is where no places are given."""
    if rows is None or len(rows) == count == len(vector):
        return vector
    placed = np.zeros((count, vector.shape[1]), np.int64)
    placed[rows] = vector
    return placed


def _sum(a: Int64, b: Int64) -> tuple[Int64, Int64]:
    """The sum modulo 2^64, in int64, and how often 2^64 is to be added to it: -1, 0 or 1."""
    total = a + b
    # A sum that has wrapped around has neither the sign of a nor that of b.
    wrapped = ((a ^ total) & (b ^ total)) < 0
    return total, np.where(wrapped, np.where(a < 0, -1, 1), 0)


def merged_keys(
    first: tuple[PartitionKey, ...], second: tuple[PartitionKey, ...]
) -> tuple[tuple[PartitionKey, ...], list[int], list[int]]:
    """The union of two rising lists of keys, and where each of both stands in it."""
    if first == second:
        rows = list(range(len(first)))
        return first, rows, rows
    keys = tuple(sorted({*first, *second}))
    if len(keys) > limits.TOKENS_PER_WINDOW_MAX:
        raise TooManyPartitions(
            f"an open view holds more than {limits.TOKENS_PER_WINDOW_MAX} private partitions in one window; narrow the "
            "pattern of its tokens, or bound max_partitions"
        )
    place = {key: i for i, key in enumerate(keys)}
    return keys, [place[key] for key in first], [place[key] for key in second]
