"""What every benchmark writes: one JSON object with its figures, and ratios against peers that ran beside it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
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
