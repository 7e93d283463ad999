"""What every process of a deployment shares: the plan, the catalog, the ports; opened once, from a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hushmeter.ingest.columns import PlanColumns
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.plan import Plan
from hushmeter.model.time import Int64, Window
from hushmeter.pipeline import SealingPorts
from hushmeter.plan.catalog import Catalog
from hushmeter.ports import Clock, Deployment, IntakeLog, KeyRing, Mechanisms, StateStore


@dataclass(frozen=True, slots=True)
class Context:
    """One deployment, as a process of it sees it.

    Attributes:
        plan: the active plan.
        first_starts: int64[resolutions], start of the first window of each resolution that is scheduled: the one that
            holds the moment after the foundation.
    """

    deployment: Deployment
    plan: Plan
    catalog: Catalog
    columns: PlanColumns
    first_starts: Int64
    clock: Clock
    log: IntakeLog
    keys: KeyRing
    store: StateStore
    mechanisms: Mechanisms
    prices: PriceList

    @classmethod
    def of(
        cls,
        deployment: Deployment,
        plan: Plan,
        *,
        clock: Clock,
        log: IntakeLog,
        keys: KeyRing,
        store: StateStore,
        mechanisms: Mechanisms,
    ) -> Context:
        """Builds the context of a founded deployment."""
        catalog = Catalog.of(plan, store.series_blocks())
        founded = np.array([deployment.created_at_ms + 1], np.int64)
        firsts = np.concatenate([r.span.starts(founded) for r in plan.resolutions])
        columns = PlanColumns.of(catalog)
        prices = PriceList.of(plan, deployment.budget, mechanisms)
        return cls(deployment, plan, catalog, columns, firsts, clock, log, keys, store, mechanisms, prices)

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

    def sealing_ports(self, processes: int = 1) -> SealingPorts:
        """What the sealing job needs; it may use so many processes."""
        return SealingPorts(
            self.deployment, self.catalog, self.prices, self.log, self.keys, self.store, self.mechanisms, processes
        )
