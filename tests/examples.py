"""How many examples property tests draw: few by default, and `make test-deep` draws many.

The environment names the profile. Where `CI` is set, every quick run draws the same examples, so that a change is judged by
itself.
"""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, settings

PROFILE: Final = "HUSHMETER_EXAMPLES"
"""The environment variable: `quick` or `deep`."""
DEEP: Final = 10
"""A deep run draws this many times the examples of a quick one."""
_BY_DEFAULT: Final = 150

_times = {"quick": 1, "deep": DEEP}[os.environ.get(PROFILE, "quick")]


def load_profile() -> None:
    """Registers the three profiles, and loads the one that the environment names."""
    quick = settings(deadline=None, max_examples=_BY_DEFAULT, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("quick", parent=quick)
    settings.register_profile("ci", parent=quick, derandomize=True)
    settings.register_profile("deep", parent=quick, max_examples=DEEP * _BY_DEFAULT)
    settings.load_profile("deep" if _times == DEEP else "ci" if os.environ.get("CI") else "quick")


def examples(count: int) -> settings:
    """A property's own number of examples in a quick run: `@examples(400)`."""
    return settings(max_examples=_times * count)
