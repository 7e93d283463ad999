"""What the state store knows of deployments, segments and windows."""

from __future__ import annotations

from dataclasses import dataclass

from hushmeter.model.ledger import LedgerMark, PrivacyBudget
from hushmeter.model.states import WindowState
from hushmeter.model.time import Window


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """One segment as the state store knows it.

    Attributes:
        sequence: order of registration, from 1.
        segment_id: its name in the intake log, 32 hexadecimal digits.
        worker_id: who may write it.
        storage_start_ms: start of its storage window.
        resolutions: of the release windows that it may hold rows of: those whose deadline had not passed when its owner
            registered it.
        closed: whether its frames are final (closed by its owner, or fenced by the sealer).
        frames: how many frames are final; 0 until it is closed.
    """

    sequence: int
    segment_id: str
    worker_id: str
    storage_start_ms: int
    resolutions: frozenset[str]
    closed: bool
    frames: int


@dataclass(frozen=True, slots=True)
class Decided:
    """How far units have decided, as of one moment.

    Attributes:
        newest: number of the newest decision; 0 where there is none.
        erasing_through: the newest segment that an erasure asks for which is not done; 0 where there is none. The owner of
            an open segment up to it closes that segment.
    """

    newest: int
    erasing_through: int


@dataclass(frozen=True, slots=True)
class Erasure:
    """One unit's rows that are to be removed, and are not all removed yet (R3).

    Attributes:
        number: order of recording, from 1.
        subject: 16 bytes (P3).
        at_ms: the server's receipt.
        last_segment: the newest segment that was registered when the erasure was recorded. The unit's rows in segments up
            to it are removed. Its rows in later segments stay: the unit had given consent anew before they were taken.
    """

    number: int
    subject: bytes
    at_ms: int
    last_segment: int


@dataclass(frozen=True, slots=True)
class Approval:
    """A named person's word for one version of a plan.

    Attributes:
        name: whose.
        public_key: 32 bytes, Ed25519.
        signature: 64 bytes, over what `hushmeter.plan.approving` states.
    """

    name: str
    public_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class PlanVersion:
    """One version of a deployment's plan, recorded for good.

    Attributes:
        version: from 1; later versions have higher numbers.
        plan_hash: hexadecimal.
        plan_text: YAML, as it was read.
        budget: of one period.
        recorded_at_ms: when it was recorded.
        active_from_ms: windows that start from then on are its own, unless a later version has taken their time.
        stops_from_ms: from then on a metric is collected no more that this version removes, or lets expire earlier; where
            this version lets it expire at a later moment, from that moment on (C3).
        approvals: in the order in which they were given.
    """

    version: int
    plan_hash: str
    plan_text: str
    budget: PrivacyBudget
    recorded_at_ms: int
    active_from_ms: int
    stops_from_ms: int
    approvals: tuple[Approval, ...] = ()


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a state store was founded with.

    Attributes:
        deployment_id: 32 hexadecimal digits.
        created_at_ms: windows that end before are not scheduled.
        plan_version, plan_hash: of the first plan; later ones are `PlanVersion`s.
        plan_text: YAML text of the first plan, as it was read.
        budget: of one period of the first plan.
    """

    deployment_id: str
    created_at_ms: int
    plan_version: int
    plan_hash: str
    plan_text: str
    budget: PrivacyBudget


@dataclass(frozen=True, slots=True)
class Registration:
    """An answer to `register_segment`.

    Attributes:
        segment: the record.
        closed_windows: (resolution, start) of release windows over the storage window that no longer take rows: what
            this segment holds is too late for them, whatever a clock says.
    """

    segment: SegmentRecord
    closed_windows: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class WindowRecord:
    """One release window as the state store knows it.

    Attributes:
        window: which.
        state: never OPEN: open windows have no record.
        last_segment: segments registered up to this sequence number may hold rows of the window; later ones may not.
        decisions_through: number of the newest decision that was received before the window's cut-off. Every attempt to
            seal the window folds the decisions up to this one into its consent (P8).
    """

    window: Window
    state: WindowState
    last_segment: int
    decisions_through: int


@dataclass(frozen=True, slots=True)
class Restore:
    """A store that was taken up again from a backup (C6).

    Attributes:
        at_ms: when. Windows that ended before and were not released in the backup are LOST; metrics of bounded
            participation are not released any more in the period that holds this moment.
        ledger_sequence: of the newest ledger entry in the backup.
        published: the newest ledger entry that the keys had seen published; None where the keys were lost too. Entries
            after `ledger_sequence` and up to this one are not in the ledger any more.
    """

    at_ms: int
    ledger_sequence: int
    published: LedgerMark | None


def grain(size_bytes: int, target_bytes: int, most: int) -> int:
    """Into 2^how many parts something is cut, so that a part is no larger than a target; 2^most at most."""
    return min(most, max(0, -(-size_bytes // target_bytes) - 1).bit_length())
