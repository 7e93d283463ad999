"""A window that waits for its operator can be given up: it ends LOST and charged, and is never released (P8)."""

from __future__ import annotations

from hushmeter.errors import StateConflict
from hushmeter.model.ring import ClaimState
from hushmeter.model.states import WindowState
from hushmeter.model.time import Window, iso
from hushmeter.pipeline.settlement import lose_window, settle
from hushmeter.service.deployment.context import Context


def give_up(context: Context, resolution: str, start_ms: int) -> Window:
    """Ends a window LOST that is FIXED and is the next of its resolution to end; beside a running service or without one.

    Args:
        context: the deployment, in the epoch in which it serves.
        resolution: of the window.
        start_ms: its start.

    Returns:
        The window.

    Raises:
        StateConflict: another window of the resolution is next, none waits, its rows are not fixed, or a sealer is at work.
        NotServing: another state of the deployment serves.

    Privacy:
        The window is charged in full (C6). Its operator decides to give it up, and the promise does not cover operators.
    """
    claims = context.claims()
    with context.publications.turn():
        waiting = context.store.windows([WindowState.CLOSING, WindowState.FIXED])
        record = min(
            (r for r in waiting if r.window.resolution == resolution), key=lambda r: r.window.start_ms, default=None
        )
        if record is None:
            raise StateConflict(f"no window of {resolution} waits to be released; hushmeter retention lists what is held")
        if record.window.start_ms != start_ms:
            raise StateConflict(
                f"the window of {resolution} that ends next starts at {iso(record.window.start_ms)}; windows of a "
                "resolution end in time order, so give that one up first, or let it be released"
            )
        if record.state is not WindowState.FIXED:
            raise StateConflict(
                f"window {record.window} waits for its rows: a segment of it is still open. Try again once that is "
                "closed, or its worker's lease has run out"
            )
        claim = claims.follow().claim
        if claim is not None and claim.window != record.window:
            raise StateConflict(f"window {claim.window} is being released; try again once that has ended")
        if claim is not None and claim.state is ClaimState.DRAWN:
            # Noise was drawn already, and somebody may have seen it: the window ends as that publication says (C7).
            settle(claims, context.sealing_ports)
            raise StateConflict(f"noise was drawn for window {record.window} already, so it has ended as that says")
        lose_window(record.window, context.sealing_ports(record.window), claims, StateConflict("its operator gave it up"))
        return record.window
