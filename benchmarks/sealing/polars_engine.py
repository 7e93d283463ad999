"""Polars, lazily and on its streaming engine, over frames in memory that suit it best.

References:
    https://docs.pola.rs, release 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from benchmarks.sealing.workload import HIGH, LOW, SALT, Answer, Workload, spread_out
from hushmeter.model.arrays import Int64, UInt64

_ENGINE: Literal["streaming"] = "streaming"
_SEED = int.from_bytes(SALT[:8], "big")


@dataclass(frozen=True, slots=True)
class Polars:
    """A window as frames.

    Attributes:
        reports: report, pseudonym and id, the latter two of 128 bits.
        values: report, partition and value.
        allowed: unit from 1 on, pseudonym, and its halves.
        partition_count: how many partitions there are.
        l0: partitions of one unit that are kept.
        crowded_only: whether only units with more partitions than that are put in order.
        keyed: whether they are put in hushmeter's order; else in that of Polars' own hash, which is cheaper.
    """

    reports: pl.DataFrame
    values: pl.DataFrame
    allowed: pl.DataFrame
    partition_count: int
    l0: int
    crowded_only: bool
    keyed: bool = False

    @classmethod
    def of(cls, workload: Workload, l0: int, *, crowded_only: bool = False) -> Polars:
        """Prepares a workload."""
        w = workload
        reports = pl.DataFrame({**_halves("unit", w.pseudonyms), **_halves("id", w.report_ids)}).with_row_index("report")
        values = pl.DataFrame({"report": w.reports.astype(np.uint32), "partition": w.partitions, "value": w.values})
        allowed = pl.DataFrame(_halves("unit", w.allowed)).with_row_index("unit", offset=1)
        return cls(
            reports.select("report", pseudonym=_whole("unit"), id=_whole("id")),
            values,
            allowed.with_columns(pseudonym=_whole("unit")),
            w.partition_count,
            l0,
            crowded_only,
        )

    def run(self) -> pl.DataFrame:
        """Seals the window: partition, units and sum, where there are any."""
        bounded = pl.col("total").clip(LOW, HIGH)
        by_partition = self._kept().group_by("partition").agg(units=pl.len(), sum=bounded.sum())
        return by_partition.collect(engine=_ENGINE)

    def answer(self) -> Answer:
        """What it says, to be compared."""
        found = self.run()
        return spread_out(self.partition_count, *(found[name].to_numpy() for name in ("partition", "units", "sum")))

    def kept_by_unit(self) -> Int64:
        """How many units keep so many partitions, from 0 on."""
        return np.bincount(self._kept().group_by("unit").len().collect(engine=_ENGINE)["len"].to_numpy())

    def _kept(self) -> pl.LazyFrame:
        """Unit, partition and total of each pair that is kept."""
        pairs = self._pairs().with_columns(order=self._order())
        if not self.crowded_only:
            pair = pl.struct("partition", "total")
            first = pairs.group_by("unit").agg(pair.sort_by("order").head(self.l0))
            return first.explode("partition").unnest("partition")
        pairs = pairs.with_columns(crowded=pl.len().over("unit") > self.l0)
        rank = pl.col("order").rank("ordinal").over("unit")
        parts = (pairs.filter(~pl.col("crowded")), pairs.filter("crowded").filter(rank <= self.l0))
        return pl.concat([part.select("unit", "partition", "total") for part in parts])

    def _pairs(self) -> pl.LazyFrame:
        """Key, unit, partition and total of each pair of a unit that allows and a partition."""
        joined = self.reports.lazy().join(self.allowed.lazy(), on="pseudonym")
        single = joined.group_by("unit", "id").agg(pl.col("report").min()).collect(engine=_ENGINE)
        unit_of = pl.zeros(len(self.reports), pl.UInt32, eager=True).scatter(single["report"], single["unit"])
        values = self.values.lazy().with_columns(unit=pl.lit(unit_of).gather(pl.col("report")))
        key = pl.col("unit").cast(pl.UInt64) * _word(1 << 32) + pl.col("partition")
        totals = values.filter(pl.col("unit") > 0).group_by(key=key).agg(total=pl.col("value").sum())
        return totals.with_columns(
            unit=(pl.col("key") // _word(1 << 32)).cast(pl.UInt32),
            partition=pl.col("key").cast(pl.UInt32, wrap_numerical=True),
        )

    def _order(self) -> pl.Expr:
        if not self.keyed:
            return pl.col("key").hash(_SEED)
        high, low = (_word(int(half)) for half in np.frombuffer(SALT, ">u8"))
        bases = self.allowed.select(_mix(pl.col("unit_high") ^ high) + _mix(pl.col("unit_low") ^ low)).to_series()
        marks = _mix(pl.col("partition").cast(pl.UInt64) + 1)
        return _mix(pl.lit(bases).gather(pl.col("unit") - 1) + marks)


def _halves(name: str, pairs: UInt64) -> dict[str, UInt64]:
    return {f"{name}_high": pairs[:, 0].copy(), f"{name}_low": pairs[:, 1].copy()}


def _whole(name: str) -> pl.Expr:
    high, low = (pl.col(f"{name}_{half}").cast(pl.UInt128) for half in ("high", "low"))
    return high * pl.lit(1 << 64, dtype=pl.UInt128) + low


def _word(number: int) -> pl.Expr:
    return pl.lit(number, dtype=pl.UInt64)


def _mix(x: pl.Expr) -> pl.Expr:
    """The mixer of hushmeter; products of UInt64 wrap in Polars."""
    x = (x ^ (x // _word(1 << 30))) * _word(0xBF58476D1CE4E5B9)
    x = (x ^ (x // _word(1 << 27))) * _word(0x94D049BB133111EB)
    return x ^ (x // _word(1 << 31))
