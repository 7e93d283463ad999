"""Runs every benchmark, one after another, each in a process of its own, and tells its ratios beside their goals.

    python -m benchmarks [--out DIR] [--quick] [NAME ...]

Ends with 1 where a benchmark failed, or a ratio is beyond what passes (see `Goal`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.report import Goal

NAMES = ("seal", "scale", "ingest", "release", "consent", "erasure", "utility")


def main(arguments: Sequence[str]) -> int:
    """Runs what is named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all where none is named")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"), metavar="DIR", help="where reports go")
    parser.add_argument("--quick", action="store_true", help="smaller workloads, fewer rounds")
    options = parser.parse_args(arguments)
    names = options.names or NAMES
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"{', '.join(unknown)}: no such benchmark; there are {', '.join(NAMES)}")
    failed, lines = False, list[str]()
    begun = time.monotonic()
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {name}, {time.monotonic() - begun:.0f} s so far", flush=True)
        path = options.out / f"{name}.json"
        path.unlink(missing_ok=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(path), *["--quick"] * options.quick]
        if subprocess.run(command, check=False).returncode or not path.exists():
            failed = True
            lines.append(f"{name:9} did not end well")
        if path.exists():
            lines += _told(name, json.loads(path.read_text(encoding="utf-8"))["ratios"])
    print(f"\n{len(names)} benchmarks in {time.monotonic() - begun:.0f} s")
    print("\n".join(lines))
    return int(failed)


def _told(name: str, ratios: dict[str, Any]) -> list[str]:
    goals: Sequence[Goal] = import_module(f"benchmarks.{name}").GOALS
    return [f"{name:9} {goal.line(ratios)}" for goal in goals]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
