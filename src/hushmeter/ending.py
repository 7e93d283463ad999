"""The end of a window: drawn, published and charged once, or LOST and charged; see `hushmeter.claims` (C7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from hushmeter import limits
from hushmeter.claims import Claims
from hushmeter.consent.register import ConsentRegister
from hushmeter.errors import ConsentWithdrawn, HushmeterError
from hushmeter.ledger.accountant import period_loss, spendings_of
from hushmeter.ledger.entries import entries_of
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.ledger import DraftEntry, LedgerMark, PrivacyLoss
from hushmeter.model.publication import Publication
from hushmeter.model.ring import Claim, ClaimState
from hushmeter.model.states import WindowState
from hushmeter.model.time import Window
from hushmeter.plan.catalog import Catalog
from hushmeter.ports import Deployment, IntakeLog, KeyRing, Mechanisms, StateStore

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


def end_with(
    draw: Callable[[], Publication],
    window: Window,
    head: LedgerMark,
    loss: PrivacyLoss,
    ports: SealingPorts,
    claims: Claims,
) -> WindowState:
    """Claims a window, draws its noise and publishes; an error while it is drawn loses the window.

    Args:
        draw: the noise; called once, by this process alone.
        window: that is SEALED.
        head: of the ledger when its price was asked.
        loss: what its period has been charged then.
        ports: what is read from and written to.
        claims: of this process.
    """
    owner = claims.claim(window, head, ports.catalog.plan.privacy.period.window_of(window.end_ms).start_ms, loss)
    try:
        claims.hold(owner, draw())
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


def ensure_still_given(store: StateStore, window: Window, consent: ConsentRegister) -> None:
    """No unit of a window has taken consent back since it was sealed (P8)."""
    sequence, full = consent.sequence, True
    while full:
        sequence, later = store.decisions_after(sequence)
        if consent.loses(later, window.end_ms):
            raise ConsentWithdrawn(
                f"consent was withdrawn while window {window} was sealed; it must be sealed again without it"
            )
        full = len(later) == limits.DECISIONS_PER_PAGE
