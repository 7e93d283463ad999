"""One process of `hushmeter serve`: an ingest worker with its server, or the sealer.

It ends in good order at SIGTERM, and when its parent is gone: standard input is a pipe that the parent holds.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable

from hushmeter.clock import Anchor, SystemClock
from hushmeter.errors import HushmeterError, NotServing
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.ports import Clock, Mechanisms
from hushmeter.runtime import collect_seldom, keep_freed, step_back
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.logs import configure_logs
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.door.gate import Gate
from hushmeter.service.door.server import Server
from hushmeter.service.door.tls import read_tls
from hushmeter.service.intake.intake import Intake
from hushmeter.service.processes.supervisor import EXIT_NOT_SERVING, EXIT_REFUSED, READY_LINE
from hushmeter.service.sealer.sealer import Sealer


def child_main(arguments: list[str]) -> int:
    """Runs one role, `worker` or `sealer`, with its parent's `Anchor` and a configuration as JSON; returns the status."""
    role, anchor, config_json = arguments
    clock = SystemClock(anchor=Anchor(**json.loads(anchor)))
    return run_child(role, Config.model_validate_json(config_json), clock, OpenDPMechanisms())


def run_child(role: str, config: Config, clock: Clock, mechanisms: Mechanisms) -> int:
    """Runs one role until it is told to stop; returns the exit status."""
    configure_logs(config.log_format)
    # The parent decides when to stop; a terminal's Ctrl-C reaches the whole group and must not cut a drain short.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        context = open_context(config, clock, mechanisms, serves=False)
        context.ensure_serving()
        meters = Meters(multiprocess=True)
        if role == "sealer":
            _run_sealer(Sealer(context, meters, config.sealers))
        else:
            asyncio.run(_run_worker(context, meters, config))
        # A sealer ends by itself where another state serves, and the supervisor then ends the workers too.
        context.ensure_serving()
    except HushmeterError as error:
        print(f"hushmeter {role}: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return EXIT_NOT_SERVING if isinstance(error, NotServing) else EXIT_REFUSED
    context.store.close()
    return 0


def _run_sealer(sealer: Sealer) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sealer.stop())
    _when_orphaned(sealer.stop)
    step_back()
    _say_ready()
    sealer.run()


async def _run_worker(context: Context, meters: Meters, config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    _when_orphaned(lambda: loop.call_soon_threadsafe(stop.set))
    intake = Intake(context, meters, config.access_rules)
    gate = Gate(context.store, context.clock, meters, config.access_rules)
    server = Server(context, meters, intake, config.listen, gate, read_tls(config, context.clock.now_ms()))
    await intake.start()
    await server.start()
    keep_freed()
    collect_seldom()
    _say_ready()
    await stop.wait()
    await server.stop()
    await intake.stop()


def _say_ready() -> None:
    sys.stdout.write(READY_LINE + "\n")
    sys.stdout.flush()


def _when_orphaned(stop: Callable[[], object]) -> None:
    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        stop()

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


if __name__ == "__main__":
    sys.exit(child_main(sys.argv[1:]))
