"""1,000 rows asked over a socket, of a server that stores few releases and of one that stores many more besides."""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from benchmarks.releasing.stages import publish
from benchmarks.releasing.workload import START_MS, Workload, founded, tally_of, windows_of
from hushmeter.api.query.v1 import query_pb2 as pb
from hushmeter.api.query.v1 import query_pb2_grpc
from hushmeter.model.time import HOUR_MS, Window
from hushmeter.pipeline.claims import move_record

METRIC, VIEW, STATISTIC = "calls", "city", "sum"
ROWS = 1_000


@dataclass(frozen=True, slots=True)
class QuestionEffort:
    """How much is asked.

    Attributes:
        windows: that are asked for; each gives `ROWS / windows` rows.
        history: how many times as many windows the larger store holds besides, half of them before and half after.
        questions: of each store.
    """

    windows: int
    history: int
    questions: int

    @classmethod
    def of(cls, *, quick: bool) -> QuestionEffort:
        """Twenty times the releases; quickly fewer questions of fewer, larger windows."""
        return cls(5, 20, 60) if quick else cls(25, 20, 400)


def asked(directory: Path, effort: QuestionEffort) -> tuple[dict[str, float], float]:
    """Latencies of both stores in turns; and the larger one's median in the smaller one's."""
    before = effort.windows * effort.history // 2
    sizes = {"few": (before, effort.windows), "many": (0, 2 * before + effort.windows)}
    asked_ms = START_MS + before * HOUR_MS, START_MS + (before + effort.windows) * HOUR_MS
    taken: dict[str, list[float]] = {name: [] for name in sizes}
    with ExitStack() as stack:
        servers = {}
        for name, (first, count) in sizes.items():
            last = _stored(directory / name, ROWS // effort.windows, first, count)
            servers[name] = stack.enter_context(_asking(directory / name, last.end_ms))
        for round_ in range(effort.questions + _WARM):
            for name, stub in servers.items():
                start = time.perf_counter()
                found = _rows(stub, *asked_ms)
                if round_ >= _WARM:
                    taken[name].append(time.perf_counter() - start)
                assert found == ROWS, f"{found} rows were answered, not {ROWS}"
    figures = {
        f"query_{name}_ms_p{percent}": float(np.percentile(times, percent)) * 1e3
        for name, times in taken.items()
        for percent in (50, 99)
    }
    return figures, statistics.median(taken["many"]) / statistics.median(taken["few"])


_WARM = 10


def _stored(state: Path, partitions: int, first: int, count: int) -> Window:
    """Publishes so many hours of a new deployment; returns the last."""
    with founded(Workload("asked", partitions, count, ("calls",), resolution="1h"), state) as context:
        windows = windows_of(context, count, first)
        for seed, window in enumerate(windows):
            context.store.begin_closing(window, window.end_ms)
            context.store.mark_fixed(window)
            publish(context, tally_of(context, window, partitions, seed))
        # What was published without a claim is known to the keys as if it had been claimed: the state is their newest.
        head = context.store.ledger_head(context.deployment.deployment_id)
        move_record(context.keys, lambda record: dataclasses.replace(record, head=head))
        return windows[-1]


@contextmanager
def _asking(state: Path, now_ms: int) -> Iterator[query_pb2_grpc.QueryServiceStub]:
    command = [sys.executable, "-m", "benchmarks.releasing.server", str(state), str(now_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with grpc.insecure_channel(process.stdout.readline().strip()) as channel:
            yield query_pb2_grpc.QueryServiceStub(channel)
        process.communicate()


def _rows(stub: query_pb2_grpc.QueryServiceStub, from_ms: int, to_ms: int) -> int:
    request = pb.QueryReleasesRequest(
        metric=METRIC, view=[VIEW], resolution="1h", from_ms=from_ms, to_ms=to_ms, statistics=[STATISTIC]
    )
    return sum(len(release.estimates) for answer in stub.QueryReleases(request) for release in answer.releases)
