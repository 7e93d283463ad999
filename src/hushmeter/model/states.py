"""The life of a window, as one table: a transition that is not in it raises."""

from __future__ import annotations

from enum import StrEnum

from hushmeter.errors import ensure


class WindowState(StrEnum):
    """Where a release window stands."""

    OPEN = "OPEN"
    """Takes reports; has no row in the store."""
    CLOSING = "CLOSING"
    """Its deadline has passed; segments that were open then are being closed."""
    FIXED = "FIXED"
    """Its rows are fixed: every segment is closed, or its owner is dead and the segment fenced."""
    RELEASED = "RELEASED"
    """Published and charged."""
    LOST = "LOST"
    """A segment or a key is missing: charged in full, never released."""


class WindowEvent(StrEnum):
    """What happens to a release window."""

    DEADLINE_PASSED = "deadline passed"
    SEGMENTS_CLOSED = "all segments closed or fenced"
    PUBLISHED = "charge and releases published"
    ROWS_MISSING = "segment or key missing"


WINDOW_TRANSITIONS: dict[tuple[WindowState, WindowEvent], WindowState] = {
    (WindowState.OPEN, WindowEvent.DEADLINE_PASSED): WindowState.CLOSING,
    (WindowState.CLOSING, WindowEvent.SEGMENTS_CLOSED): WindowState.FIXED,
    (WindowState.FIXED, WindowEvent.PUBLISHED): WindowState.RELEASED,
    (WindowState.FIXED, WindowEvent.ROWS_MISSING): WindowState.LOST,
}
"""Every lawful transition; the diagram in docs/data_model.md is generated from it."""


def transition(state: WindowState, event: WindowEvent) -> WindowState:
    """The state after an event; raises `InvariantError` where the table has no entry."""
    ensure((state, event) in WINDOW_TRANSITIONS, f"a window that is {state} cannot see '{event}'")
    return WINDOW_TRANSITIONS[state, event]
