"""The life of release windows in the state store, and their publication. Each function is a part of one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import sqlalchemy as sa

from hushmeter.errors import LedgerBroken, StateConflict, ensure
from hushmeter.ledger.accountant import ensure_affordable
from hushmeter.ledger.entries import period_of, spending_of
from hushmeter.model.ledger import DraftEntry, LedgerEntry, PrivacyBudget, PrivacyLoss, Spending
from hushmeter.model.release import Release
from hushmeter.model.states import WINDOW_TRANSITIONS, WindowEvent, WindowState, transition
from hushmeter.model.time import Window, iso
from hushmeter.ports import WindowRecord
from hushmeter.storage.state.decisions import decisions_before, ledger_head
from hushmeter.storage.state.release_payload import encode_vectors
from hushmeter.storage.state.schema import kept_windows, ledger, releases, segments, view_text, windows
from hushmeter.storage.state.workers import newest_segment

KEPT_PART_BYTES = 2**26
"""Sets of kept windows are stored in parts of this many bytes."""


def windows_in(connection: sa.Connection, states: Sequence[WindowState]) -> tuple[WindowRecord, ...]:
    """Windows in these states, by end and then resolution."""
    chosen = sa.select(windows).where(windows.c.state.in_([s.value for s in states]))
    rows = connection.execute(chosen.order_by(windows.c.end_ms, windows.c.resolution))
    return tuple(_record(row) for row in rows)


def last_window_start(connection: sa.Connection, resolution: str) -> int | None:
    """Start of the newest window of a resolution that has left OPEN."""
    newest = sa.select(sa.func.max(windows.c.start_ms)).where(windows.c.resolution == resolution)
    start_ms: int | None = connection.scalar(newest)
    return start_ms


def begin_closing(connection: sa.Connection, window: Window, cutoff_ms: int) -> WindowRecord:
    """OPEN -> CLOSING, in time order within a resolution (P7); a window that has begun keeps its record.

    Its consent is fixed here: no later decision is received before the cut-off (P8).
    """
    known = connection.execute(sa.select(windows).where(_is(window))).one_or_none()
    if known is not None:
        ensure(known.end_ms == window.end_ms, f"window {window} ended at {known.end_ms}, now at {window.end_ms}")
        return _record(known)
    newest_end = connection.scalar(
        sa.select(sa.func.max(windows.c.end_ms)).where(windows.c.resolution == window.resolution)
    )
    if newest_end is not None and window.start_ms < newest_end:
        raise StateConflict(
            f"window {window} cannot begin to close: those of {window.resolution} have closed up to {iso(newest_end)}, "
            "strictly in time order; only later ones may follow"
        )
    last_segment = newest_segment(connection)
    through = decisions_before(connection, cutoff_ms)
    record = WindowRecord(window, transition(WindowState.OPEN, WindowEvent.DEADLINE_PASSED), last_segment, through)
    row = {
        "resolution": window.resolution,
        "start_ms": window.start_ms,
        "end_ms": window.end_ms,
        "state": record.state.value,
        "last_segment": last_segment,
        "decisions_through": through,
    }
    connection.execute(sa.insert(windows).values(row))
    return record


def decisions_through(connection: sa.Connection, chosen: Sequence[Window]) -> dict[Window, int]:
    """Of some windows, those that have left OPEN, and the number of the decision that each one's consent ends with."""
    rows = connection.execute(sa.select(windows).where(sa.or_(*map(_is, chosen), sa.false())))
    return {record.window: record.decisions_through for record in map(_record, rows)}


def mark_fixed(connection: sa.Connection, window: Window) -> None:
    """CLOSING -> FIXED; every segment that may hold rows of the window is closed by then."""
    record = _advance(connection, window, WindowEvent.SEGMENTS_CLOSED)
    still_open = sa.select(segments.c.resolutions).where(
        segments.c.storage_start_ms >= window.start_ms,
        segments.c.storage_start_ms < window.end_ms,
        segments.c.sequence <= record.last_segment,
        segments.c.closed.is_(False),
    )
    waiting = sum(window.resolution in resolutions.split() for resolutions in connection.scalars(still_open))
    ensure(waiting == 0, f"window {window} was to be sealed while {waiting} of its segments are still open")


