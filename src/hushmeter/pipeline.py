"""The whole job: one closed window becomes releases.

rows -> tally -> charge -> claim -> releases -> one transaction. The tally lives and dies inside `release_window`.
"""

from __future__ import annotations

from hushmeter.buckets import SealingJob, tally_of
from hushmeter.carried import CarriedWindows, consent_table
from hushmeter.claims import Claims
from hushmeter.consent.register import ConsentRegister
from hushmeter.ending import SealingPorts, end_with, ensure_still_given, lose_window
from hushmeter.errors import KeyGone, SegmentLost, TooManyPartitions
from hushmeter.ingest.identity import window_salt
from hushmeter.ledger.accountant import period_loss, spendings_of
from hushmeter.ledger.entries import entries_of
from hushmeter.model.publication import Publication
from hushmeter.model.states import WindowState
from hushmeter.model.tally import Tally
from hushmeter.model.time import Window
from hushmeter.ports import WindowRecord
from hushmeter.release.measuring import measure


def release_window(
    record: WindowRecord, ports: SealingPorts, claims: Claims, consent: ConsentRegister, *, last: bool = False
) -> WindowState:
    """Publishes a SEALED window, or marks it LOST; either way it is charged, once (C4, C6, C7).

    It is claimed once its tally is there, so that a crash between claim and publication, which loses it, is rare.

    Args:
        record: of the window.
        ports: what is read from and written to.
        claims: of this process.
        consent: as it was when sealing began.
        last: publish also where somebody withdrew meanwhile.

    Raises:
        ConsentWithdrawn: somebody withdrew meanwhile; nothing was claimed, and the window must be sealed again (P8).
        StateConflict: another process was here; what it left is settled first.
    """
    plan, window, store = ports.catalog.plan, record.window, ports.store
    period, identity = plan.privacy.period.window_of(window.end_ms), ports.deployment.deployment_id
    charge = ports.prices.charge(window, spent := store.spent(period.start_ms))
    carried, before = CarriedWindows(plan, window, period, store, ports.keys), claims.follow()
    if before.was_claimed(window):
        return lose_window(window, ports, claims)
    closed = carried.closed(identity, before.rests)
    try:
        tally = tally_window(record, ports, consent, period, carried).without(closed)
    except (SegmentLost, KeyGone, TooManyPartitions):
        return lose_window(window, ports, claims)
    # Whole hundredths: no wall-clock time can be read from it (R1).
    completeness = 100 * store.serving_ms(window.start_ms, window.end_ms) // (window.end_ms - window.start_ms) / 100
    kept = carried.after(tally)
    if not last:
        ensure_still_given(store, window, consent)

    def draw() -> Publication:
        releases = measure(tally, charge.without(closed), ports.mechanisms, plan=plan, completeness=completeness)
        entries = entries_of(plan, identity, charge, releases, closed)
        return Publication(window, period.start_ms, before.head, releases, entries, kept)

    return end_with(draw, window, before.head, period_loss([*spent, *spendings_of(charge)]), ports, claims)


def tally_window(
    record: WindowRecord, ports: SealingPorts, consent: ConsentRegister, period: Window, carried: CarriedWindows
) -> Tally:
    """The exact bounded aggregates of one window; secret."""
    plan, window = ports.catalog.plan, record.window
    starts = [w.start_ms for w in plan.finest.span.tiles(window)]
    segments = ports.store.segments(starts, record.last_segment, window.resolution)
    ids: dict[int, list[str]] = {}
    for segment in segments:
        ids.setdefault(segment.storage_start_ms, []).append(segment.segment_id)
    key = ports.keys.get_or_create(f"period/{period.start_ms}")
    table = consent_table(ports.keys, consent, period)
    job = SealingJob(ports.log, ids, 0, window, ports.catalog, window_salt(key, window), carried.before())
    return tally_of(job, segments, table, processes=ports.processes)
