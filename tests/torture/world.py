"""One deployment under torture: its processes, the clients that report to it, and what must hold afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hushmeter.model.states import WindowState
from hushmeter.patience import PATIENCE_S, comes_true
from hushmeter.sdk import IngestClient
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.processes.supervisor import EXIT_REFUSED, STARTS_MAX
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.ports import free_port
from tests.torture.clients import CLIENTS, SLOTS, Broken, Sender, all_ended, ensure, judge, lay, let_all_agree
from tests.torture.clockwork import Machine, pause
from tests.torture.process import COMMAND, MODULE

ENOUGH = 20
"""Reports of an episode that must have been acknowledged, for it to mean anything."""
ROOT = Path(__file__).parents[2]


class Client(Sender):
    """A client of the kill test that takes breath between messages, so that an episode has reports to its end."""

    def _send(self, client: IngestClient, first_series: int, slots: list[int]) -> None:
        pause(0.02)
        super()._send(client, first_series, slots)


LEFT_CLAIMED = "its claim was left CLAIMED"
"""What the log says of a window that a kill has lost: its noise may have been drawn, and is drawn once."""


@dataclass
class World:
    """One deployment.

    Attributes:
        directory: of its own; `state` in it may be a mount of its own.
        rng: of the episode.
        may_lose: whether windows may end LOST, by name.
        interrupted: windows that a kill lost between claim and noise, which is never drawn again (C7).
    """

    directory: Path
    rng: random.Random
    may_lose: bool = False
    senders: list[Client] = field(default_factory=list)
    untold: set[str] = field(default_factory=set)
    interrupted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = self.directory / "state"
        self.machine = Machine.new(self.directory / "clock")
        self.log, self.told_before = self.directory / "log.txt", 0
        self.port = free_port()
        self.config = Config(
            state_dir=self.state, listen=f"127.0.0.1:{self.port}", metrics="", workers=2, log_format="json"
        )
        self.supervisor: subprocess.Popen[bytes] | None = None
        self._signalled = False

    # Processes.

    def found(self) -> None:
        """Founds the deployment, serves it, and lets every unit agree."""
        lay(self.config, self.machine)
        self.start()
        let_all_agree(self.port, self.machine)

    def start(self) -> None:
        """Starts `hushmeter serve`."""
        command = [*COMMAND, "serve", json.dumps(asdict(self.machine))]
        with self.log.open("ab") as log:
            # Whoever was killed may have left half a line.
            log.write(b"\n")
            log.flush()
            self.told_before = len(self.told())
            self.supervisor = subprocess.Popen(
                [*command, self.config.model_dump_json()], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT
            )

    def told(self) -> list[str]:
        """The lines that the processes have written so far."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def told_since_start(self, word: str) -> list[str]:
        """What followed a word at the beginning of lines that were written since the last start."""
        return [line.removeprefix(word) for line in self.told()[self.told_before :] if line.startswith(word)]

    def children(self) -> dict[int, str]:
        """The supervisor's processes, by number, with their roles."""
        found = {}
        if self.supervisor is not None:
            with contextlib.suppress(OSError):
                listed = Path(f"/proc/{self.supervisor.pid}/task/{self.supervisor.pid}/children").read_text().split()
                for pid in map(int, listed):
                    with contextlib.suppress(OSError, IndexError):
                        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                        if MODULE.encode() in arguments:
                            found[pid] = arguments[arguments.index(MODULE.encode()) + 1].decode()
        return found

    def signal(self, role: str, number: int) -> int | None:
        """Sends a signal to one process of a role, and returns which."""
        everything = self.children() | ({} if self.supervisor is None else {self.supervisor.pid: "serve"})
        pids = [pid for pid, found in everything.items() if found == role]
        if not pids:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid := self.rng.choice(sorted(pids)), number)
            self._signalled = True
            return pid
        return None

    def kill(self, role: str) -> None:
        """Kills one process of a role; of the supervisor the others end by themselves, and it starts again."""
        children = list(self.children())
        if self.signal(role, signal.SIGKILL) is None or role != "serve" or self.supervisor is None:
            return
        self.supervisor.wait()
        for pid in children:
            self.wait_for(lambda pid=pid: not _alive(pid), "a process outlives its supervisor")  # type: ignore[misc]
        self.start()

    def keep_serving(self) -> None:
        """Starts the service again where it gave up, as a process manager does: it does so after `STARTS_MAX` kills.

        Raises:
            Broken: it gave up for another reason.
        """
        if self.supervisor is None or (status := self.supervisor.poll()) is None:
            return
        killed = [line for line in self._said() if line.get("event") == "a process ended while it started"][-STARTS_MAX:]
        given_up = status == EXIT_REFUSED and [line["status"] for line in killed] == [-signal.SIGKILL] * STARTS_MAX
        ensure(given_up, f"the service ended with status {status}, and nobody asked it to")
        self.start()

    def kill_all(self) -> None:
        """Ends every process at once, as a machine that is switched off does."""
        if self.supervisor is None:
            return
        pids = list(self.children())
        self._signalled = True
        # The supervisor first: it must not start anything again.
        self.supervisor.kill()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.supervisor.wait()
        self.supervisor = None
        for pid in pids:
            self.wait_for(lambda pid=pid: not _alive(pid), "a killed process stays")  # type: ignore[misc]

    def stop(self) -> None:
        """Stops it in good order."""
        if self.supervisor is not None:
            self.supervisor.terminate()
            self.supervisor.wait(PATIENCE_S)
            self.supervisor = None

    # Clients.

    def stream(self) -> None:
        """Lets clients report."""
        per_client, seed = SLOTS // CLIENTS, self.rng.randrange(2**32)
        for i in range(CLIENTS):
            slots = range(i * per_client, (i + 1) * per_client)
            self.senders.append(Client(self.port, self.machine, slots, seed + i))
        for sender in self.senders:
            sender.start()

    def acknowledged(self) -> int:
        """How many reports were acknowledged so far."""
        return sum(len(sender.missed) for sender in self.senders)

    def get_enough_through(self) -> None:
        """Waits until so many reports were acknowledged that what became of them means something."""
        self.wait_for(lambda: self.acknowledged() > ENOUGH, "the clients get too little through")

    def end_stream(self) -> None:
        """Lets clients stop."""
        for sender in self.senders:
            sender.stop.set()
        for sender in self.senders:
            sender.join()

    # Afterwards.

    def wait_for(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Waits until something is so."""
        if not comes_true(condition):
            raise Broken(otherwise)

    def settle(self) -> None:
        """Waits until every window of the stream has ended, and judges."""
        until_ms = self.machine.now_ms()
        context = open_context(self.config, self.machine.clock(), ExactMechanisms(), serves=False)
        try:

            def ended() -> bool:
                self.keep_serving()
                return all_ended(context, until_ms)

            self.wait_for(ended, "windows did not end")
            self._judge(context)
        finally:
            context.store.close()

    def _judge(self, context: Context) -> None:
        ensure(self.acknowledged() > ENOUGH, "the clients got too little through to mean anything")
        lost = {record.window for record in context.store.windows([WindowState.LOST])}
        causes = self._causes()
        self.interrupted = sorted(str(window) for window in lost if LEFT_CLAIMED in causes.get(str(window), ""))
        ensure(self._signalled or not self.interrupted, f"a claim was left, and nobody was killed: {self.interrupted}")
        damaged = {window for window in lost if str(window) not in self.interrupted}
        ensure(self.may_lose or not damaged, f"lost without damage: {sorted(map(str, damaged))}")
        for window in damaged:
            said = causes.get(str(window), "")
            ensure("segment " in said or "key " in said, f"{window} is LOST, and the log does not say why: {said!r}")
        judge(context, self.senders, lost)

    def _causes(self) -> dict[str, str]:
        """Why windows were lost, as the log says it."""
        return {line["window"]: line["error"] for line in self._said() if line.get("event") == "a window is lost"}

    def _said(self) -> list[dict[str, Any]]:
        """What the service has logged."""
        return [json.loads(line) for line in self.told() if line.startswith("{")]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
