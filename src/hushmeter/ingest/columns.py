"""The plan as columns, for judging many points at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hushmeter import limits
from hushmeter.ingest.tokens import lawful
from hushmeter.model.arrays import Bool, Float64, Int64
from hushmeter.model.plan import Kind, Metric, OpenValues
from hushmeter.model.report import UInt32
from hushmeter.plan.catalog import Catalog


@dataclass(frozen=True, slots=True)
class PlanColumns:
    """One row a metric of the plan.

    Attributes:
        catalog: the plan and its series numbers.
        components: int64[k], how many components the metric has.
        low, high: int64[k], smallest and largest value of one event, or of a counter's total in one report; the widest
            of all resolutions, and always holding 0.
        counter, summed: bool[k]; a metric is summed if a sum of what it counts is reported too.
        counts: int64[k], how many components, the first ones, are counts.
        count_most: int64[k], largest count of one point.
        expires_ms: int64[k].
        needs: bool[k, purposes], which purposes the metric needs.
        released: bool[k, resolutions], at which resolutions it is released.
        open_rules: what tokens of open dimensions look like, each distinct rule once.
        open_rule: int64[k], which of them the metric's open dimension has; -1 where all its dimensions are closed.
    """

    catalog: Catalog
    components: Int64
    low: Int64
    high: Int64
    counter: Bool
    summed: Bool
    counts: Int64
    count_most: Int64
    expires_ms: Int64
    needs: Bool
    released: Bool
    open_rules: tuple[OpenValues, ...]
    open_rule: Int64

    @classmethod
    def of(cls, catalog: Catalog) -> PlanColumns:
        """Reads the columns off a catalog's plan."""
        plan = catalog.plan
        metrics = plan.metrics
        opened = [next((d.open for d in m.dimensions if d.open), None) for m in metrics]
        open_rules = tuple(dict.fromkeys(o for o in opened if o is not None))
        return cls(
            catalog=catalog,
            components=np.array([len(m.components) for m in metrics], np.int64),
            low=np.array([min(0, *(b.low for b in m.bounds.values())) for m in metrics], np.int64),
            high=np.array([max(0, *(b.high for b in m.bounds.values())) for m in metrics], np.int64),
            counter=np.array([m.kind is Kind.COUNTER for m in metrics], np.bool_),
            summed=np.array([m.kind in {Kind.DISTRIBUTION, Kind.RATIO} for m in metrics], np.bool_),
            counts=np.array([m.count_components for m in metrics], np.int64),
            count_most=np.array([_count_most(m) for m in metrics], np.int64),
            expires_ms=np.array([m.expires_ms for m in metrics], np.int64),
            needs=np.array([[p in m.purposes for p in plan.purpose_names] for m in metrics], np.bool_),
            released=np.array([[r.name in m.at for r in plan.resolutions] for m in metrics], np.bool_),
            open_rules=open_rules,
            open_rule=np.array([-1 if o is None else open_rules.index(o) for o in opened], np.int64),
        )

    def bad_tokens(self, metric: Int64, numbers: UInt32, tokens: Sequence[bytes]) -> Bool:
        """Which points lack a token, have one that they may not have, or one that their metric's rule refuses.

        Args:
            metric: int64[m], which metric each point is of; none is -1.
            numbers: uint32[m], 0 where a point has no token, else 1 + its index in `tokens`.
            tokens: distinct.

        Returns:
            bool[m].
        """
        rule, named = self.open_rule[metric], numbers > 0
        bad: Bool = (rule >= 0) != named
        at = np.flatnonzero((rule >= 0) & named)
        pairs, pair_of = np.unique(rule[at] * (len(tokens) + 1) + numbers[at], return_inverse=True)
        rules, entries = np.divmod(pairs, len(tokens) + 1)
        taken = np.zeros(len(pairs), np.bool_)
        for index in np.unique(rules).tolist():
            mine = np.flatnonzero(rules == index)
            taken[mine] = lawful([tokens[i - 1] for i in entries[mine].tolist()], self.open_rules[index])
        bad[at] = ~taken[pair_of]
        return bad

    def values_out_of_range(self, metric: Int64, place: Int64, values: Int64, report: Int64, numbers: UInt32) -> Bool:
        """Which points hold a value that their metric cannot have.

        Counts are 0 to `limits.COUNT_PER_POINT_MAX`, denominators 0 to `limits.RANGE_MAX`; a counter's total lies in its
        range; a distribution's sum (a ratio's numerator) lies in its range times the number of events (the denominator)
        that the same report has in the same partition, tokens included; a sum of squares in that of the range's squares.

        Args:
            metric: int64[m], which metric each point is of; none is -1.
            place: int64[m], from `Catalog.locate`.
            values: int64[m].
            report: int64[m], which report each point stands in.
            numbers: uint32[m], of each point's token.

        Returns:
            bool[m].
        """
        low, high = self.low[metric], self.high[metric]
        bad: Bool = self.counter[metric] & ((values < low) | (values > high))
        component = place % self.components[metric]
        is_count = ~self.counter[metric] & (component < self.counts[metric])
        is_sum = self.summed[metric] & (component == self.counts[metric])
        is_squares = self.summed[metric] & (component > self.counts[metric])
        bad |= is_count & ((values < 0) | (values > self.count_most[metric]))
        if is_sum.any() or is_squares.any():
            partition = place // self.components[metric] * (int(numbers.max()) + 1) + numbers
            _, cell_of = np.unique(np.column_stack((report, metric, partition)), axis=0, return_inverse=True)
            cell_of = cell_of.ravel()
            counted = is_count & self.summed[metric] & ~bad
            weights = values[counted].astype(np.float64)
            each: Float64 = np.bincount(cell_of[counted], weights, minlength=int(cell_of.max()) + 1)[cell_of].astype(
                np.float64
            )
            largest = np.maximum(np.abs(low), np.abs(high)).astype(np.float64) ** 2
            bad |= _outside(cell_of, values, is_sum, each * low, each * high)
            bad |= _outside(cell_of, values, is_squares, np.zeros(len(values)), each * largest)
        return bad


def _count_most(metric: Metric) -> int:
    return limits.RANGE_MAX if metric.kind is Kind.RATIO else limits.COUNT_PER_POINT_MAX


def _outside(cell_of: Int64, values: Int64, chosen: Bool, low: Float64, high: Float64) -> Bool:
    """Which chosen points' cells add up to more or less than may be, in double precision with a step to spare.

    Exactness is not needed at the door: sealing clamps with integers.
    """
    total = np.bincount(cell_of[chosen], values[chosen].astype(np.float64), minlength=int(cell_of.max()) + 1)[cell_of]
    outside: Bool = chosen & ((total < low - 1) | (total > high + 1))
    return outside
