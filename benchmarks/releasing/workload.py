"""Plans whose windows release many estimates, and tallies for them. Seeded; nothing is sealed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hushmeter.clock import ReplayClock
from hushmeter.model.arrays import Int64
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import Window
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.measurements import measurements_of
from hushmeter.ports import Mechanisms
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.opening import open_context
from hushmeter.testing.tallies import empty_tally

START_MS = 1_772_409_600_000
"""Monday, 2 March 2026, midnight UTC."""

_HEAD = """
plan: releasing
version: 1
privacy:
  {{unit: device, period: 1w, epsilon: 8, delta: 1e-6, expected_units: 100000, participants: false, currency: {currency}}}
resolutions: {{{resolution}: {{lateness: 10m}}}}
purposes: {{tuning: Tune.}}
metrics:
"""
_COMMON = """
    owner: benchmarks@example.com
    expires: 2026-12-31
    category: performance
    purposes: [tuning]
"""
_PLATFORM = "platform: {values: [ios, android, mac, web], scope: unit}"
_METRICS = {
    "calls": """
    kind: counter
    dimensions: {{{platform}, {city}}}
    views: [[], [platform], [city], [platform, city]]
    per_unit: {{range: [0, 100], max_partitions: 2}}
    statistics: [units, sum]
""",
    "setup": """
    kind: distribution
    unit: ms
    edges: [50, 100, 200, 300, 400, 600, 800, 1200, 1600, 2400, 3200]
    dimensions: {{{city}}}
    views: [[], [city]]
    per_unit: {{range: [0, 10000], max_events: 20, max_partitions: 2}}
    statistics: [units, mean, histogram]
""",
    "dropped": """
    kind: flag
    dimensions: {{{city}}}
    views: [[], [city]]
    per_unit: {{max_partitions: 2}}
    statistics: [rate]
""",
    "codec": """
    kind: choice
    options: [opus, aac, g711, g722, amr, evs, silk, lyra]
    dimensions: {{{city}}}
    views: [[city]]
    per_unit: {{max_partitions: 2}}
    statistics: [rate]
""",
    "starts": """
    kind: counter
    dimensions: {{version: {{open: true, max_length: 8, pattern: 'v[0-9]+', expected_values: {places}}}}}
    views: [[version]]
    per_unit: {{range: [0, 100], max_partitions: 2}}
    statistics: [units, sum]
""",
    "seen": """
    kind: counter
    dimensions: {{version: {{open: true, max_length: 8, pattern: 'v[0-9]+', expected_values: {places}}}}}
    views: [[version]]
    per_unit: {{range: [0, 100], max_partitions: 2}}
    statistics: [units]
""",
}
TYPICAL = ("calls", "setup", "dropped", "codec", "starts")


@dataclass(frozen=True, slots=True)
class Workload:
    """What one deployment releases.

    Attributes:
        name: of the workload.
        places: values of the public dimension, and tokens of the open one in every window.
        windows: how many are released.
        metrics: some of `calls` (counters in four views), `setup` (a distribution of twelve bins), `dropped` (a flag),
            `codec` (a choice of eight), `starts` (private partitions with their sums), `seen` (private partitions alone).
        currency: `zcdp` for Gaussian noise, `pure` for Laplace noise.
        resolution: of the windows.
    """

    name: str
    places: int
    windows: int
    metrics: tuple[str, ...] = TYPICAL
    currency: str = "zcdp"
    resolution: str = "1d"

    def plan_text(self) -> str:
        """The plan."""
        city = f"city: {{values: [{', '.join(f'c{i}' for i in range(self.places))}], scope: unit}}"
        filled = {"places": self.places, "platform": _PLATFORM, "city": city}
        metrics = [f"  {n}:\n    description: {n}.{_COMMON.rstrip()}{_METRICS[n].format(**filled)}" for n in self.metrics]
        return _HEAD.format(currency=self.currency, resolution=self.resolution) + "".join(metrics)


@contextmanager
def founded(workload: Workload, state: Path, mechanisms: Mechanisms | None = None) -> Iterator[Context]:
    """A new deployment of a workload's plan, in a directory; its clock stands at the foundation."""
    config = Config(state_dir=state)
    context = open_context(config, ReplayClock(START_MS), mechanisms or OpenDPMechanisms(), workload.plan_text())
    try:
        yield context
    finally:
        context.store.close()


def windows_of(context: Context, count: int, first: int = 0) -> list[Window]:
    """So many consecutive windows since the foundation, after skipping some."""
    span = context.plan.finest.span
    start = span.window_from(START_MS)
    length = start.end_ms - start.start_ms
    return [span.window_from(START_MS + number * length) for number in range(first, first + count)]


def tally_of(context: Context, window: Window, places: int, seed: int) -> Tally:
    """A tally as sealing leaves it: numbers at random, every token in each open view held by at least one unit."""
    rng = np.random.default_rng(seed)
    empty = empty_tally(context.plan, window)
    tokens = sorted(f"v{i}" for i in range(places))
    keys = {view: tuple((0, token) for token in tokens) for view in empty.keys}
    selecting = {VectorKey(m.metric, m.view, m.name) for m in measurements_of(context.plan) if m.selects}
    vectors: dict[VectorKey, Int64] = {}
    for key, vector in empty.vectors.items():
        rows = places if (key.metric, key.view) in keys else len(vector)
        low = 1 if key in selecting else 0
        # Numbers of units fall like Zipf's law, so that a threshold hides many of the private partitions.
        most = 200_000 // (1 + np.arange(rows)[:, None]) + 2
        vectors[key] = rng.integers(low, np.broadcast_to(most, (rows, vector.shape[1])))
    return Tally(window, vectors, keys, empty.kept)
