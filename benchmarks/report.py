"""What every benchmark writes: one JSON object with its figures, and ratios against peers that ran beside it."""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hushmeter.runtime import cores


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
        "cores": cores(),
        "processor": _processor(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def parser_of(name: str, description: str | None, quick: str) -> argparse.ArgumentParser:
    """What every benchmark is called with: where its report goes, and whether less will do.

    Args:
        name: of its module.
        description: of it.
        quick: what less it does then.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where to write the report")
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


@dataclass(frozen=True, slots=True)
class Goal:
    """What a ratio should reach, and what it must.

    Attributes:
        path: of the ratio in a report.
        bound: it is at least that; or at most, where `at_most`.
        passes: what it must reach in any run, however quick: half of the bound, or twice where less is better, since short
            runs and other machines differ. Another figure stands only where a goal is out of reach so far; then it is half
            of what was last measured, and benchmarks/README.md says why.
    """

    path: tuple[str, ...]
    bound: float
    at_most: bool = False
    passes: float | None = None

    def reached(self, ratios: Mapping[str, object]) -> bool:
        """Whether the ratio is as good as the goal; one that is missing is not."""
        return self._holds(ratios, self.bound)

    def passed(self, ratios: Mapping[str, object]) -> bool:
        """Whether the ratio is good enough for a run to pass."""
        return self._holds(ratios, self.least)

    @property
    def least(self) -> float:
        """What passes."""
        return self.passes or (self.bound * _LEEWAY if self.at_most else self.bound / _LEEWAY)

    def found(self, ratios: Mapping[str, object]) -> float:
        """The ratio; NaN where the report has none."""
        at: object = ratios
        for key in self.path:
            at = at.get(key) if isinstance(at, Mapping) else None
        return float(at) if isinstance(at, int | float) else math.nan

    def line(self, ratios: Mapping[str, object]) -> str:
        """The goal and what came out, for people."""
        sign, verdict = "<=" if self.at_most else ">=", "reached" if self.reached(ratios) else "missed"
        failed = "" if self.passed(ratios) else f", and does not pass: {sign} {self.least:g}"
        return f"{' '.join(self.path):40} {self.found(ratios):8.3g}   goal {sign} {self.bound:<5g} {verdict}{failed}"

    def _holds(self, ratios: Mapping[str, object], bound: float) -> bool:
        found = self.found(ratios)
        return found <= bound if self.at_most else found >= bound


_LEEWAY = 2.0


def ended(goals: Sequence[Goal], ratios: Mapping[str, object]) -> int:
    """Tells every goal; 1 where a ratio does not pass."""
    print("\n".join(goal.line(ratios) for goal in goals))
    return int(not all(goal.passed(ratios) for goal in goals))
