"""What the engines share: what is asked, how answers are laid out, and the exact truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.workloads import DAYS, Events

Float = npt.NDArray[np.float64]
Answers = Mapping[str, Float]
"""By statistic float64[days, partitions, components]; NaN where an engine gives none."""

QUANTILES = (0.5, 0.9)


@dataclass(frozen=True, slots=True)
class Task:
    """What every engine must release, under one and the same guarantee.

    Attributes:
        epsilon, delta: of one unit's whole record of all windows together.
        statistics: of `units`, `sum`, `mean`, `histogram`, `quantiles`.
        days: how many daily windows, from the first.
    """

    events: Events
    epsilon: float
    delta: float
    statistics: tuple[str, ...]
    days: int = DAYS


def truth(task: Task) -> Answers:
    """The exact values of all events, before any bounding; quantiles of the values themselves, not of bins."""
    e = task.events
    shape = (task.days, e.partition_count)
    found = {
        "units": np.zeros((*shape, 1)),
        "sum": np.zeros((*shape, 1)),
        "mean": np.full((*shape, 1), np.nan),
        "histogram": np.zeros((*shape, len(e.edges) + 1)),
        "quantiles": np.full((*shape, len(QUANTILES)), np.nan),
    }
    for day in range(task.days):
        of_day = e.on(day)
        for partition in range(e.partition_count):
            mine = of_day.partitions == partition
            values = of_day.values[mine]
            found["units"][day, partition, 0] = len(np.unique(of_day.units[mine]))
            found["sum"][day, partition, 0] = values.sum()
            bins = np.searchsorted(e.edges, values, side="left")
            found["histogram"][day, partition] = np.bincount(bins, minlength=len(e.edges) + 1)
            if len(values):
                found["mean"][day, partition, 0] = values.mean()
                found["quantiles"][day, partition] = np.quantile(values, QUANTILES)
    return {name: found[name] for name in task.statistics}
