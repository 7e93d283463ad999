"""One process at a time serves a state directory: a lock that the kernel gives back when its holder ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from hushmeter.errors import StateConflict

LOCK_NAME = "serve.lock"


def take_lock(state_dir: Path) -> IO[str]:
    """Takes the state directory's lock, which the kernel gives back when the process ends, however it ends.

    Raises:
        StateConflict: another process serves this state.
    """
    file = (state_dir / LOCK_NAME).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise StateConflict(
            f"another process (pid {owner}) serves {state_dir}; stop it first, or choose another state_dir"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
