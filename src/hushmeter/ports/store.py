"""The state store, as five protocols and the whole of them; `hushmeter.testing.contracts` has a suite for each.

Who needs one takes one: `PlanStore`, `WorkerStore`, `WindowStore`, `ConsentStore`, `CredentialStore`. Every method is one
transaction: once it has returned, what it did is durable, and where it raises, nothing has changed. A transaction that
spans protocols is one method of one of them:

    WindowStore.begin_closing      fixes the segments that a window waits for, and the decisions that it is sealed with (P8)
    ConsentStore.record_decisions  with erasures: each waits for every segment that is registered at that moment (R3)
    PlanStore.record_restore       voids grants of before, and revokes credentials (C6)
    StateStore.back_up             copies all of it as of one moment

`WindowStore.publish` is a publication whole: a window's state, charge, releases and kept windows (C4, P7). No caller
joins two calls to one transaction: an implementation needs none that its callers can see.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hushmeter.access.credentials import AccessLine, Credential
from hushmeter.errors import ReleaseAltered
from hushmeter.model.consent import Decision
from hushmeter.model.ledger import (
    DraftEntry,
    LedgerEntry,
    LedgerMark,
    PrivacyBudget,
    Spending,
)
from hushmeter.model.release import Release
from hushmeter.model.ring import DecisionMark
from hushmeter.model.states import WindowState
from hushmeter.model.stored import (
    Approval,
    Decided,
    Deployment,
    Erasure,
    PlanVersion,
    Registration,
    Restore,
    SegmentRecord,
    WindowRecord,
)
from hushmeter.model.time import Window
from hushmeter.plan.catalog import SeriesBlock


class PlanStore(Protocol):
    """What deployment this is: its foundation, its plan's versions, the keys it has used, its epochs and restores."""

    def deployment(self) -> Deployment | None:
        """What the store was founded with; None for a new one."""

    def found(self, deployment: Deployment, blocks: Sequence[SeriesBlock], approvals: Sequence[Approval] = ()) -> None:
        """Founds the store with its first plan; raises `StateConflict` where that has happened already."""

    def plan_versions(self, after: int = 0) -> tuple[PlanVersion, ...]:
        """The versions of the plan with numbers above one, in order; the first is that of the foundation."""

    def add_plan(self, added: PlanVersion, after: int, blocks: Sequence[SeriesBlock]) -> None:
        """Records a version for good, and the series blocks it needs; `StateConflict` unless the newest is `after`."""

    def approve_plan(self, version: int, approvals: Sequence[Approval]) -> None:
        """Records who approves a version that is recorded, in place of who did before."""

    def series_blocks(self) -> tuple[SeriesBlock, ...]:
        """All series blocks, by first number."""

    def key_fingerprint(self, name: str) -> bytes | None:
        """The fingerprint of a key that has been used; None where it was never used."""

    def record_key(self, name: str, fingerprint: bytes) -> bytes:
        """Records a key's fingerprint before its first use; the first one that is recorded stays, and is returned."""

    def record_keys(self, fingerprints: Mapping[str, bytes]) -> None:
        """Records the fingerprints of several keys that are there, by name; all of them, or none."""

    def epoch(self) -> str:
        """In which epoch this state serves or has served last; empty before the first (C7)."""

    def begin_epoch(self, epoch: str) -> None:
        """Records the epoch in which this state serves from now on."""

    def record_restore(self, made: Restore) -> None:
        """Records that this store was taken up from a backup: grants and credentials of before do not count any more."""

    def restores(self, deployment_id: str) -> tuple[Restore, ...]:
        """Every time that the store was taken up from a backup, in order."""


