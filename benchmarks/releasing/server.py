"""A real server on a state that is there already, whose clock stands: `python -m benchmarks.releasing.server STATE NOW_MS`.

Prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hushmeter.clock import ReplayClock
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.processes.embedded import serving


def main(state: str, now_ms: str) -> None:
    """Serves until standard input ends."""
    context = open_context(Config(state_dir=Path(state)), ReplayClock(int(now_ms)), OpenDPMechanisms())
    with serving(context) as port:
        print(port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
