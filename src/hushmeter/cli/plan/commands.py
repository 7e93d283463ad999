"""`hushmeter plan`: write, check and describe a telemetry plan."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hushmeter.cli import printing
from hushmeter.cli.options import PlanPath
from hushmeter.cli.plan.apply import apply, approve_command
from hushmeter.model.changes import Concern

plan_app = typer.Typer(help="Write, check and change telemetry plans.", no_args_is_help=True)
plan_app.command()(apply)
plan_app.command("approve")(approve_command)

PrintJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@plan_app.command()
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


@plan_app.command()
def schema() -> None:
    """Print the JSON Schema of plan files, for editors."""
    from hushmeter.plan.schema import plan_json_schema

    typer.echo(json.dumps(plan_json_schema(), indent=2))


@plan_app.command()
def check(
    path: PlanPath,
    json_output: PrintJson = False,
    against: Annotated[Path | None, typer.Option(help="Price the change from the plan of this state directory.")] = None,
) -> None:
    """Check a plan, prove that its budget and integers hold, and say what it costs."""
    from hushmeter.cli.plan.predictions import changes, read_priced, recorded_plan
    from hushmeter.plan.cautions import cautions

    priced = read_priced(path, _today(), None)
    summary: dict[str, object] = {
        "plan": priced.plan.name,
        "version": priced.plan.version,
        "plan_hash": priced.plan.plan_hash,
        "currency": priced.budget.currency.value,
        "amount": float(priced.budget.loss.amount),
        "delta": priced.budget.delta,
        "epsilon": {span: epsilon for span, (epsilon, _) in priced.costs.items()},
        "noise_over_exact_composition": priced.overhead,
        "releases_per_period": priced.report.releases_per_period,
        "ledger_entries_per_period": priced.report.ledger_entries_per_period,
        "cautions": cautions(priced.plan),
    }
    changed = None if against is None else changes(recorded_plan(against), priced)
    if json_output:
        typer.echo(json.dumps(summary | ({} if changed is None else {"changes": changed}), indent=2))
        return
    console = printing.console()
    unit, budget = priced.plan.privacy.unit, priced.budget
    console.print(f"[bold green]The plan holds.[/] One {unit}'s whole record costs at most:")
    for span, (epsilon, delta) in priced.costs.items():
        console.print(f"  epsilon {epsilon:8.3f}, delta {delta:.3g}  in {span}")
    console.print(
        f"Currency {budget.currency}; {priced.report.releases_per_period} releases a period, with {priced.overhead:.3f} "
        "times the noise of the exact composition. `hushmeter plan explain` predicts their errors."
    )
    for caution in cautions(priced.plan):
        console.print(f"[bold yellow]Caution:[/] {escape(caution)}.")
    if changed is not None:
        _print_changes(console, changed)


@plan_app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="A plan file, or the state directory of a service: its plan in force.")],
    new: Annotated[Path, typer.Argument(help="The plan file that changes it.")],
    json_output: PrintJson = False,
    fail_on: Annotated[
        list[Concern] | None, typer.Option(help="Exit with status 1 where a change is about this; may be repeated.")
    ] = None,
) -> None:
    """Say in plain words what a plan change means for people and for analysts, and when it may take effect."""
    from hushmeter.cli.plan.differences import difference_row, plan_at, print_changes
    from hushmeter.plan.changes import changes_of, earliest

    before, after = plan_at(old), plan_at(new)
    changes = changes_of(before, after)
    if json_output:
        summary = {
            "from": {"version": before.version, "plan_hash": before.plan_hash},
            "to": {"version": after.version, "plan_hash": after.plan_hash},
            "earliest": earliest(changes).value,
            "changes": [difference_row(change) for change in changes],
        }
        typer.echo(json.dumps(summary, indent=2))
    else:
        print_changes(printing.console(), before, after, changes)
    if any(change.concern in (fail_on or []) for change in changes):
        raise typer.Exit(1)


@plan_app.command()
def explain(
    path: PlanPath,
    units: Annotated[
        int | None, typer.Option(min=1, help="Units in one window; the plan's expected_units if left out.")
    ] = None,
    json_output: PrintJson = False,
    chart: Annotated[Path | None, typer.Option(help="Draw the expected errors into this PNG.")] = None,
) -> None:
    """Predict the error of every release before anything is collected, and say what would halve it."""
    from hushmeter.cli.plan.predictions import draw, prediction_row, print_predictions, read_priced
    from hushmeter.query.prediction import predict

    priced = read_priced(path, _today(), units)
    predictions = predict(priced.plan, priced.budget, priced.items)
    if json_output:
        summary = {"plan": priced.plan.name, "units": priced.plan.privacy.expected_units}
        typer.echo(json.dumps(summary | {"releases": [prediction_row(p) for p in predictions]}, indent=2))
    else:
        print_predictions(printing.console(), priced, predictions)
    if chart is not None:
        draw(predictions, chart, f"{priced.plan.name}: expected errors with {priced.plan.privacy.expected_units:,} units")


def _print_changes(console: Console, changed: dict[str, object]) -> None:
    console.print(f"\nAgainst the plan in force, from {changed['from_version']} to {changed['to_version']}:")
    rows = changed["releases"]
    table = Table(box=box.SIMPLE)
    for column in ("release", "error before", "error after", "share before", "share after"):
        table.add_column(column, justify="left" if column == "release" else "right")
    for row in rows if isinstance(rows, list) else []:
        table.add_row(row["release"], *(row[c] for c in ("error_before", "error_after", "share_before", "share_after")))
    console.print(table)
    console.print(str(changed["when"]))


def _today() -> dt.date:
    from hushmeter.clock import SystemClock
    from hushmeter.model.time import date_of

    return date_of(SystemClock().now_ms())
