"""The published thing: noisy vectors of one metric, view and window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.arrays import Int64
from hushmeter.model.measurement import MeasurementName, Mechanism


@dataclass(frozen=True, slots=True, order=True)
class ReleaseKey:
    """What makes a release unique in a deployment (C4)."""

    plan_version: int
    metric: str
    view: tuple[str, ...]
    resolution: str
    window_start_ms: int


SALT_BYTES: Final = 16
"""Of the salt that a vector's commitment in the ledger is made with."""


@dataclass(frozen=True, slots=True)
class NoisyVector:
    """One measurement after noise.

    Attributes:
        values: int64[partitions, columns], read-only.
        mechanism: how noise was added.
        scale: of the noise that each cell holds, independently.
        loss: what the mechanism's own map says that it costs, in the plan's currency.
        delta: what that map says that partition selection costs.
        threshold: counts below it stayed hidden; None where the mechanism does not select.
        salt: 16 bytes, drawn with the noise; None in old releases, and of vectors that are never released.

    Privacy:
        The ledger commits to the values with the salt, so that whoever may not read them cannot test guesses (R1). The salt
        is kept with the values and shown to those who may read them, and is nowhere else.
    """

    values: Int64
    mechanism: Mechanism
    scale: float
    loss: float
    delta: float = 0.0
    threshold: int | None = None
    salt: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        ensure(self.values.ndim == 2 and self.values.dtype == np.int64, "a noisy vector is int64[partitions, columns]")
        ensure(0 < self.scale < math.inf and self.loss > 0, "a noisy vector has noise")
        ensure(self.mechanism.selects == (self.threshold is not None), "a threshold belongs to selection alone")
        ensure(self.salt is None or len(self.salt) == SALT_BYTES, f"a salt is {SALT_BYTES} bytes")

    @property
    def variance(self) -> float:
        """Of the noise in each cell."""
        return self.mechanism.variance(self.scale)


PartitionKey = tuple[int, str]
"""A private partition of an open view: number of its public partition, and token."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The private partitions that were selected.

    Attributes:
        keys: sorted (R1).
        units: their noisy counts, int64[keys, 1].
    """

    keys: tuple[PartitionKey, ...]
    units: NoisyVector


@dataclass(frozen=True, slots=True)
class Release:
    """The published statistics of one metric, view and window; never changed once published.

    Attributes:
        window_end_ms: end of the window.
        published_at_ms: the scheduled time (R1), never the wall clock's.
        completeness: share of the window that the service was serving, 0 to 1, rounded down to whole hundredths.
        vectors: by row of the calibration table.
        keys: of an open view the partitions that were selected, the rows of the vectors, sorted (R1); None where all
            partitions are public.
    """

    key: ReleaseKey
    window_end_ms: int
    published_at_ms: int
    completeness: float
    vectors: Mapping[MeasurementName, NoisyVector]
    keys: tuple[PartitionKey, ...] | None = None

    def __post_init__(self) -> None:
        ensure(0.0 <= self.completeness <= 1.0, f"completeness is 0 to 1, got {self.completeness}")
        ensure(self.vectors, "a release holds something")
        if self.keys is not None:
            ensure(all(len(v.values) == len(self.keys) for v in self.vectors.values()), "vectors have a row for each key")
            ensure(list(self.keys) == sorted(set(self.keys)), "private partitions are sorted, each once (R1)")
