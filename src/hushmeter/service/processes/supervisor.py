"""`hushmeter serve`: N ingest workers on one port and one sealer, each a process, watched and restarted.

Whoever runs the supervisor holds the state directory's lock and has begun the state's epoch before any child starts. The
supervisor holds the port, and never imports gRPC itself.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import structlog

from hushmeter.clock import SystemClock
from hushmeter.errors import ConfigError
from hushmeter.service.deployment.config import Config, split_address
from hushmeter.service.deployment.serving_times import Presence
from hushmeter.storage.state.store import SqlStateStore

READY_LINE = "ready"
EXIT_REFUSED = 2
EXIT_NOT_SERVING = 3
"""Of a process whose state does not serve any more, because another one does: all processes stop."""
RESTART_PAUSE_S = 1.0
START_TIMEOUT_S = 60.0
STARTS_MAX = 3
"""How often a process is started that ends before it serves, each time for no reason that it gives."""
STOP_TIMEOUT_S = 30.0


@dataclass(slots=True)
class _Child:
    name: str
    role: str
    process: subprocess.Popen[str]
    serves: bool = False
    restart_at_s: float | None = None


class Supervisor:
    """Runs the processes of a deployment until it is told to stop.

    Args:
        config: the configuration; its state serves already, and its lock is held.
        clock: time; its processes begin with what it believes, whenever they are started.
        announce: called once with the address when everything serves.
    """

    def __init__(self, config: Config, clock: SystemClock, announce: Callable[[str], None]) -> None:
        self._clock = clock
        self._announce = announce
        self._stopped = threading.Event()
        self._children: list[_Child] = []
        self._status = 0
        self._log = structlog.get_logger("hushmeter.serve")
        self._store = SqlStateStore.open(config.database_url)
        self._presence = Presence(self._store, clock)
        self._port_socket = take_port(config.listen)
        host, _ = split_address(config.listen)
        port = self._port_socket.getsockname()[1]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._config = config.model_copy(update={"listen": self.address})
        self._meters_dir = tempfile.TemporaryDirectory(prefix="hushmeter-meters-")

    def run(self) -> int:
        """Serves until SIGTERM or SIGINT; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        try:
            # A window that is sealed before a worker is up must not take an outage for serving (R1).
            self._store.end_servings_left(self._clock.now_ms())
            roles = [("sealer", "sealer"), *((f"worker-{i}", "worker") for i in range(self._config.workers))]
            self._children = [_Child(name, role, self._spawn(role)) for name, role in roles]
            for child in self._children:
                if not self._await_ready(child):
                    self._log.error("did not start", process=child.name)
                    return EXIT_REFUSED
            stop_metrics = _serve_metrics(self._config.metrics, Path(self._meters_dir.name))
            self._announce(self.address)
            while not self._stopped.is_set():
                self._watch()
            stop_metrics()
            return self._status
        finally:
            self._end_children()
            self.close()

    def close(self) -> None:
        """Gives back port and state."""
        self._meters_dir.cleanup()
        self._port_socket.close()
        self._store.close()

    def _spawn(self, role: str) -> subprocess.Popen[str]:
        environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": self._meters_dir.name}
        return subprocess.Popen(  # noqa: S603
            [
                sys.executable,
                "-m",
                "hushmeter.service.processes.child",
                role,
                json.dumps(asdict(self._clock.anchor())),
                self._config.model_dump_json(),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def _await_ready(self, child: _Child) -> bool:
        """Whether the child said that it serves; one that was killed while it started is started again."""
        for attempt in range(1, STARTS_MAX + 1):
            if self._is_ready(child, START_TIMEOUT_S):
                return True
            status = child.process.poll()
            if status in (None, EXIT_REFUSED, EXIT_NOT_SERVING) or self._stopped.is_set():
                return False
            self._log.error("a process ended while it started", process=child.name, status=status)
            if attempt < STARTS_MAX:
                self._start_again(child)
        return False

    def _is_ready(self, child: _Child, timeout_s: float) -> bool:
        """Whether a child has said that it serves; waits for it no longer than that."""
        if child.process.stdout is None:
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(child.process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                return False
        if child.process.stdout.readline().strip() != READY_LINE:
            # Its end is told by its pipe a moment before it can be seen.
            child.process.wait(STOP_TIMEOUT_S)
            return False
        child.serves = True
        if child.role == "worker":
            self._presence.up(child.name)
        return True

    def _watch(self) -> None:
        """Waits a little, and starts anew what has ended by itself."""
        self._stopped.wait(RESTART_PAUSE_S / 4)
        # It is asked all the time, so that it notices when the wall clock is set.
        self._clock.now_ms()
        now = self._clock.monotonic_s()
        for child in self._children:
            status = child.process.poll()
            if self._stopped.is_set():
                break
            if status is None:
                if not child.serves:
                    self._is_ready(child, 0)
            elif status == EXIT_NOT_SERVING:
                self._log.error("another state of this deployment serves; stopping", process=child.name)
                self._status = EXIT_REFUSED
                self._stopped.set()
            elif child.restart_at_s is None:
                self._log.error("a process ended; starting it again", process=child.name, status=status)
                child.serves, child.restart_at_s = False, now + RESTART_PAUSE_S
                self._presence.down(child.name)
            elif now >= child.restart_at_s:
                child.restart_at_s = None
                self._start_again(child)
        self._presence.tick()

    def _start_again(self, child: _Child) -> None:
        _close_pipes(child.process)
        child.process = self._spawn(child.role)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopped.set()

    def _end_children(self) -> None:
        """Workers first, so that the sealer can still see their segments close; then the sealer."""
        for role in ("worker", "sealer"):
            ending = [c.process for c in self._children if c.role == role]
            for process in ending:
                if process.poll() is None:
                    process.terminate()
            for process in ending:
                try:
                    process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                _close_pipes(process)
            for child in self._children:
                if child.role == role:
                    self._presence.down(child.name)


def _close_pipes(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def take_port(listen: str) -> socket.socket:
    """Binds the address with SO_REUSEPORT and never listens: the workers share it, and nobody else takes it.

    Raises:
        ConfigError: the address is not of this machine, or somebody listens there, another hushmeter included.
    """
    host, port = split_address(listen)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Without SO_REUSEPORT first: with it, two services would share a port, and each would get half of the reports.
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            address = probe.getsockname()
        holder = socket.socket(family, kind, protocol)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(address)
    except OSError as error:
        raise ConfigError(f"cannot listen on {listen}: {error.strerror}; choose another address") from None
    return holder


def _serve_metrics(address: str, directory: Path) -> Callable[[], None]:
    """Serves the sum of all processes' operators' metrics, and returns how to stop."""
    if not address:
        return lambda: None
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.multiprocess import MultiProcessCollector

    host, port = split_address(address)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise ConfigError(f"cannot serve metrics on {address}: {error.strerror}; choose another with --metrics") from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
