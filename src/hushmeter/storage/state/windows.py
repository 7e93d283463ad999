"""Release windows, releases, the ledger and kept windows, in the state store: `WindowStore`.

This file alone writes the tables `windows`, `releases`, `ledger` and `kept_windows`; checkpoints come with a migration. For
transactions that span files see `store`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

import sqlalchemy as sa

from hushmeter.errors import LedgerBroken, ReleaseAltered, StateConflict, ensure
from hushmeter.ledger.accountant import ensure_affordable
from hushmeter.ledger.entries import period_of, spending_of
from hushmeter.model.ledger import GENESIS, DraftEntry, LedgerEntry, LedgerMark, PrivacyBudget, PrivacyLoss, Spending
from hushmeter.model.measurement import MeasurementName, series_text
from hushmeter.model.release import Release
from hushmeter.model.states import WINDOW_TRANSITIONS, WindowEvent, WindowState, transition
from hushmeter.model.stored import WindowRecord
from hushmeter.model.time import Window, iso
from hushmeter.storage.state import schema
from hushmeter.storage.state.consent import decisions_before
from hushmeter.storage.state.database import OnDatabase
from hushmeter.storage.state.release_rows import release_of, rows_of
from hushmeter.storage.state.schema import checkpoints, kept_windows, ledger, releases, segments, view_text, windows
from hushmeter.storage.state.workers import newest_segment

KEPT_PART_BYTES = 2**26
"""Sets of kept windows are stored in parts of this many bytes."""
RELEASES_PER_PAGE: Final = 32
LEDGER_ENTRIES_PER_PAGE: Final = 1_000
_ENTRY: Final = (ledger.c.sequence, ledger.c.content, ledger.c.previous_hash, ledger.c.entry_hash)


class SqlWindows(OnDatabase):
    """The life of release windows, and what their ends leave behind."""

    def windows(self, states: Sequence[WindowState]) -> tuple[WindowRecord, ...]:
        """See `WindowStore`."""
        chosen = sa.select(windows).where(windows.c.state.in_([s.value for s in states]))
        with self._database.read() as connection:
            rows = connection.execute(chosen.order_by(windows.c.end_ms, windows.c.resolution))
            return tuple(map(_record, rows))

    def last_window_start(self, resolution: str) -> int | None:
        """See `WindowStore`."""
        newest = sa.select(sa.func.max(windows.c.start_ms)).where(windows.c.resolution == resolution)
        with self._database.read() as connection:
            start_ms: int | None = connection.scalar(newest)
            return start_ms

    def begin_closing(self, window: Window, cutoff_ms: int) -> WindowRecord:
        """See `WindowStore`; a window that has begun keeps its record.

        Raises:
            StateConflict: the window is not later than all of its resolution that have begun (P7).
        """
        own = sa.select(sa.func.max(windows.c.end_ms)).where(windows.c.resolution == window.resolution)
        with self._database.write() as connection:
            known = connection.execute(sa.select(windows).where(_is(window))).one_or_none()
            if known is not None:
                ensure(known.end_ms == window.end_ms, f"window {window} ended at {known.end_ms}, now at {window.end_ms}")
                return _record(known)
            newest_end = connection.scalar(own)
            if newest_end is not None and window.start_ms < newest_end:
                raise StateConflict(
                    f"window {window} cannot begin to close: those of {window.resolution} have closed up to "
                    f"{iso(newest_end)}, strictly in time order; only later ones may follow"
                )
            state = transition(WindowState.OPEN, WindowEvent.DEADLINE_PASSED)
            last_segment, through = newest_segment(connection), decisions_before(connection, cutoff_ms)
            row = {
                "resolution": window.resolution,
                "start_ms": window.start_ms,
                "end_ms": window.end_ms,
                "state": state.value,
                "last_segment": last_segment,
                "decisions_through": through,
            }
            connection.execute(sa.insert(windows).values(row))
            return WindowRecord(window, state, last_segment, through)

    def decisions_through(self, windows: Sequence[Window]) -> dict[Window, int]:
        """See `WindowStore`."""
        chosen = sa.select(schema.windows).where(sa.or_(*map(_is, windows), sa.false()))
        with self._database.read() as connection:
            return {record.window: record.decisions_through for record in map(_record, connection.execute(chosen))}

    def mark_fixed(self, window: Window) -> None:
        """See `WindowStore`; `StateConflict` where it is not CLOSING, `InvariantError` where a segment is still open."""
        s = segments.c
        of_window = sa.and_(s.storage_start_ms >= window.start_ms, s.storage_start_ms < window.end_ms)
        with self._database.write() as connection:
            record = _advance(connection, window, WindowEvent.SEGMENTS_CLOSED)
            still_open = sa.select(s.resolutions).where(of_window, s.sequence <= record.last_segment, s.closed.is_(False))
            waiting = sum(window.resolution in resolutions.split() for resolutions in connection.scalars(still_open))
            ensure(waiting == 0, f"window {window} was to be sealed while {waiting} of its segments are still open")

    def publish(
        self,
        window: Window,
        releases: Sequence[Release],
        entries: Sequence[DraftEntry],
        period_start_ms: int,
        budget: PrivacyBudget,
        kept_windows: Mapping[str, bytes],
    ) -> None:
        """See `WindowStore`."""
        # Before the transaction, so that nobody waits while payloads are encoded.
        rows = rows_of(window, releases)
        with self._database.write() as connection:
            _advance(connection, window, WindowEvent.PUBLISHED)
            _charge(connection, window, entries, period_start_ms=period_start_ms, budget=budget)
            if rows:
                connection.execute(sa.insert(schema.releases), rows)
            for metric, encrypted in kept_windows.items():
                _keep(connection, metric, window.resolution, period_start_ms, encrypted)

    def mark_lost(self, window: Window, entries: Sequence[DraftEntry], period_start_ms: int, budget: PrivacyBudget) -> None:
        """See `WindowStore`; raises what `publish` does."""
        with self._database.write() as connection:
            _advance(connection, window, WindowEvent.ROWS_MISSING)
            _charge(connection, window, entries, period_start_ms=period_start_ms, budget=budget)

    def spent(self, period_start_ms: int) -> tuple[Spending, ...]:
        """See `WindowStore`; equal charges are counted (C2)."""
        with self._database.read() as connection:
            return _spent(connection, period_start_ms)

    def kept_windows(self, metric: str, resolution: str, period_start_ms: int) -> bytes | None:
        """See `WindowStore`."""
        parts = sa.select(kept_windows.c.payload).where(_set_of(metric, resolution, period_start_ms))
        with self._database.read() as connection:
            payloads = connection.scalars(parts.order_by(kept_windows.c.part)).all()
            return b"".join(payloads) if payloads else None

    def lacks_kept_windows(self, metric: str, resolution: str, period_start_ms: int, before_ms: int) -> bool:
        """See `WindowStore`."""
        w = windows.c
        there = sa.select(kept_windows.c.part).where(_set_of(metric, resolution, period_start_ms)).limit(1)
        earlier = sa.select(w.start_ms).where(
            w.resolution == resolution, w.start_ms >= period_start_ms, w.start_ms < before_ms
        )
        released = earlier.where(w.state == WindowState.RELEASED.value).limit(1)
        with self._database.read() as connection:
            return connection.scalar(there) is None and connection.scalar(released) is not None

    def forget_kept_windows(self, period_start_ms: int) -> None:
        """See `WindowStore`."""
        with self._database.write() as connection:
            connection.execute(sa.delete(kept_windows).where(kept_windows.c.period_start_ms == period_start_ms))

    def releases(
        self, metric: str, view: tuple[str, ...], resolution: str, from_ms: int, to_ms: int
    ) -> Iterator[tuple[int, Release]]:
        """See `WindowStore`; see `Database.paged`."""
        size, r = RELEASES_PER_PAGE, releases.c
        series = sa.and_(r.metric == metric, r.view == view_text(view), r.resolution == resolution)

        def page(connection: sa.Connection, after: tuple[int, int]) -> list[tuple[int, Release]]:
            end, number = after
            chosen = (
                sa.select(releases)
                .where(series, r.window_end_ms <= to_ms)
                .where(r.window_end_ms >= end, sa.or_(r.window_end_ms > end, r.number > number))
                .order_by(r.window_end_ms, r.number)
                .limit(size)
            )
            return [(row.number, release_of(row)) for row in connection.execute(chosen)]

        return self._database.paged(page, (from_ms + 1, 0), lambda row: (row[1].window_end_ms, row[0]), size)

    def every_release(self) -> Iterator[tuple[int, Release | ReleaseAltered]]:
        """See `WindowStore`; see `Database.paged`."""
        size = RELEASES_PER_PAGE

        def page(connection: sa.Connection, number: int) -> list[tuple[int, Release | ReleaseAltered]]:
            chosen = sa.select(releases).where(releases.c.number > number).order_by(releases.c.number).limit(size)
            return [(row.number, _release_or_why_not(row)) for row in connection.execute(chosen)]

        return self._database.paged(page, 0, lambda row: row[0], size)

    def charged(self, metric: str, view: tuple[str, ...], resolution: str, from_ms: int, to_ms: int) -> list[LedgerEntry]:
        """See `WindowStore`."""
        series, of = [series_text(metric, view, resolution, name) for name in MeasurementName], ledger.c
        chosen = sa.select(*_ENTRY).where(of.series.in_(series), of.window_end_ms >= from_ms, of.window_end_ms <= to_ms)
        with self._database.read() as connection:
            return [LedgerEntry(*row) for row in connection.execute(chosen.order_by(of.sequence))]

    def ledger_head(self, deployment_id: str) -> LedgerMark:
        """See `WindowStore`."""
        with self._database.read() as connection:
            return LedgerMark(deployment_id, *_head(connection))

    def ledger(self, from_sequence: int = 1) -> Iterator[LedgerEntry]:
        """See `WindowStore`; see `Database.paged`."""
        size = LEDGER_ENTRIES_PER_PAGE

        def page(connection: sa.Connection, first: int) -> list[LedgerEntry]:
            chosen = sa.select(*_ENTRY).where(ledger.c.sequence >= first).order_by(ledger.c.sequence).limit(size)
            return [LedgerEntry(*row) for row in connection.execute(chosen)]

        return self._database.paged(page, from_sequence, lambda entry: entry.sequence + 1, size)

    def checkpoints(self) -> dict[int, bytes]:
        """See `WindowStore`."""
        with self._database.read() as connection:
            return {row.sequence: row.salt for row in connection.execute(sa.select(checkpoints))}


def _release_or_why_not(row: sa.Row[Any]) -> Release | ReleaseAltered:
    try:
        return release_of(row)
    except ReleaseAltered as error:
        return error


def _spent(connection: sa.Connection, period_start_ms: int) -> tuple[Spending, ...]:
    by = (ledger.c.series, ledger.c.cap, ledger.c.amount, ledger.c.delta)
    same = sa.select(*by, sa.func.count()).where(ledger.c.period_start_ms == period_start_ms).group_by(*by)
    return tuple(
        Spending(series, cap, PrivacyLoss(Fraction(amount), Fraction(delta)), count)
        for series, cap, amount, delta, count in connection.execute(same)
    )


def _head(connection: sa.Connection) -> tuple[int, bytes]:
    """Sequence and hash of the newest entry; 0 and `GENESIS` where there is none."""
    newest = sa.select(ledger.c.sequence, ledger.c.entry_hash).order_by(ledger.c.sequence.desc()).limit(1)
    sequence, entry_hash = connection.execute(newest).one_or_none() or (0, GENESIS)
    return sequence, entry_hash


def _charge(
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
    sequence, previous = _head(connection)
    already = _spent(connection, period_start_ms)
    frees = f"when the period from {iso(period_start_ms)} has ended,"
    ensure_affordable(window, already, [e.spending for e in entries], budget, frees)
    rows = []
    for draft in entries:
        entry = LedgerEntry.following(sequence + 1, previous, draft.content)
        _ensure_says_what_it_spends(window, entry, draft, period_start_ms)
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


def _ensure_says_what_it_spends(window: Window, entry: LedgerEntry, draft: DraftEntry, period_start_ms: int) -> None:
    """Whoever adds the entries' contents up finds what the rows are summed to."""
    try:
        says = spending_of(entry), period_of(entry)
    except LedgerBroken:
        says = None
    ensure(
        says == (draft.spending, period_start_ms),
        f"a ledger entry of window {window} does not say what it spends, or another period than {period_start_ms}",
    )


def _keep(connection: sa.Connection, metric: str, resolution: str, period_start_ms: int, encrypted: bytes) -> None:
    connection.execute(sa.delete(kept_windows).where(_set_of(metric, resolution, period_start_ms)))
    key = {"metric": metric, "resolution": resolution, "period_start_ms": period_start_ms}
    parts = [encrypted[at : at + KEPT_PART_BYTES] for at in range(0, len(encrypted), KEPT_PART_BYTES)]
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


def _is(window: Window) -> sa.ColumnElement[bool]:
    return sa.and_(windows.c.resolution == window.resolution, windows.c.start_ms == window.start_ms)


def _record(row: sa.Row[Any]) -> WindowRecord:
    window = Window(row.resolution, row.start_ms, row.end_ms)
    return WindowRecord(window, WindowState(row.state), row.last_segment, row.decisions_through)
