"""The whole job: one closed window becomes releases.

rows -> tally -> charge -> claim -> releases -> one transaction. No tally leaves `release_window`.
"""

from __future__ import annotations

from collections.abc import Collection

from hushmeter.consent.register import ConsentRegister
from hushmeter.errors import ConsentUnknown, KeyGone, SegmentLost, StateConflict, TooManyPartitions, ensure
from hushmeter.ledger.accountant import period_loss, spendings_of
from hushmeter.ledger.entries import entries_of
from hushmeter.model.publication import Publication
from hushmeter.model.states import WindowState
from hushmeter.model.tally import Tally
from hushmeter.pipeline import participation
from hushmeter.pipeline.bucket_jobs import SealingJob, ids_of, segments_over, tally_of
from hushmeter.pipeline.claims import Claims
from hushmeter.pipeline.settlement import SealingPorts, lose_window, settle
from hushmeter.ports import WindowRecord
from hushmeter.release.measuring import measure


def release_window(record: WindowRecord, ports: SealingPorts, claims: Claims, consent: ConsentRegister) -> WindowState:
    """Publishes a FIXED window, or marks it LOST; either way it is charged, once (C4, C6, C7).

    The window is claimed as late as can be, once its tally is there: a crash between claim and publication loses it.

    Args:
        record: of the window.
        ports: what is read from and written to.
        claims: of this process.
        consent: of the decisions that the record names, and of no later ones (P8).

    Raises:
        StateConflict: another process was here; what it left is settled first.
    """
    ensure(consent.sequence == record.decisions_through, f"window {record.window} is sealed with its own consent")
    plan, window, store = ports.catalog.plan, record.window, ports.store
    period = plan.privacy.period.window_of(window.end_ms)
    charge = ports.prices.charge(window, spent := store.spent(period.start_ms))
    identity = ports.deployment.deployment_id
    before = claims.follow()
    if before.was_claimed(window):
        return lose_window(window, ports, claims, StateConflict("it was claimed in another history"))
    resting = participation.resting_metrics(plan, window, store, identity, before.rests)
    try:
        carried, tally = tally_window(record, ports, consent, resting)
    except (SegmentLost, KeyGone, TooManyPartitions, ConsentUnknown) as cause:
        return lose_window(window, ports, claims, cause)
    # Whole hundredths: no wall-clock time can be read from it (R1).
    completeness = 100 * store.serving_ms(window.start_ms, window.end_ms) // (window.end_ms - window.start_ms) / 100
    kept = participation.carried_on(carried, tally, ports.keys)
    owner = claims.claim(window, before.head, period.start_ms, period_loss([*spent, *spendings_of(charge)]))
    try:
        releases = measure(tally, charge.without(resting), ports.mechanisms, plan=plan, completeness=completeness)
        entries = entries_of(plan, identity, charge, releases, resting)
        claims.remember(owner, Publication(window, period.start_ms, before.head, releases, entries, kept))
    except Exception as cause:
        # The mechanisms may have drawn noise already. Nobody draws noise for a window twice.
        return lose_window(window, ports, claims, cause)
    claims.draw(owner)
    settle(claims, lambda _: ports)
    return WindowState.RELEASED


def tally_window(
    record: WindowRecord, ports: SealingPorts, consent: ConsentRegister, resting: Collection[str]
) -> tuple[participation.CarriedWindows, Tally]:
    """The sets that a window is sealed with, and its exact bounded aggregates without the metrics that rest; secret."""
    plan, window = ports.catalog.plan, record.window
    period = plan.privacy.period.window_of(window.end_ms)
    starts = [w.start_ms for w in plan.finest.span.tiles(window)]
    deadline_ms = plan.resolution(window.resolution).deadline_ms(window)
    _ensure_decided(record, deadline_ms, ports)
    segments = segments_over(record, starts, deadline_ms, ports.log, ports.store)
    secrets = participation.sealing_secrets(ports.keys, window, period)
    carried = participation.carried_into(plan, window, ports.store, ports.keys)
    job = SealingJob(ports.log, ids_of(segments), 0, window, ports.catalog, *secrets, carried.by_metric)
    tally = tally_of(job, segments, participation.consent_table(ports.keys, consent, period), processes=ports.processes)
    return carried, tally.without(resting)


def _ensure_decided(record: WindowRecord, deadline_ms: int, ports: SealingPorts) -> None:
    """No decision from before the cut-off is left out, whatever the record says: it may be a withdrawal (P8)."""
    newest = ports.store.decided_before(deadline_ms)
    if newest > record.decisions_through:
        raise ConsentUnknown(
            f"window {record.window} would be sealed with decisions up to {record.decisions_through}, and {newest} was "
            "received before its cut-off: the database was edited or damaged"
        )
