"""hushmeter as the pipeline seals a window: bucket by bucket through `seal`, tallies added up."""

from __future__ import annotations

import cProfile
import datetime as dt
import pstats
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import hushmeter
from benchmarks.sealing.workload import HIGH, LOW, SALT, Answer, Workload
from hushmeter.consent.register import bucket_of
from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.report import ReportBatch
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import DAY_MS, Window
from hushmeter.plan.catalog import Catalog, assign_blocks
from hushmeter.plan.reading import parse_plan
from hushmeter.sealing.seal import empty_tally, seal
from hushmeter.storage.frames import bucket_numbers
from hushmeter.storage.runs import bits_for

_START_MS = 1_772_409_600_000
_WINDOW = Window("1d", _START_MS, _START_MS + DAY_MS)
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


@dataclass(frozen=True, slots=True)
class Sealer:
    """A window as the log hands it over.

    Attributes:
        catalog: of the plan.
        buckets: the rows, cut by pseudonym as the log cuts them.
        consent: each bucket's.
    """

    catalog: Catalog
    buckets: tuple[ReportBatch, ...]
    consent: tuple[ConsentTable, ...]

    @classmethod
    def of(cls, workload: Workload, l0: int) -> Sealer:
        """Prepares a workload."""
        catalog = _catalog(workload.shape, l0)
        rows = _rows(workload, catalog.first_series(0))
        bits = bits_for(len(rows))
        number = bucket_numbers(rows.pseudonyms, bits)
        table = ConsentTable(("compare",), workload.allowed, np.zeros((len(workload.allowed), 1), np.int64))
        return cls(
            catalog,
            tuple(rows.take(np.flatnonzero(number == bucket)) for bucket in range(1 << bits)),
            tuple(bucket_of(table, bucket, bits) for bucket in range(1 << bits)),
        )

    def run(self) -> Tally:
        """Seals the window."""
        tally = empty_tally(self.catalog.plan, _WINDOW)
        for rows, consent in zip(self.buckets, self.consent, strict=True):
            tally += seal(rows, _WINDOW, catalog=self.catalog, consent=consent, salt=SALT)
        return tally

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
            self.run()
        return _own_seconds(pstats.Stats(profiler))


def _own_seconds(stats: pstats.Stats) -> dict[str, float]:
    root = str(Path(hushmeter.__file__).parent)
    entries = stats.stats  # type: ignore[attr-defined]
    seconds: dict[tuple[str, int, str], float] = {f: row[3] for f, row in entries.items() if f[0].startswith(root)}
    for called, row in entries.items():
        if called in seconds:
            for caller, spent in row[-1].items():
                if caller in seconds and caller != called:
                    seconds[caller] -= spent[-1]
    named = {f"{Path(f[0]).stem}.{f[2]}": s for f, s in seconds.items()}
    return dict(sorted(named.items(), key=lambda item: -item[1]))


def _catalog(shape: tuple[int, ...], l0: int) -> Catalog:
    names = [f"d{i}" for i in range(len(shape))]
    dimensions = (
        f"{name}: {{values: [{', '.join(f'v{i}' for i in range(size))}]}}" for name, size in zip(names, shape, strict=True)
    )
    text = _PLAN.format(dimensions=", ".join(dimensions), names=", ".join(names), l0=l0, low=LOW, high=HIGH)
    plan = parse_plan(text, dt.date(2026, 3, 2))
    return Catalog.of(plan, assign_blocks(plan))


def _rows(workload: Workload, first_series: int) -> ReportBatch:
    n = len(workload.pseudonyms)
    return ReportBatch(
        workload.pseudonyms,
        workload.report_ids,
        np.full(n, _WINDOW.end_ms),
        np.full(n, _WINDOW.start_ms + 1),
        np.full(n, _WINDOW.start_ms + 2),
        np.ones(n, np.uint32),
        workload.offsets,
        (workload.partitions + first_series).astype(np.uint32),
        workload.values,
    )
