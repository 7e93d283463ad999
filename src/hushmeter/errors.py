"""Every kind of error of hushmeter; a lawful refusal and a failure never share a type.

`Refusal` is somebody else's: the caller asked for something that may not be had, and the message says what would be.
`Failure` is the world's: a disk, a key, a file. `InvariantError` is ours: a promise between parts of hushmeter was broken.
Messages give the value and the admissible range, and never a unit id, a token or a value of a report.

    HushmeterError
    ├── InvariantError
    ├── Refusal
    │   ├── PlanError
    │   ├── BudgetExhausted
    │   ├── QueryRefused
    │   ├── ConsentRefused
    │   ├── WindowClosed
    │   ├── ConfigError
    │   ├── StateConflict
    │   ├── Overloaded
    │   ├── Unauthenticated
    │   ├── Forbidden
    │   ├── RateLimited
    │   └── MalformedMessage
    └── Failure
        ├── StorageFull
        ├── LeaseLost
        ├── NotServing
        ├── CredentialsUnread
        ├── KeyUnavailable
        │   └── KeyGone
        ├── SegmentLost
        ├── ConsentUnknown
        ├── TooManyPartitions
        ├── LedgerBroken
        ├── ReleaseAltered
        └── WaitedInVain
"""

from __future__ import annotations


class HushmeterError(Exception):
    """Everything that hushmeter raises on purpose."""


class InvariantError(HushmeterError):
    """A promise between two parts of hushmeter was broken: a defect, never the caller's fault."""


class Refusal(HushmeterError):
    """The caller asked for something that may not be had."""


class PlanError(Refusal):
    """The telemetry plan is not valid; the message has one line a problem, each with its path."""


class BudgetExhausted(Refusal):
    """A release would spend more than the period's budget."""


class QueryRefused(Refusal):
    """A question that no lawful combination of releases answers."""


class ConsentRefused(Refusal):
    """A consent decision that cannot be recorded."""


class WindowClosed(Refusal):
    """A segment was asked for in a window whose raw data has already been destroyed."""


class ConfigError(Refusal):
    """The configuration, or the state directory that it names, cannot be used as asked."""


class StateConflict(Refusal):
    """Another process has done this already, or holds what it needs; the state is as that process left it."""


class Overloaded(Refusal):
    """A limit that units share is reached: whichever it is, all get the same text and the same delay (R4)."""

    retry_after_s = 1.0

    def __init__(self) -> None:
        super().__init__("the service takes no more now; try again in a moment")


class Unauthenticated(Refusal):
    """Whoever calls did not prove who they are."""


class Forbidden(Refusal):
    """Whoever calls may not have this."""


class RateLimited(Refusal):
    """One caller sends more than one caller may.

    Args:
        message: what the limit is.
        retry_after_s: when to try again; a constant where the limit is a credential's, through which many units come (R4).
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class MalformedMessage(Refusal):
    """The bytes of a message are not what its schema says, or it is larger than allowed."""


class Failure(HushmeterError):
    """The world failed us: a disk, a key, a file."""


class StorageFull(Failure):
    """The disk is full; nothing was acknowledged, and the caller may try again."""


class LeaseLost(Failure):
    """This worker was paused so long that it was declared dead; what it had not acknowledged must be sent again."""


class NotServing(Failure):
    """Another state of the deployment serves now; this one takes and releases nothing any more."""


class CredentialsUnread(Failure):
    """Who may come in cannot be read at the moment, so nobody is let in."""


class KeyUnavailable(Failure):
    """A key cannot be read: it is gone, this account may not read it, or it is wrapped by another master key."""


class KeyGone(KeyUnavailable):
    """A key is missing, damaged, another one or was destroyed: what it encrypted can never be read again."""


class SegmentLost(Failure):
    """A segment of the intake log that was acknowledged cannot be read any more."""


class ConsentUnknown(Failure):
    """A window's record names fewer decisions than were received before its cut-off; it is not released without them."""


class TooManyPartitions(Failure):
    """A window's open view holds more private partitions than one may; the window is lost by name (P1)."""


class LedgerBroken(Failure):
    """The ledger's hash chain does not hold."""


class ReleaseAltered(Failure):
    """A stored release is missing, or is not the one that the ledger names; nothing of it is served."""


class WaitedInVain(Failure):
    """What a rehearsal waited for did not come."""


def ensure(condition: object, message: str) -> None:
    """Raises `InvariantError(message)` unless the condition holds; unlike `assert`, also under `python -O`."""
    if not condition:
        raise InvariantError(message)
