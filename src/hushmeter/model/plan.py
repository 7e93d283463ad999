"""The telemetry plan as frozen values: what may be measured, how it is bounded, what is released.

Values here are checked when they are made, and raise `InvariantError`. Messages for people come from `hushmeter.plan`,
which reads and checks plan files before it builds these values.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from hushmeter import limits
from hushmeter.errors import ensure
from hushmeter.model.measurement import Currency
from hushmeter.model.time import Resolution, Span, Window


class Kind(StrEnum):
    """What sort of thing a metric measures."""

    COUNTER = "counter"
    DISTRIBUTION = "distribution"
    FLAG = "flag"
    CHOICE = "choice"
    RATIO = "ratio"
    """A numerator and a denominator that are bounded together."""
    BUILT_IN = "built_in"
    """What the service counts by itself; takes no series numbers."""


class Weighting(StrEnum):
    """Whether each unit counts once per partition, or as often as it had events."""

    UNIT = "unit"
    EVENT = "event"


class Statistic(StrEnum):
    """What is released of a metric."""

    UNITS = "units"
    EVENTS = "events"
    SUM = "sum"
    MEAN = "mean"
    HISTOGRAM = "histogram"
    RATE = "rate"
    VARIANCE = "variance"
    QUANTILES = "quantiles"
    TOP_K = "top_k"
    RATIO = "ratio"
    NUMERATOR = "numerator"
    DENOMINATOR = "denominator"
    CLAMPED = "clamped"
    """The share of units that bounding altered: values clamped, events cut, partitions dropped."""


_S = Statistic
STATISTICS: dict[Kind, tuple[Statistic, ...]] = {
    Kind.COUNTER: (_S.UNITS, _S.SUM, _S.MEAN, _S.VARIANCE, _S.CLAMPED),
    Kind.DISTRIBUTION: (*(_S.UNITS, _S.EVENTS, _S.SUM, _S.MEAN, _S.VARIANCE, _S.HISTOGRAM, _S.QUANTILES, _S.CLAMPED),),
    Kind.FLAG: (_S.UNITS, _S.EVENTS, _S.RATE, _S.CLAMPED),
    Kind.CHOICE: (_S.UNITS, _S.EVENTS, _S.HISTOGRAM, _S.RATE, _S.TOP_K, _S.CLAMPED),
    Kind.RATIO: (_S.UNITS, _S.RATIO, _S.NUMERATOR, _S.DENOMINATOR, _S.CLAMPED),
    Kind.BUILT_IN: (_S.UNITS, _S.RATE),
}
"""The statistics that each kind has."""


class Category(StrEnum):
    """What a metric's data is about; customer content is known here so that it can be refused by name."""

    PRODUCT_USAGE = "product_usage"
    DIAGNOSTIC = "diagnostic"
    PERFORMANCE = "performance"
    SERVICE_GENERATED = "service_generated"


@dataclass(frozen=True, slots=True)
class Purpose:
    """Something that data may be used for, and the text that people are asked with."""

    name: str
    text: str

    @property
    def text_hash(self) -> bytes:
        """32 bytes, SHA-256 of the text in UTF-8: a grant names the text that it is for."""
        return hashlib.sha256(self.text.encode()).digest()


@dataclass(frozen=True, slots=True)
class Asking:
    """What may be kept beside a decision, in closed lists: in which languages and where people are asked."""

    languages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenValues:
    """What the short tokens of an open dimension look like.

    Attributes:
        pattern: of a whole token, in the syntax of RE2.
        max_length: of a token, in characters.
        expected: how many distinct tokens the plan's author expects in one window; predicts what stays hidden.
    """

    pattern: str
    max_length: int
    expected: int

    def __post_init__(self) -> None:
        ensure(1 <= self.max_length <= limits.TOKEN_MAX_LENGTH, f"a token's length is out of range: {self.max_length}")
        ensure(self.expected >= 1, f"at least one token is expected, got {self.expected}")


@dataclass(frozen=True, slots=True)
class Dimension:
    """A dimension: a closed list of values (public), or open tokens (private: released through partition selection).

    Attributes:
        name: as in views.
        values: the closed list, in the order of partition numbers; empty where the dimension is open.
        per_unit: whether a unit has one value of it (`scope: unit`), so that it does not multiply the partitions that a
            unit can touch.
        open: what its tokens look like; None where the list is closed.
    """

    name: str
    values: tuple[str, ...]
    per_unit: bool = False
    open: OpenValues | None = None

    def __post_init__(self) -> None:
        ensure((self.open is None) == bool(self.values), f"dimension {self.name} is either open or has values")
        ensure(len(self.values) <= limits.DIMENSION_VALUES_MAX, f"dimension {self.name} has {len(self.values)} values")
        ensure(len(set(self.values)) == len(self.values), f"dimension {self.name} repeats a value")

    @property
    def size(self) -> int:
        """By how much it multiplies public partitions: 1 where it is open."""
        return max(1, len(self.values))


