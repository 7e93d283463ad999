"""The truth beside the releases: computed by the demo from the public data and its own keys, never served.

Two truths: after bounding (what a release estimates; noise is the only difference) and before it (what bounding costs).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.cli.demo.flights import Flight
from hushmeter.ingest.identity import pseudonym_of, subject_of, window_salt
from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import FIXED_POINT, MeasurementName
from hushmeter.model.plan import Metric
from hushmeter.model.report import ReportBatch, pairs_of
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import Int64, Window
from hushmeter.plan.catalog import Catalog
from hushmeter.sealing.seal import seal

Key = tuple[str, str, int, tuple[str, ...], tuple[str, ...], str, str]
"""Metric, resolution, window start, view, partition, statistic, component index or name."""


@dataclass(slots=True)
class Truth:
    """Collects exact values.

    Attributes:
        catalog: the demo's plan.
        deployment_key: as the service has it.
        bounded: exact values after bounding, by key; absent where undefined.
        unbounded: exact totals before bounding of the consenting aircraft, by (metric, statistic, resolution, start).
    """

    catalog: Catalog
    deployment_key: bytes
    bounded: dict[Key, float] = field(default_factory=dict)
    unbounded: dict[tuple[str, str, str, int], float] = field(default_factory=dict)

    def add(
        self, window: Window, reports: Sequence[Report], flights: Iterable[Flight], allowed: Mapping[str, int], key: bytes
    ) -> None:
        """Takes one window in.

        Args:
            window: a day or a week.
            reports: every report of its days.
            flights: every flight of its days.
            allowed: aircraft that allow the purpose when the window is sealed, and since when.
            key: the window's period key, read before it was destroyed.
        """
        pseudonyms = {a: pseudonym_of(key, subject_of(self.deployment_key, a.encode())) for a in allowed}
        rows = _rows([r for r in reports if r.unit_id in allowed], pseudonyms)
        consent = ConsentTable.of(self.catalog.plan.purpose_names, ((p, (allowed[a],)) for a, p in pseudonyms.items()))
        tally = seal(rows, window, catalog=self.catalog, consent=consent, salt=window_salt(key, window))
        for metric in self.catalog.plan.metrics_in(window):
            for view in metric.views:
                self._read_off(tally, metric, view)
        self._add_unbounded(window, [f for f in flights if f.aircraft in allowed])

    def _read_off(self, tally: Tally, metric: Metric, view: tuple[str, ...]) -> None:
        window = tally.window
        labels = metric.partition_labels(view)

        def put(statistic: str, component: str, values: Int64 | np.ndarray, defined: np.ndarray | None = None) -> None:
            for i, label in enumerate(labels):
                if defined is None or defined[i]:
                    at = (metric.name, window.resolution, window.start_ms, view, label, statistic, component)
                    self.bounded[at] = float(values[i])

        def vector(name: MeasurementName) -> Int64:
            return tally.vectors[VectorKey(metric.name, view, name)]

        if metric.name == "departures":
            put("units", "", vector(MeasurementName.UNITS)[:, 0])
            put("sum", "", vector(MeasurementName.SUM)[:, 0])
            return
        weights = vector(MeasurementName.WEIGHTS) / FIXED_POINT
        total = weights.sum(axis=1)
        if metric.name == "cancelled":
            put("rate", "", weights[:, 0] / np.maximum(total, 1e-9), total > 0)
            return
        bounds = metric.bounds[window.resolution]
        units = vector(MeasurementName.UNITS)[:, 0]
        mean = (bounds.low + bounds.high) / 2 + vector(MeasurementName.UNIT_MEAN)[:, 0] / 2 / np.maximum(units, 1)
        put("mean", "", mean, units > 0)
        for column in range(weights.shape[1]):
            put("histogram", str(column), weights[:, column])

    def _add_unbounded(self, window: Window, flights: list[Flight]) -> None:
        left = [f for f in flights if not f.cancelled]
        delays: defaultdict[str, list[int]] = defaultdict(list)
        cancelled: defaultdict[str, bool] = defaultdict(bool)
        for f in flights:
            cancelled[f.aircraft] |= f.cancelled
            if f.delay is not None:
                delays[f.aircraft].append(f.delay)
        values = {
            ("departures", "units"): float(len({f.aircraft for f in left})),
            ("departures", "sum"): float(len(left)),
            ("departure_delay", "mean"): float(np.mean([np.mean(own) for own in delays.values()])),
            ("cancelled", "rate"): float(np.mean(list(cancelled.values()))),
        }
        for (metric, statistic), value in values.items():
            self.unbounded[metric, statistic, window.resolution, window.start_ms] = value


def _rows(reports: Sequence[Report], pseudonyms: Mapping[str, bytes]) -> ReportBatch:
    """The reports as sealing sees them, all in time."""
    ends = np.array([r.interval_end_ms for r in reports], np.int64)
    offsets = np.cumsum([0, *(len(r.series) for r in reports)])
    return ReportBatch(
        pairs_of([pseudonyms[r.unit_id] for r in reports]),
        pairs_of([r.report_id for r in reports]),
        ends,
        np.array([r.interval_start_ms for r in reports], np.int64),
        ends,
        np.array([r.plan_version for r in reports], np.uint32),
        offsets.astype(np.int64),
        np.array([s for r in reports for s in r.series], np.uint32),
        np.array([v for r in reports for v in r.value], np.int64),
    )
