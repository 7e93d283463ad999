"""What every benchmark writes: one JSON object with its figures, and ratios against peers that ran beside it."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


def write_report(
    path: Path, name: str, workload: Mapping[str, object], figures: Mapping[str, object], ratios: Mapping[str, object]
) -> None:
    """Writes one benchmark's result.

    Args:
        path: of the JSON file.
        name: of the benchmark.
        workload: what was measured.
        figures: what came out, in absolute terms; never to be compared between machines.
        ratios: against peers in the same run.
    """
    report = {"name": name, "machine": machine(), "workload": workload, "figures": figures, "ratios": ratios}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, object]:
    """What the benchmark ran on, in general terms."""
    return {
        "python": platform.python_version(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "processor": _processor(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


@dataclass(frozen=True, slots=True)
class Goal:
    """What a ratio must reach.

    Attributes:
        path: of the ratio in a report.
        bound: it is at least that; or at most, where `at_most`.
    """

    path: tuple[str, ...]
    bound: float
    at_most: bool = False

    def failed(self, ratios: Mapping[str, object], leeway: float = 1.0) -> bool:
        """Whether the ratio is beyond the bound, with so much leeway; one that is missing is."""
        found = self.found(ratios)
        return not (found <= self.bound * leeway if self.at_most else found >= self.bound / leeway)

    def found(self, ratios: Mapping[str, object]) -> float:
        """The ratio; NaN where the report has none."""
        at: object = ratios
        for key in self.path:
            at = at.get(key) if isinstance(at, Mapping) else None
        return float(at) if isinstance(at, int | float) else math.nan

    def line(self, ratios: Mapping[str, object]) -> str:
        """The goal and what came out, for people."""
        sign, verdict = "<=" if self.at_most else ">=", "missed" if self.failed(ratios) else "reached"
        return f"{' '.join(self.path):40} {self.found(ratios):10.3g}   goal {sign} {self.bound:g}   {verdict}"


CHECK_LEEWAY = 2.0
"""Other machines and short runs differ; what is below half of its goal has lost something."""


def failed(goals: Iterable[Goal], ratios: Mapping[str, object]) -> int:
    """Tells every goal; 1 where a ratio is below half of its goal, or above twice where less is better."""
    beyond = False
    for goal in goals:
        print(goal.line(ratios))
        beyond |= goal.failed(ratios, CHECK_LEEWAY)
    return int(beyond)
