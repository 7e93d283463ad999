"""What a change of plan is, in words: what it concerns and when it may take effect (C3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class When(StrEnum):
    """From when on a change may be in force, soonest first."""

    AT_ONCE = "at once"
    NEXT_WINDOW = "next window"
    NEXT_PERIOD = "next period"
    NEVER = "new deployment"


class Concern(StrEnum):
    """What a change is about."""

    DATA = "data"
    """More is collected, of more, or for longer."""
    PURPOSE = "purpose"
    RETENTION = "retention"
    """Raw data is kept longer."""
    BUDGET = "budget"
    """More may be learnt about each unit."""
    STOP = "stop"
    """Something is collected no more."""
    RELEASE = "release"
    """What analysts get, and how exact it is."""
    TEXT = "text"
    DEPLOYMENT = "deployment"
    """Something that a deployment keeps for ever."""


FOR_PEOPLE = frozenset({Concern.DATA, Concern.PURPOSE, Concern.RETENTION, Concern.BUDGET, Concern.STOP})
"""What the people whose data it is should hear of; the rest is for analysts."""


@dataclass(frozen=True, slots=True)
class PlanChange:
    """One thing that a plan says otherwise than another.

    Attributes:
        path: in the plan file.
        text: what changes, in plain words.
        concern: what it is about.
        when: from when on it may be in force.
    """

    path: str
    text: str
    concern: Concern
    when: When = When.NEXT_PERIOD
