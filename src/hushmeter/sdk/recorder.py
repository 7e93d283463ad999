"""Adds up what one unit does in one interval, in the plan's terms, until it becomes a Report.

Standard library and protobuf only; nothing here touches the network.
"""

from __future__ import annotations

import bisect
import math
import os
import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from hushmeter import limits
from hushmeter.api.ingest.v1 import ingest_pb2 as pb
from hushmeter.api.report.v1.report_pb2 import Report


class _Point(NamedTuple):
    """What is counted: a series number, and the token of its metric's open dimension."""

    series: int
    token: str | None

    def component(self, index: int) -> _Point:
        """Another component of the same partition; this one is the first."""
        return _Point(self.series + index, self.token)


@dataclass(frozen=True, slots=True)
class _Metric:
    """One metric of the plan, ready for recording."""

    description: pb.MetricDescription
    step: Decimal
    radix: tuple[dict[str, int], ...]

    @classmethod
    def of(cls, description: pb.MetricDescription) -> _Metric:
        radix = tuple({value: i for i, value in enumerate(d.values)} for d in description.dimensions)
        return cls(description, Decimal(description.resolution), radix)

    @property
    def series(self) -> range:
        """Its series numbers."""
        first, components = self.description.first_series, len(self.description.components)
        return range(first, first + math.prod(len(values) or 1 for values in self.radix) * components)

    def first_point(self, dimensions: dict[str, str]) -> _Point:
        """The point of the first component of a combination of dimension values."""
        known = [d.name for d in self.description.dimensions]
        if sorted(dimensions) != sorted(known):
            raise ValueError(f"{self.description.name} has the dimensions {known}, got {sorted(dimensions)}")
        partition, token = 0, None
        for dimension, values in zip(self.description.dimensions, self.radix, strict=True):
            value = dimensions[dimension.name]
            if dimension.open:
                token = self._token(dimension, value)
                continue
            if value not in values:
                raise ValueError(f"{self.description.name}: {dimension.name} is one of {sorted(values)}, got {value!r}")
            partition = partition * len(values) + values[value]
        return _Point(self.description.first_series + partition * len(self.description.components), token)

    def _token(self, dimension: pb.DimensionDescription, value: str) -> str:
        """The value of an open dimension, if it can be sent at all; the server judges whether it matches the pattern."""
        where = f"{self.description.name}: {dimension.name}"
        if not isinstance(value, str):
            raise TypeError(f"{where} is a str, got {type(value).__name__}")
        if len(value) > dimension.max_length:
            raise ValueError(f"{where} has at most {dimension.max_length} characters, got {len(value)}")
        value.encode()
        return value

    def steps(self, value: float | Decimal) -> int:
        """A value in units as steps, rounded down and clamped into the range."""
        steps = int(Decimal(str(value)) // self.step)
        return min(max(steps, self.description.range_low), self.description.range_high)


class Recorder:
    """Counts for one unit; thread-safe.

    What the unit has not allowed is not recorded: pass the purposes that it has. The value of an open dimension is any str
    of at most its `max_length`; the server judges whether it matches the dimension's pattern. Methods raise ValueError for
    a metric, dimension or value that is not in the plan.

    Args:
        plan: from `IngestClient.plan`.
        unit_id: the device or account.
        allowed: purposes that the unit has allowed; metrics that need another are silently left out.

    Example:
        >>> recorder = Recorder(client.plan(), "account-17", allowed=["model_tuning"])
        >>> recorder.count("calls", 2, platform="linux")
        >>> recorder.count("calls", platform="linux")
        >>> recorder.count("calls", platform="web")
        >>> report = recorder.report(1_772_413_800_000, 1_772_413_860_000)
        >>> list(report.value)  # one number for each platform
        [3, 1]
    """

    def __init__(self, plan: pb.PlanDescription, unit_id: str, allowed: Iterable[str]) -> None:
        self._version = plan.version
        self._unit_id = unit_id
        self._allowed = frozenset(allowed)
        self._metrics = {m.name: _Metric.of(m) for m in plan.metrics}
        self._totals: defaultdict[_Point, int] = defaultdict(int)
        self._numbers: dict[str, int] = {}
        self._lock = threading.Lock()

    def count(self, metric: str, amount: float = 1, **dimensions: str) -> None:
        """Adds to a counter, in the metric's unit, rounded down to its step; the total is clamped into its range."""
        found = self._find(metric, pb.METRIC_KIND_COUNTER)
        if found is None:
            return
        first = found.first_point(dimensions)
        with self._lock:
            self._number(first)
            total = self._totals[first] + int(Decimal(str(amount)) // found.step)
            self._totals[first] = min(max(total, found.description.range_low), found.description.range_high)

    def observe(self, metric: str, value: float, **dimensions: str) -> None:
        """Records one value of a distribution in the metric's unit, rounded down to its step and clamped into its range.

        Example:
            >>> recorder = client.recorder("account-17")
            >>> recorder.observe("call_setup", 340.7, platform="linux", app_version="2.4.1")
            >>> recorder.observe("call_setup", 99_999, platform="linux", app_version="2.4.1")
            >>> report = recorder.report(1_772_413_800_000, 1_772_413_860_000)
            >>> sorted(report.value)  # one event in each of two bins, and the sum: 340 ms and 10,000 ms
            [1, 1, 10340]
        """
        found = self._find(metric, pb.METRIC_KIND_DISTRIBUTION)
        if found is None:
            return
        first, steps = found.first_point(dimensions), found.steps(value)
        # Bins are upper-inclusive: (a, b].
        bin_index = bisect.bisect_left(found.description.edges, steps)
        with self._lock:
            self._number(first)
            self._totals[first.component(bin_index)] += 1
            bins = len(found.description.edges) + 1
            self._totals[first.component(bins)] += steps
            if len(found.description.components) > bins + 1:
                self._totals[first.component(bins + 1)] += steps**2

    def relate(self, metric: str, numerator: float, denominator: int, **dimensions: str) -> None:
        """Adds to numerator and denominator of a ratio; the numerator is clamped so that their ratio is in its range.

        Args:
            metric: a ratio of the plan.
            numerator: in the metric's unit, such as milliseconds of stalling.
            denominator: whole and not negative, such as seconds of a call.
            dimensions: values of the metric's dimensions.

        Example:
            >>> recorder = client.recorder("account-17")
            >>> recorder.relate("stalling", 840, 60)  # 840 ms in a call of 60 s
            >>> recorder.relate("stalling", 0, 30)
            >>> list(recorder.report(1_772_413_800_000, 1_772_413_860_000).value)  # denominator, numerator
            [90, 840]
        """
        found = self._find(metric, pb.METRIC_KIND_RATIO)
        if found is None:
            return
        if denominator < 0 or denominator != int(denominator):
            raise ValueError(f"{metric}: a denominator is a whole number, not negative; got {denominator}")
        first, low, high = found.first_point(dimensions), found.description.range_low, found.description.range_high
        steps = int(Decimal(str(numerator)) // found.step)
        with self._lock:
            self._number(first)
            self._totals[first] += int(denominator)
            self._totals[first.component(1)] += min(max(steps, low * int(denominator)), high * int(denominator))

    def flag(self, metric: str, value: bool, **dimensions: str) -> None:  # noqa: FBT001
        """Records that a flag was true or not."""
        found = self._find(metric, pb.METRIC_KIND_FLAG)
        if found is not None:
            self._add(found.first_point(dimensions).component(0 if value else 1))

    def choose(self, metric: str, option: str, **dimensions: str) -> None:
        """Records that an option was chosen.

        Example:
            >>> recorder = client.recorder("account-17")
            >>> recorder.choose("codec", "opus")
            >>> recorder.choose("codec", "vorbis")
            Traceback (most recent call last):
            ValueError: codec is one of ['opus', 'aac', 'g711'], got 'vorbis'
        """
        found = self._find(metric, pb.METRIC_KIND_CHOICE)
        if found is None:
            return
        options = list(found.description.components)
        if option not in options:
            raise ValueError(f"{metric} is one of {options}, got {option!r}")
        self._add(found.first_point(dimensions).component(options.index(option)))

    def report(self, interval_start_ms: int, interval_end_ms: int) -> Report | None:
        """Takes what was recorded as a Report and starts anew; None where nothing was recorded, or only expired metrics.

        Args:
            interval_start_ms: exclusive, milliseconds since the Unix epoch.
            interval_end_ms: inclusive, milliseconds since the Unix epoch.

        Example:
            >>> recorder = client.recorder("account-18")  # has allowed nothing
            >>> recorder.flag("call_dropped", True)
            >>> recorder.report(1_772_413_800_000, 1_772_413_860_000) is None
            True
        """
        with self._lock:
            totals, self._totals = self._totals, defaultdict(int)
            self._numbers = {}
        # The service rejects a whole report for one expired metric, so expired metrics are left out.
        expired = [m.series for m in self._metrics.values() if 0 < m.description.expires_ms < interval_end_ms]
        points = [point for point in totals if not any(point.series in series for series in expired)]
        if not points:
            return None
        tokens = list(dict.fromkeys(point.token for point in points if point.token is not None))
        numbers = {token: number for number, token in enumerate(tokens, 1)}
        return Report(
            report_id=os.urandom(16),
            unit_id=self._unit_id,
            interval_start_ms=interval_start_ms,
            interval_end_ms=interval_end_ms,
            plan_version=self._version,
            series=[point.series for point in points],
            value=[totals[point] for point in points],
            token=tokens,
            point_token=[0 if point.token is None else numbers[point.token] for point in points] if numbers else [],
        )

    def _add(self, point: _Point) -> None:
        with self._lock:
            self._number(point)
            self._totals[point] += 1

    def _number(self, point: _Point) -> None:
        """Gives a point's token a number in the next report."""
        if point.token is None or point.token in self._numbers:
            return
        if len(self._numbers) >= limits.TOKENS_PER_REPORT_MAX:
            most = limits.TOKENS_PER_REPORT_MAX
            raise ValueError(f"a report has at most {most} distinct values of open dimensions; take reports more often")
        self._numbers[point.token] = len(self._numbers) + 1

    def _find(self, metric: str, kind: pb.MetricKind) -> _Metric | None:
        found = self._metrics.get(metric)
        if found is None:
            raise ValueError(f"the plan has no metric {metric!r}; it has {sorted(self._metrics)}")
        if found.description.kind != kind:
            raise ValueError(f"{metric} is a {pb.MetricKind.Name(found.description.kind)[12:].lower()}; use its own method")
        return found if self._allowed.issuperset(found.description.purposes) else None
