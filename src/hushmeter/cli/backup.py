"""`hushmeter backup` and `hushmeter restore`: without raw rows and keys, and by rule C6."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hushmeter.cli.options import ConfigFile, DatabaseDir, existing_store


def backup_command(
    file: Annotated[Path, typer.Argument(help="The backup, a new file.")],
    config: ConfigFile = None,
    state_dir: DatabaseDir = None,
) -> None:
    """Write a backup of a deployment, beside a running service or without one; it holds no raw rows and no keys."""
    from hushmeter.service.deployment.config import read_config

    chosen = read_config(config, {"state_dir": state_dir})
    with existing_store(chosen.state_dir) as store:
        store.back_up(file)
    typer.echo(f"{file} holds plan, ledger, releases, decisions and credentials' hashes; no raw rows, and no keys.")


def restore_command(
    file: Annotated[Path, typer.Argument(help="A file that hushmeter backup wrote.")],
    config: ConfigFile = None,
    state_dir: Annotated[Path | None, typer.Option(help="A new directory for the state.")] = None,
    keys_dir: Annotated[
        Path | None, typer.Option(help="The deployment's keys, where they are left; a new directory else.")
    ] = None,
) -> None:
    """Take a deployment up again from a backup: what ended since is lost, everybody is asked again for consent."""
    from hushmeter.clock import SystemClock
    from hushmeter.model.time import iso
    from hushmeter.noise.opendp import OpenDPMechanisms
    from hushmeter.service.deployment import restoring
    from hushmeter.service.deployment.config import read_config

    chosen = read_config(config, {"state_dir": state_dir, "keys_dir": keys_dir})
    done = restoring.restore(file, chosen, SystemClock(), OpenDPMechanisms())
    typer.echo(
        f"Deployment {done.deployment_id}, plan {done.plan}, is in {chosen.state_dir}; its keys are in {chosen.keys}."
    )
    typer.echo(f"{done.lost} windows have ended without a release in the backup: they are LOST, and were charged in full.")
    if done.closed:
        typer.echo(
            f"Not released before {iso(done.closed_until_ms)}: {', '.join(done.closed)} (their participation is capped)."
        )
    if done.missing is not None:
        typer.echo(
            f"Version {done.missing.version} of the plan was in force and is not in the backup, so all windows before "
            f"{iso(done.closed_until_ms)} are LOST. Nothing is served before that very version (hash "
            f"{done.missing.plan_hash}) is applied: "
            f"hushmeter plan apply FILE --at next-period --state-dir {chosen.state_dir} --keys-dir {chosen.keys}"
        )
    typer.echo(
        "Nobody's consent holds until it is given again; withdrawals hold. Every credential was revoked: make new ones."
    )
