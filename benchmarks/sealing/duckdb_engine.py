"""DuckDB in SQL, on all cores, from tables of its own: reports, points with the number of their report, consent.

Which partitions a unit keeps is decided by DuckDB's own hash; see `benchmarks.sealing.polars_engine`. Of several ways to
write it the fastest counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.sealing.workload import HIGH, LOW, Answer, Workload
from hushmeter.model.time import Int64

_TOTALS = """
    SELECT unit, partition, CAST(sum(value) AS BIGINT) AS total
    FROM points JOIN ({rows}) USING (row)
    GROUP BY unit, partition
"""
_DISTINCT = """
    SELECT unit, any_value(row) AS row
    FROM reports JOIN allowed USING (high, low)
    GROUP BY unit, id_high, id_low
"""
_FIRST = """
    SELECT unit, row
    FROM reports JOIN allowed USING (high, low)
    QUALIFY row_number() OVER (PARTITION BY unit, id_high, id_low) = 1
"""
_NUMBERED = """
    SELECT unit, partition, total FROM ({totals})
    QUALIFY row_number() OVER (PARTITION BY unit ORDER BY hash(unit, partition)) <= {l0}
"""
_SMALLEST = """
    SELECT unit, kept.partition AS partition, kept.total AS total FROM (
        SELECT unit, unnest(arg_min({{'partition': partition, 'total': total}}, hash(unit, partition), {l0})) AS kept
        FROM ({totals}) GROUP BY unit
    )
"""
_ANSWER = """
    SELECT partition, count(*) AS units, CAST(sum(greatest({low}, least({high}, total))) AS BIGINT) AS sums
    FROM ({kept}) GROUP BY partition
"""


class DuckDBEngine:
    """A window in tables.

    Args:
        workload: the window.
        l0: how many partitions of one unit are kept.
    """

    def __init__(self, workload: Workload, l0: int) -> None:
        self._partitions, self._l0 = workload.partition_count, l0
        self._connection = duckdb.connect()
        high, low = workload.pseudonyms.T
        id_high, id_low = workload.report_ids.T
        rows = np.arange(len(high), dtype=np.uint32)
        units = np.arange(len(workload.allowed), dtype=np.uint32)
        self._table("reports", high=high, low=low, id_high=id_high, id_low=id_low, row=rows)
        of_points = workload.reports.astype(np.uint32)
        self._table("points", row=of_points, partition=workload.partitions, value=workload.values)
        self._table("allowed", high=workload.allowed[:, 0], low=workload.allowed[:, 1], unit=units)

    def forms(self) -> Mapping[str, Callable[[], object]]:
        """The ways to write it."""
        ways = {
            "distinct by group, arg_min": (_DISTINCT, _SMALLEST),
            "distinct by group, row_number": (_DISTINCT, _NUMBERED),
            "distinct by row_number, arg_min": (_FIRST, _SMALLEST),
        }
        return {name: partial(self._run, *way) for name, way in ways.items()}

    def answer(self) -> Answer:
        """What it says, to be compared."""
        return self._run(_DISTINCT, _SMALLEST)

    def kept_by_unit(self) -> Int64:
        """How many units keep so many partitions, from 0 on."""
        counts = f"SELECT count(*) AS pairs FROM ({self._kept(_DISTINCT, _SMALLEST)}) GROUP BY unit"  # noqa: S608
        return np.bincount(self._connection.sql(counts).fetchnumpy()["pairs"])

    def close(self) -> None:
        """Forgets the tables."""
        self._connection.close()

    def _run(self, rows: str, kept: str) -> Answer:
        found = self._connection.sql(_ANSWER.format(kept=self._kept(rows, kept), low=LOW, high=HIGH)).fetchnumpy()
        units, sums = np.zeros(self._partitions, np.int64), np.zeros(self._partitions, np.int64)
        units[found["partition"]] = found["units"]
        sums[found["partition"]] = found["sums"]
        return Answer(units, sums)

    def _kept(self, rows: str, kept: str) -> str:
        return kept.format(totals=_TOTALS.format(rows=rows), l0=self._l0)

    def _table(self, name: str, **columns: np.ndarray) -> None:
        frame = pa.table({key: np.ascontiguousarray(column) for key, column in columns.items()})
        self._connection.register("frame", frame)
        self._connection.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")  # noqa: S608
        self._connection.unregister("frame")
