"""The whole service under kills, pauses, full disks, damage and wrong clocks: real processes, a clock that runs fast.

`python -m tests.torture` does episodes until so many kills, damages and full disks are done, and a line that sums them up.

Every episode prints its name, `kind:seed`; `--episode kind:seed` does one again.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.torture import operations as ops
from tests.torture.clockwork import pause
from tests.torture.world import World

KILLS_PER_EPISODE = 12
FULL_PER_EPISODE = 5
CLOCKS_PER_EPISODE = 4
KINDS = ("kill", "full", "clock", *(f"damage/{name}" for name in ops.DAMAGES))


class Skipped(Exception):
    """An episode that this machine does not allow; the text says why."""


def episode(kind: str, seed: int, count: int, directory: Path) -> str:
    """One deployment from its foundation to the judgement; returns what happened.

    Args:
        kind: one of `KINDS`.
        seed: decides everything but the scheduling of processes.
        count: of operations.
        directory: an empty one.

    Raises:
        Broken: a promise did not hold.
        Skipped: this machine does not allow it.
    """
    rng = random.Random(f"{kind}:{seed}")
    world = World(directory, rng)
    mounted = kind == "full" and ops.mount(world.state)
    if kind == "full" and not mounted:
        raise Skipped("mounting is not permitted here")
    try:
        world.found()
        world.stream()
        if kind.startswith("damage/"):
            pause(rng.uniform(3.0, 6.0))
            said = ops.damage(world, kind.removeprefix("damage/"))
            pause(3.0)
        else:
            done = {"kill": ops.kills, "full": ops.fills, "clock": ops.clocks}[kind](rng, count)
            ops.run(world, done)
            said = ", ".join(map(str, done))
        world.get_enough_through()
        world.end_stream()
        world.settle()
        lost = f", lost between claim and noise: {', '.join(world.interrupted)}" if world.interrupted else ""
        return f"{said}; {world.acknowledged()} acknowledged{lost}"
    finally:
        world.end_stream()
        world.kill_all()
        if mounted:
            ops.unmount(world.state)


def planned(seed: int, kills: int, damages: int, full_disks: int, clocks: int) -> Iterator[tuple[str, int, int]]:
    """Episodes with kind, seed and count of operations."""
    for kind, total, each in (("kill", kills, KILLS_PER_EPISODE), ("full", full_disks, FULL_PER_EPISODE)):
        for number, begun in enumerate(range(0, total, each)):
            yield kind, seed + number, min(each, total - begun)
    for number, begun in enumerate(range(0, clocks, CLOCKS_PER_EPISODE)):
        yield "clock", seed + number, min(CLOCKS_PER_EPISODE, clocks - begun)
    names = list(ops.DAMAGES)
    for number in range(damages):
        yield f"damage/{names[number % len(names)]}", seed + number // len(names), 1


def tell(line: str) -> None:
    """Says how far it is."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Runs what is asked for; returns the number of failures, at most 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    for name, default in (("kills", 200), ("damages", 60), ("full-disks", 20), ("clocks", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--episode", metavar="KIND:SEED", help="one episode again")
    asked = parser.parse_args(arguments)
    plan = list(planned(asked.seed, asked.kills, asked.damages, asked.full_disks, asked.clocks))
    if asked.episode:
        kind, _, seed = asked.episode.rpartition(":")
        counts = {"kill": KILLS_PER_EPISODE, "full": FULL_PER_EPISODE, "clock": CLOCKS_PER_EPISODE}
        plan = [(kind, int(seed), counts.get(kind, 1))]
    done, skipped, failed = Counter[str](), Counter[str](), list[str]()
    for number, (kind, seed, count) in enumerate(plan, 1):
        directory = Path(tempfile.mkdtemp(prefix="hushmeter-torture-"))
        name = f"{kind}:{seed}"
        try:
            said = episode(kind, seed, count, directory)
            done[kind.split("/")[0]] += count
        except Skipped as reason:
            skipped[kind] += count
            said = f"skipped: {reason}"
        except Exception as error:
            failed.append(name)
            said = f"FAILED: {error} (kept: {directory})\n{traceback.format_exc()}"
        tell(f"{number}/{len(plan)} {name}: {said}")
        if name not in failed:
            with contextlib.suppress(OSError):
                shutil.rmtree(directory)
    left = "".join(f", {count} of {kind} skipped" for kind, count in skipped.items())
    tell(
        f"seed {asked.seed}: {done['kill']} kills and stops, {done['damage']} damages, {done['full']} full disks, "
        f"{done['clock']} clock steps{left}; {len(failed)} failures {' '.join(failed)}"
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
