"""Rate limits as token buckets, over seconds of a monotonic clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hushmeter import limits

MINUTE_S = 60.0


class TokenBucket:
    """One token bucket.

    Args:
        per_s: tokens that flow in each second; more than 0.
        burst: tokens that it holds; at least 1.
    """

    __slots__ = ("_burst", "_level", "_per_s", "_seen_s")

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._level, self._seen_s = float(burst), 0.0

    def take(self, now_s: float) -> bool:
        """Takes one token; false where there is none. When there will be one is not said: others' use decides it (R4)."""
        self._level = min(self._burst, self._level + max(0.0, now_s - self._seen_s) * self._per_s)
        self._seen_s = now_s
        # A token that is due now must not be missing for a rounding.
        if self._level < 1 - 1e-6:
            return False
        self._level -= 1
        return True


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of some units' requests; those that are in neither list are allowed.

    Attributes:
        over: indices of those over their unit's own limit.
        crowded: indices of those whose unit is new to a table that is full.
    """

    over: Sequence[int]
    crowded: Sequence[int]


class UnitRates:
    """A bucket for each unit: so many requests a minute, all of which may come at once.

    Kept is one number a unit: the moment at which its bucket will be full again. A unit leaves at the first whole second
    after that, and never for another one: whether it was here shows nowhere but in what it may send itself (R4).

    What a unit may send depends on its own requests alone (P1). Memory is bounded: where `tracked` units are in the table,
    a new one finds it full.

    Args:
        per_minute: requests of one unit; at least 1.
        tracked: units that the table holds.
    """

    def __init__(self, per_minute: int, tracked: int = limits.UNITS_TRACKED_MAX) -> None:
        self._step_s = MINUTE_S / per_minute
        self._tracked = tracked
        self._full_at_s: dict[bytes, float] = {}
        self._allowed: dict[bytes, float] = {}
        self._swept_s = 0.0

    def __len__(self) -> int:
        return len(self._full_at_s)

    def judge(self, units: Sequence[bytes], now_s: float) -> Judged:
        """Judges requests; nothing counts before `settle`.

        Args:
            units: of each request, in order of arrival; any key that tells units apart.
            now_s: of a monotonic clock.
        """
        room, allowed = self._room(len(units), now_s), dict[bytes, float]()
        known, step, most = self._full_at_s.get, self._step_s, now_s + MINUTE_S + self._step_s / 2
        over, crowded = [], []
        for index, unit in enumerate(units):
            full_at = allowed.get(unit)
            if full_at is None:
                full_at = known(unit)
                if full_at is None:
                    if not room:
                        crowded.append(index)
                        continue
                    room -= 1
                    full_at = now_s
                full_at = max(full_at, now_s)
            full_at += step
            if full_at > most:
                over.append(index)
            else:
                allowed[unit] = full_at
        self._allowed = allowed
        return Judged(over, crowded)

    def settle(self) -> None:
        """Counts what `judge` allowed last: it was taken in."""
        self._full_at_s.update(self._allowed)
        self._allowed = {}

    def _room(self, wanted: int, now_s: float) -> int:
        """How many more units the table holds; those whose time has passed are swept out where so many are not."""
        second = math.floor(now_s)
        # Whoever came after a sweep of this second stays beyond it.
        if self._tracked - len(self._full_at_s) < wanted and self._swept_s < second:
            self._full_at_s = {unit: at for unit, at in self._full_at_s.items() if at > second}
            self._swept_s = second
        return self._tracked - len(self._full_at_s)
