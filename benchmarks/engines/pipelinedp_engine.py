"""PipelineDP on its local backend, as its documentation shows: one unit's record of the whole period is what is protected.

A partition is a day and a value of the dimension, so that one unit is in at most `days x l0` of them. Units, sums and means
come from one aggregation, bins are counted in another one, quantiles come from its quantile trees; all share one budget,
which its accountant divides.

References:
    https://pipelinedp.io, release 0.3. Its `PLDBudgetAccountant`, which composes privacy loss distributions, calls itself
    experimental and not yet compatible with the engine; it gives no quantiles and selects no partitions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pipeline_dp

from benchmarks.engines.common import QUANTILES, Answers, Float, Task
from benchmarks.engines.opendp_engine import quantiles_of

Key = tuple[int, ...]
Row = tuple[int, Key, int]
Released = dict[Key, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Setup:
    """How PipelineDP is set up.

    Attributes:
        gaussian: whether noise is Gaussian; else Laplace.
        pld: whether losses are composed by their distributions; else epsilons and deltas are added.
        averages: whether it is asked for means; else for sums and counts, and they are divided.
    """

    gaussian: bool
    pld: bool
    averages: bool


def setups(*, pld: bool, means: bool) -> tuple[Setup, ...]:
    """Every setup with this way of composing; `means` for both ways to means."""
    ways = (False, True) if means else (True,)
    return tuple(Setup(gaussian, pld, averages) for gaussian, averages in itertools.product((False, True), ways))


def pipelinedp_runs(task: Task, setup: Setup, *, private: bool = False) -> Iterator[Answers]:
    """Endless runs of one task; PipelineDP bounds and aggregates anew in each.

    Args:
        task: what to release.
        setup: how.
        private: whether partitions are selected privately; else all of them are public.
    """
    events = task.events
    chosen = np.flatnonzero(events.days < task.days)
    columns = (events.units, events.days, events.partitions, events.values)
    rows: list[Row] = [(u, (d, p), v) for u, d, p, v in zip(*(column[chosen].tolist() for column in columns), strict=True)]
    while True:
        yield _Run(task, setup, private).answers(rows)


@dataclass(frozen=True, slots=True)
class _Run:
    task: Task
    setup: Setup
    private: bool

    def answers(self, rows: list[Row]) -> Answers:
        kind = pipeline_dp.PLDBudgetAccountant if self.setup.pld else pipeline_dp.NaiveBudgetAccountant
        with_delta = self.setup.gaussian or self.private
        accountant = kind(total_epsilon=self.task.epsilon, total_delta=self.task.delta if with_delta else 0.0)
        engine = pipeline_dp.DPEngine(accountant, pipeline_dp.LocalBackend())
        shape, bins = (self.task.days, self.task.events.partition_count), len(self.task.events.edges) + 1
        asked = self._metrics()
        values = self._aggregate(engine, rows, list(np.ndindex(*shape)), asked) if asked else iter(())
        binned: Iterator[tuple[Key, tuple[float, ...]]] = iter(())
        if "histogram" in self.task.statistics:
            at = np.searchsorted(self.task.events.edges, [v for _, _, v in rows], side="left").tolist()
            apart = [(unit, (*key, place), 0) for (unit, key, _), place in zip(rows, at, strict=True)]
            binned = self._aggregate(engine, apart, list(np.ndindex(*shape, bins)), [pipeline_dp.Metrics.COUNT])
        accountant.compute_budgets()
        return self._told(dict(values), dict(binned))

    def _metrics(self) -> list[object]:
        """What one aggregation computes."""
        m, asked = pipeline_dp.Metrics, set(self.task.statistics)
        found: dict[str, object] = {}
        if "units" in asked:
            found["units"] = m.PRIVACY_ID_COUNT
        if "sum" in asked or ("mean" in asked and not self.setup.averages):
            found["sum"] = m.SUM
        if "mean" in asked:
            found["mean"] = m.MEAN if self.setup.averages else m.COUNT
        # Its quantile trees need epsilons of their own, which composed distributions do not have.
        at = QUANTILES if "quantiles" in asked and not self.setup.pld else ()
        return [*found.values(), *(m.PERCENTILE(100 * q) for q in at)]

    def _aggregate(
        self, engine: pipeline_dp.DPEngine, rows: list[Row], keys: list[Key], metrics: list[object]
    ) -> Iterator[tuple[Key, tuple[float, ...]]]:
        events, of_bins = self.task.events, metrics == [pipeline_dp.Metrics.COUNT]
        spread = min(events.max_events, len(events.edges) + 1) if of_bins else 1
        bounds = {
            "max_partitions_contributed": self.task.days * events.l0 * spread,
            "max_contributions_per_partition": events.max_events,
        }
        if of_bins and not self.setup.gaussian:
            # One bound on all contributions is tighter where noise is for the L1 norm.
            bounds = {"max_contributions": self.task.days * events.l0 * events.max_events}
        kind = pipeline_dp.NoiseKind.GAUSSIAN if self.setup.gaussian else pipeline_dp.NoiseKind.LAPLACE
        params = pipeline_dp.AggregateParams(
            metrics=metrics, noise_kind=kind, min_value=events.low, max_value=events.high, **bounds
        )
        extractors = pipeline_dp.DataExtractors(
            privacy_id_extractor=lambda row: row[0],
            partition_extractor=lambda row: row[1],
            value_extractor=lambda row: row[2],
        )
        released: Iterator[tuple[Key, tuple[float, ...]]] = engine.aggregate(
            rows, params, extractors, None if self.private else keys
        )
        return released

    def _told(self, values: Released, binned: Released) -> Answers:
        events, shape = self.task.events, (self.task.days, self.task.events.partition_count)
        found: dict[str, Float] = {}
        if "units" in self.task.statistics:
            found["units"] = _table(values, shape, ("privacy_id_count",))
        if "sum" in self.task.statistics:
            found["sum"] = _table(values, shape, ("sum",))
        if "mean" in self.task.statistics:
            asked = self.setup.averages
            mean = _table(values, shape, ("mean",) if asked else ("sum",))
            mean = mean if asked else mean / np.maximum(_table(values, shape, ("count",)), 1)
            found["mean"] = np.clip(mean, events.low, events.high)
        if binned:
            bins = len(events.edges) + 1
            found["histogram"] = _table(binned, (*shape, bins), ("count",))[..., 0]
        if "quantiles" in self.task.statistics and not self.setup.pld:
            found["quantiles"] = _table(values, shape, tuple(f"percentile_{round(100 * q)}" for q in QUANTILES))
        elif "quantiles" in self.task.statistics:
            flat = found["histogram"].reshape(-1, len(events.edges) + 1)
            found["quantiles"] = quantiles_of(events, flat).reshape(*shape, len(QUANTILES))
        return found


def _table(released: Released, shape: tuple[int, ...], fields: tuple[str, ...]) -> Float:
    """float64[*shape, fields], NaN where a partition was not released."""
    table = np.full((*shape, len(fields)), np.nan)
    for key, row in released.items():
        table[key] = [float(getattr(row, field)) for field in fields]
    return table
