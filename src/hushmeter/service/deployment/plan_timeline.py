"""Which version of the plan rules when: each window is admitted, sealed, priced and charged by the plan of its own start.

Every process of a deployment reads the versions that the state store holds and follows new ones, so that a change needs no
restart; a version that is recorded before its time comes is known everywhere when it does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hushmeter.errors import ConfigError
from hushmeter.ingest.columns import PlanColumns
from hushmeter.ledger.pricing import PriceList, Thresholds
from hushmeter.model.arrays import Int64
from hushmeter.model.plan import Plan
from hushmeter.model.ring import PlanMark
from hushmeter.model.stored import PlanVersion
from hushmeter.plan.catalog import Catalog, SeriesBlock
from hushmeter.plan.changes import stopped, without_stopped
from hushmeter.plan.reading import parse_recorded

BEGINNING_MS = -(2**62)
END_MS = 2**62


@dataclass(frozen=True, eq=False)
class Era:
    """The time of one version of the plan.

    Attributes:
        version: as it was recorded.
        plan: whose metrics expire no later than a later version stopped them.
        from_ms: windows that start from then on are its own; the first era has no beginning.
        until_ms: windows that start before are its own.
        blocks: of all series.
        thresholds: for prices.
    """

    version: PlanVersion
    plan: Plan
    from_ms: int
    until_ms: int
    blocks: tuple[SeriesBlock, ...]
    thresholds: Thresholds

    @cached_property
    def catalog(self) -> Catalog:
        """The plan's series numbers."""
        return Catalog.of(self.plan, self.blocks)

    @cached_property
    def columns(self) -> PlanColumns:
        """The plan as columns."""
        return PlanColumns.of(self.catalog)

    @cached_property
    def prices(self) -> PriceList:
        """What each of its windows costs."""
        return PriceList.of(self.plan, self.version.budget, self.thresholds)

    def takes_until_ms(self) -> int:
        """From this moment on none of its windows takes a report."""
        if self.until_ms == END_MS:
            return END_MS
        return max(r.deadline_ms(r.span.window_of(self.until_ms)) for r in self.plan.resolutions)


class Timeline:
    """The eras of a deployment, in order; follows the versions that are recorded. Safe for several threads.

    Args:
        versions: see `PlanStore.plan_versions`.
        blocks: see `PlanStore.series_blocks`.
        thresholds: for prices.
        ensure: raises where a version may not be followed.
    """

    def __init__(
        self,
        versions: Callable[[int], Sequence[PlanVersion]],
        blocks: Callable[[], tuple[SeriesBlock, ...]],
        thresholds: Thresholds,
        ensure: Callable[[Era], None] = lambda _: None,
    ) -> None:
        self._versions, self._blocks, self._thresholds, self._ensure = versions, blocks, thresholds, ensure
        self._known: tuple[PlanVersion, ...] = ()
        self._lock = threading.Lock()
        self.eras: tuple[Era, ...] = ()
        self.follow()

    def follow(self) -> bool:
        """Takes in versions that were recorded since; true if there were any.

        Raises:
            PlanError: a version is not approved; the eras stay as they were.
            ConfigError: the text of one is not what was recorded; the eras stay as they were.
        """
        with self._lock:
            later = tuple(self._versions(self._known[-1].version if self._known else 0))
            if not later:
                return False
            known = (*self._known, *later)
            plans = {v.version: _plan_of(v) for v in known}
            # A version that never comes into force has no era, and needs nobody's approval.
            eras = eras_of(known, plans, self._blocks(), self._thresholds)
            for era in eras:
                self._ensure(era)
            self.eras = eras
            self._known = known
            return True

    def recorded(self) -> tuple[PlanVersion, ...]:
        """All versions that are followed, in order, with the approvals they have by now; some may never be in force."""
        newest = self._known[-1].version
        return tuple(v for v in self._versions(0) if v.version <= newest)

    def at(self, start_ms: int) -> Era:
        """The era of a window that starts at a moment; also the one in force at that moment."""
        return era_at(self.eras, start_ms)

    def open_at(self, now_ms: int) -> tuple[Era, ...]:
        """The eras with windows that take reports now, or will."""
        return tuple(era for era in self.eras if era.takes_until_ms() > now_ms)

    def purposes(self) -> tuple[str, ...]:
        """What any era asks consent for, each name once."""
        return tuple(dict.fromkeys(p.name for era in self.eras for p in era.plan.purposes))


