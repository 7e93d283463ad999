"""The truth beside the releases: computed by the demo from the public data and its own keys, never served.

Two truths: after bounding (what a release estimates; noise is the only difference) and before it (what bounding costs).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.ingest.identity import pseudonym_of, subject_of, window_salt
from hushmeter.model.consent import ConsentTable
from hushmeter.model.plan import Metric, Statistic
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import Window
from hushmeter.plan.catalog import Catalog
from hushmeter.plan.measurements import derivation
from hushmeter.query.estimates import estimate
from hushmeter.query.sums import Sums
from hushmeter.rehearsal.demo.flights import Flight
from hushmeter.rehearsal.rows import batch_of
from hushmeter.sealing.copies import copy_key
from hushmeter.sealing.seal import seal

Key = tuple[str, str, int, tuple[str, ...], tuple[str, ...], str, str]
"""Metric, resolution, window start, view, partition, statistic, component."""
_NO_NOISE = 1e-30
_OF_SOMEBODY = {Statistic.MEAN, Statistic.RATE, Statistic.QUANTILES, Statistic.CLAMPED}


@dataclass(slots=True)
class Truth:
    """Collects exact values.

    Attributes:
        catalog: the demo's plan.
        deployment_key: the service's.
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
        rows = batch_of([r for r in reports if r.unit_id in allowed], pseudonyms)
        consent = ConsentTable.of(self.catalog.plan.purpose_names, ((p, (allowed[a],)) for a, p in pseudonyms.items()))
        tally = seal(
            rows, window, catalog=self.catalog, consent=consent, salt=window_salt(key, window), copy_key=copy_key(key)
        )
        for metric in self.catalog.plan.metrics_in(window):
            for view in metric.views:
                self._read_off(tally, metric, view)
        self._add_unbounded(window, [f for f in flights if f.aircraft in allowed])

    def _read_off(self, tally: Tally, metric: Metric, view: tuple[str, ...]) -> None:
        """Computes each statistic without noise: the maps of real answers, applied to exact vectors."""
        window, keys = tally.window, tally.keys.get((metric.name, view))
        labels = metric.partition_labels(view) if keys is None else [(token,) for _, token in keys]
        if not labels:
            return
        for statistic in metric.statistics:
            names = derivation(metric, statistic)
            exact = {n: tally.vectors[VectorKey(metric.name, view, n)].astype(np.float64) for n in names}
            told = estimate(
                metric, window.resolution, {n: Sums(v, _NO_NOISE, 0.0, 1.0, 0.0) for n, v in exact.items()}, statistic
            )
            # Shares and means of nobody have no truth.
            defined = exact[names[-1]].sum(axis=1) > 0 if statistic in _OF_SOMEBODY else np.ones(len(labels), np.bool_)
            for row in np.flatnonzero(defined).tolist():
                for column, component in enumerate(told.components):
                    at = (metric.name, window.resolution, window.start_ms, view, labels[row], statistic.value, component)
                    self.bounded[at] = float(told.values[row, column])

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
