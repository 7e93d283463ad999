"""What taking a report in costs beside gRPC itself: server processor time over bare handlers on the same bytes.

    python -m benchmarks.ingest --json FILE [--quick]

Everything counts that hushmeter does between a report's arrival and the moment its window is sealed: decoding, admission,
consent, pseudonyms, encryption, the log made durable before the answer, and afterwards the cutting of segments into runs.
Both servers take turns, several times; medians are compared.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.ingesting import load
from benchmarks.ingesting.messages import PURPOSE, Messages, encoding_us, plan_text, unit_ids
from benchmarks.ingesting.servers import Running, allow, bare, hushmeter
from benchmarks.report import Goal, ended, parser_of, write_report
from benchmarks.scaling.window import StoredWindow, written
from hushmeter.clock import SystemClock
from hushmeter.model.report import ReportBatch
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.sdk.client import IngestClient
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.opening import open_context
from hushmeter.storage.log.frames import FramesFile, SegmentName

GOALS = (
    Goal(("unary_cpu_vs_bare",), 1.3, at_most=True),
    Goal(("stream_cpu_vs_bare",), 1.3, at_most=True),
    Goal(("batch_cpu_vs_bare",), 2.0, at_most=True, passes=15.0),
    Goal(("workers_2_cpu_vs_1",), 1.1, at_most=True),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of sending.

    Attributes:
        name: of it.
        reports: in a message.
        send: from target and messages, sends them all.
        messages: of one round.
    """

    name: str
    reports: int
    send: Callable[[str, Sequence[bytes]], object]
    messages: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What a round took.

    Attributes:
        cpu_us: of the server, a message.
        wall_us: a message.
    """

    cpu_us: float
    wall_us: float


def kinds(scale: float) -> tuple[Kind, ...]:
    """All kinds, with so many times the messages."""
    return (
        Kind("unary", 1, lambda t, m: asyncio.run(load.unary(t, m, _CALLERS)), round(4_000 * scale)),
        Kind("stream", 1, lambda t, m: asyncio.run(load.streamed(t, m, _STREAMS)), round(16_000 * scale)),
        Kind("batch", 100, lambda t, m: asyncio.run(load.streamed(t, m, _STREAMS)), round(2_000 * scale)),
    )


_CALLERS, _STREAMS = 64, 8


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark and writes its report."""
    parser = parser_of("ingest", __doc__, quick="fewer messages and rounds")
    options = parser.parse_args(arguments)
    rounds, scale = (2, 0.25) if options.quick else (5, 1.0)
    figures: dict[str, object] = {}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        _warm_up(Path(directory) / "warm-up")
        measure(Path(directory), kinds(scale), rounds, figures, ratios)
        two_workers(Path(directory), kinds(scale)[0], rounds, figures, ratios)
    write_report(options.json, "ingest", {"rounds": rounds}, figures, ratios)
    for name, figure in figures.items():
        print(f"{name:34} {figure:.4g}")
    return ended(GOALS, ratios)


