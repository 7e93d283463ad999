"""How sealing grows with the window: time and memory from a million values to a hundred million, from encrypted files.

    python -m benchmarks.scale --json FILE [--quick] [--plot FILE]

Each window lies on disk as workers leave it; compaction, reading, decryption and sealing all count, with as many processes
as there are cores. While the largest window is sealed, a server takes reports in, whose acknowledgements are compared
with those before.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from matplotlib import pyplot

from benchmarks.ingest import serving
from benchmarks.ingesting import load
from benchmarks.ingesting.messages import Messages
from benchmarks.ingesting.servers import Running
from benchmarks.report import Goal, ended, parser_of, write_report
from hushmeter.runtime import cores

GOALS = (
    Goal(("time_per_value",), 1.15, at_most=True),
    Goal(("peak_rss",), 1.0, at_most=True, passes=1.0),
    Goal(("acknowledged_p99_while_sealing",), 2.0, at_most=True),
)
_SIZES = (1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000)
_QUICK_SIZES = (1_000_000, 4_000_000)
_BASE = 10_000_000
"""The time a value of the largest window is compared with that of this one; quickly with the smallest."""
_RSS_MAX = 1.5 * 2**30
_CALLERS = 8
_CALLS = 500
_CALLS_BESIDES = 1_000
"""Small windows are sealed again until so many calls were answered meanwhile."""


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark and writes its report."""
    parser = parser_of("scale", __doc__, quick="small windows")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="where to draw throughput against size")
    options = parser.parse_args(arguments)
    sizes = _QUICK_SIZES if options.quick else _SIZES
    sealed: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for size in sizes:
            window = directory / str(size)
            _run("window", window, size)
            sealed[size] = _sealed(window)
            print(_line(size, sealed[size]), file=sys.stderr, flush=True)
            if size < sizes[-1]:
                shutil.rmtree(window)
        latencies = _latencies(directory, window)
    seconds = {size: found["seconds"] / size for size, found in sealed.items()}
    ratios = {
        "time_per_value": seconds[sizes[-1]] / seconds[_BASE if _BASE in seconds else sizes[0]],
        "peak_rss": sealed[sizes[-1]]["peak_rss_bytes"] / _RSS_MAX,
        "acknowledged_p99_while_sealing": latencies["while_sealing_ms_p99"] / latencies["alone_ms_p99"],
    }
    figures = {"by_size": {str(size): found for size, found in sealed.items()}, "acknowledged": latencies}
    write_report(options.json, "scale", {"sizes": sizes}, figures, ratios)
    for name, figure in latencies.items():
        print(f"{name:34} {figure:.4g}")
    if options.plot:
        _draw(sealed, options.plot)
    return ended(GOALS, ratios)


def _sealed(window: Path) -> dict[str, float]:
    """What it takes to seal a window's segments, which are left as they are."""
    copy = window.with_name(f"{window.name}-copy")
    # Segments are never written again; sealing removes those that it has compacted.
    shutil.copytree(window, copy, copy_function=os.link)
    try:
        found: dict[str, float] = json.loads(_run("sealing", copy, cores()))
    finally:
        shutil.rmtree(copy)
    return found


def _run(program: str, window: Path, number: int) -> str:
    command = [sys.executable, "-m", f"benchmarks.scaling.{program}", str(window), str(number)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _latencies(directory: Path, window: Path) -> dict[str, float]:
    """How long callers of a server wait for their acknowledgements, alone and while a window is sealed; milliseconds."""
    with serving(directory / "server", workers=1) as (server, messages):
        _answered(server, messages)
        alone = _answered(server, messages)
        besides = list[float]()
        with ThreadPoolExecutor(1) as pool:
            while len(besides) < _CALLS_BESIDES:
                sealing = pool.submit(_sealed, window)
                while not sealing.done():
                    besides += _answered(server, messages)
    return {
        f"{name}_ms_p{percent}": float(np.percentile(taken, percent)) * 1e3
        for name, taken in (("alone", alone), ("while_sealing", besides))
        for percent in (50, 99)
    }


def _answered(server: Running, messages: Messages) -> list[float]:
    return asyncio.run(load.unary(server.target, messages.made(_CALLS, 1), _CALLERS))


def _line(size: int, found: Mapping[str, float]) -> str:
    speed, memory = size / found["seconds"] / 1e6, found["peak_rss_bytes"] / 2**20
    return f"{size / 1e6:.0f} million values: {speed:.1f} million values/s, {memory:.0f} MiB"


def _draw(sealed: Mapping[int, Mapping[str, float]], path: Path) -> None:
    """Throughput and memory against the size of a window, as an SVG or whatever the file's name asks for."""
    sizes = sorted(sealed)
    figure, (speed, memory) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 6), layout="constrained")
    speed.plot(sizes, [size / sealed[size]["seconds"] / 1e6 for size in sizes], marker="o")
    speed.set(ylabel="million values/s", title="Sealing one window from disk, all cores", ylim=(0, None))
    memory.plot(sizes, [sealed[size]["peak_rss_bytes"] / 2**20 for size in sizes], marker="o", color="tab:red")
    memory.axhline(_RSS_MAX / 2**20, linestyle=":", color="gray")
    memory.set(ylabel="peak memory, MiB", xlabel="values in the window", xscale="log", ylim=(0, None))
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