@dataclass(frozen=True, slots=True)
class ContributionBounds:
    """What one unit can contribute to one release, at one resolution (P4, P5).

    Attributes:
        max_partitions: partitions of one view that one unit may touch in one window.
        low: smallest value of one event, or of a counter's total, in resolution steps.
        high: largest value, in the same steps.
        max_events: events of one unit in one window and partition; of a ratio the largest denominator.
        max_windows: windows of one period that one unit may be in; None for all (P7).
    """

    max_partitions: int
    low: int
    high: int
    max_events: int
    max_windows: int | None = None

    def __post_init__(self) -> None:
        ensure(self.max_partitions >= 1, f"max_partitions is at least 1, got {self.max_partitions}")
        ensure(-limits.RANGE_MAX <= self.low < self.high <= limits.RANGE_MAX, f"not a range: {self.low} to {self.high}")
        ensure(1 <= self.max_events <= limits.RANGE_MAX, f"max_events {self.max_events} is out of range")
        ensure(self.max_windows is None or self.max_windows >= 1, f"max_windows is at least 1, got {self.max_windows}")

    @property
    def width(self) -> int:
        """R of the calibration table: the length of the range, in resolution steps."""
        return self.high - self.low


@dataclass(frozen=True, slots=True)
class Metric:
    """A declared thing that is measured.

    Attributes:
        step: one step of its integer values, in units (`resolution` in the plan file).
        edges: upper-inclusive edges of the bins, in steps; bin i holds `(edges[i-1], edges[i]]`, the last is open above.
        options: of a choice.
        dimensions: in the order of partition numbers, the last one fastest.
        views: each a tuple of dimension names in the order of `dimensions`.
        at: names of the resolutions that it is released at.
        bounds: by resolution name, one for each of `at`.
        weight: its share of the budget, relative to the other metrics'.
        expires_ms: from this moment on it is refused.
        quantiles: in rising order, each between 0 and 1; empty unless they are a statistic.
        top_k: how many options `top_k` names; 0 unless it is a statistic.
        shared_bounding: whether all its views are bounded as one row set, so that additive statistics of coarser views are
            sums of finer ones (E2).
    """

    name: str
    description: str
    owner: str
    expires_ms: int
    category: Category
    purposes: tuple[str, ...]
    kind: Kind
    unit: str
    step: Decimal
    edges: tuple[int, ...]
    options: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    views: tuple[tuple[str, ...], ...]
    at: tuple[str, ...]
    bounds: dict[str, ContributionBounds]
    weighting: Weighting
    statistics: tuple[Statistic, ...]
    weight: Fraction
    quantiles: tuple[Decimal, ...] = ()
    top_k: int = 0
    shared_bounding: bool = False

    def __post_init__(self) -> None:
        ensure(isinstance(self.category, Category), f"metric {self.name} is of no category that may be collected")
        ensure(self.owner.strip() and self.description.strip(), f"metric {self.name} lacks an owner or a description")
        ensure(self.purposes, f"metric {self.name} has no purpose")
        ensure(self.views and self.at and self.statistics, f"metric {self.name} releases nothing")
        ensure(set(self.bounds) == set(self.at), f"metric {self.name} needs bounds for {self.at}")
        ensure(all(a < b for a, b in itertools.pairwise(self.edges)), f"metric {self.name}: edges must increase")
        ensure(self.weight > 0, f"metric {self.name}: weight must be positive")
        ensure(
            set(self.statistics) <= set(STATISTICS[self.kind]), f"metric {self.name}: a {self.kind} has no such statistic"
        )
        ensure(self.partitions <= limits.PARTITIONS_PER_METRIC_MAX, f"metric {self.name} has {self.partitions} partitions")
        ensure(all(0 < q < 1 for q in self.quantiles), f"metric {self.name}: quantiles lie between 0 and 1")
        ensure(bool(self.quantiles) == (Statistic.QUANTILES in self.statistics), f"metric {self.name}: which quantiles?")
        ensure((self.top_k > 0) == (Statistic.TOP_K in self.statistics), f"metric {self.name}: top how many?")
        ensure(sum(d.open is not None for d in self.dimensions) <= 1, f"metric {self.name}: at most one open dimension")

    @property
    def partitions(self) -> int:
        """The number of combinations of its closed dimensions' values."""
        return math.prod(d.size for d in self.dimensions)

    @property
    def components(self) -> tuple[str, ...]:
        """The names of what is reported for each partition, in the order of series numbers."""
        match self.kind:
            case Kind.COUNTER:
                return ("total",)
            case Kind.DISTRIBUTION:
                squares = ("sum_squares",) if Statistic.VARIANCE in self.statistics else ()
                return (*(f"le_{i}" for i in range(len(self.edges) + 1)), "sum", *squares)
            case Kind.FLAG:
                return ("true", "false")
            case Kind.CHOICE:
                return self.options
            case Kind.RATIO:
                return ("denominator", "numerator")
            case Kind.BUILT_IN:
                return ()

    @property
    def count_components(self) -> int:
        """How many of the components, the first ones, count events: bins, sides, options, or a ratio's denominator."""
        match self.kind:
            case Kind.DISTRIBUTION:
                return len(self.edges) + 1
            case Kind.RATIO:
                return 1
            case Kind.COUNTER:
                return 0
            case _:
                return len(self.components)

    @property
    def series_count(self) -> int:
        """How many series numbers the metric takes."""
        return self.partitions * len(self.components)

    def dimension(self, name: str) -> Dimension:
        """The dimension of that name."""
        return next(d for d in self.dimensions if d.name == name)

    def view_dimensions(self, view: tuple[str, ...]) -> tuple[Dimension, ...]:
        """The dimensions of a view, in its order."""
        return tuple(self.dimension(name) for name in view)

    def open_dimension(self, view: tuple[str, ...]) -> Dimension | None:
        """The open dimension of a view; None where all its partitions are public. A metric has at most one."""
        return next((d for d in self.view_dimensions(view) if d.open), None)

    def view_partitions(self, view: tuple[str, ...]) -> int:
        """The number of public partitions of a view: combinations of its closed dimensions' values."""
        return math.prod(d.size for d in self.view_dimensions(view))

    def partition_labels(self, view: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """The values of a view's closed dimensions in each public partition, in the order of partition numbers."""
        return tuple(itertools.product(*(d.values for d in self.view_dimensions(view) if not d.open)))

    def l0(self, view: tuple[str, ...], resolution: str) -> int:
        """How many partitions of a view one unit can touch in one window (P4)."""
        most = self.bounds[resolution].max_partitions
        if any(d.open and not d.per_unit for d in self.view_dimensions(view)):
            return most
        return min(most, math.prod(d.size for d in self.view_dimensions(view) if not d.per_unit))


@dataclass(frozen=True, slots=True)
class Privacy:
    """What is protected, for how long, at what cost.

    Attributes:
        unit: the kind of privacy unit, in one word, for example `account`.
        period: the protection period.
        epsilon: of one unit's whole record of one period.
        delta: of the same record.
        expected_units: how many units the plan's author expects in one window.
        currency: how losses add up; None for whichever has the smaller expected error (C1).
        auto_weights: whether the budget is divided so that the expected relative error is smallest; else by weight alone.
    """

    unit: str
    period: Span
    epsilon: Decimal
    delta: Decimal
    expected_units: int
    currency: Currency | None = None
    auto_weights: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole telemetry plan.

    Attributes:
        resolutions: finest first; each divides the next and the period (T1).
        metrics: as declared.
        plan_hash: SHA-256 over the plan's canonical JSON, hexadecimal.
        built_in: what the service counts by itself beside them (see `hushmeter.plan.built_in`).
        asking: what may be kept beside decisions.
    """

    name: str
    version: int
    privacy: Privacy
    resolutions: tuple[Resolution, ...]
    purposes: tuple[Purpose, ...]
    metrics: tuple[Metric, ...]
    plan_hash: str
    built_in: tuple[Metric, ...] = ()
    asking: Asking = Asking()

    def __post_init__(self) -> None:
        ensure(self.version >= 1, f"plan versions start at 1, got {self.version}")
        ensure(self.resolutions and self.metrics and self.purposes, "a plan has purposes, resolutions and metrics")
        for finer, coarser in itertools.pairwise([*(r.span for r in self.resolutions), self.privacy.period]):
            ensure(finer.divides(coarser), f"{finer.name} does not divide {coarser.name}")

    def metric(self, name: str) -> Metric:
        """The metric of that name; `KeyError` where there is none."""
        for metric in self.measured:
            if metric.name == name:
                return metric
        raise KeyError(name)

    @property
    def measured(self) -> tuple[Metric, ...]:
        """Everything that is released: the declared metrics, then the built-in ones."""
        return self.metrics + self.built_in

    def resolution(self, name: str) -> Resolution:
        """The resolution of that name; `KeyError` where there is none."""
        for resolution in self.resolutions:
            if resolution.name == name:
                return resolution
        raise KeyError(name)

    @property
    def finest(self) -> Resolution:
        """The resolution of storage windows."""
        return self.resolutions[0]

    @property
    def coarsest(self) -> Resolution:
        """The resolution of the longest windows."""
        return self.resolutions[-1]

    @property
    def purpose_names(self) -> tuple[str, ...]:
        """The purposes' names, in the plan's order."""
        return tuple(p.name for p in self.purposes)

    def metrics_in(self, window: Window) -> tuple[Metric, ...]:
        """The metrics that a window releases: those at its resolution that had not expired when it began (C3)."""
        return tuple(m for m in self.measured if window.resolution in m.at and window.start_ms < m.expires_ms)
