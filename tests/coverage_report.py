"""Prints what coverage has measured: `python -m tests.coverage_report build/coverage/coverage.json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ENOUGH: Final = 90.0
"""Modules below this many percent are listed, worst first."""


def lines_about(measured: dict[str, Any]) -> Iterator[str]:
    """The whole in a line, then a line for each module that is not covered well enough.

    Args:
        measured: the JSON that `coverage json` writes; percentages are of lines and branches together.
    """
    total = measured["totals"]
    branches = total["covered_branches"], total["num_branches"]
    yield f"{total['percent_covered']:.1f} % of lines and branches, {branches[0]} of {branches[1]} branches"
    modules = {path: found["summary"]["percent_covered"] for path, found in measured["files"].items()}
    low = {path: percent for path, percent in modules.items() if percent < ENOUGH}
    yield f"{len(low)} of {len(modules)} modules are below {ENOUGH:.0f} %"
    for path, percent in sorted(low.items(), key=lambda row: row[1]):
        yield f"{percent:5.1f} %  {path.removeprefix('src/hushmeter/')}"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in lines_about(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
