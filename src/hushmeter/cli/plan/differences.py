"""What `hushmeter plan diff` and `plan apply` read and print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hushmeter.cli.options import read_plan_file
from hushmeter.cli.plan.predictions import recorded_plan
from hushmeter.model.changes import FOR_PEOPLE, PlanChange
from hushmeter.model.plan import Plan
from hushmeter.plan.changes import earliest
from hushmeter.plan.reading import parse_recorded


def plan_at(path: Path) -> Plan:
    """The plan of a file, or the one in force of a state directory; its metrics may have expired since.

    Raises:
        PlanError: it is no plan.
        ConfigError: the directory holds no founded state.
    """
    return recorded_plan(path).plan if path.is_dir() else parse_recorded(read_plan_file(path))


def difference_row(change: PlanChange) -> dict[str, object]:
    """One change as JSON."""
    return {
        "path": change.path,
        "text": change.text,
        "concern": change.concern.value,
        "for": "people" if change.concern in FOR_PEOPLE else "analysts",
        "when": change.when.value,
    }


def print_changes(console: Console, before: Plan, after: Plan, changes: Sequence[PlanChange]) -> None:
    """Prints what a change means: for the people whose data it is first, then for analysts."""
    console.print(f"{after.name}: from version {before.version} to version {after.version}.")
    if not changes:
        console.print("Nothing changes: the same data is collected, priced and released alike.")
        return
    for title, chosen in (
        ("For people", [c for c in changes if c.concern in FOR_PEOPLE]),
        ("For analysts", [c for c in changes if c.concern not in FOR_PEOPLE]),
    ):
        if not chosen:
            continue
        table = Table(title=title, title_justify="left", box=box.SIMPLE)
        for column in ("about", "where", "what changes", "when"):
            table.add_column(column)
        for c in chosen:
            table.add_row(c.concern.value, Text(c.path), Text(c.text), c.when.value)
        console.print(table)
    console.print(f"The whole change may be in force: [bold]{earliest(changes).value}[/].")
