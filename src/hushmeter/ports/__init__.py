"""What the core needs from the world, as protocols: each has one contract suite that every implementation passes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Protocol

from hushmeter.model.arrays import Int64
from hushmeter.model.ledger import MeasurementCharge
from hushmeter.model.measurement import Mechanism
from hushmeter.model.publication import Publication
from hushmeter.model.release import NoisyVector, PartitionKey, Selection
from hushmeter.model.report import ReportBatch
from hushmeter.model.ring import RingRecord
from hushmeter.model.stored import Deployment, Erasure, Registration, Restore, SegmentRecord, WindowRecord
from hushmeter.ports.store import ConsentStore, CredentialStore, PlanStore, StateStore, WindowStore, WorkerStore

RewriteRows = Callable[[ReportBatch, Int64], tuple[ReportBatch, Int64]]
"""See `IntakeLog.rewrite`."""


class Clock(Protocol):
    """Time, injected."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary moment, never going back; for leases, rates and pauses, never for what is kept."""

    def on_jump(self, wake: Callable[[], None]) -> None:
        """Calls `wake` from any thread whenever time jumps ahead; a clock that only flows never does."""


class Mechanisms(Protocol):
    """Noise: the only way from a tally to a release."""

    def draw(
        self,
        vectors: Sequence[tuple[Int64, MeasurementCharge]],
        selections: Sequence[tuple[Mapping[PartitionKey, int], MeasurementCharge]] = (),
    ) -> tuple[list[NoisyVector], list[Selection]]:
        """Adds discrete noise to every cell of vectors, and releases the partitions whose noisy count reaches a threshold.

        Args:
            vectors: int64[partitions, columns] each, exact, with what may be spent on it: the charge names mechanism, scale
                and sensitivity.
            selections: exact numbers of units by partition, each with its charge, which names a threshold too.

        Returns:
            The noisy vectors and the selections, in order, with what the mechanism's own privacy map says they cost: at
            most what was charged.

        Raises:
            InvariantError: scale or sensitivity is not positive and finite, a threshold is not above what one unit adds, or
                the map exceeds the charge; before any value is touched.
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

    def record(self) -> RingRecord | None:
        """What the ring has seen of its deployment (C7); None where nothing was ever recorded. Cheap where nothing changed.

        Raises:
            KeyUnavailable: the record cannot be read.
        """

    def swap(self, before: RingRecord | None, after: RingRecord) -> None:
        """Puts a record in the place of `before`, durably, in one step that no other process can come between.

        Raises:
            StateConflict: the record is another one than `before`; it stays.
            KeyUnavailable: the record cannot be read.
        """


class Publications(Protocol):
    """Bytes of publications that were drawn, beside the state: written once each, until the next window is claimed."""

    def encoded(self, publication: Publication) -> bytes:
        """A publication as bytes, which are all that is published of it."""

    def decoded(self, content: bytes) -> Publication:
        """The inverse of `encoded`; raises `Failure` for bytes that are no publication."""

    def put(self, name: str, content: bytes) -> None:
        """Writes a publication, durably.

        Raises:
            StorageFull, Failure: it is not there.
        """

    def get(self, name: str) -> bytes | None:
        """The bytes of a publication; None where there is none of that name.

        Raises:
            Failure: they are there and cannot be read.
        """

    def clear(self) -> None:
        """Removes all publications; those that they were of have ended."""

    def turn(self) -> AbstractContextManager[None]:
        """This process's turn to end a window of the state; `StateConflict` while it is another one's."""


class IntakeLog(Protocol):
    """Durable, encrypted, append-only rows of each storage window (finest resolution).

    Append side, one writer a segment: `create`, `append`, `acknowledge`, `close`. Read side, the sealer: `count_frames`,
    `compact`, `erase`, `size_bytes`, `bucket_bits`, `read`. Anybody: `rows_of`. `destroy` removes the files; the key is the
    KeyRing's to destroy.
    """

    def create(self, storage_start_ms: int) -> str:
        """Makes an empty segment, durable by name, and returns its id; holds nothing yet."""

    def append(self, storage_start_ms: int, segment_id: str, batch: ReportBatch) -> int:
        """Appends one frame and returns the segment's size in bytes once the frame is durable.

        Raises:
            StorageFull: there was no room; the segment is as before.
            KeyUnavailable: the window's key is gone.
        """

    def acknowledge(self, storage_start_ms: int, segment_id: str) -> None:
        """Notes that everything appended so far may be acknowledged: from then on a segment without it is lost, by name.

        To be called before anybody is answered, by an owner that knows that nobody has fenced the segment.

        Raises:
            Failure: it could not be noted; nothing may be acknowledged.
        """

    def close(self, storage_start_ms: int, segment_id: str) -> int:
        """Ends writing and returns how many frames the segment holds."""

    def count_frames(self, storage_start_ms: int, segment_id: str) -> int:
        """How many whole frames a segment holds whose owner died; a torn tail that nobody acknowledged does not count.

        Where the window's key is gone it is more than none, so that `compact` says so of a segment that held anything.

        Raises:
            KeyUnavailable: the window's key is there and cannot be read.
        """

    def holding(self, storage_start_ms: int) -> frozenset[str]:
        """The segments of a storage window that hold anything, whether or not the state store knows of them."""

    def receipt_in(self, storage_start_ms: int, segment_id: str) -> int | None:
        """When some row of a segment was received, open or closed; None where it holds none that can be read.

        One says it of all: no segment holds rows from both sides of a deadline.
        """

    def compact(self, storage_start_ms: int, segment_id: str, frames: int) -> None:
        """Rewrites a closed segment of so many frames into runs by bucket, once; does nothing when that is done.

        Raises:
            SegmentLost: the segment is missing, damaged, or shorter than it was when it was closed, or more of it was
                acknowledged than is said to have been closed.
            KeyUnavailable: the window's key is gone.
        """

    def erase(self, storage_start_ms: int, segment_id: str, frames: int, units: Collection[bytes]) -> None:
        """Compacts a closed segment of so many frames, and removes the rows of some units from it; every other row stays.

        Args:
            storage_start_ms: of its storage window.
            segment_id: which segment.
            frames: as it was closed.
            units: their pseudonyms.

        Raises:
            SegmentLost, KeyUnavailable: as `compact`.
        """

    def rewrite(self, storage_start_ms: int, segments: Mapping[str, int], change: RewriteRows, kept_for: str) -> None:
        """Compacts closed segments, and replaces the rows of those that are not kept for the same already.

        Segments change one after another, each whole or not at all: `change` must allow for a crash in between.

        Args:
            storage_start_ms: of their storage window.
            segments: how many frames each has.
            change: from the rows of one bucket of units, and the number of the segment that each is in, to those rows that
                stay, and which row each was.
            kept_for: what `kept_for` says of them from then on.

        Raises:
            SegmentLost, KeyUnavailable: as `compact`.
        """

    def kept_for(self, storage_start_ms: int, segment_id: str) -> str:
        """What a closed segment was rewritten for; empty where it holds rows as they came, or was not compacted yet."""

    def size_bytes(self, storage_start_ms: int, segment_ids: Sequence[str]) -> int:
        """How much closed segments hold, about; one that is missing holds nothing."""

    def bucket_bits(self, storage_start_ms: int, segment_ids: Sequence[str]) -> int:
        """How finely compacted segments are cut, into 2^k runs by units the finest of them."""

    def read(self, storage_start_ms: int, segment_ids: Sequence[str], bucket: int, bits: int) -> ReportBatch:
        """The rows of one of 2^bits buckets of units: those whose pseudonym's top `bits` bits are `bucket`.

        Any number of bits will do; up to `bucket_bits` no row is read twice.
        """

    def rows_of(self, storage_start_ms: int, segment_id: str, pseudonym: bytes) -> ReportBatch:
        """The rows of one unit in a segment, also in one that is being written; none where it holds no whole frame.

        Raises:
            SegmentLost: the segment is missing or damaged.
            KeyUnavailable: the window's key is gone.
        """

    def reader(self, starts_ms: Sequence[int]) -> IntakeLog:
        """The same log to be sent to another process: it compacts and reads these storage windows, and has no other key."""

    def discard(self, storage_start_ms: int, segment_id: str) -> None:
        """Removes a segment that was created but never registered."""

    def destroy(self, storage_start_ms: int) -> None:
        """Removes every file of a storage window; does nothing when there are none."""

    def storage_windows(self) -> tuple[int, ...]:
        """Starts of the storage windows that have files, in order."""


__all__ = [
    "ConsentStore",
    "CredentialStore",
    "Deployment",
    "Erasure",
    "PlanStore",
    "Registration",
    "Restore",
    "SegmentRecord",
    "StateStore",
    "WindowRecord",
    "WindowStore",
    "WorkerStore",
]
