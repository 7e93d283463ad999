"""Releases windows as the sealer does, from the tally on, and tells how much of the time OpenDP itself takes."""

from __future__ import annotations

import cProfile
import itertools
import pstats
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opendp.mod import Measurement

from benchmarks.releasing.workload import Workload, founded, tally_of, windows_of
from hushmeter.ledger.entries import entries_of
from hushmeter.model.release import Release
from hushmeter.model.tally import Tally
from hushmeter.release.measuring import measure
from hushmeter.runtime import cores
from hushmeter.service.deployment.context import Context


@dataclass(slots=True)
class OpenDPWatch:
    """What every invocation of an OpenDP mechanism took; its privacy maps do not count.

    Attributes:
        calls: (start, end) of each on the wall clock, in seconds.
        cpu_s: processor time of all of them.
        draws: values that noise was added to.
    """

    calls: list[tuple[float, float]] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    draws: list[int] = field(default_factory=list)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches the invocations of all threads."""
        kind: Any = Measurement
        invoke = kind.__call__

        def timed(measurement: Measurement, values: Any) -> Any:
            start, cpu = time.perf_counter(), time.thread_time()
            try:
                return invoke(measurement, values)
            finally:
                self.cpu_s.append(time.thread_time() - cpu)
                self.calls.append((start, time.perf_counter()))
                self.draws.append(len(values))

        kind.__call__ = timed
        try:
            yield
        finally:
            kind.__call__ = invoke

    def wall_s(self) -> float:
        """For how long at least one invocation was under way."""
        covered, end = 0.0, 0.0
        for start, stop in sorted(self.calls):
            covered += max(0.0, stop - max(start, end))
            end = max(end, stop)
        return covered


@dataclass(frozen=True, slots=True)
class Costs:
    """What releasing some windows took.

    Attributes:
        estimates: noisy numbers that were published.
        draws: noisy numbers that were drawn: those, and the counts of private partitions that stayed hidden.
        wall_s, cpu_s: from the charge to the durable publication, of the whole process.
        opendp_cpu_s: of `cpu_s`, inside OpenDP's invocations.
        noise_s: wall time with an invocation under way.
        measure_s: wall time of `measure` besides.
        entries_s: of charges and ledger entries.
        publish_s: of the publication.
        invocations: of OpenDP's mechanisms.
    """

    estimates: int
    draws: int
    wall_s: float
    cpu_s: float
    opendp_cpu_s: float
    noise_s: float
    measure_s: float
    entries_s: float
    publish_s: float
    invocations: int

    @property
    def time_in_opendp(self) -> float:
        """Share of the processor time."""
        return self.opendp_cpu_s / self.cpu_s

    @property
    def cores_busy(self) -> float:
        """Share of all cores' time."""
        return self.cpu_s / self.wall_s / cores()

    def figures(self) -> dict[str, float]:
        """In absolute terms."""
        return {
            "estimates": self.estimates,
            "estimates_per_second": self.estimates / self.wall_s,
            "us_per_estimate": self.wall_s / self.estimates * 1e6,
            "us_per_draw": self.wall_s / self.draws * 1e6,
            "opendp_cpu_us_per_draw": self.opendp_cpu_s / self.draws * 1e6,
            "invocations": self.invocations,
            "noise_s": self.noise_s,
            "measure_s": self.measure_s,
            "entries_s": self.entries_s,
            "publish_s": self.publish_s,
            "time_in_opendp": self.time_in_opendp,
            "cores_busy": self.cores_busy,
        }


