"""Rate limits as token buckets, over seconds of a monotonic clock."""

from __future__ import annotations

from collections.abc import Sequence

from hushmeter import limits

MINUTE_S = 60.0


class Bucket:
    """One token bucket.

    Args:
        per_s: tokens that flow in each second; more than 0.
        burst: tokens that it holds; at least 1.
    """

    __slots__ = ("_burst", "_level", "_per_s", "_seen_s")

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._level, self._seen_s = float(burst), 0.0

    def take(self, now_s: float) -> float:
        """Takes one token; returns 0, or where there is none the seconds until there will be one."""
        self._level = min(self._burst, self._level + max(0.0, now_s - self._seen_s) * self._per_s)
        self._seen_s = now_s
        # A token that is due now must not be missing for a rounding.
        if self._level < 1 - 1e-6:
            return (1 - self._level) / self._per_s
        self._level -= 1
        return 0.0


class UnitRates:
    """A bucket for each unit: so many reports a minute, all of which may come at once.

    Kept is one number a unit: the moment at which its bucket will be full again.

    What a unit may send depends on its own reports alone (P1). Memory is bounded: where more units than `tracked` have
    sent within a minute, those that owe least are forgotten, to their favour.

    Args:
        per_minute: reports of one unit; at least 1.
        tracked: units that are remembered.
    """

    def __init__(self, per_minute: int, tracked: int = limits.UNITS_TRACKED_MAX) -> None:
        self._step_s = MINUTE_S / per_minute
        self._tracked = tracked
        self._full_at_s: dict[bytes, float] = {}
        self._judged: dict[bytes, float] = {}
        self._now_s = 0.0

    def __len__(self) -> int:
        return len(self._full_at_s)

    def over(self, units: Sequence[bytes], now_s: float) -> list[int]:
        """Which of these reports, by index, are over their unit's limit; nothing counts before `settle`.

        Args:
            units: of each report, in order of arrival; any key that tells units apart.
            now_s: of a monotonic clock.
        """
        judged: dict[bytes, float] = {}
        known, step, most = self._full_at_s.get, self._step_s, now_s + MINUTE_S + self._step_s / 2
        refused = []
        for index, unit in enumerate(units):
            full_at = judged.get(unit)
            if full_at is None:
                full_at = known(unit, now_s)
                full_at = max(full_at, now_s)
            full_at += step
            if full_at > most:
                refused.append(index)
            else:
                judged[unit] = full_at
        self._judged, self._now_s = judged, now_s
        return refused

    def settle(self) -> None:
        """Counts what `over` allowed last: it was taken in."""
        self._full_at_s.update(self._judged)
        self._judged = {}
        if len(self._full_at_s) > self._tracked:
            owing = {unit: at for unit, at in self._full_at_s.items() if at > self._now_s}
            if len(owing) > self._tracked:
                most = sorted(owing, key=owing.__getitem__, reverse=True)[: self._tracked // 2]
                owing = {unit: owing[unit] for unit in most}
            self._full_at_s = owing
