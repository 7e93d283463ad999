"""The calibration table once more, slowly: what one unit adds to one partition, in Python integers and fractions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from hushmeter.model.measurement import FIXED_POINT, MeasurementName
from hushmeter.model.plan import ContributionBounds, Kind, Metric, Statistic, Weighting
from tests.oracle.rows import Row, by_unit_window_and_id, received_first

COUNT_CAP = 2**40 - 1
"""No honest unit comes near it: one point counts to 2^20. It keeps the core's products in int64."""
SQUARES_EVENTS_MAX = 2**20
"""A unit with more events has them halved for its variance, for the same reason."""


@dataclass(frozen=True)
class Rules:
    """Where the oracle can be made wrong on purpose, to see whether the tests notice."""

    same_report: Callable[[Row, int], object] = by_unit_window_and_id
    """Of a row and the number of its storage window."""
    counts_first: Callable[[Row, bytes], tuple[int, bytes]] = received_first
    """Of duplicates the least counts; of a row and the key of copies."""
    assigned_first: bool = False
    """Whether copies are told apart among those alone that a window holds."""
    extra_partitions: int = 0
    extra_windows: int = 0
    many_scopes: bool = False
    tokens_of_all: int | None = None
    """A limit on the tokens of all units together, which P1 forbids."""
    clamps: bool = True
    rounded: Callable[[Fraction], int] = lambda exact: exact.numerator // exact.denominator


def wrapped(total: int) -> int:
    """What int64 makes of a sum: only a unit that lies about its own values gets there."""
    return (total + 2**63) % 2**64 - 2**63


@dataclass(frozen=True)
class Contribution:
    """What one unit has in one partition that it keeps.

    Args:
        metric: whose.
        bounds: at the window's resolution.
        totals: one a component, as they add up over the unit's reports.
        dropped: whether the unit was in more partitions than it keeps.
        rules: the right ones, or wrong ones.
    """

    metric: Metric
    bounds: ContributionBounds
    totals: list[int]
    dropped: bool
    rules: Rules

    @property
    def counts(self) -> list[int]:
        return [min(max(0, count), COUNT_CAP) for count in self.totals[: self.metric.count_components]]

    @property
    def events(self) -> int:
        return sum(self.counts)

    @property
    def total(self) -> int:
        """The counter's total, the sum of values, or the numerator."""
        return self.totals[self.metric.count_components]

    def vector(self, name: MeasurementName) -> list[int]:
        """One row of the calibration table."""
        low, high, most = self.bounds.low, self.bounds.high, self.bounds.max_events
        match name:
            case MeasurementName.UNITS:
                return [1]
            case MeasurementName.EVENTS:
                return [min(self.events, most)]
            case MeasurementName.SUM:
                counter = self.metric.kind is Kind.COUNTER
                return [self._clamp(self.total, low, high) if counter else self._kept_total()[0]]
            case MeasurementName.UNIT_MEAN:
                return [self._unit_mean()]
            case MeasurementName.EVENT_SUM:
                total, n = self._kept_total()
                return [2 * total - n * (low + high)]
            case MeasurementName.WEIGHTS:
                return self._weights()
            case MeasurementName.SQUARES:
                return [self._squares()]
            case MeasurementName.CLAMPED:
                return [1, 0] if self._altered() else [0, 1]
            case _:
                raise AssertionError(f"{name} is not counted from points")

    def _clamp(self, value: int, least: int, greatest: int) -> int:
        return max(least, min(value, greatest)) if self.rules.clamps else value

    @property
    def _by_event(self) -> bool:
        return self.metric.kind is not Kind.COUNTER and self.metric.weighting is Weighting.EVENT

    def _unit_mean(self) -> int:
        """2m - l - u; of a ratio in steps of 1/F, because whole steps are too coarse for it."""
        low, high = self.bounds.low, self.bounds.high
        if self.metric.kind is Kind.COUNTER:
            return 2 * self._clamp(self.total, low, high) - low - high
        if not self.events:
            return 0
        fine = FIXED_POINT if self.metric.kind is Kind.RATIO else 1
        return 2 * self._clamp(fine * self.total // self.events, fine * low, fine * high) - fine * (low + high)

    def _kept_total(self) -> tuple[int, int]:
        """The total of at most max_events events, scaled toward zero where there are too many; and how many."""
        low, high, most = self.bounds.low, self.bounds.high, self.bounds.max_events
        n, total = min(self.events, most), self.total
        if self.events > most:
            scaled = abs(total) * most // self.events
            total = -scaled if total < 0 else scaled
        return self._clamp(total, n * low, n * high), n

    def _weights(self) -> list[int]:
        counts, events, most = self.counts, self.events, self.bounds.max_events
        if self.metric.kind is Kind.FLAG and not self._by_event:
            return [FIXED_POINT if counts[0] else 0, FIXED_POINT if not counts[0] and counts[1] else 0]
        if events == 0:
            return [0] * len(counts)
        factor = min(Fraction(1), Fraction(most, events)) if self._by_event else Fraction(1, events)
        # P6: floored toward zero; rounding up or to nearest would break the bound.
        return [self.rules.rounded(FIXED_POINT * count * factor) for count in counts]

    def _squares(self) -> int:
        """2q - R^2, q the floored mean of (2x - l - u)^2; or that of each event, added up."""
        low, high, most = self.bounds.low, self.bounds.high, self.bounds.max_events
        widest = (high - low) ** 2
        if self.metric.kind is Kind.COUNTER:
            return 2 * (2 * self._clamp(self.total, low, high) - low - high) ** 2 - widest
        n, total, squares = self.events, self.total, self.totals[-1]
        halvings = 0
        while n > SQUARES_EVENTS_MAX << halvings:
            halvings += 1
        n, total, squares = n >> halvings, total >> halvings, squares >> halvings
        total = self._clamp(total, n * low, n * high)
        squares = self._clamp(squares, 0, n * max(low**2, high**2))
        # The sum of (2x - l - u)^2 from the sums of x and of x^2.
        centered = self._clamp(4 * squares - 4 * (low + high) * total + n * (low + high) ** 2, 0, n * widest)
        if not self._by_event:
            return 2 * (centered // n) - widest if n else 0
        if n > most:
            n, centered = most, centered * most // n
        return 2 * centered - n * widest

    def _altered(self) -> bool:
        """Values clamped, events cut where they count, or partitions dropped."""
        low, high = self.bounds.low, self.bounds.high
        if self.dropped:
            return True
        if self.metric.kind is Kind.COUNTER:
            return not low <= self.total <= high
        counted = {Statistic.EVENTS, Statistic.SUM, Statistic.NUMERATOR, Statistic.DENOMINATOR}
        if self.events > self.bounds.max_events and (self._by_event or counted & set(self.metric.statistics)):
            return True
        has_values = self.metric.kind in {Kind.DISTRIBUTION, Kind.RATIO}
        return has_values and self.events > 0 and not self.events * low <= self.total <= self.events * high