def released(workload: Workload, profile: cProfile.Profile | None = None) -> Costs:
    """Releases a workload's windows, one after the other, after one more that warms up.

    Raises:
        AssertionError: not every number of every tally was drawn once and stored.
    """
    with tempfile.TemporaryDirectory() as directory, founded(workload, Path(directory) / "state") as context:
        windows = windows_of(context, workload.windows + 1)
        tallies = [tally_of(context, window, workload.places, seed) for seed, window in enumerate(windows)]
        for window in windows:
            context.store.begin_closing(window, window.end_ms)
            context.store.mark_fixed(window)
        publish(context, tallies[0])
        watch, stages = OpenDPWatch(), [0.0, 0.0, 0.0]
        if profile is not None:
            profile.enable()
        with watch.watching():
            wall, cpu = time.perf_counter(), time.process_time()
            found = [release for tally in tallies[1:] for release in publish(context, tally, stages)]
            cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
        if profile is not None:
            profile.disable()
        cells = sum(vector.size for release in found for vector in (v.values for v in release.vectors.values()))
        _ensure_all_there(context, tallies[1:], found, watch)
    noise_s = watch.wall_s()
    return Costs(
        estimates=cells,
        draws=sum(watch.draws),
        wall_s=wall_s,
        cpu_s=cpu_s,
        opendp_cpu_s=sum(watch.cpu_s),
        noise_s=noise_s,
        measure_s=stages[1] - noise_s,
        entries_s=stages[0],
        publish_s=stages[2],
        invocations=len(watch.calls),
    )


def publish(context: Context, tally: Tally, stages: list[float] | None = None) -> tuple[Release, ...]:
    """Charges, measures and publishes a sealed window, as the pipeline does.

    Args:
        context: of the deployment.
        tally: of the window.
        stages: seconds of charge and entries, of measuring and of publication are added to it.
    """
    plan, deployment, store = context.plan, context.deployment, context.store
    times = [time.perf_counter()]
    period = plan.privacy.period.window_of(tally.window.end_ms)
    charge = context.era.prices.charge(tally.window, store.spent(period.start_ms))
    times.append(time.perf_counter())
    releases = measure(tally, charge, context.mechanisms, plan=plan, completeness=1.0)
    times.append(time.perf_counter())
    entries = entries_of(plan, deployment.deployment_id, charge, releases)
    times.append(time.perf_counter())
    store.publish(tally.window, releases, entries, period.start_ms, deployment.budget, {})
    times.append(time.perf_counter())
    if stages is not None:
        charging, measuring, writing, publishing = (b - a for a, b in itertools.pairwise(times))
        stages[:] = [stages[0] + charging + writing, stages[1] + measuring, stages[2] + publishing]
    return releases


def _ensure_all_there(context: Context, tallies: Sequence[Tally], found: Sequence[Release], watch: OpenDPWatch) -> None:
    """Every number of every tally was drawn once, selections on all partitions; and what was published is stored."""
    hidden = 0
    for release in found:
        metric, view = release.key.metric, release.key.view
        tally = next(t for t in tallies if t.window.start_ms == release.key.window_start_ms)
        held = tally.keys.get((metric, view))
        if held is not None:
            hidden += len(held) - len(release.keys or ())
        range_ms = release.window_end_ms - 1, release.window_end_ms
        ((_, stored),) = context.store.releases(metric, view, release.key.resolution, *range_ms)
        for name, vector in release.vectors.items():
            assert (stored.vectors[name].values == vector.values).all(), "another number was stored than was published"
    cells = sum(vector.values.size for release in found for vector in release.vectors.values())
    assert sum(watch.draws) == cells + hidden, f"{sum(watch.draws)} draws for {cells} numbers and {hidden} that stay hidden"
    sizes = {key: v.size for tally in tallies for key, v in tally.vectors.items()}
    public = sum(len(tallies) * size for key, size in sizes.items() if (key.metric, key.view) not in tallies[0].keys)
    shown = sum(v.values.size for r in found if r.keys is None for v in r.vectors.values())
    assert public == shown, "a number of a public view is missing"


def told(profile: cProfile.Profile, count: int = 25) -> None:
    """Prints where the calling thread's time goes."""
    pstats.Stats(profile).sort_stats("tottime").print_stats(count)
