"""What the core needs from the world, as protocols: each has one contract suite that every implementation passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from hushmeter.access.credentials import Access, Credential
from hushmeter.consent.register import ConsentRegister
from hushmeter.model.consent import Decision
from hushmeter.model.ledger import (
    Charge,
    DraftEntry,
    LedgerEntry,
    LedgerMark,
    MeasurementCharge,
    PrivacyBudget,
    PrivacyLoss,
    Spending,
)
from hushmeter.model.measurement import Mechanism
from hushmeter.model.records import Deployment, Registration, Restore, SegmentRecord, WindowRecord
from hushmeter.model.release import NoisyVector, PrivateKey, Release, Selection
from hushmeter.model.report import ReportBatch
from hushmeter.model.states import WindowState
from hushmeter.model.time import Int64, Window
from hushmeter.plan.catalog import SeriesBlock


class Clock(Protocol):
    """Time, injected."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary moment, never going back; for leases only."""

    def on_jump(self, wake: Callable[[], None]) -> None:
        """Calls `wake` from any thread whenever time jumps ahead; a clock that only flows never does."""


class Mechanisms(Protocol):
    """Noise: the only way from a tally to a release."""

    def draw(
        self,
        vectors: Sequence[tuple[Int64, MeasurementCharge]],
        selections: Sequence[tuple[Mapping[PrivateKey, int], MeasurementCharge]] = (),
    ) -> tuple[list[NoisyVector], list[Selection]]:
        """Adds noise to several vectors, and selects several views' private partitions, as `add_noise` and `select` do.

        Args:
            vectors: exact values, each with what may be spent on it.
            selections: exact numbers of units by partition, likewise.

        Returns:
            The noisy vectors and the selections, in order.

        Raises:
            InvariantError: as `add_noise` and `select`, before any value is touched.
        """

    def add_noise(
        self, values: Int64, *, mechanism: Mechanism, scale: float, sensitivity: float, loss: PrivacyLoss
    ) -> NoisyVector:
        """Adds discrete noise to every cell.

        Args:
            values: int64[partitions, columns], exact.
            mechanism: discrete Gaussian or discrete Laplace.
            scale: of the noise, in the same steps.
            sensitivity: L2 (Gaussian) or L1 (Laplace) norm of what one unit can move `values` by.
            loss: what may be spent.

        Returns:
            The noisy values, with what the mechanism's own privacy map says they cost: at most `loss`.

        Raises:
            InvariantError: scale or sensitivity is not positive and finite, or the map exceeds `loss`; before any value is
                touched.
        """

    def select(
        self,
        counts: Mapping[PrivateKey, int],
        *,
        mechanism: Mechanism,
        scale: float,
        threshold: int,
        l0: int,
        loss: PrivacyLoss,
    ) -> Selection:
        """Releases the partitions whose noisy count of units reaches a threshold, with that count.

        Args:
            counts: exact numbers of units by partition.
            mechanism: Gaussian or Laplace threshold.
            scale: of the noise.
            threshold: smallest noisy count that is released.
            l0: partitions that one unit can be in.
            loss: what may be spent.

        Raises:
            InvariantError: as `add_noise`, and for a threshold that is not above what one unit adds.
        """

    def threshold(self, mechanism: Mechanism, *, scale: float, l0: int, delta: Fraction) -> int:
        """The smallest threshold that costs at most delta; a function of these parameters alone."""

    def zcdp_budget(self, epsilon: float, delta: float) -> Fraction:
        """The largest rho that implies (epsilon, delta), rounded down."""

    def epsilon_of(self, rho: Fraction, delta: float) -> float:
        """The epsilon that rho implies at delta, rounded up."""


