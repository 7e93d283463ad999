"""`hushmeter serve`, or one of its processes, with a machine's fast clock and without noise; otherwise the real thing.

Called with `serve`, or a role of a child.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict

from hushmeter import limits
from hushmeter.clock import Anchor
from hushmeter.errors import HushmeterError
from hushmeter.service.deployment.clock_check import ensure_clock
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.logs import configure_logs
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.processes.child import run_child
from hushmeter.service.processes.supervisor import EXIT_REFUSED, Supervisor
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.torture.clockwork import Machine

MODULE = "tests.torture.process"
COMMAND = [sys.executable, "-m", MODULE]
"""Begins a command line; the role follows."""
LEASE_S = 2.0
REFUSED, SERVES = "refused: ", "serves: "
"""How lines begin that say that a start was refused, and that everything serves."""


class FastSupervisor(Supervisor):
    """A supervisor whose processes live on a machine's fast clock."""

    machine: Machine

    def _spawn(self, role: str) -> subprocess.Popen[str]:
        anchor, machine = json.dumps(asdict(self._clock.anchor())), json.dumps(asdict(self.machine))
        return subprocess.Popen(
            [*COMMAND, role, machine, anchor, self._config.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": self._meters_dir.name},
        )


def serve(machine: Machine, config: Config) -> int:
    """As `hushmeter serve` does it."""
    configure_logs(config.log_format)
    clock = machine.clock()
    try:
        context = open_context(config, clock, ExactMechanisms())
        ensure_clock(context, confirmed=False)
        context.store.close()
        supervisor = FastSupervisor(config, clock, lambda address: announce(f"{SERVES}{address}"))
        supervisor.machine = machine
        return supervisor.run()
    except HushmeterError as error:
        announce(f"{REFUSED}{error}")
        return EXIT_REFUSED


def announce(line: str) -> None:
    """Writes a line at once."""
    sys.stderr.write(f"{line}\n")


def main(role: str, machine_json: str, *rest: str) -> int:
    """Runs one process."""
    limits.LEASE_S, limits.BEAT_S = LEASE_S, LEASE_S / 5
    machine = Machine(**json.loads(machine_json))
    config = Config.model_validate_json(rest[-1])
    if role == "serve":
        return serve(machine, config)
    return run_child(role, config, machine.clock(Anchor(**json.loads(rest[0]))), ExactMechanisms())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
