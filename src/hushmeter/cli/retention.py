"""`hushmeter retention`: what raw data exists now, and when it is destroyed."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hushmeter.cli import printing
from hushmeter.cli.options import ConfigFile, KeysDir, StateDir, existing_context


def retention(
    config: ConfigFile = None,
    state_dir: StateDir = None,
    keys_dir: KeysDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """Print what raw data a deployment holds now, and when it is destroyed; beside a running service or without one."""
    from rich import box
    from rich.table import Table

    from hushmeter.model.time import iso
    from hushmeter.service.disclosure.retention import held

    with existing_context(config, state_dir, keys_dir) as context:
        found = held(context)
    if as_json:
        rows = [
            {
                "kind": h.kind.value,
                "name": h.name,
                "count": h.count,
                "size_bytes": h.size_bytes,
                "destroyed_at": None if h.dies_ms is None else iso(h.dies_ms),
            }
            for h in found
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    if not found:
        typer.echo("No raw data exists now.")
        return
    table = Table(title="Raw data that exists now", box=box.SIMPLE, caption=printing.DESTROYED)
    for column in ("what", "which", "count", "bytes", "destroyed at"):
        table.add_column(column, justify="right" if column in {"count", "bytes"} else "left")
    for h in found:
        destroyed = "stays, so that decisions bind" if h.dies_ms is None else iso(h.dies_ms)
        table.add_row(h.kind.value, h.name, f"{h.count:,}", f"{h.size_bytes:,}", destroyed)
    printing.console().print(table)
