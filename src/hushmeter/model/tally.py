"""Exact bounded aggregates of one window: secret, mergeable, and never outside the sealing job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hushmeter.errors import ensure
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.time import Int64, Window


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
    """

    window: Window
    vectors: Mapping[VectorKey, Int64]

    def __add__(self, other: Tally) -> Tally:
        ensure(self.window == other.window and self.vectors.keys() == other.vectors.keys(), "tallies of different windows")
        return Tally(self.window, {key: vector + other.vectors[key] for key, vector in self.vectors.items()})

    def __repr__(self) -> str:
        """Says which window it is of and no number: a tally must not reach a log by accident (R2)."""
        return f"Tally({self.window}, {len(self.vectors)} secret vectors)"
