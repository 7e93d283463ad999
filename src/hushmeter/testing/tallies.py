"""The tally of nobody, for tests of what comes after sealing."""

from __future__ import annotations

from hushmeter.model.plan import Plan
from hushmeter.model.tally import Tally
from hushmeter.model.time import Window
from hushmeter.sealing.views import ViewSums


def empty_tally(plan: Plan, window: Window) -> Tally:
    """The tally of nobody: zeros for every public vector that a window of this resolution releases (T3)."""
    return ViewSums(plan, window).tally()
