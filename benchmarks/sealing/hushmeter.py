"""hushmeter as the pipeline seals a large window: processes that each seal some of its buckets."""

from __future__ import annotations

import cProfile
import dataclasses
import datetime as dt
import pstats
from collections.abc import Sequence
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

import hushmeter
from benchmarks.sealing.workload import HIGH, LOW, SALT, Answer, Workload
from hushmeter import limits
from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.report import ReportBatch
from hushmeter.model.stored import grain
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import DAY_MS, Window
from hushmeter.pipeline.bucket_jobs import Processes, SealingJob
from hushmeter.plan.catalog import Catalog, assign_blocks
from hushmeter.plan.reading import parse_plan
from hushmeter.ports import IntakeLog
from hushmeter.storage.log.frames import bucket_numbers

_START_MS = 1_772_409_600_000
WINDOW = Window("1d", _START_MS, _START_MS + DAY_MS)
_PLAN = """
plan: seal
version: 1
privacy: {{unit: unit, period: 1d, epsilon: 2, delta: 1e-6, expected_units: 100000, participants: false}}
resolutions: {{1d: {{lateness: 1h}}}}
purposes: {{compare: Compare engines.}}
metrics:
  measured:
    description: Values of a workload.
    owner: benchmarks@example.com
    expires: 2026-12-31
    category: performance
    purposes: [compare]
    kind: counter
    unit: calls
    dimensions: {{{dimensions}}}
    views: [[{names}]]
    per_unit: {{max_partitions: {l0}, range: [{low}, {high}]}}
    statistics: [units, sum]
"""


class SharedLog:
    """The rows of one window as the log hands them over, bucket by bucket, but in memory that processes share.

    Args:
        rows: of the window.
        bits: they are read as 2^bits buckets.
    """

    def __init__(self, rows: ReportBatch, bits: int) -> None:
        number = bucket_numbers(rows.pseudonyms, bits)
        cut = rows.take(np.argsort(number, kind="stable"))
        self._borders = np.concatenate(([0], np.cumsum(np.bincount(number, minlength=1 << bits))))
        self._bits = bits
        columns = {name: getattr(cut, name) for name in _COLUMNS}
        self._layout, size = list[tuple[str, tuple[int, ...], str, int]](), 0
        for name, column in columns.items():
            self._layout.append((name, column.shape, column.dtype.str, size))
            size += -(-column.nbytes // 64) * 64
        self._memory = SharedMemory(create=True, size=max(1, size))
        for name, column in self._columns().items():
            column[...] = columns[name]

    def read(self, _start_ms: int, _segments: Sequence[str], bucket: int, bits: int) -> ReportBatch:
        """See `IntakeLog.read`; the grain is that of the log."""
        assert bits == self._bits
        first, last = self._borders[bucket : bucket + 2].tolist()
        columns = self._columns()
        offsets = columns["offsets"][first : last + 1]
        points = slice(int(offsets[0]), int(offsets[-1]))
        return ReportBatch(
            columns["pseudonyms"][first:last],
            columns["report_ids"][first:last],
            columns["received_at_ms"][first:last],
            columns["interval_start_ms"][first:last],
            columns["interval_end_ms"][first:last],
            columns["plan_versions"][first:last],
            offsets - offsets[0],
            columns["series"][points],
            columns["values"][points],
        )

    def reader(self, _starts_ms: Sequence[int]) -> SharedLog:
        """See `IntakeLog.reader`."""
        return self

    def close(self) -> None:
        """Gives the memory back."""
        self._memory.close()
        self._memory.unlink()

    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        return {name: np.ndarray(shape, dtype, self._memory.buf, offset) for name, shape, dtype, offset in self._layout}


_COLUMNS = [field.name for field in dataclasses.fields(ReportBatch) if field.name not in {"tokens", "token_numbers"}]


class Sealer:
    """hushmeter with one window at hand, and processes at work.

    Args:
        workload: the window.
        l0: how many partitions of one unit are kept.
        processes: that seal side by side.
    """

    def __init__(self, workload: Workload, l0: int, processes: Processes) -> None:
        self.catalog = catalog_of(workload.shape, l0)
        rows = rows_of(workload, self.catalog.first_series(0))
        bits = grain(rows.size_bytes, limits.BUCKET_BYTES_TARGET, limits.BUCKET_BITS_MAX)
        self._log = SharedLog(rows, bits)
        log = cast("IntakeLog", self._log)
        self._job = SealingJob(log, {WINDOW.start_ms: ("all",)}, bits, WINDOW, self.catalog, SALT, bytes(32), {})
        since = np.zeros((len(workload.allowed), 1), np.int64)
        self._consent = ConsentTable(("compare",), workload.allowed, since)
        self._processes = processes

    def close(self) -> None:
        """Forgets the window."""
        self._log.close()

    def run(self) -> Tally:
        """Seals the window."""
        return self._processes.tally(self._job, self._consent)

    def run_alone(self) -> Tally:
        """Seals the window in this process."""
        return self._job.everything(self._consent)

    def answer(self) -> Answer:
        """What it says, to be compared."""
        metric = self.catalog.plan.metrics[0]
        vectors, view = self.run().vectors, metric.views[0]
        units, sums = (
            vectors[VectorKey(metric.name, view, name)][:, 0] for name in (MeasurementName.UNITS, MeasurementName.SUM)
        )
        return Answer(units, sums)

    def profile(self) -> dict[str, float]:
        """Seconds of one run by function of the package, each with what it calls outside of the package."""
        with cProfile.Profile() as profiler:
            self.run_alone()
        return _own_seconds(pstats.Stats(profiler))


def _own_seconds(stats: pstats.Stats) -> dict[str, float]:
    root = str(Path(hushmeter.__file__).parent)
    entries = stats.stats  # type: ignore[attr-defined]
    seconds: dict[tuple[str, int, str], float] = {f: row[3] for f, row in entries.items() if f[0].startswith(root)}
    for called, (*_counts, callers) in entries.items():
        if called in seconds:
            for caller, (*_others, inside) in callers.items():
                if caller in seconds and caller != called:
                    seconds[caller] -= inside
    named = {f"{Path(f[0]).stem}.{f[2]}": s for f, s in seconds.items()}
    return dict(sorted(named.items(), key=lambda item: -item[1]))


def catalog_of(shape: tuple[int, ...], l0: int) -> Catalog:
    """The catalog of a plan with one counter, of dimensions of these sizes, one unit of which is in `l0` partitions."""
    names = [f"d{i}" for i in range(len(shape))]
    dimensions = (
        f"{name}: {{values: [{', '.join(f'v{i}' for i in range(size))}]}}" for name, size in zip(names, shape, strict=True)
    )
    text = _PLAN.format(dimensions=", ".join(dimensions), names=", ".join(names), l0=l0, low=LOW, high=HIGH)
    plan = parse_plan(text, dt.date(2026, 3, 2))
    return Catalog.of(plan, assign_blocks(plan))


def rows_of(workload: Workload, first_series: int) -> ReportBatch:
    """A workload as rows of `WINDOW`; the number of its first series comes from the catalog."""
    n = len(workload.pseudonyms)
    return ReportBatch(
        workload.pseudonyms,
        workload.report_ids,
        np.full(n, WINDOW.end_ms),
        np.full(n, WINDOW.start_ms + 1),
        np.full(n, WINDOW.start_ms + 2),
        np.ones(n, np.uint32),
        workload.offsets,
        (workload.partitions + first_series).astype(np.uint32),
        workload.values,
    )
