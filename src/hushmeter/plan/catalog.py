"""The catalog of series: which number on the wire means which metric, partition and component.

Each metric takes one contiguous block of numbers, found by the metric's name and its signature (kind, components,
dimensions and their values). Blocks are recorded once in the state and never reused: a metric whose dimensions change
takes a new block, so a number means the same thing forever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from hushmeter import limits
from hushmeter.errors import PlanError, ensure
from hushmeter.model.arrays import Int64
from hushmeter.model.plan import Metric, Plan
from hushmeter.model.report import UInt32


@dataclass(frozen=True, slots=True, order=True)
class SeriesBlock:
    """A run of series numbers that was assigned to one metric's signature.

    Attributes:
        first: the first number.
        size: how many.
        metric: the metric's name.
        signature: see `signature_of`.
    """

    first: int
    size: int
    metric: str
    signature: str


def signature_of(metric: Metric) -> str:
    """What a series number's meaning depends on, as a SHA-256 in hexadecimal."""
    dimensions = [[d.name, list(d.values)] for d in metric.dimensions]
    shape = [
        metric.kind.value,
        list(metric.components),
        list(metric.edges),
        str(Fraction(metric.step)),
        metric.unit,
        dimensions,
    ]
    return hashlib.sha256(json.dumps(shape).encode()).hexdigest()


def assign_blocks(plan: Plan, recorded: Iterable[SeriesBlock] = ()) -> tuple[SeriesBlock, ...]:
    """The blocks of all plans so far, with new ones appended for what this plan declares anew.

    Args:
        plan: the plan that is to be recorded.
        recorded: the blocks that the state holds already.

    Returns:
        All blocks by first number, without overlap.

    Raises:
        PlanError: series numbers have run out.
    """
    blocks = sorted(recorded)
    known = {(b.metric, b.signature) for b in blocks}
    first = blocks[-1].first + blocks[-1].size if blocks else 1
    for metric in plan.metrics:
        if (metric.name, signature_of(metric)) not in known:
            blocks.append(SeriesBlock(first, metric.series_count, metric.name, signature_of(metric)))
            first += metric.series_count
    if first > limits.SERIES_MAX:
        raise PlanError(
            f"metrics: this deployment would have used {first} series numbers; at most {limits.SERIES_MAX} exist"
        )
    return tuple(blocks)


@dataclass(frozen=True, slots=True)
class Catalog:
    """Series numbers of one plan's metrics, ready for columns.

    Attributes:
        plan: the plan.
        firsts: int64[k], first numbers of the plan's blocks, increasing.
        sizes: int64[k].
        metric_indices: int64[k], which metric of the plan each block is.
    """

    plan: Plan
    firsts: Int64
    sizes: Int64
    metric_indices: Int64

    @classmethod
    def of(cls, plan: Plan, blocks: Iterable[SeriesBlock]) -> Catalog:
        """The catalog of a plan whose blocks are all recorded."""
        found = {(b.metric, b.signature): b for b in blocks}
        rows = []
        for index, metric in enumerate(plan.metrics):
            block = found.get((metric.name, signature_of(metric)))
            ensure(block is not None, f"metric {metric.name} has no recorded series numbers")
            if block is not None:
                rows.append((block.first, block.size, index))
        table = np.array(sorted(rows), np.int64).reshape(len(rows), 3)
        return cls(plan, table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy())

    def first_series(self, metric_index: int) -> int:
        """The series number of a metric's first partition's first component."""
        return int(self.firsts[np.flatnonzero(self.metric_indices == metric_index)[0]])

    def locate(self, series: UInt32) -> tuple[Int64, Int64]:
        """Which metric each series number belongs to, and its place inside the metric's block.

        Args:
            series: uint32[m].

        Returns:
            int64[m] metric indices, -1 where the plan has no such number; int64[m] places, partition * components +
            component.
        """
        numbers = series.astype(np.int64)
        block = np.searchsorted(self.firsts, numbers, side="right") - 1
        place = numbers - self.firsts[block]
        known = (block >= 0) & (place < self.sizes[block])
        return np.where(known, self.metric_indices[block], -1), place
