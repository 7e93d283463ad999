"""`hushmeter audit`: runs everything, prints a table, writes JSON; exit status 1 where anything shown exceeds its claim."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from hushmeter.cli import printing
from hushmeter.cli.audit.evidence import FAMILYWISE_ALPHA, Evidence
from hushmeter.cli.audit.period import audit_period
from hushmeter.cli.audit.sensitivity import audit_sensitivity
from hushmeter.cli.audit.statistics import audit_statistics
from hushmeter.errors import ConfigError
from hushmeter.service.logs import configure_logs

SLOTS, QUICK_SLOTS = 2_000, 600
_SEED = 20_260_302
_LOG_WIDTH = 140


def run_audit(path: Path, *, quick: bool) -> int:
    """Audits the engine that is installed, through its own doors.

    Args:
        path: where the JSON list goes.
        quick: fewer canaries: less is shown, and what is shown is as certain.

    Returns:
        0, or 1 where anything that was shown exceeds its claim or a check failed.
    """
    configure_logs("console", quiet=True)
    console = printing.console()
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    found = []
    with console.status("auditing"):
        for evidence in every(QUICK_SLOTS if quick else SLOTS):
            found.append(evidence)
            if not evidence.holds:
                console.print(f"[red]exceeded[/] {evidence.mechanism}, {evidence.statistic} {evidence.note}")
    try:
        path.write_text(json.dumps([e.row() for e in found], indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    _print(console, found)
    broken = sum(not e.holds for e in found)
    checks = sum(e.statistic.startswith("check:") for e in found)
    console.print(
        f"{len(found) - checks} statistical tests at a familywise level of {FAMILYWISE_ALPHA:g}, {checks} exact checks: "
        + (f"[red]{broken} exceed what is claimed[/]" if broken else "[green]nothing exceeds what is claimed[/]")
    )
    return 1 if broken else 0


def every(slots: int) -> Iterator[Evidence]:
    """All evidence, in order: exact checks, each currency's mechanisms, a whole period."""
    return itertools.chain(
        audit_sensitivity(),
        audit_statistics("zcdp", slots, _SEED),
        audit_statistics("pure", slots, _SEED + 1),
        audit_period(slots, _SEED + 2),
    )


def _print(console: Console, found: list[Evidence]) -> None:
    table = Table(box=box.SIMPLE)
    for column in ("mechanism", "statistic"):
        table.add_column(column)
    for column in ("claimed mu", "shown", "claimed epsilon", "shown", "by counts", "trials"):
        table.add_column(column, justify="right")
    for e in found:
        if e.statistic.startswith("check:") and e.holds:
            continue
        numbers = (e.claimed_mu, e.shown_mu, e.claimed_epsilon, e.shown_epsilon, e.shown_epsilon_by_counts)
        cells = ("" if n is None else f"{n:.2f}" for n in numbers)
        table.add_row(e.mechanism, e.statistic, *cells, str(e.trials), style=None if e.holds else "red")
    console.print(table)
