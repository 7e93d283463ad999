"""Polars, lazily and on all cores, from frames of its own: reports, points with the number of their report, consent.

Which partitions a unit keeps is decided by Polars' own hash of unit and partition: any keyed order bounds as well as
another, so it does not have to take hushmeter's. Of several ways to write it the fastest counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import numpy as np
import polars as pl

from benchmarks.sealing.workload import HIGH, LOW, Answer, Workload
from hushmeter.model.time import Int64

_SEED = 7
_IDS = ("high", "low", "id_high", "id_low")
_PAIR = pl.col("unit").cast(pl.UInt64) * 2**32 + pl.col("partition")


class PolarsEngine:
    """A window in frames.

    Args:
        workload: the window.
        l0: how many partitions of one unit are kept.
    """

    def __init__(self, workload: Workload, l0: int) -> None:
        self._partitions, self._l0 = workload.partition_count, l0
        ids = (*workload.pseudonyms.T, *workload.report_ids.T)
        reports = pl.DataFrame({name: np.ascontiguousarray(column) for name, column in zip(_IDS, ids, strict=True)})
        self._reports = reports.with_row_index("row").lazy()
        points = {"row": workload.reports.astype(np.uint32), "partition": workload.partitions, "value": workload.values}
        self._points = pl.DataFrame(points).lazy()
        allowed = {"high": workload.allowed[:, 0].copy(), "low": workload.allowed[:, 1].copy()}
        self._allowed = pl.DataFrame(allowed).with_row_index("unit").lazy()

    def forms(self) -> Mapping[str, Callable[[], object]]:
        """The ways to write it, each with both of Polars' engines."""
        engines: tuple[Literal["streaming", "in-memory"], ...] = ("streaming", "in-memory")
        return {
            f"{form.__name__.strip('_')}, {engine}": partial(self._run, form, engine)
            for form in (self._ranked, self._sorted, self._bottom)
            for engine in engines
        }

    def answer(self) -> Answer:
        """What it says, to be compared."""
        return self._run(self._ranked, "streaming")

    def kept_by_unit(self) -> Int64:
        """How many units keep so many partitions, from 0 on."""
        counts = self._ranked().group_by("unit").len().collect(engine="streaming")["len"].to_numpy()
        return np.bincount(counts)

    def _run(self, form: Callable[[], pl.LazyFrame], engine: Literal["streaming", "in-memory"]) -> Answer:
        clamped = pl.col("value").clip(LOW, HIGH).sum()
        found = form().group_by("partition").agg(units=pl.len(), sum=clamped).collect(engine=engine)
        units, sums = np.zeros(self._partitions, np.int64), np.zeros(self._partitions, np.int64)
        units[found["partition"].to_numpy()] = found["units"].to_numpy()
        sums[found["partition"].to_numpy()] = found["sum"].to_numpy()
        return Answer(units, sums)

    def _totals(self) -> pl.LazyFrame:
        """Unit, partition, total and place in the unit's order."""
        reports = self._reports.unique(_IDS, keep="any", maintain_order=False)
        rows = reports.join(self._allowed, on=["high", "low"]).select("row", "unit")
        points = self._points.join(rows, on="row")
        totals = points.with_columns(pair=_PAIR).group_by("pair").agg(pl.col("value").sum())
        return totals.with_columns(
            unit=(pl.col("pair") // 2**32).cast(pl.UInt32),
            partition=(pl.col("pair") % 2**32).cast(pl.UInt32),
            order=pl.col("pair").hash(_SEED),
        )

    def _ranked(self) -> pl.LazyFrame:
        return self._totals().filter(pl.col("order").rank("ordinal").over("unit") <= self._l0)

    def _sorted(self) -> pl.LazyFrame:
        by = pl.col("unit").cast(pl.UInt64) * 2**40 + pl.col("order") // 2**24
        earlier = pl.col("unit").shift(self._l0)
        return self._totals().with_columns(by=by).sort("by").filter((pl.col("unit") != earlier).fill_null(value=True))

    def _bottom(self) -> pl.LazyFrame:
        kept = pl.col("partition", "value").bottom_k_by("order", self._l0)
        return self._totals().group_by("unit").agg(kept).explode("partition", "value")
