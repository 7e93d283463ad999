"""How long tests wait: for what comes, however busy the machine is. Only a test that fails waits to the end."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hushmeter.testing.patience import PATIENCE_S

_STEP_S = 0.01


def comes_true(condition: Callable[[], bool]) -> bool:
    """Waits until a condition holds that another thread or process brings about."""
    for _ in range(int(PATIENCE_S / _STEP_S)):
        if condition():
            return True
        threading.Event().wait(_STEP_S)
    return False
