"""`hushmeter plan apply`: records a new version of a deployment's plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hushmeter.cli import printing


def apply(
    path: Annotated[Path, typer.Argument(help="The plan file: the next version.")],
    at: Annotated[
        str,
        typer.Option(help="now (what only ends or describes), next-window, next-period, or a border such as 2026-03-09."),
    ] = "next-period",
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML) of the service.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Where database and intake log live.")] = None,
) -> None:
    """Change the plan of a deployment, beside a running service or without one; running processes follow by themselves."""
    from hushmeter.cli.changing import print_changes
    from hushmeter.clock import SystemClock
    from hushmeter.errors import ConfigError
    from hushmeter.model.time import iso
    from hushmeter.noise.opendp import OpenDPMechanisms
    from hushmeter.plan.reading import parse_plan
    from hushmeter.service.changing import apply_plan
    from hushmeter.service.config import read_config
    from hushmeter.service.founding import read_plan_file
    from hushmeter.storage.state import SqlStateStore

    chosen = read_config(config, {"state_dir": state_dir})
    if not (chosen.state_dir / "state.db").exists():
        raise ConfigError(f"{chosen.state_dir} holds no state.db; give the state_dir of a service")
    text = read_plan_file(path)
    store = SqlStateStore.open(chosen.database_url)
    try:
        done = apply_plan(store, OpenDPMechanisms(), text, at, SystemClock().now_ms())
    finally:
        store.close()
    import datetime as dt

    version = done.version
    new = parse_plan(text, dt.date.min, check_expiry=False)
    console = printing.console()
    print_changes(console, done.before, new, done.changes)
    console.print(f"Version {version.version} is recorded; its first windows begin at {iso(version.active_from_ms)}.")
    if version.stops_from_ms < version.active_from_ms:
        console.print(f"What it removes or ends stops at {iso(version.stops_from_ms)}.")
    if done.superseded:
        console.print(f"It takes the time of version {', '.join(map(str, done.superseded))}, which waited.")