def publish(
    connection: sa.Connection,
    window: Window,
    release_rows: Sequence[dict[str, object]],
    entries: Sequence[DraftEntry],
    *,
    period_start_ms: int,
    budget: PrivacyBudget,
    kept: Mapping[str, bytes],
) -> None:
    """FIXED -> RELEASED, with charge, releases as `rows_of` wrote them, and kept windows (C4, P7)."""
    _advance(connection, window, WindowEvent.PUBLISHED)
    charge(connection, window, entries, period_start_ms=period_start_ms, budget=budget)
    if release_rows:
        connection.execute(sa.insert(releases), release_rows)
    for metric, sealed in kept.items():
        _keep(connection, metric, window.resolution, period_start_ms, sealed)


def rows_of(window: Window, published: Sequence[Release]) -> list[dict[str, object]]:
    """Releases of one window as rows; needs no transaction, so that nobody waits while payloads are encoded."""
    return [_release_row(window, release) for release in published]


def mark_lost(
    connection: sa.Connection,
    window: Window,
    entries: Sequence[DraftEntry],
    *,
    period_start_ms: int,
    budget: PrivacyBudget,
) -> None:
    """FIXED -> LOST, with the whole charge and no release (C6)."""
    _advance(connection, window, WindowEvent.ROWS_MISSING)
    charge(connection, window, entries, period_start_ms=period_start_ms, budget=budget)


def spent(connection: sa.Connection, period_start_ms: int) -> tuple[Spending, ...]:
    """What one period has been charged; equal charges are counted (C2)."""
    by = (ledger.c.series, ledger.c.cap, ledger.c.amount, ledger.c.delta)
    same = sa.select(*by, sa.func.count()).where(ledger.c.period_start_ms == period_start_ms).group_by(*by)
    return tuple(
        Spending(series, cap, PrivacyLoss(Fraction(amount), Fraction(delta)), count)
        for series, cap, amount, delta, count in connection.execute(same)
    )


def charge(
    connection: sa.Connection,
    window: Window,
    entries: Sequence[DraftEntry],
    *,
    period_start_ms: int,
    budget: PrivacyBudget,
) -> None:
    """Appends ledger entries to the chain, if the period's budget holds them.

    Args:
        connection: inside a writing transaction: what has been spent cannot change before this charge is recorded.
        window: whose charge it is.
        entries: contents with what they spend.
        period_start_ms: the period that pays.
        budget: of one period.

    Raises:
        BudgetExhausted: the period's charges and this one exceed the budget.
        InvariantError: an entry does not say that it spends what it does, in the period that pays.
    """
    sequence, previous = ledger_head(connection)
    already = spent(connection, period_start_ms)
    frees = f"when the period from {iso(period_start_ms)} has ended,"
    ensure_affordable(window, already, [e.spending for e in entries], budget, frees)
    rows = []
    for draft in entries:
        entry = LedgerEntry.following(sequence + 1, previous, draft.content)
        _ensure_told(window, entry, draft, period_start_ms)
        sequence, previous = entry.sequence, entry.entry_hash
        rows.append(
            {
                "sequence": entry.sequence,
                "period_start_ms": period_start_ms,
                "series": draft.spending.series,
                "cap": draft.spending.cap,
                "amount": str(draft.spending.loss.amount),
                "delta": str(draft.spending.loss.delta),
                "content": draft.content,
                "window_end_ms": window.end_ms,
                "previous_hash": entry.previous_hash,
                "entry_hash": entry.entry_hash,
            }
        )
    if rows:
        connection.execute(sa.insert(ledger), rows)


def _ensure_told(window: Window, entry: LedgerEntry, draft: DraftEntry, period_start_ms: int) -> None:
    """Whoever adds the entries' contents up finds what the rows are summed to."""
    try:
        told = spending_of(entry), period_of(entry)
    except LedgerBroken:
        told = None
    ensure(
        told == (draft.spending, period_start_ms),
        f"a ledger entry of window {window} does not say what it spends, or another period than {period_start_ms}",
    )