class Keys(Protocol):
    """Keys by name: `deployment`, `unit-tokens`, `signing`, `data/<storage window start>`, `period/<period start>`."""

    def get(self, name: str) -> bytes:
        """The 32-byte key of that name.

        Raises:
            KeyGone: there is none, or it was destroyed.
            KeyUnavailable: it cannot be read: permissions, damage, or another master key.
        """

    def get_or_create(self, name: str) -> bytes:
        """The key of that name, made at the first call; processes that race get the same one.

        Raises:
            KeyGone: it was destroyed.
            KeyUnavailable: it cannot be read: permissions, damage, or another master key.
        """


class KeyRing(Keys, Protocol):
    """Keys that are wrapped by a master key; a destroyed one never comes back."""

    def destroy(self, name: str) -> None:
        """Makes the key unrecoverable; does nothing where it is gone already."""

    def periods(self) -> tuple[int, ...]:
        """Starts of the periods whose key is there, or was not destroyed to the end, in order."""

    def storage_windows(self) -> tuple[int, ...]:
        """Starts of the storage windows whose key is there, or was not destroyed to the end, in order."""

    def mark(self) -> LedgerMark | None:
        """How far the ledger had come when it was last marked; None where that has never happened.

        Raises:
            KeyUnavailable: the mark cannot be read.
        """

    def move_mark(self, mark: LedgerMark) -> None:
        """Marks how far the ledger has come, durably; does nothing where the same deployment's mark is as far already."""

    def restart_mark(self, mark: LedgerMark) -> None:
        """Marks how far a restored ledger has come, also where the one before had come further (C6)."""


class IntakeLog(Protocol):
    """Durable, encrypted, append-only rows of each storage window (finest resolution).

    Append side, one writer a segment: `create`, `append`, `close`. Read side, the sealer: `count_frames`, `compact`,
    `size_bytes`, `bucket_bits`, `read`. `destroy` removes the files; the key is the KeyRing's to destroy.
    """

    def create(self, storage_start_ms: int) -> str:
        """Makes an empty segment, durable by name, and returns its id; holds nothing yet."""

    def append(self, storage_start_ms: int, segment_id: str, batch: ReportBatch) -> int:
        """Appends one frame and returns the segment's size in bytes once the frame is durable.

        Raises:
            StorageFull: there was no room; the segment is as before.
            KeyUnavailable: the window's key is gone.
        """

    def close(self, storage_start_ms: int, segment_id: str) -> int:
        """Ends writing and returns how many frames the segment holds."""

    def count_frames(self, storage_start_ms: int, segment_id: str) -> int:
        """How many whole frames a segment holds whose owner died; a torn tail does not count.

        Where the window's key is gone it is more than none, so that `compact` says so of a segment that held anything.

        Raises:
            KeyUnavailable: the window's key is there and cannot be read.
        """

    def compact(self, storage_start_ms: int, segment_id: str, frames: int) -> None:
        """Rewrites a closed segment of so many frames into runs by bucket, once; does nothing when that is done.

        Raises:
            SegmentLost: the segment is missing, damaged, or shorter than it was when it was closed.
            KeyUnavailable: the window's key is gone.
        """

    def size_bytes(self, storage_start_ms: int, segment_ids: Sequence[str]) -> int:
        """How much closed segments hold, about; one that is missing holds nothing."""

    def bucket_bits(self, storage_start_ms: int, segment_ids: Sequence[str]) -> int:
        """How finely compacted segments are cut, into 2^k runs by units the finest of them."""

    def read(self, storage_start_ms: int, segment_ids: Sequence[str], bucket: int, bits: int) -> ReportBatch:
        """The rows of one of 2^bits buckets of units: those whose pseudonym's top `bits` bits are `bucket`.

        Any number of bits will do; up to `bucket_bits` no row is read twice.
        """

    def reader(self, starts_ms: Sequence[int]) -> IntakeLog:
        """The same log to be sent to another process: it compacts and reads these storage windows, and has no other key."""

    def discard(self, storage_start_ms: int, segment_id: str) -> None:
        """Removes a segment that was created but never registered."""

    def destroy(self, storage_start_ms: int) -> None:
        """Removes every file of a storage window; does nothing when there are none."""

    def storage_windows(self) -> tuple[int, ...]:
        """Starts of the storage windows that have files, in order."""