class WorkerStore(Protocol):
    """Workers and their leases, when the service served, segments, and which storage windows take none any more."""

    def start_worker(self, worker_id: str, now_ms: int) -> None:
        """Records a worker, whose lease begins now."""

    def beat(self, worker_id: str, now_ms: int) -> None:
        """Renews a worker's lease; raises `LeaseLost` where the sealer has declared the worker dead."""

    def beats(self) -> dict[str, int]:
        """The number of beats of each worker that has not been retired."""

    def retire_worker(self, worker_id: str, now_ms: int) -> None:
        """Ends a worker that stops in good order; its later calls, and this one of a worker that was ended, are refused."""

    def declare_dead(self, worker_id: str, beats: int) -> bool:
        """Ends a worker that has beaten just so often, and says whether it did; one that has beaten since lives on."""

    def last_seen_ms(self) -> int | None:
        """When any worker was last seen, by its own time; None before the first."""

    def end_servings_left(self, now_ms: int) -> None:
        """Ends what a service that nobody saw end has left open, before the sealer takes it for serving."""

    def begin_serving(self, now_ms: int) -> int:
        """Records that the service serves from now on, and returns the number of that record; ends what was left open."""

    def mark_serving(self, number: int, now_ms: int, *, ends: bool = False) -> None:
        """Records that a service is still there, or that it ends now."""

    def serving_ms(self, start_ms: int, end_ms: int) -> int:
        """For how many milliseconds of `(start_ms, end_ms]` the service served, until a lease after it had stopped.

        Leases have no part in it: a worker that was declared dead while it lived went on serving.
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

    def mark_scrubbed(self, storage_start_ms: int) -> None:
        """Records that a storage window's raw data may never be written or read again."""

    def scrubbed(self, storage_start_ms: int) -> bool:
        """Whether a storage window has been scrubbed."""


class WindowStore(Protocol):
    """Release windows and their states, releases, the ledger, and kept windows of metrics with bounded participation."""

    def windows(self, states: Sequence[WindowState]) -> tuple[WindowRecord, ...]:
        """Windows in these states, by end and then resolution."""

    def last_window_start(self, resolution: str) -> int | None:
        """Start of the newest window of a resolution that has left OPEN; None where none has."""

    def begin_closing(self, window: Window, cutoff_ms: int) -> WindowRecord:
        """OPEN -> CLOSING: from now on no registration may hold rows of it, and its consent is fixed (P8).

        Args:
            window: which.
            cutoff_ms: its consent is what was received before. It has passed: no later receipt is before it.
        """

    def decisions_through(self, windows: Sequence[Window]) -> dict[Window, int]:
        """Of some windows, those that have left OPEN, and the number of the decision that each one's consent ends with."""

    def mark_fixed(self, window: Window) -> None:
        """CLOSING -> FIXED."""

    def publish(
        self,
        window: Window,
        releases: Sequence[Release],
        entries: Sequence[DraftEntry],
        period_start_ms: int,
        budget: PrivacyBudget,
        kept_windows: Mapping[str, bytes],
    ) -> None:
        """FIXED -> RELEASED: releases, ledger entries, kept windows and state in one transaction (C4, P7).

        Args:
            window: which.
            releases: of it.
            entries: chained here.
            period_start_ms: the period that pays.
            budget: of one period.
            kept_windows: by metric with bounded participation, the encrypted set of them after this one.

        Raises:
            BudgetExhausted: the period's charges and these exceed the budget.
            StateConflict: the window is not FIXED: somebody else has published it.
        """

    def mark_lost(self, window: Window, entries: Sequence[DraftEntry], period_start_ms: int, budget: PrivacyBudget) -> None:
        """FIXED -> LOST: charged in full, never released (C6); kept windows stay as they were."""

    def spent(self, period_start_ms: int) -> tuple[Spending, ...]:
        """What one period has been charged."""

    def kept_windows(self, metric: str, resolution: str, period_start_ms: int) -> bytes | None:
        """The encrypted set of kept windows of a metric with bounded participation; None before the first."""

    def lacks_kept_windows(self, metric: str, resolution: str, period_start_ms: int, before_ms: int) -> bool:
        """Whether a metric's set is missing, though a window of the period that starts before a moment was RELEASED."""

    def forget_kept_windows(self, period_start_ms: int) -> None:
        """Removes a period's sets of kept windows."""

    def releases(
        self, metric: str, view: tuple[str, ...], resolution: str, from_ms: int, to_ms: int
    ) -> Iterator[tuple[int, Release]]:
        """(number, release) of windows that end in `(from_ms, to_ms]`, in time order, as they are stored.

        Whether they are what the ledger says is for `hushmeter.service.disclosure.verified_releases` to find out.

        Raises:
            ReleaseAltered: one of them cannot be a release.
        """

    def every_release(self) -> Iterator[tuple[int, Release | ReleaseAltered]]:
        """(number, release) of all windows, by number; in the place of what cannot be a release, why."""

    def charged(self, metric: str, view: tuple[str, ...], resolution: str, from_ms: int, to_ms: int) -> list[LedgerEntry]:
        """The ledger entries of windows that end in `[from_ms, to_ms]`, in order; checkpoints are not among them."""

    def ledger_head(self, deployment_id: str) -> LedgerMark:
        """How far the ledger has come."""

    def ledger(self, from_sequence: int = 1) -> Iterator[LedgerEntry]:
        """Ledger entries from a number on, in order."""

    def checkpoints(self) -> dict[int, bytes]:
        """The salts of the ledger's checkpoints, by number; for the operator alone (R1)."""