def kept_rows(connection: sa.Connection, metric: str, resolution: str, period_start_ms: int) -> bytes | None:
    """The encrypted set of kept windows; None before the first."""
    parts = sa.select(kept_windows.c.payload).where(_set_of(metric, resolution, period_start_ms))
    payloads = connection.scalars(parts.order_by(kept_windows.c.part)).all()
    return b"".join(payloads) if payloads else None


def lacks_kept(connection: sa.Connection, metric: str, resolution: str, period_start_ms: int, before_ms: int) -> bool:
    """Whether a set is missing that the publication of an earlier window of the period has left behind."""
    if (
        connection.scalar(sa.select(kept_windows.c.part).where(_set_of(metric, resolution, period_start_ms)).limit(1))
        is not None
    ):
        return False
    w = windows.c
    earlier = sa.select(w.start_ms).where(w.resolution == resolution, w.start_ms >= period_start_ms, w.start_ms < before_ms)
    return connection.scalar(earlier.where(w.state == WindowState.RELEASED.value).limit(1)) is not None


def forget_kept(connection: sa.Connection, period_start_ms: int) -> None:
    """Removes a period's sets of kept windows."""
    connection.execute(sa.delete(kept_windows).where(kept_windows.c.period_start_ms == period_start_ms))


def _keep(connection: sa.Connection, metric: str, resolution: str, period_start_ms: int, sealed: bytes) -> None:
    connection.execute(sa.delete(kept_windows).where(_set_of(metric, resolution, period_start_ms)))
    key = {"metric": metric, "resolution": resolution, "period_start_ms": period_start_ms}
    parts = [sealed[at : at + KEPT_PART_BYTES] for at in range(0, len(sealed), KEPT_PART_BYTES)]
    connection.execute(sa.insert(kept_windows), [key | {"part": i, "payload": part} for i, part in enumerate(parts)])


def _set_of(metric: str, resolution: str, period_start_ms: int) -> sa.ColumnElement[bool]:
    of = kept_windows.c
    return sa.and_(of.metric == metric, of.resolution == resolution, of.period_start_ms == period_start_ms)


def _advance(connection: sa.Connection, window: Window, event: WindowEvent) -> WindowRecord:
    """Moves a window on, as the table of transitions says; `StateConflict` where its state has no such transition."""
    row = connection.execute(sa.select(windows).where(_is(window))).one_or_none()
    state = WindowState.OPEN if row is None else WindowState(row.state)
    if row is None or (state, event) not in WINDOW_TRANSITIONS:
        before = next(s for s, e in WINDOW_TRANSITIONS if e is event)
        raise StateConflict(
            f"window {window} is {state}, and '{event}' happens to windows that are {before}; another process may have "
            "been here: read its state again"
        )
    after = transition(state, event)
    # The old state is asked for again, so that no isolation level can let two of these pass.
    moved = connection.execute(
        sa.update(windows).where(_is(window), windows.c.state == state.value).values(state=after.value)
    )
    ensure(moved.rowcount == 1, f"window {window} changed inside a writing transaction")
    return WindowRecord(window, after, row.last_segment, row.decisions_through)


def _release_row(window: Window, release: Release) -> dict[str, object]:
    key = release.key
    of_window = (key.resolution, key.window_start_ms, release.window_end_ms)
    ensure(
        of_window == (window.resolution, window.start_ms, window.end_ms),
        f"a release of {of_window} is not of window {window}",
    )
    return {
        "plan_version": key.plan_version,
        "metric": key.metric,
        "view": view_text(key.view),
        "resolution": key.resolution,
        "window_start_ms": key.window_start_ms,
        "window_end_ms": release.window_end_ms,
        "published_at_ms": release.published_at_ms,
        "completeness": release.completeness,
        "payload": encode_vectors(release.vectors, release.keys),
    }


def _is(window: Window) -> sa.ColumnElement[bool]:
    return sa.and_(windows.c.resolution == window.resolution, windows.c.start_ms == window.start_ms)


def _record(row: sa.Row[Any]) -> WindowRecord:
    window = Window(row.resolution, row.start_ms, row.end_ms)
    return WindowRecord(window, WindowState(row.state), row.last_segment, row.decisions_through)