class StateStore(Protocol):
    """Everything durable but raw rows and keys: one transaction a call."""

    # Foundation.
    def deployment(self) -> Deployment | None:
        """What the store was founded with; None for a new one."""

    def found(self, deployment: Deployment, blocks: Sequence[SeriesBlock]) -> None:
        """Founds the store; raises `StateConflict` where that has happened already."""

    def series_blocks(self) -> tuple[SeriesBlock, ...]:
        """All series blocks, by first number."""

    # Workers and their segments.
    def start_worker(self, worker_id: str, now_ms: int) -> None:
        """Records a worker, alive from now."""

    def beat(self, worker_id: str, now_ms: int) -> None:
        """Records that a worker is alive; raises `LeaseLost` where the sealer has declared it dead."""

    def beats(self) -> dict[str, int]:
        """The number of beats of each worker that has not been retired."""

    def retire_worker(self, worker_id: str, now_ms: int) -> None:
        """Ends a worker that stops in good order; its later calls, and this one of a worker that was ended, are refused."""

    def declare_dead(self, worker_id: str, beats: int) -> bool:
        """Ends a worker that has beaten just so often, and says whether it did; one that has beaten since lives on."""

    def serving_ms(self, start_ms: int, end_ms: int) -> int:
        """For how many milliseconds of `(start_ms, end_ms]` a worker served, until a lease after it was last seen.

        With the lease a window that had to wait for a worker says the same as one that had not (R1).
        """

    def register_segment(self, worker_id: str, segment_id: str, storage: Window, over: Sequence[Window]) -> Registration:
        """Registers a segment before its first frame.

        Args:
            worker_id: its owner; `LeaseLost` where it was retired.
            segment_id: as the intake log created it.
            storage: its storage window; `WindowClosed` where that has been scrubbed.
            over: the release windows over the storage window that the segment may hold rows of; a window whose deadline
                has passed, by the worker's time, is not waited for on the segment's account.
        """

    def close_segment(self, segment_id: str, frames: int) -> None:
        """Records that a segment's frames are final; does nothing to one that is closed or fenced already."""

    def segments(
        self, starts_ms: Sequence[int], last_segment: int | None = None, resolution: str | None = None
    ) -> tuple[SegmentRecord, ...]:
        """Segments of some storage windows, up to a registration number, in its order.

        Args:
            starts_ms: of the storage windows.
            last_segment: leaves out later registrations.
            resolution: leaves out segments that hold no rows of release windows of this resolution.
        """

    # Release windows.
    def windows(self, states: Sequence[WindowState]) -> tuple[WindowRecord, ...]:
        """Windows in these states, by end and then resolution."""

    def last_window_start(self, resolution: str) -> int | None:
        """Start of the newest window of a resolution that has left OPEN; None where none has."""

    def begin_closing(self, window: Window) -> WindowRecord:
        """OPEN -> CLOSING: from now on no registration may hold rows of it."""

    def mark_sealed(self, window: Window) -> None:
        """CLOSING -> SEALED."""

    def publish(
        self,
        window: Window,
        releases: Sequence[Release],
        entries: Sequence[DraftEntry],
        period_start_ms: int,
        budget: PrivacyBudget,
        kept: Mapping[str, bytes],
        consent: ConsentRegister | None,
    ) -> None:
        """SEALED -> RELEASED: releases, ledger entries, kept windows and state in one transaction (C4, P7).

        Args:
            window: which.
            releases: of it.
            entries: chained here.
            period_start_ms: the period that pays.
            budget: of one period.
            kept: by metric with bounded participation, the encrypted set of kept windows after this one.
            consent: what the window was sealed with; None to publish whatever was decided since.

        Raises:
            ConsentWithdrawn: since then a unit took consent back that it had given before the window's end (P8).
            BudgetExhausted: the period's charges and these exceed the budget.
            StateConflict: the window is not SEALED: somebody else has published it.
        """

    def mark_lost(self, window: Window, entries: Sequence[DraftEntry], period_start_ms: int, budget: PrivacyBudget) -> None:
        """SEALED -> LOST: charged in full, never released (C6); kept windows stay as they were."""

    def spent(self, period_start_ms: int) -> tuple[Spending, ...]:
        """What one period has been charged."""

    def kept_windows(self, metric: str, resolution: str, period_start_ms: int) -> bytes | None:
        """The encrypted set of kept windows of a metric with bounded participation; None before the first."""

    def forget_kept_windows(self, period_start_ms: int) -> None:
        """Removes a period's sets of kept windows."""

    # Scrubbing.
    def mark_scrubbed(self, storage_start_ms: int) -> None:
        """Records that a storage window's raw data may never be written or read again."""

    def scrubbed(self, storage_start_ms: int) -> bool:
        """Whether a storage window has been scrubbed."""

    # Consent.
    def record_decisions(self, decisions: Sequence[Decision]) -> int:
        """Appends decisions and returns the newest sequence number."""

    def decisions_after(self, sequence: int) -> tuple[int, tuple[Decision, ...]]:
        """The newest one's number, and the decisions after a sequence number, in order, `DECISIONS_PER_PAGE` at most.

        The number is that of the newest decision which is returned; of the newest of all where none is.
        """

    # Access.
    def add_credential(self, added: Credential) -> None:
        """Records a credential.

        Raises:
            StateConflict: there is one of that id.
            ConfigError: there are as many as may be.
        """

    def credentials(self, known: int = 0) -> tuple[int, tuple[Credential, ...]]:
        """How often credentials have changed so far, and all of them, revoked ones too, unless that number is `known`."""

    def revoke_credential(self, credential_id: str, now_ms: int) -> bool:
        """Revokes a credential for good, and says whether there is one of that id."""

    def record_access(self, taken: Access) -> None:
        """Appends one line to the access log; of one credential the newest `ACCESSES_PER_CREDENTIAL_MAX` stay."""

    def access_log(self, after: int = 0) -> Iterator[tuple[int, Access]]:
        """Numbered lines of the access log after a number, in order."""

    # Reading.
    def releases(
        self, metric: str, view: tuple[str, ...], resolution: str, from_ms: int, to_ms: int
    ) -> Iterator[tuple[int, Release]]:
        """(number, release) of windows that end in `(from_ms, to_ms]`, in time order."""

    def ledger_head(self, deployment_id: str) -> LedgerMark:
        """How far the ledger has come."""

    def ledger(self, from_sequence: int = 1) -> Iterator[LedgerEntry]:
        """Ledger entries from a number on, in order."""

    # Backups (C6).
    def back_up(self, path: Path) -> None:
        """Writes a new file that is a store like this one, without what leads to raw data; whole or not at all.

        Raises:
            ConfigError: the file exists, or the store was never founded.
            LedgerBroken: the ledger does not hold.
        """

    def record_restore(self, made: Restore) -> None:
        """Records that this store was taken up from a backup: grants and credentials of before do not count any more."""

    def restores(self, deployment_id: str) -> tuple[Restore, ...]:
        """Every time that the store was taken up from a backup, in order."""

    def schema_version(self) -> int:
        """The version of the store's schema."""

    def close(self) -> None:
        """Gives the store's connections back."""


__all__ = [
    "Charge",
    "Clock",
    "Deployment",
    "IntakeLog",
    "KeyRing",
    "Mechanisms",
    "Registration",
    "Restore",
    "SegmentRecord",
    "Selection",
    "StateStore",
    "WindowRecord",
]