def measure(
    directory: Path, ways: Sequence[Kind], rounds: int, figures: dict[str, object], ratios: dict[str, float]
) -> None:
    """Both servers in turns, every way of sending; then latencies, and what lies on the disk."""
    bucketing = dict.fromkeys((way.name for way in ways), 0.0)
    costs: dict[tuple[str, str], list[Cost]] = {}
    for way in ways:
        state = directory / way.name
        with bare() as empty, serving(state, workers=1) as (server, messages):
            for round_ in range(rounds + 1):
                sent = messages.made(way.messages, way.reports)
                for name, target in (("bare", empty), ("hushmeter", server)):
                    cost = _cost(target, way, sent)
                    if round_:
                        costs.setdefault((way.name, name), []).append(cost)
            if way.reports == 1 and way.name == "unary":
                taken = asyncio.run(load.unary(server.target, messages.made(way.messages // 4, 1), _FEW_CALLERS))
                for percent in (50, 99):
                    figures[f"acknowledged_ms_p{percent}"] = float(np.percentile(taken, percent)) * 1e3
                with IngestClient(server.target) as client:
                    figures["client_encoding_us"] = encoding_us(client.plan(), 2_000)
        on_disk = _on_disk(state)
        bucketing[way.name] = on_disk.bucketing_us
        figures[f"{way.name}_bytes_per_report"] = on_disk.bytes_per_report
        figures[f"{way.name}_syncs_per_report"] = on_disk.frames_per_report
        figures[f"{way.name}_bucketing_us"] = on_disk.bucketing_us
        of_bare, ours = (_median(costs[way.name, name]) for name in ("bare", "hushmeter"))
        cpu_us = ours.cpu_us + way.reports * on_disk.bucketing_us
        figures[f"{way.name}_bare_cpu_us_per_message"] = of_bare.cpu_us
        figures[f"{way.name}_cpu_us_per_message"] = cpu_us
        figures[f"{way.name}_reports_per_second"] = way.reports * 1e6 / ours.wall_us
        ratios[f"{way.name}_cpu_vs_bare"] = cpu_us / of_bare.cpu_us
        print(f"{way.name}: {ratios[f'{way.name}_cpu_vs_bare']:.2f} x bare", file=sys.stderr, flush=True)


_FEW_CALLERS = 8


def two_workers(directory: Path, way: Kind, rounds: int, figures: dict[str, object], ratios: dict[str, float]) -> None:
    """One worker and two in turns; afterwards every report that was acknowledged lies in the log, once."""
    costs: dict[int, list[Cost]] = {1: [], 2: []}
    sent: dict[int, int] = {1: 0, 2: 0}
    states = {workers: directory / f"workers-{workers}" for workers in costs}
    with serving(states[1], 1) as one, serving(states[2], 2) as two:
        for round_ in range(rounds + 1):
            for workers, (server, messages) in ((1, one), (2, two)):
                cost = _cost(server, way, messages.made(way.messages, way.reports))
                sent[workers] += way.messages * way.reports
                if round_:
                    costs[workers].append(cost)
    for workers, state in states.items():
        ids = _on_disk(state).report_ids
        assert len(ids) == sent[workers], f"{sent[workers]} reports were acknowledged by {workers} workers, {len(ids)} kept"
        assert len(np.unique(ids, axis=0)) == len(ids), f"{workers} workers kept a report twice"
    figures["workers_2_cpu_us_per_message"] = _median(costs[2]).cpu_us
    ratios["workers_2_cpu_vs_1"] = _median(costs[2]).cpu_us / _median(costs[1]).cpu_us


@contextmanager
def serving(state: Path, workers: int) -> Iterator[tuple[Running, Messages]]:
    """Hushmeter on a new state, with units that allow everything, and what makes messages for it."""
    plan = state.with_suffix(".yaml")
    plan.write_text(plan_text((dt.datetime.now(dt.UTC) + dt.timedelta(days=30)).date().isoformat()), encoding="utf-8")
    with hushmeter(state, plan, workers) as server:
        allow(server.target, unit_ids(), PURPOSE)
        with IngestClient(server.target) as client:
            described = client.plan()
        # Intervals must begin after consent was given.
        yield server, Messages(described, int(time.time() * 1000) + 90_000, seed=1)


def _cost(server: Running, way: Kind, messages: Sequence[bytes]) -> Cost:
    cpu, wall = server.cpu_s(), time.perf_counter()
    way.send(server.target, messages)
    used, taken = server.cpu_s() - cpu, time.perf_counter() - wall
    return Cost(used / len(messages) * 1e6, taken / len(messages) * 1e6)


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(statistics.median(c.cpu_us for c in costs), statistics.median(c.wall_us for c in costs))


@dataclass(frozen=True, slots=True)
class _OnDisk:
    report_ids: np.ndarray
    bytes_per_report: float
    frames_per_report: float
    bucketing_us: float


def _warm_up(directory: Path) -> None:
    """Cuts a small log into runs, so that what the first time costs is not counted."""
    written(directory, 100_000)
    window = StoredWindow.opened(directory)
    for segment in window.segments:
        window.job.log.compact(segment.storage_start_ms, segment.segment_id, segment.frames)


def _on_disk(state: Path) -> _OnDisk:
    """What a server that has ended left in its log, and what it takes to cut that into runs."""
    config = Config(state_dir=state)
    context = open_context(config, SystemClock(), OpenDPMechanisms())
    log, batches = context.log, list[ReportBatch]()
    size, frames, taken = 0, 0, 0.0
    for start in log.storage_windows():
        for segment in context.store.segments([start]):
            size += log.size_bytes(start, [segment.segment_id])
            path = state / "log" / str(start) / f"{segment.segment_id}.frames"
            name = SegmentName(context.deployment.deployment_id, start, segment.segment_id)
            frames += len(FramesFile.of(name, memoryview(path.read_bytes())).frames)
            before = time.process_time()
            log.compact(start, segment.segment_id, segment.frames)
            taken += time.process_time() - before
            bits = log.bucket_bits(start, [segment.segment_id])
            batches += [log.read(start, [segment.segment_id], bucket, bits) for bucket in range(1 << bits)]
    context.store.close()
    rows = ReportBatch.concat(batches)
    return _OnDisk(rows.report_ids, size / len(rows), frames / len(rows), taken / len(rows) * 1e6)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
