"""How many examples property tests draw: `make test` some, `make test-deep` many, and `make mutants` few for each mutant.

The environment names the profile. Where `CI` is set, every quick run draws the same examples, so that a change is judged by
itself.
"""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, Phase, settings

PROFILE: Final = "HUSHMETER_EXAMPLES"
"""The environment variable: `quick`, `deep` or `few`."""
DEEP: Final = 10
"""A deep run draws this many times the examples of a quick one."""
FEW: Final = 0.1
"""A mutant is tried with this part of them, and the first example that fails is enough: none is made smaller."""
_BY_DEFAULT: Final = 150

_profile = os.environ.get(PROFILE, "quick")
_times = {"quick": 1, "deep": DEEP, "few": FEW}[_profile]


def load_profile() -> None:
    """Registers the four profiles, and loads the one that the environment names."""
    quick = settings(deadline=None, max_examples=_BY_DEFAULT, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("quick", parent=quick)
    settings.register_profile("ci", parent=quick, derandomize=True)
    settings.register_profile("deep", parent=quick, max_examples=DEEP * _BY_DEFAULT)
    some = round(FEW * _BY_DEFAULT)
    settings.register_profile(
        "few", parent=quick, derandomize=True, max_examples=some, phases=[Phase.explicit, Phase.generate]
    )
    settings.load_profile("ci" if _profile == "quick" and os.environ.get("CI") else _profile)


def examples(count: int) -> settings:
    """A property's own number of examples in a quick run: `@examples(400)`."""
    return settings(max_examples=max(1, round(_times * count)))
