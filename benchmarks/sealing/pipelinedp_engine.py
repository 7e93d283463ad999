"""PipelineDP on its local backend: one (unit, partition, value) a point, duplicates and withdrawals taken out beforehand.

It bounds each unit to `l0` partitions, in an order of chance, clamps its sum in each, and adds noise, with so large an
epsilon here that what it counts can be read off.

References:
    https://pipelinedp.io, release 0.3.
"""

from __future__ import annotations

import numpy as np
import pipeline_dp

from benchmarks.sealing.plain import Plain
from benchmarks.sealing.workload import HIGH, LOW, Answer, Workload

_EPSILON = 1e9
_MANY = 1_000_000
"""More points than one unit has in one partition."""


class PipelineDPEngine:
    """A window as rows.

    Args:
        workload: the window.
        l0: how many partitions of one unit are kept.
    """

    def __init__(self, workload: Workload, l0: int) -> None:
        self._partitions, self._l0 = workload.partition_count, l0
        columns = Plain.of(workload, l0).points()
        self._rows = list(zip(*(column.tolist() for column in columns), strict=True))
        self._public = sorted({partition for _, partition, _ in self._rows})

    @property
    def points(self) -> int:
        """How many points it is given."""
        return len(self._rows)

    def answer(self) -> Answer:
        """What it says, to be compared."""
        accountant = pipeline_dp.NaiveBudgetAccountant(total_epsilon=_EPSILON, total_delta=0.0)
        engine = pipeline_dp.DPEngine(accountant, pipeline_dp.LocalBackend())
        parameters = pipeline_dp.AggregateParams(
            metrics=[pipeline_dp.Metrics.PRIVACY_ID_COUNT, pipeline_dp.Metrics.SUM],
            noise_kind=pipeline_dp.NoiseKind.LAPLACE,
            max_partitions_contributed=self._l0,
            max_contributions_per_partition=_MANY,
            min_sum_per_partition=LOW,
            max_sum_per_partition=HIGH,
        )
        extractors = pipeline_dp.DataExtractors(
            privacy_id_extractor=lambda row: row[0],
            partition_extractor=lambda row: row[1],
            value_extractor=lambda row: row[2],
        )
        released = engine.aggregate(self._rows, parameters, extractors, self._public)
        accountant.compute_budgets()
        units, sums = np.zeros(self._partitions, np.int64), np.zeros(self._partitions, np.int64)
        for partition, metrics in released:
            units[partition], sums[partition] = round(metrics.privacy_id_count), round(metrics.sum)
        return Answer(units, sums)
