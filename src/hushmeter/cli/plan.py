"""`hushmeter plan`: write, check and describe a telemetry plan."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

app = typer.Typer(help="Write and check telemetry plans.", no_args_is_help=True)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")] = Path("plan.yaml"),
) -> None:
    """Write a commented plan to start from."""
    from hushmeter.errors import ConfigError
    from hushmeter.plan.template import plan_template

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(plan_template(_today()))
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose a file that does not exist yet") from None
    typer.echo(f"wrote {path}; check it with: hushmeter plan check {path}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of plan files, for editors."""
    from hushmeter.plan.schema import plan_json_schema

    typer.echo(json.dumps(plan_json_schema(), indent=2))


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="The plan file.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a plan, prove that its budget and integers hold, and say what it costs."""
    from hushmeter.noise.opendp import OpenDPMechanisms
    from hushmeter.plan.check import check_plan, compositions
    from hushmeter.plan.reading import parse_plan
    from hushmeter.service.founding import budget_of, read_plan_file

    mechanisms = OpenDPMechanisms()
    plan = parse_plan(read_plan_file(path), _today())
    budget = budget_of(plan, mechanisms)
    report = check_plan(plan, budget.rho)
    costs = {
        span: mechanisms.epsilon_of(rho, budget.delta)
        for span, rho in compositions(budget.rho, plan.privacy.period).items()
    }
    rows = [
        {
            "metric": row.metric,
            "view": list(row.view),
            "resolution": row.resolution,
            "measurement": row.name,
            "l2_sensitivity": row.l2_sensitivity,
            "scale": row.scale,
            "noise_std": row.noise_std,
            "share": row.share,
            "windows": row.windows,
        }
        for row in report.rows
    ]
    if json_output:
        summary = {"plan": plan.name, "version": plan.version, "plan_hash": plan.plan_hash, "rho": float(budget.rho)}
        typer.echo(json.dumps(summary | {"delta": budget.delta, "epsilon": costs, "releases": rows}, indent=2))
        return
    console = Console()
    title = f"{plan.name} version {plan.version}: what one {plan.privacy.period.name} releases"
    table = Table(title=title, box=box.SIMPLE)
    for column in ("metric", "view", "resolution", "measurement"):
        table.add_column(column)
    for column in ("noise std", "share of budget", "windows"):
        table.add_column(column, justify="right")
    for row in report.rows:
        view = ", ".join(row.view) or "(total)"
        table.add_row(
            row.metric, view, row.resolution, row.name, f"{row.noise_std:,.1f}", f"{row.share:.2%}", str(row.windows)
        )
    console.print(table)
    console.print(
        f"[bold green]The plan holds.[/] One {plan.privacy.unit}'s whole record costs at most, at delta {budget.delta:g}:"
    )
    for span, epsilon in costs.items():
        console.print(f"  epsilon {epsilon:8.3f}  in {span}")


def _today() -> dt.date:
    from hushmeter.clock import SystemClock

    return dt.datetime.fromtimestamp(SystemClock().now_ms() / 1000, dt.UTC).date()