class ConsentStore(Protocol):
    """Decisions of units, in one order, and the erasures that are not done."""

    def record_decisions(
        self, decisions: Sequence[Decision], now_ms: Callable[[], int], erased: Collection[bytes] = ()
    ) -> int:
        """Appends decisions and erasures, and returns their receipt, which is stamped while nobody else can record (P8).

        Receipts rise with the numbers of decisions: one is never before an earlier one, nor before the cut-off of a window
        that has begun to close, whatever the clock says.

        Args:
            decisions: in their order, with any receipt.
            now_ms: the clock.
            erased: subjects whose rows are to be removed; their withdrawals are among the decisions.
        """

    def decided(self) -> Decided:
        """How far units have decided; what a worker asks before each group of reports, so it costs next to nothing."""

    def decisions_after(self, sequence: int, through: int | None = None) -> tuple[int, tuple[Decision, ...]]:
        """The newest one's number, and the decisions after a sequence number, in order, `DECISIONS_PER_PAGE` at most.

        The number is that of the newest decision which is returned; where none is, `through`, or the newest of all.

        Args:
            sequence: decisions after it.
            through: leaves out those with higher numbers; it is the number of a decision.
        """

    def decision_mark(self, sequence: int | None = None) -> DecisionMark:
        """A decision's number and digest, of the newest one unless another is asked for; number 0 where there is none."""

    def decided_before(self, cutoff_ms: int) -> int:
        """The number of the newest decision received before a moment; 0 where there is none."""

    def decisions_of(self, subject: bytes) -> tuple[Decision, ...]:
        """The decisions of one unit, in order."""

    def count_decisions(self, subject: bytes) -> int:
        """How many decisions of one unit are recorded."""

    def erased_at_ms(self, subject: bytes) -> int | None:
        """When the newest erasure of one unit was received, also where it is done; None where it never asked for one."""

    def erasures(self) -> tuple[Erasure, ...]:
        """The erasures that are not done, in order."""

    def end_erasures(self, through: int) -> None:
        """Forgets erasures up to a number: every row that they asked for has been removed."""


class CredentialStore(Protocol):
    """Credentials and the access log."""

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

    def record_access(self, taken: AccessLine) -> None:
        """Appends one line to the access log; of one credential the newest `ACCESSES_PER_CREDENTIAL_MAX` stay."""

    def access_log(self, after: int = 0) -> Iterator[tuple[int, AccessLine]]:
        """Numbered lines of the access log after a number, in order."""


class StateStore(PlanStore, WorkerStore, WindowStore, ConsentStore, CredentialStore, Protocol):
    """Everything durable but raw rows and keys, for who needs several of the five; one transaction a call."""

    def back_up(self, path: Path) -> None:
        """Writes a new file that is a store like this one, without what leads to raw data; whole or not at all.

        Raises:
            ConfigError: the file exists, or the store was never founded.
            LedgerBroken: the ledger does not hold.
        """

    def schema_version(self) -> int:
        """The version of the store's schema."""

    def close(self) -> None:
        """Gives the store's connections back."""
