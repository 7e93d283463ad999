"""`hushmeter demo`: the real service on a loopback port, a replayed clock, a year of flights, and the truth beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_LOG_WIDTH = 110
"""Of what is printed into a file or a log, where no terminal tells its width."""


def demo(
    out: Annotated[str, typer.Option(help="Where summary.json, releases.parquet and the chart go.")],
    keep: Annotated[str, typer.Option(help="Keep the state here, so that `hushmeter serve` can serve it.")] = "",
    days: Annotated[int, typer.Option(min=1, max=365, help="How many days; fewer end sooner.")] = 365,
) -> None:
    """Run the main job on a year of real flights: collect, seal, release, query, and compare with the truth."""
    from hushmeter.cli import printing
    from hushmeter.rehearsal.demo.run import run_demo

    console = printing.console()
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    run_demo(Path(out), Path(keep) if keep else None, console, days)
