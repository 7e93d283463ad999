"""The whole job: one closed window becomes releases.

rows -> tally -> charge -> claim -> releases -> one transaction. The tally lives and dies inside `release_window`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from hushmeter import limits
from hushmeter.buckets import SealingJob, tally_of
from hushmeter.carried import CarriedWindows, consent_table
from hushmeter.claims import Claims
from hushmeter.consent.register import ConsentRegister
from hushmeter.errors import ConsentWithdrawn, HushmeterError, KeyGone, SegmentLost, TooManyPartitions
from hushmeter.ingest.identity import window_salt
from hushmeter.ledger.accountant import period_loss, spendings_of
from hushmeter.ledger.entries import entries_of
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.ledger import DraftEntry, PrivacyLoss
from hushmeter.model.publication import Publication
from hushmeter.model.ring import Claim, ClaimState
from hushmeter.model.states import WindowState
from hushmeter.model.tally import Tally
from hushmeter.model.time import Window
from hushmeter.plan.catalog import Catalog
from hushmeter.ports import Deployment, IntakeLog, KeyRing, Mechanisms, StateStore, WindowRecord
from hushmeter.release.measuring import measure

_log = structlog.get_logger("hushmeter.sealing")


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
    record: WindowRecord, ports: SealingPorts, claims: Claims, consent: ConsentRegister, *, last: bool = False
) -> WindowState:
    """Publishes a SEALED window, or marks it LOST; either way it is charged, once (C4, C6, C7).

    The window is claimed as late as can be, once its tally is there: a crash between claim and publication loses it.

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
    period = plan.privacy.period.window_of(window.end_ms)
    charge = ports.prices.charge(window, spent := store.spent(period.start_ms))
    identity = ports.deployment.deployment_id
    carried = CarriedWindows(plan, window, period, store, ports.keys)
    before = claims.follow()
    if before.was_claimed(window):
        _log.error("a window was claimed in another history", window=str(window))
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
        _ensure_still_given(store, window, consent)
    owner = claims.claim(window, before.head, period.start_ms, period_loss([*spent, *spendings_of(charge)]))
    try:
        releases = measure(tally, charge.without(closed), ports.mechanisms, plan=plan, completeness=completeness)
        entries = entries_of(plan, identity, charge, releases, closed)
        claims.hold(owner, Publication(window, period.start_ms, before.head, releases, entries, kept))
    except Exception as error:
        # Noise may have been drawn, and is not drawn again.
        why = str(error) if isinstance(error, HushmeterError) else type(error).__name__
        _log.error("noise could not be drawn; the window is lost", window=str(window), error=why)
        return lose_window(window, ports, claims)
    claims.draw(owner)
    settle(claims, lambda _: ports)
    return WindowState.RELEASED


def settle(claims: Claims, ports_of: Callable[[Window], SealingPorts]) -> tuple[Window, WindowState] | None:
    """Ends the window that is claimed, if there is one, whoever claimed it; see `hushmeter.claims`.

    Args:
        claims: of this process.
        ports_of: what the sealing of a window reads from and writes to.

    Returns:
        The window, and how it ended.
    """
    found = claims.ended()
    if not isinstance(found, Claim):
        return found
    claim, ports = found, ports_of(found.window)
    period = ports.catalog.plan.privacy.period.window_of(claim.window.end_ms)
    if claim.state is ClaimState.CLAIMED and claims.holds(claim.owner):
        claims.draw(claim.owner)
        return settle(claims, ports_of)
    publication = claims.drawn(claim, period.start_ms) if claim.state is ClaimState.DRAWN else None
    if publication is not None:
        claims.publish(claim, publication, ports.prices.budget)
        return claim.window, WindowState.RELEASED
    _log.error(
        "a claim is left without a publication; its window is lost", window=str(claim.window), claim=claim.state.value
    )
    return claim.window, lose_window(claim.window, ports, claims)


def lose_window(window: Window, ports: SealingPorts, claims: Claims) -> WindowState:
    """Marks a SEALED window LOST: charged in full, never released (C6)."""
    entries, loss, period = charge_of_lost(window, ports)
    claims.lose(window, entries, period.start_ms, loss, ports.prices.budget)
    return WindowState.LOST


def charge_of_lost(window: Window, ports: SealingPorts) -> tuple[tuple[DraftEntry, ...], PrivacyLoss, Window]:
    """What a window is charged that is never released: its entries, what its period has been charged then, the period."""
    plan, identity = ports.catalog.plan, ports.deployment.deployment_id
    period = plan.privacy.period.window_of(window.end_ms)
    charge = ports.prices.charge(window, spent := ports.store.spent(period.start_ms))
    return entries_of(plan, identity, charge, None), period_loss([*spent, *spendings_of(charge)]), period


def _ensure_still_given(store: StateStore, window: Window, consent: ConsentRegister) -> None:
    """No unit of a window has taken consent back since it was sealed (P8)."""
    sequence, full = consent.sequence, True
    while full:
        sequence, later = store.decisions_after(sequence)
        if consent.loses(later, window.end_ms):
            raise ConsentWithdrawn(
                f"consent was withdrawn while window {window} was sealed; it must be sealed again without it"
            )
        full = len(later) == limits.DECISIONS_PER_PAGE


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
