"""A real server on a state that is there already, whose clock stands: `python -m benchmarks.releasing.server STATE NOW_MS`.

Prints its `host:port`, and ends when its standard input does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hushmeter.clock import ReplayClock
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.rehearsal.service import RehearsedService
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.opening import open_context


def main(state: str, now_ms: str) -> None:
    """Serves until standard input ends."""
    clock = ReplayClock(int(now_ms))
    context = open_context(Config(state_dir=Path(state)), clock, OpenDPMechanisms())
    with RehearsedService(context, clock) as service:
        print(service.target, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
