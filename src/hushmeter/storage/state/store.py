"""The state store on a database: `StateStore`, one transaction a method.

The SQL is in `workers`, `windows` and `records`, as functions of a connection; the engine's own ways are in `database`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from hushmeter.errors import ConfigError, ReleaseAltered
from hushmeter.model.consent import Decision
from hushmeter.model.ledger import DraftEntry, LedgerEntry, LedgerMark, PrivacyBudget, Spending
from hushmeter.model.release import Release
from hushmeter.model.ring import DecisionMark
from hushmeter.model.states import WindowState
from hushmeter.model.stored import Approval, Decided, PlanVersion
from hushmeter.model.time import Window
from hushmeter.plan.catalog import SeriesBlock
from hushmeter.ports import Deployment, Erasure, Registration, Restore, SegmentRecord, WindowRecord
from hushmeter.storage import backup
from hushmeter.storage.state import decisions as records
from hushmeter.storage.state import erasures, plans, schema, servings, windows, workers
from hushmeter.storage.state.credentials import SqlCredentials
from hushmeter.storage.state.database import STATE_NAME, Database, url_of

RELEASES_PER_PAGE: Final = 32
LEDGER_ENTRIES_PER_PAGE: Final = 1_000
_DECIDED: Final = str(
    sa.select(
        sa.select(sa.func.coalesce(sa.func.max(schema.decisions.c.sequence), 0)).scalar_subquery(),
        sa.select(sa.func.coalesce(sa.func.max(schema.erasures.c.last_segment), 0)).scalar_subquery(),
    ).compile(compile_kwargs={"literal_binds": True})
)
"""One statement, so that both numbers are of one moment."""


class SqlStateStore(SqlCredentials):
    """Everything durable but raw rows and keys; safe for several threads and processes at once.

    Whatever returned is on the disk. Every method raises `StorageFull` where there is no room and `Failure` where the
    database cannot be had; nothing has changed then.

    Args:
        database: opened, with today's schema.
    """

    @classmethod
    def open(cls, url: str) -> SqlStateStore:
        """Opens the store that a URL names; makes it where it is new.

        Args:
            url: `sqlite:///PATH`; `sqlite://` for a store in memory that ends with this object.

        Raises:
            ConfigError: the URL or its file cannot be used, or its schema has another version.
            StorageFull: there is no room for it.
        """
        return cls(Database.open(url))

    @classmethod
    def existing(cls, state_dir: Path) -> SqlStateStore:
        """Opens the store in a state directory, as a service left it or uses it; it is not brought to another schema.

        Raises:
            ConfigError: there is none, it cannot be used, or its schema has another version.
        """
        path = state_dir / STATE_NAME
        if not path.exists():
            raise ConfigError(f"{state_dir} holds no {STATE_NAME}; give the state_dir of a service")
        return cls(Database.open(url_of(path), as_it_is=True))

    def deployment(self) -> Deployment | None:
        """See `StateStore`."""
        with self._database.read() as connection:
            return plans.founded(connection)

    def found(self, deployment: Deployment, blocks: Sequence[SeriesBlock], approvals: Sequence[Approval] = ()) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            plans.found(connection, deployment, blocks, approvals)

    def plan_versions(self, after: int = 0) -> tuple[PlanVersion, ...]:
        """See `StateStore`."""
        with self._database.read() as connection:
            return plans.plan_versions(connection, after)

    def add_plan(self, added: PlanVersion, after: int, blocks: Sequence[SeriesBlock]) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            plans.add_plan(connection, added, after, blocks)

    def approve_plan(self, version: int, approvals: Sequence[Approval]) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            plans.approve_plan(connection, version, approvals)

    def series_blocks(self) -> tuple[SeriesBlock, ...]:
        """See `StateStore`."""
        with self._database.read() as connection:
            return plans.recorded_blocks(connection)

    def start_worker(self, worker_id: str, now_ms: int) -> None:
        """See `StateStore`; raises `StateConflict` where a worker has had that name."""
        with self._database.write() as connection:
            workers.start_worker(connection, worker_id, now_ms)

    def beat(self, worker_id: str, now_ms: int) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            workers.beat(connection, worker_id, now_ms)

    def beats(self) -> dict[str, int]:
        """See `StateStore`."""
        with self._database.read() as connection:
            return workers.beats(connection)

    def retire_worker(self, worker_id: str, now_ms: int) -> None:
        """See `StateStore`; a worker that was declared dead and signs off afterwards is told `LeaseLost`."""
        with self._database.write() as connection:
            workers.retire_worker(connection, worker_id, now_ms)

    def declare_dead(self, worker_id: str, beats: int) -> bool:
        """See `StateStore`."""
        with self._database.write() as connection:
            return workers.declare_dead(connection, worker_id, beats)

    def last_seen_ms(self) -> int | None:
        """See `StateStore`."""
        with self._database.read() as connection:
            return workers.last_seen_ms(connection)

    def end_servings_left(self, now_ms: int) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            servings.end_left(connection, now_ms)

    def begin_serving(self, now_ms: int) -> int:
        """See `StateStore`."""
        with self._database.write() as connection:
            return servings.begin_serving(connection, now_ms)

    def mark_serving(self, number: int, now_ms: int, *, ends: bool = False) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            servings.mark_serving(connection, number, now_ms, ends=ends)

    def serving_ms(self, start_ms: int, end_ms: int) -> int:
        """See `StateStore`."""
        with self._database.read() as connection:
            return servings.serving_ms(connection, start_ms, end_ms)

    def register_segment(self, worker_id: str, segment_id: str, storage: Window, over: Sequence[Window]) -> Registration:
        """See `StateStore`."""
        with self._database.write() as connection:
            return workers.register_segment(connection, worker_id, segment_id, storage, over)

    def close_segment(self, segment_id: str, frames: int) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            workers.close_segment(connection, segment_id, frames)

    def segments(
        self, starts_ms: Sequence[int], last_segment: int | None = None, resolution: str | None = None
    ) -> tuple[SegmentRecord, ...]:
        """See `StateStore`."""
        with self._database.read() as connection:
            return workers.segments_of(connection, starts_ms, last_segment, resolution)

    def windows(self, states: Sequence[WindowState]) -> tuple[WindowRecord, ...]:
        """See `StateStore`."""
        with self._database.read() as connection:
            return windows.windows_in(connection, states)

    def last_window_start(self, resolution: str) -> int | None:
        """See `StateStore`."""
        with self._database.read() as connection:
            return windows.last_window_start(connection, resolution)

    def begin_closing(self, window: Window, cutoff_ms: int) -> WindowRecord:
        """See `StateStore`; `StateConflict` for a window that is not later than all that have begun (P7)."""
        with self._database.write() as connection:
            return windows.begin_closing(connection, window, cutoff_ms)

    def decisions_through(self, windows_: Sequence[Window]) -> dict[Window, int]:
        """See `StateStore`."""
        with self._database.read() as connection:
            return windows.decisions_through(connection, windows_)

    def mark_fixed(self, window: Window) -> None:
        """See `StateStore`; `StateConflict` where it is not CLOSING, `InvariantError` where a segment is still open."""
        with self._database.write() as connection:
            windows.mark_fixed(connection, window)

    def publish(
        self,
        window: Window,
        releases: Sequence[Release],
        entries: Sequence[DraftEntry],
        period_start_ms: int,
        budget: PrivacyBudget,
        kept: Mapping[str, bytes],
    ) -> None:
        """See `StateStore`."""
        rows = windows.rows_of(window, releases)
        with self._database.write() as connection:
            windows.publish(connection, window, rows, entries, period_start_ms=period_start_ms, budget=budget, kept=kept)

    def mark_lost(self, window: Window, entries: Sequence[DraftEntry], period_start_ms: int, budget: PrivacyBudget) -> None:
        """See `StateStore`; raises what `publish` does."""
        with self._database.write() as connection:
            windows.mark_lost(connection, window, entries, period_start_ms=period_start_ms, budget=budget)

    def spent(self, period_start_ms: int) -> tuple[Spending, ...]:
        """See `StateStore`."""
        with self._database.read() as connection:
            return windows.spent(connection, period_start_ms)

    def kept_windows(self, metric: str, resolution: str, period_start_ms: int) -> bytes | None:
        """See `StateStore`."""
        with self._database.read() as connection:
            return windows.kept_rows(connection, metric, resolution, period_start_ms)

    def lacks_kept_windows(self, metric: str, resolution: str, period_start_ms: int, before_ms: int) -> bool:
        """See `StateStore`."""
        with self._database.read() as connection:
            return windows.lacks_kept(connection, metric, resolution, period_start_ms, before_ms)

    def forget_kept_windows(self, period_start_ms: int) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            windows.forget_kept(connection, period_start_ms)

    def mark_scrubbed(self, storage_start_ms: int) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            workers.mark_scrubbed(connection, storage_start_ms)

    def scrubbed(self, storage_start_ms: int) -> bool:
        """See `StateStore`."""
        with self._database.read() as connection:
            return workers.is_scrubbed(connection, storage_start_ms)

    def record_decisions(
        self, decisions: Sequence[Decision], now_ms: Callable[[], int], erased: Collection[bytes] = ()
    ) -> int:
        """See `StateStore`."""
        with self._database.write() as connection:
            received_at_ms = records.received_at_of(connection, now_ms)
            erasures.record_erasures(connection, erased, received_at_ms)
            records.record_decisions(connection, decisions, received_at_ms)
            return received_at_ms

    def decision_mark(self, sequence: int | None = None) -> DecisionMark:
        """See `StateStore`."""
        with self._database.read() as connection:
            return records.decision_mark(connection, sequence)

    def decided_before(self, cutoff_ms: int) -> int:
        """See `StateStore`."""
        with self._database.read() as connection:
            return records.newest_before(connection, cutoff_ms)

    def decisions_of(self, subject: bytes) -> tuple[Decision, ...]:
        """See `StateStore`."""
        with self._database.read() as connection:
            return records.decisions_of(connection, subject)

    def count_decisions(self, subject: bytes) -> int:
        """See `StateStore`."""
        with self._database.read() as connection:
            return records.count_decisions(connection, subject)

    def erased_at_ms(self, subject: bytes) -> int | None:
        """See `StateStore`."""
        with self._database.read() as connection:
            return records.erased_at_ms(connection, subject)

    def erasures(self) -> tuple[Erasure, ...]:
        """See `StateStore`."""
        with self._database.read() as connection:
            return erasures.pending(connection)

    def decided(self) -> Decided:
        """See `StateStore`."""
        return Decided(*self._database.peek(_DECIDED))

    def end_erasures(self, through: int) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            erasures.end_erasures(connection, through)

    def decisions_after(self, sequence: int, through: int | None = None) -> tuple[int, tuple[Decision, ...]]:
        """See `StateStore`."""
        with self._database.read() as connection:
            return records.decisions_after(connection, sequence, through)

    def releases(
        self, metric: str, view: tuple[str, ...], resolution: str, from_ms: int, to_ms: int
    ) -> Iterator[tuple[int, Release]]:
        """See `StateStore`; see `Database.paged`."""
        size = RELEASES_PER_PAGE

        def page(connection: sa.Connection, after: tuple[int, int]) -> list[tuple[int, Release]]:
            return records.releases_page(connection, metric, view, resolution, after=after, to_ms=to_ms, limit=size)

        return self._database.paged(page, (from_ms + 1, 0), lambda row: (row[1].window_end_ms, row[0]), size)

    def every_release(self) -> Iterator[tuple[int, Release | ReleaseAltered]]:
        """See `StateStore`; see `Database.paged`."""
        size = RELEASES_PER_PAGE
        return self._database.paged(lambda c, after: records.releases_after(c, after, size), 0, lambda row: row[0], size)

    def charged(self, metric: str, view: tuple[str, ...], resolution: str, from_ms: int, to_ms: int) -> list[LedgerEntry]:
        """See `StateStore`."""
        with self._database.read() as connection:
            return records.charged(connection, metric, view, resolution, from_ms, to_ms)

    def checkpoints(self) -> dict[int, bytes]:
        """See `StateStore`."""
        with self._database.read() as connection:
            return records.checkpoint_salts(connection)

    def ledger_head(self, deployment_id: str) -> LedgerMark:
        """See `StateStore`."""
        with self._database.read() as connection:
            return LedgerMark(deployment_id, *records.ledger_head(connection))

    def ledger(self, from_sequence: int = 1) -> Iterator[LedgerEntry]:
        """See `StateStore`; see `Database.paged`."""
        size = LEDGER_ENTRIES_PER_PAGE
        return self._database.paged(
            lambda c, first: records.ledger_page(c, first, size), from_sequence, lambda entry: entry.sequence + 1, size
        )

    def key_fingerprint(self, name: str) -> bytes | None:
        """See `StateStore`."""
        with self._database.read() as connection:
            return records.key_fingerprint(connection, name)

    def record_key(self, name: str, fingerprint: bytes) -> bytes:
        """See `StateStore`."""
        with self._database.write() as connection:
            return records.record_key(connection, name, fingerprint)

    def record_keys(self, fingerprints: Mapping[str, bytes]) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            for name, fingerprint in fingerprints.items():
                records.record_key(connection, name, fingerprint)

    def back_up(self, path: Path) -> None:
        """See `StateStore`."""
        backup.back_up(self._database, path)

    def settle_in_one_file(self) -> None:
        """Puts everything into the database's one file, so that it can be moved; nobody else may use it meanwhile."""
        self._database.settle_in_one_file()

    def epoch(self) -> str:
        """See `StateStore`."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(schema.epoch.c.epoch)) or ""

    def begin_epoch(self, epoch: str) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            connection.execute(sa.delete(schema.epoch))
            connection.execute(sa.insert(schema.epoch).values(id=1, epoch=epoch))

    def record_restore(self, made: Restore) -> None:
        """See `StateStore`."""
        with self._database.write() as connection:
            records.record_restore(connection, made)

    def restores(self, deployment_id: str) -> tuple[Restore, ...]:
        """See `StateStore`."""
        with self._database.read() as connection:
            return records.restores_of(connection, deployment_id)

    def schema_version(self) -> int:
        """See `StateStore`."""
        with self._database.read() as connection:
            return int(connection.execute(sa.select(schema.alembic_version.c.version_num)).scalar_one())

    def close(self) -> None:
        """See `StateStore`."""
        self._database.close()