def _plan_of(version: PlanVersion) -> Plan:
    """What a version says; also of one that is over, by which its releases are still read."""
    plan = parse_recorded(version.plan_text)
    if (plan.version, plan.plan_hash) != (version.version, version.plan_hash):
        raise ConfigError(
            f"the recorded text of version {version.version} is not what its hash says: the state was altered; put the "
            "newest state back, or take a backup up with hushmeter restore"
        )
    return plan


def plan_mark(timeline: Timeline) -> PlanMark:
    """The newest version that a timeline follows, for the key ring's record."""
    newest = timeline.recorded()[-1]
    return PlanMark(newest.version, newest.plan_hash)


def lacks(timeline: Timeline, newest: PlanMark) -> bool:
    """Whether a state does not hold the newest version of the plan that its keys have seen followed (C6)."""
    recorded = [(v.version, v.plan_hash) for v in timeline.recorded()]
    return newest.version > 0 and (newest.version, newest.plan_hash) not in recorded


def era_at(eras: Sequence[Era], start_ms: int) -> Era:
    """Which of some eras a window belongs to that starts at a moment; also the one in force at that moment."""
    return next(era for era in reversed(eras) if era.from_ms <= start_ms)


def versions_at(eras: Sequence[Era], ends_ms: Int64) -> Int64:
    """The version whose windows hold some moments.

    Args:
        eras: all.
        ends_ms: int64[n].

    Returns:
        int64[n].
    """
    borders = np.array([era.from_ms for era in eras[1:]], np.int64)
    versions = np.array([era.version.version for era in eras], np.int64)
    # A window holds the moments in (start, end]: the moment of a border belongs to the window that ends there.
    return versions[np.searchsorted(borders, ends_ms, side="left")]


def version_at(versions: Sequence[PlanVersion], now_ms: int) -> PlanVersion:
    """The version in force at a moment: the newest whose time has come; before all of them the first."""
    return next((v for v in reversed(versions) if v.active_from_ms <= now_ms), versions[0])


def eras_of(
    versions: Sequence[PlanVersion], plans: Mapping[int, Plan], blocks: tuple[SeriesBlock, ...], thresholds: Thresholds
) -> tuple[Era, ...]:
    """The eras that versions make: the newest version whose time has come rules.

    Args:
        versions: all, in order.
        plans: as they were declared, by version.
        blocks: of all series.
        thresholds: for prices.
    """
    ruling: list[PlanVersion] = []
    for version in versions:
        while ruling and ruling[-1].active_from_ms >= version.active_from_ms:
            ruling.pop()
        ruling.append(version)
    borders = [BEGINNING_MS, *(v.active_from_ms for v in ruling[1:]), END_MS]
    eras = []
    for version, from_ms, until_ms in zip(ruling, borders, borders[1:], strict=False):
        stops = _stops(version, until_ms, versions, plans)
        plan = without_stopped(plans[version.version], stops)
        eras.append(Era(version, plan, from_ms, until_ms, blocks, thresholds))
    return tuple(eras)


def _stops(
    ruling: PlanVersion, until_ms: int, versions: Sequence[PlanVersion], plans: Mapping[int, Plan]
) -> dict[str, int]:
    """What later versions stop while an era lasts, and when (C3)."""
    stops: dict[str, int] = {}
    for later in versions:
        if later.version > ruling.version and later.stops_from_ms < until_ms:
            found = stopped(plans[ruling.version], plans[later.version], later.stops_from_ms)
            stops |= {metric: min(at, stops.get(metric, at)) for metric, at in found.items()}
    return stops
