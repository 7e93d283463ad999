"""What every process of a deployment shares: the plan's versions, the ports; opened once, from a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hushmeter.model.arrays import Int64
from hushmeter.model.ledger import PrivacyBudget
from hushmeter.model.plan import Plan
from hushmeter.model.ring import RingRecord
from hushmeter.model.states import WindowState
from hushmeter.model.time import Window
from hushmeter.pipeline.claims import Claims, move_record, ring_record
from hushmeter.pipeline.settlement import SealingPorts
from hushmeter.plan.catalog import Catalog
from hushmeter.ports import Clock, Deployment, IntakeLog, KeyRing, Mechanisms, Publications, StateStore
from hushmeter.service.deployment.plan_timeline import END_MS, Era, Timeline, plan_mark


@dataclass(frozen=True, slots=True)
class Context:
    """One deployment, as a process of it sees it.

    Attributes:
        timeline: which version of the plan rules when.
        first_starts: int64[resolutions], start of the first window of each resolution that is scheduled: the one that
            holds the moment after the foundation, or the first one after those that a restore lost before they ended. All
            versions have the same resolutions.
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
        firsts = np.maximum(firsts, _lost_ahead(deployment, timeline, store))
        return cls(deployment, timeline, firsts, clock, log, keys, store, mechanisms, publications, epoch)

    @property
    def era(self) -> Era:
        """The era in force."""
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
    def budget(self) -> PrivacyBudget:
        """The budget of one period in the plan in force."""
        return self.era.version.budget

    def deadline_ms(self, window: Window) -> int:
        """From this moment on a window takes no report, by the plan of its own start."""
        return self.timeline.at(window.start_ms).plan.resolution(window.resolution).deadline_ms(window)

    def dies_ms(self, moment_ms: int) -> int:
        """When raw data of a moment may be destroyed: at the deadline of the last release window that holds it."""
        return max(self.deadline_ms(r.span.window_of(moment_ms)) for r in self.plan.resolutions)

    def reached(self, received_at_ms: int) -> tuple[Window, ...]:
        """By resolution, the first window that a decision reaches: its cut-off and all later ones follow the receipt (P8).

        Args:
            received_at_ms: of the decision; what it reaches follows from this and the plan alone.
        """
        found = []
        for column, resolution in enumerate(self.plan.resolutions):
            span, start = resolution.span, int(self.first_starts[column])
            for era in self.timeline.eras:
                passed_ms = received_at_ms - era.plan.resolution(resolution.name).lateness_ms
                last_ms = END_MS if era.until_ms == END_MS else span.window_of(era.until_ms).end_ms
                # The end of the newest window whose cut-off the receipt follows, where that window is one of the era's.
                end_ms = span.window_of(min(passed_ms, last_ms) + 1).start_ms
                if end_ms > era.from_ms:
                    start = max(start, end_ms)
            found.append(span.window_from(start))
        return tuple(found)

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
        ring_record(self.keys).ensure_serving(self.epoch)

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

        move_record(self.keys, decided)

    def sealing_ports(self, window: Window, processes: int = 1) -> SealingPorts:
        """What the sealing job of a window needs; it may use so many processes."""
        era = self.timeline.at(window.start_ms)
        return SealingPorts(
            self.deployment, era.catalog, era.prices, self.log, self.keys, self.store, self.mechanisms, processes
        )


def _lost_ahead(deployment: Deployment, timeline: Timeline, store: StateStore) -> Int64:
    """By resolution, the end of the newest window that a restore lost before it ended, int64[resolutions]; else 0.

    Reports of such windows are too late at the door; their deadlines say nothing about the time (C6, P1).
    """
    restored_ms = max((r.at_ms for r in store.restores(deployment.deployment_id)), default=None)
    resolutions, ends = timeline.eras[0].plan.resolutions, dict[str, int]()
    if restored_ms is not None:
        for record in store.windows([WindowState.LOST]):
            window = record.window
            if window.end_ms > restored_ms:
                ends[window.resolution] = max(window.end_ms, ends.get(window.resolution, 0))
    return np.array([ends.get(r.name, 0) for r in resolutions], np.int64)
