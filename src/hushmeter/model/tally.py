"""Exact bounded aggregates of one window: secret, mergeable, and never outside the sealing job."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from hushmeter import limits
from hushmeter.errors import TooManyPartitions, ensure
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.release import PrivateKey
from hushmeter.model.report import UInt64
from hushmeter.model.time import Int64, Window

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

    Tallies of disjoint sets of units add up; nobody but the sealing job may see one.

    Attributes:
        window: the release window.
        vectors: int64[partitions, columns] by key.
        keys: of each open view the private partitions that the rows of its vectors are, in rising order.
        kept: by metric with bounded participation, the pseudonyms that this window keeps, uint64[k, 2] (P7).
    """

    window: Window
    vectors: Mapping[VectorKey, Int64]
    keys: Mapping[ViewKey, tuple[PrivateKey, ...]] = field(default_factory=dict)
    kept: Mapping[str, UInt64] = field(default_factory=dict)

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
        vectors = {}
        for key, vector in self.vectors.items():
            view = (key.metric, key.view)
            if view not in merged:
                vectors[key] = _saturating(vector, other.vectors[key])
                continue
            keys, mine, theirs = merged[view]
            first, second = (np.zeros((len(keys), vector.shape[1]), np.int64) for _ in range(2))
            first[mine], second[theirs] = vector, other.vectors[key]
            vectors[key] = _saturating(first, second)
        kept = {metric: np.concatenate((units, other.kept[metric])) for metric, units in self.kept.items()}
        return Tally(self.window, vectors, {view: keys for view, (keys, _, _) in merged.items()}, kept)

    def without(self, metrics: Collection[str]) -> Tally:
        """The aggregates of the other metrics."""
        vectors = {key: vector for key, vector in self.vectors.items() if key.metric not in metrics}
        keys = {view: found for view, found in self.keys.items() if view[0] not in metrics}
        return Tally(self.window, vectors, keys, {m: units for m, units in self.kept.items() if m not in metrics})

    def __repr__(self) -> str:
        """Says which window it is of and no number: a tally must not reach a log by accident (R2)."""
        return f"Tally({self.window}, {len(self.vectors)} secret vectors)"


def _saturating(a: Int64, b: Int64) -> Int64:
    """The sum, or the end of int64 that it passes.

    Privacy:
        One unit could move a sum that wraps around from one end of int64 to the other, whatever its bound; this one moves
        by no more than the unit adds, however many units others pretend to be (P6).
    """
    total = a + b
    # The sign of one that has wrapped around is neither a's nor b's.
    signs = a ^ total
    signs &= b ^ total
    if signs.min(initial=0) < 0:
        ends = np.iinfo(np.int64)
        return np.where(signs < 0, np.where(a < 0, ends.min, ends.max), total)
    return total


def merged_keys(
    first: tuple[PrivateKey, ...], second: tuple[PrivateKey, ...]
) -> tuple[tuple[PrivateKey, ...], list[int], list[int]]:
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
