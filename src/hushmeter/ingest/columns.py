"""The plan as columns, for judging many points at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hushmeter import limits
from hushmeter.model.plan import Kind
from hushmeter.model.report import Bool
from hushmeter.model.time import Int64
from hushmeter.plan.catalog import Catalog


@dataclass(frozen=True, slots=True)
class PlanColumns:
    """One row a metric of the plan.

    Attributes:
        catalog: the plan and its series numbers.
        components: int64[k], how many components the metric has.
        low, high: int64[k], smallest and largest value of one event, or of a counter's total in one report; the widest
            of all resolutions, and always holding 0.
        counter, distribution: bool[k].
        expires_ms: int64[k].
        needs: bool[k, purposes], which purposes the metric needs.
        released: bool[k, resolutions], at which resolutions it is released.
    """

    catalog: Catalog
    components: Int64
    low: Int64
    high: Int64
    counter: Bool
    distribution: Bool
    expires_ms: Int64
    needs: Bool
    released: Bool

    @classmethod
    def of(cls, catalog: Catalog) -> PlanColumns:
        """Reads the columns off a catalog's plan."""
        plan = catalog.plan
        metrics = plan.metrics
        return cls(
            catalog=catalog,
            components=np.array([len(m.components) for m in metrics], np.int64),
            low=np.array([min(0, *(b.low for b in m.bounds.values())) for m in metrics], np.int64),
            high=np.array([max(0, *(b.high for b in m.bounds.values())) for m in metrics], np.int64),
            counter=np.array([m.kind is Kind.COUNTER for m in metrics], np.bool_),
            distribution=np.array([m.kind is Kind.DISTRIBUTION for m in metrics], np.bool_),
            expires_ms=np.array([m.expires_ms for m in metrics], np.int64),
            needs=np.array([[p in m.purposes for p in plan.purpose_names] for m in metrics], np.bool_),
            released=np.array([[r.name in m.at for r in plan.resolutions] for m in metrics], np.bool_),
        )

    def values_out_of_range(self, metric: Int64, place: Int64, values: Int64, report: Int64) -> Bool:
        """Which points hold a value that their metric cannot have.

        Counts are 0 to `limits.COUNT_PER_POINT_MAX`; a counter's total lies in its range; a distribution's sum lies in
        its range times the number of events that the same report counts in the same partition.

        Args:
            metric: int64[m], which metric each point is of; none is -1.
            place: int64[m], from `Catalog.locate`.
            values: int64[m].
            report: int64[m], which report each point stands in.

        Returns:
            bool[m].
        """
        low, high = self.low[metric], self.high[metric]
        bad = self.counter[metric] & ((values < low) | (values > high))
        component = place % self.components[metric]
        is_sum = self.distribution[metric] & (component == self.components[metric] - 1)
        is_count = ~self.counter[metric] & ~is_sum
        bad |= is_count & ((values < 0) | (values > limits.COUNT_PER_POINT_MAX))
        if is_sum.any():
            bad |= self._sums_out_of_range(metric, place, values, report, is_sum, is_count & ~bad)
        return bad

    def _sums_out_of_range(
        self, metric: Int64, place: Int64, values: Int64, report: Int64, is_sum: Bool, is_count: Bool
    ) -> Bool:
        """Compares each distribution's sum with its range times its events, in double precision with a step to spare.

        Exactness is not needed at the door: sealing clamps with integers.
        """
        cell = np.column_stack((report, metric, place // self.components[metric]))
        _, cell_of = np.unique(cell, axis=0, return_inverse=True)
        cell_of = cell_of.ravel()
        counted = is_count & self.distribution[metric]
        events = np.bincount(cell_of[counted], values[counted].astype(np.float64), minlength=int(cell_of.max()) + 1)
        total = np.bincount(cell_of[is_sum], values[is_sum].astype(np.float64), minlength=len(events))
        low, high = events[cell_of] * self.low[metric] - 1, events[cell_of] * self.high[metric] + 1
        outside: Bool = is_sum & ((total[cell_of] < low) | (total[cell_of] > high))
        return outside
