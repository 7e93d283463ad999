"""What a start makes sure of before anything is closed: that the machine's clock can be right (T2, T3)."""

from __future__ import annotations

from typing import Final

from hushmeter.clock import JUMP_MS
from hushmeter.errors import StateConflict
from hushmeter.model.states import WindowState
from hushmeter.model.time import iso
from hushmeter.pipeline.claims import ring_record
from hushmeter.service.deployment.context import Context

GAP_MAX_MS: Final = 6 * 3_600_000
"""How long a service may have been off for a start to believe its clock: windows of that time close at once, for good."""


def newest_moment_ms(context: Context) -> int:
    """The newest moment that a deployment's state or keys know of; the time is not earlier, where no clock was wrong."""
    store, plan = context.store, context.plan
    begun = ((r, store.last_window_start(r.name)) for r in plan.resolutions)
    # A restore may lose windows before they end (C6): their deadlines say nothing about the time.
    lost = {(r.window.resolution, r.window.start_ms) for r in store.windows([WindowState.LOST])}
    restores = store.restores(context.deployment.deployment_id)
    return max(
        context.deployment.created_at_ms,
        store.last_seen_ms() or 0,
        # Any other window has begun to close because its deadline had passed.
        *(context.deadline_ms(r.span.window_from(s)) for r, s in begun if s is not None and (r.name, s) not in lost),
        *ring_record(context.keys).newest.values(),
        *(restore.at_ms for restore in restores),
    )


def ensure_clock(context: Context, *, confirmed: bool) -> None:
    """Refuses to start where the clock is far from what the state knows, which only somebody who looks can judge.

    A clock that is a day ahead would close the windows of a day, for good, and honest reports to them would be too late.
    One that is behind would stamp receipts that have passed. A service that was off for long looks the same as the first.

    Args:
        context: the deployment.
        confirmed: somebody has looked, and says that the clock is right.

    Raises:
        StateConflict: the clock is more than `GAP_MAX_MS` ahead of the newest moment in the state, or more than `JUMP_MS`
            behind it.
    """
    now, newest = context.clock.now_ms(), newest_moment_ms(context)
    confirm = "Set the clock, or confirm it with --clock-is-right"
    if confirmed:
        return
    if now > newest + GAP_MAX_MS:
        raise StateConflict(
            f"the clock says {iso(now)}, and the newest moment that this state knows is {iso(newest)}. Either the service"
            " was off for so long, or the clock is ahead: windows would close up to there, for good, and their reports be"
            f" refused. {confirm}"
        )
    if now < newest - JUMP_MS:
        raise StateConflict(
            f"the clock says {iso(now)}, but this state knows of {iso(newest)}: the clock is behind, or was ahead."
            f" {confirm}"
        )
