"""`hushmeter audit`: runs every check, says what was tried and seen; exit status 1 where a promise does not hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hushmeter.cli.options import read_plan_file
from hushmeter.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from hushmeter.rehearsal.audit.evidence import Evidence
    from hushmeter.rehearsal.audit.run import Part

_LOG_WIDTH = 140
_NOTE_WIDTH = 90


def audit(
    plan_file: Annotated[str, typer.Option("--plan", help="Your own plan; the audit's own plans by default.")] = "",
    json_output: Annotated[str, typer.Option("--json", help="Where a list of all checks goes.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer draws, no canaries: two minutes instead of many.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Run this part alone; may be given several times.")] = None,
    stop_at_first: Annotated[bool, typer.Option("--stop-at-first", help="End at the first check that fails.")] = False,
) -> None:
    """Try to find out who is in a release, by every door that is not the operator's. Status 1 if that succeeds."""
    from hushmeter.cli import printing
    from hushmeter.rehearsal.audit.run import AuditRun

    console = printing.console()
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    run = AuditRun(only or (), read_plan_file(Path(plan_file)) if plan_file else None, quick=quick)
    found: list[tuple[Part, Evidence]] = []
    for part, evidence in run.evidence():
        found.append((part, evidence))
        if not quick:
            console.print(f"{part.name}: {evidence.name}: {'holds' if evidence.holds else '[red]FAILS[/]'}")
        if not evidence.holds:
            console.print(f"[red]exceeded[/] {evidence.name}: {evidence.finding}", soft_wrap=True)
            if stop_at_first:
                break
    if json_output:
        _write(Path(json_output), found)
    _report(console, run.parts, found)
    raise typer.Exit(0 if all(evidence.holds for _, evidence in found) else 1)


def _write(path: Path, found: Sequence[tuple[Part, Evidence]]) -> None:
    rows = [{"part": part.name, "rules": part.rules, **e.row()} for part, e in found]
    try:
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def _report(console: Console, parts: Sequence[Part], found: Sequence[tuple[Part, Evidence]]) -> None:
    """What was tried and would have been seen, one line a check, and the verdict."""
    from rich import box
    from rich.table import Table

    from hushmeter.rehearsal.audit.evidence import FAMILYWISE_ALPHA

    for heading, texts in (("Tried", [p.tried for p in parts]), ("Would have been seen", [p.seen for p in parts])):
        console.print(f"[bold]{heading}:[/] {'; '.join(texts)}.", soft_wrap=True)
    table = Table(box=box.SIMPLE)
    for column in ("rules", "check", "trials", "result"):
        table.add_column(column, overflow="fold")
    for part, e in found:
        result = e.finding[:_NOTE_WIDTH] or "holds"
        table.add_row(part.rules, e.name, str(e.trials), result, style=None if e.holds else "red")
    console.print(table)
    broken = sum(not e.holds for _, e in found)
    console.print(
        f"{len(found)} checks, statistical ones at a familywise level of {FAMILYWISE_ALPHA:g}: "
        + (f"[red]{broken} do not hold[/]" if broken else "[green]all hold[/]")
    )
