"""The command line: one typer application; each group of commands has a module of its own."""

from __future__ import annotations

from typing import Annotated

import typer

import hushmeter
from hushmeter.cli import (
    audit,
    backup,
    credential,
    demo,
    keys,
    ledger,
    migrate,
    query,
    retention,
    serve,
    transparency,
    unit,
    window,
)
from hushmeter.cli.extras import missing_extra
from hushmeter.cli.plan import commands as plan
from hushmeter.errors import HushmeterError

app = typer.Typer(
    name="hushmeter",
    help="Privacy-preserving telemetry: reports come in, only differentially private statistics leave.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(plan.plan_app, name="plan")
app.add_typer(ledger.ledger_app, name="ledger")
app.add_typer(keys.keys_app, name="keys")
app.add_typer(credential.credential_app, name="credential")
app.add_typer(transparency.transparency_app, name="transparency")
app.add_typer(unit.unit_app, name="unit")
app.add_typer(window.window_app, name="window")
app.command("serve")(serve.serve)
app.command("query")(query.query)
app.command("retention")(retention.retention)
app.command("erase")(unit.erase)
app.command("backup")(backup.backup_command)
app.command("restore")(backup.restore_command)
app.command("demo")(demo.demo)
app.command("audit")(audit.audit)
app.command("migrate")(migrate.migrate_command)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    """Print the version where that is asked for."""
    if show:
        typer.echo(hushmeter.__version__)
        raise typer.Exit


def run(arguments: list[str]) -> int:
    """Runs one command line; errors that people can meet end with their text and exit status 2, never a traceback."""
    try:
        app(arguments, prog_name="hushmeter")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except ModuleNotFoundError as error:
        return missing_extra(error)
    except HushmeterError as error:
        typer.echo(f"hushmeter: {error}", err=True)
        return 2
    return 0
