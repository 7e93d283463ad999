"""What every process of a deployment shares: the plan's versions, the ports; opened once, from a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hushmeter.claims import Claims, moved, record_of
from hushmeter.ending import SealingPorts
from hushmeter.ingest.columns import PlanColumns
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.ledger import PrivacyBudget
from hushmeter.model.plan import Plan
from hushmeter.model.ring import RingRecord
from hushmeter.model.time import Int64, Window
from hushmeter.plan.catalog import Catalog
from hushmeter.ports import Clock, Deployment, IntakeLog, KeyRing, Mechanisms, Publications, StateStore
from hushmeter.service.eras import Era, Timeline, plan_mark


@dataclass(frozen=True, slots=True)
class Context:
    """One deployment, as a process of it sees it.

    Attributes:
        timeline: which version of the plan rules when.
        first_starts: int64[resolutions], start of the first window of each resolution that is scheduled: the one that
            holds the moment after the foundation. All versions have the same resolutions.
        epoch: in which the state serves (C7); empty for a process that only reads.
    """

    deployment: Deployment
    timeline: Timeline
    first_starts: Int64
    clock: Clock
    log: IntakeLog
    keys: KeyRing
    store: StateStore
    mechanisms: Mechanisms
    publications: Publications
    epoch: str

    @classmethod
    def of(
        cls,
        deployment: Deployment,
        timeline: Timeline,
        *,
        clock: Clock,
        log: IntakeLog,
        keys: KeyRing,
        store: StateStore,
        mechanisms: Mechanisms,
        publications: Publications,
        epoch: str,
    ) -> Context:
        """Builds the context of a founded deployment."""
        founded = np.array([deployment.created_at_ms + 1], np.int64)
        firsts = np.concatenate([r.span.starts(founded) for r in timeline.eras[0].plan.resolutions])
        return cls(deployment, timeline, firsts, clock, log, keys, store, mechanisms, publications, epoch)

    @property
    def era(self) -> Era:
        """The era that is now."""
        return self.timeline.at(self.clock.now_ms())

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self.era.plan

    @property
    def catalog(self) -> Catalog:
        """The series numbers of the plan in force."""
        return self.era.catalog

    @property
    def columns(self) -> PlanColumns:
        """The plan in force as columns."""
        return self.era.columns

    @property
    def prices(self) -> PriceList:
        """What windows of the plan in force cost."""
        return self.era.prices

    @property
    def budget(self) -> PrivacyBudget:
        """The budget of one period in the plan in force."""
        return self.era.version.budget

    def deadline_ms(self, window: Window) -> int:
        """From this moment on a window takes no report, by the plan of its own start."""
        return self.timeline.at(window.start_ms).plan.resolution(window.resolution).deadline_ms(window)

    def dies_ms(self, moment_ms: int) -> int:
        """When raw data of a moment dies: the deadline of the last release window that holds it."""
        return max(self.deadline_ms(r.span.window_of(moment_ms)) for r in self.plan.resolutions)

    def upcoming(self, column: int) -> Iterator[Window]:
        """The windows of a resolution that have not left OPEN, in time order, without an end.

        Args:
            column: of the resolution in the plan.
        """
        resolution = self.plan.resolutions[column]
        newest = self.store.last_window_start(resolution.name)
        start = int(self.first_starts[column]) if newest is None else resolution.span.end_of(newest)
        while True:
            yield (window := resolution.span.window_from(start))
            start = window.end_ms

    def claims(self) -> Claims:
        """The claims of one process, which has made none yet."""
        return Claims(self.epoch, lambda: plan_mark(self.timeline), self.keys, self.store, self.publications)

    def ensure_serving(self) -> None:
        """Asks the record whether this state still serves, so that what is acknowledged counts somewhere (C7).

        Raises:
            NotServing: another one does.
        """
        record_of(self.keys).ensure_serving(self.epoch)

    def answered(self) -> None:
        """Notes the newest decision in the record, before anybody is told that it was recorded (C7).

        Raises:
            NotServing: another state serves; what was recorded here counts nowhere.
            StorageFull, Failure, KeyUnavailable: the record could not be moved.
        """
        newest = self.store.decision_mark()

        def decided(record: RingRecord) -> RingRecord:
            record.ensure_serving(self.epoch)
            return record.decided(newest)

        moved(self.keys, decided)

    def sealing_ports(self, window: Window, processes: int = 1) -> SealingPorts:
        """What the sealing job of a window needs; it may use so many processes."""
        era = self.timeline.at(window.start_ms)
        return SealingPorts(
            self.deployment, era.catalog, era.prices, self.log, self.keys, self.store, self.mechanisms, processes
        )
