"""The published thing: noisy vectors of one metric, view and window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.time import Int64


@dataclass(frozen=True, slots=True, order=True)
class ReleaseKey:
    """What makes a release unique in a deployment (C4)."""

    plan_version: int
    metric: str
    view: tuple[str, ...]
    resolution: str
    window_start_ms: int


@dataclass(frozen=True, slots=True)
class NoisyVector:
    """One measurement after noise.

    Attributes:
        values: int64[partitions, columns], read-only.
        scale: of the discrete Gaussian noise that each cell holds, independently.
        rho: what its privacy costs.
    """

    values: Int64
    scale: float
    rho: float

    def __post_init__(self) -> None:
        ensure(self.values.ndim == 2 and self.values.dtype == np.int64, "a noisy vector is int64[partitions, columns]")
        ensure(0 < self.scale < float("inf") and self.rho > 0, "a noisy vector has noise")


@dataclass(frozen=True, slots=True)
class Release:
    """The published statistics of one metric, view and window; never changed once published.

    Attributes:
        window_end_ms: end of the window.
        published_at_ms: the scheduled time (R1), never the wall clock's.
        completeness: share of the window that the service was serving, 0 to 1.
        vectors: by row of the calibration table.
    """

    key: ReleaseKey
    window_end_ms: int
    published_at_ms: int
    completeness: float
    vectors: Mapping[MeasurementName, NoisyVector]

    def __post_init__(self) -> None:
        ensure(0.0 <= self.completeness <= 1.0, f"completeness is 0 to 1, got {self.completeness}")
        ensure(self.vectors, "a release holds something")
