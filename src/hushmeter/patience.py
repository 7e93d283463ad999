"""The one way to wait for what another thread or process brings about, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

from hushmeter.errors import WaitedInVain

PATIENCE_S = 900.0
"""How long is waited in all; only what fails waits to the end."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.02


def comes_true(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Waits until a condition holds; says whether it did.

    Args:
        condition: asked again and again, in pauses that grow.
        patience_s: how long all pauses may take; the time that the condition takes is not counted.
    """
    waited_s, pause_s = 0.0, _FIRST_PAUSE_S
    while not condition():
        if waited_s >= patience_s:
            return False
        time.sleep(pause_s)
        waited_s += pause_s
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return True


def await_true(
    condition: Callable[[], bool],
    otherwise: Callable[[], str] = lambda: "waited in vain",
    patience_s: float = PATIENCE_S,
) -> None:
    """Waits until a condition holds.

    Args:
        condition: see `comes_true`.
        otherwise: says what is wrong where it does not.
        patience_s: see `comes_true`.

    Raises:
        WaitedInVain: it did not hold for so long that it never will.
    """
    if not comes_true(condition, patience_s):
        raise WaitedInVain(otherwise())
