"""One metric of a plan file, checked against the rest of the plan and built."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pyarrow.compute as pc

from hushmeter import limits
from hushmeter.model.plan import (
    STATISTICS,
    Category,
    ContributionBounds,
    Dimension,
    Kind,
    Metric,
    OpenValues,
    Statistic,
    Weighting,
)
from hushmeter.model.time import DAY_MS, Resolution, Span
from hushmeter.plan.built_in import RESERVED_METRICS
from hushmeter.plan.file import BoundsFile, DimensionFile, MetricFile, PlanFile
from hushmeter.plan.problems import Problems, in_words

_EPOCH = dt.date(1970, 1, 1)
_PERIOD_MS = {"1d": DAY_MS, "1w": 7 * DAY_MS, "1mo": 31 * DAY_MS}


def build_metric(
    name: str,
    file: MetricFile,
    plan: PlanFile,
    resolutions: Sequence[Resolution],
    problems: Problems,
    today: dt.date | None,
) -> Metric | None:
    """Checks one metric and builds it; None where something is wrong with it, which `problems` then holds.

    Args:
        name: the metric's.
        file: its part of the plan file.
        plan: the whole file.
        resolutions: of the plan, finest first.
        problems: where problems are collected.
        today: against which expiry is checked; None for not at all.
    """
    return _Builder(name, file, plan, resolutions, problems).build(today)


class _Builder:
    def __init__(
        self, name: str, file: MetricFile, plan: PlanFile, resolutions: Sequence[Resolution], problems: Problems
    ) -> None:
        self._name = name
        self._file = file
        self._plan = plan
        self._resolutions = resolutions
        self._all = problems
        self._own = 0

    def _add(self, field: str, value: object, allowed: str) -> None:
        self._own += 1
        self._all.add(f"metrics.{self._name}.{field}".rstrip("."), value, allowed)

    def build(self, today: dt.date | None) -> Metric | None:
        file = self._file
        kind = Kind(file.kind)
        if self._name in RESERVED_METRICS:
            self._add(
                "", self._name, f"{' and '.join(RESERVED_METRICS)} are counted by the service itself; take another name"
            )
        self._check_words(today)
        dimensions = self._dimensions()
        views = self._views()
        at = self._at()
        edges = self._edges(kind)
        self._check_options(kind)
        asked = self._statistics(kind)
        statistics = tuple(asked)
        bounds = self._bounds(kind, at)
        self._check_needs(kind, statistics, edges, bounds)
        # `at` is empty where every resolution is malformed. Their own check says so.
        if self._own or not at:
            return None
        metric_at = tuple(r.name for r in self._resolutions if r.name in at)
        return Metric(
            name=self._name,
            description=file.description,
            owner=file.owner,
            expires_ms=((file.expires - _EPOCH).days + 1) * DAY_MS,
            category=Category(file.category),
            purposes=tuple(file.purposes),
            kind=kind,
            unit=file.unit,
            step=file.resolution,
            edges=edges,
            options=tuple(file.options),
            dimensions=dimensions,
            views=views,
            at=metric_at,
            bounds=bounds,
            weighting=Weighting(file.weighting),
            statistics=statistics,
            weight=Fraction(file.weight),
            quantiles=asked.get(Statistic.QUANTILES, ()),
            top_k=len(asked.get(Statistic.TOP_K, ())),
            shared_bounding=file.bounding == "shared",
        )

    def _check_words(self, today: dt.date | None) -> None:
        file = self._file
        if file.category == "customer_content":
            allowed = ", ".join(c.value for c in Category)
            self._add("category", file.category, f"customer content is never collected; the categories are {allowed}")
        for field in ("description", "owner"):
            if not in_words(getattr(file, field)):
                self._add(field, repr(getattr(file, field)), "must be said in words, for everybody to read")
        for purpose in file.purposes:
            if purpose not in self._plan.purposes:
                self._add("purposes", purpose, f"must be declared under purposes: {', '.join(self._plan.purposes)}")
        if len(set(file.purposes)) < len(file.purposes):
            self._add("purposes", file.purposes, "each purpose once")
        if today is None:
            return
        latest = today + dt.timedelta(days=limits.EXPIRY_MAX_DAYS)
        if not today <= file.expires <= latest:
            self._add("expires", file.expires, f"a day from {today} to {latest}")

    def _dimensions(self) -> tuple[Dimension, ...]:
        built = [self._dimension(name, file) for name, file in self._file.dimensions.items()]
        dimensions = tuple(d for d in built if d is not None)
        partitions = math.prod(d.size for d in dimensions)
        if partitions > limits.PARTITIONS_PER_METRIC_MAX:
            self._add("dimensions", partitions, f"at most {limits.PARTITIONS_PER_METRIC_MAX} combinations of values")
        opened = [d.name for d in dimensions if d.open]
        if len(opened) > 1:
            self._add("dimensions", ", ".join(opened), "at most one dimension of a metric is open; list the others' values")
        return dimensions

    def _dimension(self, name: str, file: DimensionFile) -> Dimension | None:
        path, per_unit = f"dimensions.{name}", file.scope == "unit"
        if not file.open:
            of_open = [f for f in ("max_length", "pattern", "expected_values") if getattr(file, f) is not None]
            for field in of_open:
                self._add(f"{path}.{field}", getattr(file, field), "belongs to open dimensions alone; leave it out")
            if file.values is None:
                self._add(path, "neither", "write values: [...], the closed list, or open: true for short tokens")
            elif len(set(file.values)) < len(file.values):
                self._add(f"{path}.values", file.values, "each value once")
            elif not of_open:
                return Dimension(name, tuple(file.values), per_unit)
            return None
        if file.values is not None:
            self._add(f"{path}.values", file.values, "a dimension is open or has values; keep one of the two")
            return None
        if file.pattern is None or file.max_length is None:
            missing = "pattern" if file.pattern is None else "max_length"
            self._add(f"{path}.{missing}", "none", "an open dimension needs the pattern and max_length of its tokens")
            return None
        try:
            # The pattern is tried alone first: with an unbalanced bracket it could pass inside the group, anchored at one
            # end.
            for pattern in (file.pattern, f"^(?:{file.pattern})$"):
                pc.match_substring_regex(pa.array([""]), pattern)
        except pa.ArrowInvalid as error:
            self._add(f"{path}.pattern", file.pattern, f"not a regular expression that RE2 knows: {error}")
            return None
        return Dimension(name, (), per_unit, OpenValues(file.pattern, file.max_length, file.expected_values or 100))

    def _views(self) -> tuple[tuple[str, ...], ...]:
        views = []
        for view in self._file.views:
            unknown = [d for d in view if d not in self._file.dimensions]
            if unknown:
                declared = ", ".join(self._file.dimensions) or "none"
                self._add("views", unknown[0], f"views name dimensions of the metric: {declared}")
            ordered = tuple(d for d in self._file.dimensions if d in view)
            if ordered in views or len(set(view)) < len(view):
                self._add("views", view, "each view once, and each dimension once in it")
            views.append(ordered)
        return tuple(views)

    def _at(self) -> list[str]:
        names = [r.name for r in self._resolutions]
        at = names if self._file.at is None else self._file.at
        for resolution in at:
            if resolution not in self._plan.resolutions:
                self._add("at", resolution, f"must be one of the resolutions: {', '.join(self._plan.resolutions)}")
        return [name for name in names if name in at]

    def _edges(self, kind: Kind) -> tuple[int, ...]:
        edges = [self._steps("edges", e) for e in self._file.edges]
        if edges and kind is not Kind.DISTRIBUTION:
            self._add("edges", _listed(self._file.edges), f"a {kind} has no edges; leave them out")
        if any(a >= b for a, b in itertools.pairwise(edges)):
            self._add("edges", _listed(self._file.edges), "edges must increase")
        return tuple(edges)

    def _check_options(self, kind: Kind) -> None:
        options = self._file.options
        if kind is Kind.CHOICE and len(options) < 2:
            self._add("options", options, "a choice has at least two options")
        elif kind is not Kind.CHOICE and options:
            self._add("options", options, f"a {kind} has no options; leave them out")
        if len(set(options)) < len(options):
            self._add("options", options, "each option once")

    def _statistics(self, kind: Kind) -> dict[Statistic, tuple[Decimal, ...]]:
        """What is asked for, with its numbers: quantiles, or the ranks of `top_k`."""
        names = ", ".join(s.value for s in STATISTICS[kind])
        found: dict[Statistic, tuple[Decimal, ...]] = {}
        for asked in self._file.statistics:
            named = {asked: None} if isinstance(asked, str) else asked
            name, numbers = next(iter(named.items()), ("", None))
            if len(named) != 1 or name not in {s.value for s in STATISTICS[kind]}:
                self._add("statistics", ", ".join(map(str, named)) or "{}", f"a {kind} has the statistics {names}")
            elif Statistic(name) in found:
                self._add("statistics", name, "each statistic once")
            elif name == Statistic.QUANTILES:
                found[Statistic.QUANTILES] = self._quantiles(numbers)
            elif name == Statistic.TOP_K:
                found[Statistic.TOP_K] = self._ranks(numbers)
            elif numbers is not None:
                self._add("statistics", f"{name}: {numbers}", f"{name} takes no numbers; write {name} alone")
            else:
                found[Statistic(name)] = ()
        return found

    def _quantiles(self, numbers: object) -> tuple[Decimal, ...]:
        listed = numbers if isinstance(numbers, list) else []
        quantiles = [Decimal(q) for q in listed if isinstance(q, Decimal | int) and not isinstance(q, bool) and 0 < q < 1]
        most = limits.QUANTILES_MAX
        if not 1 <= len(set(quantiles)) == len(listed) <= most:
            self._add(
                "statistics.quantiles",
                "none" if numbers is None else numbers if not isinstance(numbers, list) else _listed(numbers),
                f"a list of 1 to {most} different numbers between 0 and 1, both excluded, such as [0.5, 0.9]",
            )
        return tuple(sorted(quantiles))

    def _ranks(self, number: object) -> tuple[Decimal, ...]:
        most = len(self._file.options)
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= max(1, most):
            self._add("statistics.top_k", number, f"how many options to name, 1 to {most}")
            return ()
        return tuple(Decimal(rank) for rank in range(1, number + 1))

    def _check_needs(
        self,
        kind: Kind,
        statistics: Sequence[Statistic],
        edges: Sequence[int],
        bounds: Mapping[str, ContributionBounds],
    ) -> None:
        for statistic in (Statistic.HISTOGRAM, Statistic.QUANTILES):
            if kind is Kind.DISTRIBUTION and statistic in statistics and not edges:
                self._add("edges", "none", f"{statistic} need at least one edge, {statistic} are read off the bins")
        if Statistic.QUANTILES in statistics and edges:
            for resolution, b in bounds.items():
                if not (b.low < edges[0] and edges[-1] <= b.high):
                    shown = f"{edges[0] * self._file.resolution} to {edges[-1] * self._file.resolution}"
                    self._add("edges", shown, f"quantiles need edges inside the range at {resolution}, which ends the bins")
        if kind in {Kind.DISTRIBUTION, Kind.RATIO} and not self._file.unit:
            self._add("unit", "none", f"a {kind} needs the unit of its values, for example ms")
        if kind is Kind.COUNTER and self._file.weighting == "event":
            self._add("weighting", "event", "a counter's total has no events; leave weighting out")
        if self._file.bounding == "shared" and any(d.open for d in self._file.dimensions.values()):
            self._add("bounding", "shared", "views with an open dimension are bounded one by one; write separate")

    def _bounds(self, kind: Kind, at: Sequence[str]) -> dict[str, ContributionBounds]:
        per_unit = self._file.per_unit
        for name in per_unit.by_resolution:
            if name not in at:
                self._add(f"per_unit.by_resolution.{name}", name, f"one that it is released at: {', '.join(at)}")
        for name, windows in per_unit.max_windows.items():
            self._check_max_windows(name, windows, at)
        bounds = {}
        for resolution in at:
            built = self._bounds_at(kind, per_unit.by_resolution.get(resolution), resolution)
            if built is not None:
                bounds[resolution] = built
        return bounds

    def _check_max_windows(self, name: str, windows: int, at: Sequence[str]) -> None:
        path = f"per_unit.max_windows.{name}"
        if name not in at:
            self._add(path, name, f"one that it is released at: {', '.join(at)}")
            return
        resolution = next(r for r in self._resolutions if r.name == name)
        if resolution.span.length_ms <= _PERIOD_MS[self._plan.privacy.period]:
            whole = resolution.span.most_in(Span.parse(self._plan.privacy.period))
            if windows > whole:
                self._add(path, windows, f"a period has {whole} windows of {name}: 1 to {whole}")

    def _bounds_at(self, kind: Kind, special: BoundsFile | None, resolution: str) -> ContributionBounds | None:
        common = self._file.per_unit
        special = special or BoundsFile()
        path = "per_unit.range"
        asked = special.range or common.range
        if special.range is not None:
            path = f"per_unit.by_resolution.{resolution}.range"
        if asked is None:
            if kind in {Kind.COUNTER, Kind.DISTRIBUTION, Kind.RATIO}:
                self._add("per_unit.range", "none", f"a {kind} needs the range [smallest, largest] of one unit's value")
                return None
            asked = [Decimal(0), self._file.resolution]
        low, high = (self._steps(path, value) for value in asked)
        if not -limits.RANGE_MAX <= low < high <= limits.RANGE_MAX:
            self._add(path, _listed(asked), f"[smallest, largest], smallest first, within {limits.RANGE_MAX} steps of zero")
            return None
        most = special.max_partitions or common.max_partitions or 1
        events = special.max_events or common.max_events or 1
        denominator = special.max_denominator or common.max_denominator
        if kind is Kind.RATIO:
            named = special.max_events or common.max_events
            if named is not None:
                self._add("per_unit.max_events", named, "a ratio has no max_events; write max_denominator alone")
            if denominator is None:
                words = f"a ratio needs the largest denominator of one unit, 1 to {limits.RANGE_MAX}"
                self._add("per_unit.max_denominator", "none", words)
                return None
            events = denominator
        elif denominator is not None:
            self._add("per_unit.max_denominator", denominator, f"a {kind} has no denominator; leave it out")
        return ContributionBounds(most, low, high, events, common.max_windows.get(resolution))

    def _steps(self, path: str, value: Decimal) -> int:
        """A value in units as a whole number of resolution steps."""
        steps = Fraction(value) / Fraction(self._file.resolution)
        if steps.denominator != 1:
            self._add(path, value, f"must be a whole multiple of the resolution, {self._file.resolution}")
        return int(steps)


def _listed(numbers: Sequence[object]) -> str:
    """Numbers as a plan file has them."""
    return f"[{', '.join(map(str, numbers))}]"
