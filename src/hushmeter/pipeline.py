"""The whole job: one closed window becomes releases.

rows -> tally -> charge -> releases -> one transaction. The tally lives and dies inside `release_window`.
"""

from __future__ import annotations

from dataclasses import dataclass

from hushmeter.buckets import SealingJob, ids_of, segments_over, tally_of, tell_lost
from hushmeter.carried import CarriedWindows, consent_table
from hushmeter.consent.register import ConsentRegister
from hushmeter.errors import KeyGone, SegmentLost, TooManyPartitions
from hushmeter.ingest.identity import window_salt
from hushmeter.ledger.entries import entries_of
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.states import WindowState
from hushmeter.model.tally import Tally
from hushmeter.model.time import Window
from hushmeter.plan.catalog import Catalog
from hushmeter.ports import Deployment, IntakeLog, KeyRing, Mechanisms, StateStore, WindowRecord
from hushmeter.release.measuring import measure


@dataclass(frozen=True, slots=True)
class SealingPorts:
    """What the job reads from and writes to."""

    deployment: Deployment
    catalog: Catalog
    prices: PriceList
    log: IntakeLog
    keys: KeyRing
    store: StateStore
    mechanisms: Mechanisms
    processes: int = 1


def release_window(
    record: WindowRecord, ports: SealingPorts, consent: ConsentRegister, *, last: bool = False
) -> WindowState:
    """Publishes a SEALED window, or marks it LOST; either way it is charged, once (C4, C6).

    Args:
        record: of the window.
        ports: what is read from and written to.
        consent: as it was when sealing began.
        last: publish also where somebody withdrew meanwhile.

    Raises:
        ConsentWithdrawn: somebody withdrew meanwhile; nothing was published, and the window must be sealed again (P8).
    """
    plan, window, store = ports.catalog.plan, record.window, ports.store
    period = plan.privacy.period.window_of(window.end_ms)
    charge = ports.prices.charge(window, store.spent(period.start_ms))
    identity, budget = ports.deployment.deployment_id, ports.prices.budget
    carried = CarriedWindows(plan, window, period, store, ports.keys)
    closed = carried.closed(identity)
    try:
        tally = tally_window(record, ports, consent, period, carried).without(closed)
    except (SegmentLost, KeyGone, TooManyPartitions) as cause:
        tell_lost(window, cause)
        return lose_window(window, ports)
    # Whole hundredths: no wall-clock time can be read from it (R1).
    completeness = 100 * store.serving_ms(window.start_ms, window.end_ms) // (window.end_ms - window.start_ms) / 100
    releases = measure(tally, charge.without(closed), ports.mechanisms, plan=plan, completeness=completeness)
    entries = entries_of(plan, identity, charge, releases, closed)
    kept = carried.after(tally)
    store.publish(window, releases, entries, period.start_ms, budget, kept, None if last else consent)
    return WindowState.RELEASED


def lose_window(window: Window, ports: SealingPorts) -> WindowState:
    """Marks a SEALED window LOST: charged in full, never released (C6)."""
    plan, store = ports.catalog.plan, ports.store
    period = plan.privacy.period.window_of(window.end_ms)
    charge = ports.prices.charge(window, store.spent(period.start_ms))
    entries = entries_of(plan, ports.deployment.deployment_id, charge, None)
    store.mark_lost(window, entries, period.start_ms, ports.prices.budget)
    return WindowState.LOST


def tally_window(
    record: WindowRecord, ports: SealingPorts, consent: ConsentRegister, period: Window, carried: CarriedWindows
) -> Tally:
    """The exact bounded aggregates of one window; secret."""
    plan, window = ports.catalog.plan, record.window
    starts = [w.start_ms for w in plan.finest.span.tiles(window)]
    segments = segments_over(record, starts, ports.log, ports.store)
    key = ports.keys.get_or_create(f"period/{period.start_ms}")
    table = consent_table(ports.keys, consent, period)
    job = SealingJob(ports.log, ids_of(segments), 0, window, ports.catalog, window_salt(key, window), carried.before())
    return tally_of(job, segments, table, processes=ports.processes)
