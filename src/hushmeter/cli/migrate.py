"""`hushmeter migrate`: brings a state of an earlier hushmeter to the schema of this one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def migrate_command(
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML) of the service.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Where the database lives.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Bring the state of an earlier hushmeter to this one's schema, while the service is stopped; there is no way back."""
    from hushmeter.service.deployment.config import read_config
    from hushmeter.service.deployment.state_lock import take_lock
    from hushmeter.storage.state.database import Database

    chosen = read_config(config, {"state_dir": state_dir})
    # Before the lock is taken, so that a directory without a state stays as it is.
    Database.migrate(chosen.database_url, tries=True)
    with take_lock(chosen.state_dir):
        before, steps = Database.migrate(chosen.database_url, tries=dry_run)
    if not steps:
        typer.echo(f"{chosen.state_dir} has schema version {before}, which is this hushmeter's: there is nothing to do")
        return
    typer.echo(f"{chosen.state_dir} {'has' if dry_run else 'had'} schema version {before}")
    for version, does in steps:
        typer.echo(f"{'would become' if dry_run else 'became'} {version}: {does}")
