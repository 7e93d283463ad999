"""DuckDB, over tables in memory that suit it best, on all cores.

References:
    https://duckdb.org/docs, release 2.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.sealing.workload import HIGH, LOW, SALT, Answer, Workload, spread_out
from hushmeter.model.arrays import Int64, UInt64

# Products and sums of 64 bits do not wrap here, so that they are taken of 128.
_WRAPPED = "({} & 18446744073709551615::UHUGEINT)::UBIGINT"
_MACROS = f"""
CREATE MACRO whole(high, low) AS (high::UHUGEINT << 64) | low::UHUGEINT;
CREATE MACRO times(a, b) AS {_WRAPPED.format("(a::UHUGEINT * b::UHUGEINT)")};
CREATE MACRO plus(a, b) AS {_WRAPPED.format("(a::UHUGEINT + b::UHUGEINT)")};
CREATE MACRO mixed_once(x) AS times(xor(x, x >> 30), {0xBF58476D1CE4E5B9});
CREATE MACRO mixed_twice(x) AS times(xor(x, x >> 27), {0x94D049BB133111EB});
CREATE MACRO finished(x) AS xor(x, x >> 31);
CREATE MACRO mix(x) AS finished(mixed_twice(mixed_once(x)));
"""
_TABLES = """
CREATE TABLE reports AS SELECT report, whole(unit_high, unit_low) AS pseudonym, whole(id_high, id_low) AS id FROM rows;
CREATE TABLE points AS SELECT * FROM columns;
CREATE TABLE allowed AS
    SELECT unit, whole(high, low) AS pseudonym, plus(mix(xor(high, {high}::UBIGINT)), mix(xor(low, {low}::UBIGINT))) AS base
    FROM fleet;
"""
_PAIRS = """
WITH single AS (
    SELECT unit, min(report) AS report FROM reports JOIN allowed USING (pseudonym) GROUP BY unit, id
), totals AS (
    SELECT unit, partition, sum_no_overflow(value)::BIGINT AS total
    FROM points JOIN single USING (report) GROUP BY unit, partition
), pairs AS MATERIALIZED (
    SELECT unit, partition, total, {order} AS place FROM totals {bases}
)"""
_EACH = """, lasts AS (
    SELECT unit, list_last(min(place, {l0})) AS last FROM pairs GROUP BY unit
), kept AS (
    SELECT unit, partition, total FROM pairs JOIN lasts USING (unit) WHERE place <= last
)"""
_CROWDED_ONLY = """, counts AS (
    SELECT unit, count(*) > {l0} AS crowded FROM pairs GROUP BY unit
), counted AS MATERIALIZED (
    SELECT unit, partition, total, place, crowded FROM pairs JOIN counts USING (unit)
), kept AS (
    SELECT unit, partition, total FROM counted WHERE NOT crowded
    UNION ALL (
        SELECT unit, partition, total FROM counted WHERE crowded
        QUALIFY row_number() OVER (PARTITION BY unit ORDER BY place) <= {l0}
    )
)"""
_BY_PARTITION = """
SELECT partition, count(*) AS units, sum_no_overflow(least(greatest(total, {low}), {high}))::BIGINT AS sum
FROM kept GROUP BY partition"""
_BY_UNIT = "SELECT count(*) AS partitions FROM kept GROUP BY unit"


@dataclass(frozen=True, slots=True)
class DuckDB:
    """A window as tables of a database in memory.

    Attributes:
        database: with the tables.
        partition_count: how many partitions there are.
        l0: partitions of one unit that are kept.
        crowded_only: whether only units with more partitions than that are put in order.
        keyed: whether they are put in hushmeter's order; else in that of DuckDB's own hash, which is cheaper.
    """

    database: duckdb.DuckDBPyConnection
    partition_count: int
    l0: int
    crowded_only: bool
    keyed: bool = False

    @classmethod
    def of(cls, workload: Workload, l0: int, *, crowded_only: bool = False) -> DuckDB:
        """Prepares a workload."""
        w = workload
        numbers, units = (np.arange(len(pairs), dtype=np.uint32) for pairs in (w.pseudonyms, w.allowed))
        database = duckdb.connect()
        database.execute("SET preserve_insertion_order = false")
        rows = {"report": numbers, **_halves("unit_", w.pseudonyms), **_halves("id_", w.report_ids)}
        database.register("rows", pa.table(rows))
        points = {"report": w.reports.astype(np.uint32), "partition": w.partitions, "value": w.values}
        database.register("columns", pa.table(points))
        database.register("fleet", pa.table({"unit": units, **_halves("", w.allowed)}))
        high, low = (int(half) for half in np.frombuffer(SALT, ">u8"))
        database.execute(_MACROS + _TABLES.format(high=high, low=low))
        for name in ("rows", "columns", "fleet"):
            database.unregister(name)
        return cls(database, w.partition_count, l0, crowded_only)

    def run(self) -> dict[str, Any]:
        """Seals the window: partition, units and sum, where there are any."""
        return self._fetched(_BY_PARTITION.format(low=LOW, high=HIGH))

    def answer(self) -> Answer:
        """What it says, to be compared."""
        found = self.run()
        return spread_out(self.partition_count, *(np.asarray(found[name]) for name in ("partition", "units", "sum")))

    def kept_by_unit(self) -> Int64:
        """How many units keep so many partitions, from 0 on."""
        return np.bincount(self._fetched(_BY_UNIT)["partitions"])

    def _fetched(self, query: str) -> dict[str, Any]:
        bases = "JOIN allowed USING (unit)" if self.keyed else ""
        order = "mix(plus(base, mix((partition + 1)::UBIGINT)))" if self.keyed else "hash(unit, partition)"
        kept = _CROWDED_ONLY if self.crowded_only else _EACH
        pairs = _PAIRS.format(order=order, bases=bases)
        fetched: dict[str, Any] = self.database.execute(pairs + kept.format(l0=self.l0) + query).fetchnumpy()
        return fetched


def _halves(prefix: str, pairs: UInt64) -> dict[str, UInt64]:
    return {f"{prefix}high": pairs[:, 0].copy(), f"{prefix}low": pairs[:, 1].copy()}
