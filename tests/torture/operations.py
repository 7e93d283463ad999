"""What is done to a deployment, as data: an episode is a kind and a seed, and the same ones are the same operations."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hushmeter.service.processes.supervisor import EXIT_REFUSED
from tests.torture.clients import Broken
from tests.torture.clockwork import pause
from tests.torture.process import REFUSED, SERVES
from tests.torture.world import World

ROLES = ("worker", "worker", "worker", "sealer", "sealer", "serve")
LATE_S = 2.5
"""Longer than a lease: a process that stands still for so long is declared dead, or finds others dead."""
DAY_MS = 86_400_000
CLAIM_BYTES = 104
DISK_BYTES = 24 * 2**20


@dataclass(frozen=True)
class Operation:
    """One thing that is done to a running service.

    Attributes:
        after_s: how long after the one before.
        what: `kill`, `stop`, `fill` or `clock`.
        role: of the process that it is done to; `serve` is the supervisor.
        amount: seconds of a stop, bytes that are left on a full disk, or milliseconds of a clock.
    """

    after_s: float
    what: str
    role: str = ""
    amount: float = 0.0

    def __str__(self) -> str:
        return f"{self.what} {self.role}".strip() + (f" {self.amount:g}" if self.amount else "")


def kills(rng: random.Random, count: int) -> list[Operation]:
    """Kills and stops of workers and sealer at random moments."""
    found = []
    for _ in range(count):
        role, after = rng.choice(ROLES), rng.uniform(0.3, 2.0)
        if rng.random() < 0.2:
            found.append(Operation(after, "stop", role, round(rng.choice([0.3, 1.0, LATE_S]), 1)))
        else:
            found.append(Operation(after, "kill", role))
    return found


def fills(rng: random.Random, count: int) -> list[Operation]:
    """Disks that run full, with more or less room left."""
    return [Operation(rng.uniform(0.5, 2.0), "fill", "", rng.choice([0, 4_096, 65_536, 300_000])) for _ in range(count)]


def clocks(rng: random.Random, count: int) -> list[Operation]:
    """Clocks that are set back by an hour or ahead by a day, and right again before that is believed."""
    return [Operation(rng.uniform(0.5, 1.5), "clock", "", rng.choice([-3_600_000, DAY_MS])) for _ in range(count)]


def run(world: World, operations: list[Operation]) -> None:
    """Does operations, one after another."""
    for operation in operations:
        pause(operation.after_s)
        world.keep_serving()
        match operation.what:
            case "kill":
                world.kill(operation.role)
            case "stop":
                pid = world.signal(operation.role, signal.SIGSTOP)
                pause(operation.amount)
                if pid is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
            case "fill":
                filler = world.state / "filler"
                _fill(filler, int(operation.amount))
                pause(1.0)
                filler.unlink()
            case "clock":
                world.machine.set_wrong_by(int(operation.amount))
                pause(0.5)
                world.machine.set_wrong_by(0)


def _fill(path: Path, left: int) -> None:
    room = os.statvfs(path.parent)
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        file.write(b"\1" * max(0, room.f_bavail * room.f_frsize - left))


# Damage, to a service that was ended as a machine that is switched off ends it.


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << at % 8
    path.write_bytes(content)


def _frames(content: bytes) -> list[int]:
    """Where the length of each frame stands in a file of frames."""
    at, found = content.index(b"\n") + 1 + CLAIM_BYTES, []
    while at + 4 <= len(content):
        found.append(at)
        at += 4 + int.from_bytes(content[at : at + 4], "little")
    return found


def _cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def _sql(statement: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute(statement)

    return change


_NEWEST = "(SELECT sequence FROM segments ORDER BY closed, sequence DESC LIMIT 1)"

DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a bit of the last frame": ("frames", lambda p: _flip(p, p.stat().st_size - 40)),
    "the last frame's length": ("frames", lambda p: _flip(p, _frames(p.read_bytes())[-1])),
    "the top of that length": ("frames", lambda p: _flip(p, _frames(p.read_bytes())[-1] + 3)),
    "a cut in the last frame": ("frames", lambda p: _cut(p, p.stat().st_size - 40)),
    "a cut at its border": ("frames", lambda p: _cut(p, _frames(p.read_bytes())[-1])),
    "frames that a sync lied about": (
        "frames",
        lambda p: _cut(p, _frames(p.read_bytes())[len(_frames(p.read_bytes())) // 2]),
    ),
    "a bit of the first frame": ("frames", lambda p: _flip(p, _frames(p.read_bytes())[0] + 30)),
    "the first frame's length": ("frames", lambda p: _flip(p, _frames(p.read_bytes())[0] + 1)),
    "one copy of the claim": ("frames", lambda p: _flip(p, p.read_bytes().index(b"\n") + 9)),
    "the other copy of the claim": ("frames", lambda p: _flip(p, p.read_bytes().index(b"\n") + 99)),
    "the header line of frames": ("frames", lambda p: _flip(p, 13)),
    "a file of frames": ("frames", lambda p: p.unlink()),
    "the header line of runs": ("runs", lambda p: _flip(p, 13)),
    "a run": ("runs", lambda p: _flip(p, p.read_bytes().index(b"\n") + 40)),
    "the footer of runs": ("runs", lambda p: _flip(p, p.stat().st_size - 30)),
    "the length of the footer": ("runs", lambda p: _flip(p, p.stat().st_size - 4)),
    "a cut in the runs": ("runs", lambda p: _cut(p, p.stat().st_size // 2)),
    "a file of runs": ("runs", lambda p: p.unlink()),
    "an hour's key": ("data", lambda p: p.unlink()),
    "a bit of an hour's key": ("data", lambda p: _flip(p, 20)),
    "half of an hour's key": ("data", lambda p: _cut(p, 30)),
    "the period's key": ("period", lambda p: p.unlink()),
    "a bit of the period's key": ("period", lambda p: _flip(p, 3)),
    "the deployment's key": ("deployment", lambda p: p.unlink()),
    "a bit of the deployment's key": ("deployment", lambda p: _flip(p, 50)),
    "the key ring's check": ("check", lambda p: _flip(p, 5)),
    "the check's file": ("check", lambda p: p.unlink()),
    "the ledger's mark": ("ledger", lambda p: _flip(p, 5)),
    "the master key": ("master", lambda p: _flip(p, 1)),
    "a registration": ("database", _sql(f"DELETE FROM segments WHERE sequence = {_NEWEST}")),  # noqa: S608
    "all registrations": ("database", _sql("DELETE FROM segments")),
    "frames in the database": (
        "database",
        _sql(f"UPDATE segments SET closed = 1, frames = 1 WHERE sequence = {_NEWEST}"),  # noqa: S608
    ),
    "no frame in the database": (
        "database",
        _sql(f"UPDATE segments SET closed = 1, frames = 0 WHERE sequence = {_NEWEST}"),  # noqa: S608
    ),
    "the write-ahead log": ("wal", lambda p: p.unlink()),
    "the keys that the database knows": (
        "database",
        _sql("UPDATE known_keys SET fingerprint = x'00' WHERE name LIKE 'data/%'"),
    ),
    "a day ahead": ("clock", lambda _: None),
    "an hour behind": ("clock", lambda _: None),
}
HARMLESS = ("one copy of the claim", "the other copy of the claim")


def targets(world: World, kind: str) -> list[Path]:
    """The files of a kind that are worth damaging; of frames and runs those that hold something."""
    keys = world.config.keys
    places = {
        "frames": lambda: [p for p in (world.state / "log").rglob("*.frames") if _holds(p)],
        "runs": lambda: list((world.state / "log").rglob("*.runs")),
        "data": lambda: [p for p in (keys / "data").glob("*.key") if list((world.state / "log" / p.stem).glob("*.frames"))],
        "period": lambda: list((keys / "period").glob("*.key")),
        "deployment": lambda: [keys / "deployment.key"],
        "check": lambda: [keys / "check"],
        "ledger": lambda: [keys / "ledger"],
        "master": lambda: [keys / "master.key"],
        "database": lambda: [world.state / "state.db"],
        "wal": lambda: [world.state / "state.db-wal"],
        "clock": lambda: [Path(world.machine.path)],
    }
    return sorted(p for p in places[kind]() if p.exists())


def _holds(path: Path) -> bool:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        # The service has removed it meanwhile.
        return False
    frames = _frames(content)
    # Of a frame that the kill has torn nothing was promised.
    return bool(frames) and frames[-1] + 4 + int.from_bytes(content[frames[-1] : frames[-1] + 4], "little") == len(content)


def damage(world: World, name: str) -> str:
    """Switches a serving deployment off, damages it, switches it on again; returns what came of it.

    Where the start is refused, the damage is mended, and nothing at all may be lost.
    """
    kind, hit = DAMAGES[name]
    for _ in range(10):
        # Runs and open segments with something in them come and go.
        world.wait_for(lambda: bool(targets(world, kind)), f"there is nothing to damage: {name}")
        world.kill_all()
        if found := targets(world, kind):
            path = world.rng.choice(found)
            break
        world.start()
    else:
        raise Broken(f"there was nothing to damage: {name}")
    before = {p: p.read_bytes() for p in _beside(path)}
    if kind == "clock":
        world.machine.set_wrong_by({"a day ahead": DAY_MS, "an hour behind": -3_600_000}[name])
    else:
        hit(path)
    world.may_lose = name not in HARMLESS
    world.start()
    refused = _refusal(world)
    if refused is None:
        if kind == "clock":
            raise Broken(f"a start with a clock {name} was not refused")
        return "served"
    for p in _beside(path):
        p.unlink()
    for p, content in before.items():
        p.touch(0o600)
        p.write_bytes(content)
    world.machine.set_wrong_by(0)
    world.may_lose = False
    world.start()
    return f"refused: {refused}"


def _beside(path: Path) -> list[Path]:
    """The file, and of the database all that belongs to it."""
    together = path.parent.glob("state.db*") if path.name.startswith("state.db") else [path]
    return [p for p in together if p.exists()]


def _refusal(world: World) -> str | None:
    """What a start says that is refused; None where it serves."""
    process = world.supervisor
    if process is None:
        raise Broken("nothing was started")
    world.wait_for(
        lambda: process.poll() is not None or bool(world.told_since_start(SERVES)), "a start neither serves nor is refused"
    )
    status = process.poll()
    if status is None:
        return None
    said = world.told_since_start(REFUSED)
    if status != EXIT_REFUSED or not said:
        raise Broken(f"a start ended with {status} and does not say why")
    return said[-1]


def mount(directory: Path) -> bool:
    """Mounts a small file system at a directory, where this machine lets us."""
    directory.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(directory)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def unmount(directory: Path) -> None:
    """Gives it back."""
    subprocess.run(["umount", "-l", str(directory)], capture_output=True, check=False)
