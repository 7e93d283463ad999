"""How a window ends that is not released as it should be: an open claim is settled, a window is lost (C6, C7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from hushmeter.errors import HushmeterError, StateConflict
from hushmeter.ledger.accountant import period_loss, spendings_of
from hushmeter.ledger.entries import entries_of
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.ledger import DraftEntry, PrivacyLoss
from hushmeter.model.ring import Claim, ClaimState
from hushmeter.model.states import WindowState
from hushmeter.model.time import Window
from hushmeter.pipeline.claims import Claims
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


def settle(claims: Claims, ports_of: Callable[[Window], SealingPorts]) -> tuple[Window, WindowState] | None:
    """Ends the window that is claimed, if there is one, whoever claimed it; see `hushmeter.pipeline.claims`.

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
    if claim.state is ClaimState.CLAIMED and claims.remembers(claim.owner):
        claims.draw(claim.owner)
        return settle(claims, ports_of)
    publication = claims.drawn(claim, period.start_ms) if claim.state is ClaimState.DRAWN else None
    if publication is not None:
        claims.publish(claim, publication, ports.prices.budget)
        return claim.window, WindowState.RELEASED
    cause = StateConflict(f"its claim was left {claim.state.value}, without a publication: a process ended in between")
    return claim.window, lose_window(claim.window, ports, claims, cause)


def lose_window(window: Window, ports: SealingPorts, claims: Claims, cause: Exception) -> WindowState:
    """Marks a FIXED window LOST: charged in full, never released (C6); its operator is told why."""
    # The text of an error that is not one of ours may hold a value that noise was added to: nobody reads it (R2).
    text = str(cause) if isinstance(cause, HushmeterError) else ""
    _log.error("a window is lost", window=str(window), cause=type(cause).__name__, error=text)
    entries, loss, period = charge_of_lost(window, ports)
    claims.lose(window, entries, period.start_ms, loss, ports.prices.budget)
    return WindowState.LOST


def charge_of_lost(window: Window, ports: SealingPorts) -> tuple[tuple[DraftEntry, ...], PrivacyLoss, Window]:
    """What a window is charged that is never released: its entries, what its period has been charged then, the period."""
    plan, identity = ports.catalog.plan, ports.deployment.deployment_id
    period = plan.privacy.period.window_of(window.end_ms)
    charge = ports.prices.charge(window, spent := ports.store.spent(period.start_ms))
    return entries_of(plan, identity, charge, None), period_loss([*spent, *spendings_of(charge)]), period
