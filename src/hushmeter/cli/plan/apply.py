"""`hushmeter plan apply` and `plan approve`: a new version of a deployment's plan, and who stands for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hushmeter.cli import printing
from hushmeter.cli.options import ConfigFile, KeysDir, PlanPath, StateDir, existing_store, read_plan_file


def apply(
    path: Annotated[Path, typer.Argument(help="The plan file: the next version.")],
    at: Annotated[
        str,
        typer.Option(help="now (what only ends or describes), next-window, next-period, or a border such as 2026-03-09."),
    ] = "next-period",
    config: ConfigFile = None,
    state_dir: StateDir = None,
    keys_dir: KeysDir = None,
    approval: Annotated[list[Path] | None, typer.Option(help="A file of plan approve; may be repeated.")] = None,
) -> None:
    """Change the plan of a deployment, beside a running service or without one; running processes follow by themselves.

    A version that was recorded already gets the approvals that are given.
    """
    from hushmeter.cli.plan.differences import print_changes
    from hushmeter.clock import SystemClock
    from hushmeter.model.time import iso
    from hushmeter.noise.opendp import OpenDPMechanisms
    from hushmeter.plan.reading import parse_recorded
    from hushmeter.service.deployment.approvals import approved_also, ensure_plan_approved, read_approval
    from hushmeter.service.deployment.config import read_config
    from hushmeter.service.deployment.ledger_mark import newest_followed
    from hushmeter.service.deployment.plan_change import apply_plan

    chosen = read_config(config, {"state_dir": state_dir, "keys_dir": keys_dir})
    text = read_plan_file(path)
    new = parse_recorded(text)
    approvals = [read_approval(file) for file in approval or []]
    with existing_store(chosen.state_dir) as store:
        same = [v for v in store.plan_versions() if (v.version, v.plan_hash) == (new.version, new.plan_hash)]
        if same and approvals:
            names = approved_also(chosen, new, same[0].approvals, approvals)
            store.approve_plan(new.version, names)
            typer.echo(f"Version {new.version} was recorded already; it is approved by {', '.join(a.name for a in names)}.")
            return
        approvals = list(approved_also(chosen, new, (), approvals))
        ensure_plan_approved(chosen, new, approvals)
        followed = newest_followed(chosen, store)
        done = apply_plan(store, OpenDPMechanisms(), text, at, SystemClock().now_ms(), approvals, followed)
    version = done.version
    console = printing.console()
    print_changes(console, done.before, new, done.changes)
    console.print(f"Version {version.version} is recorded; its first windows begin at {iso(version.active_from_ms)}.")
    if version.stops_from_ms < version.active_from_ms:
        console.print(f"What it removes or ends stops at {iso(version.stops_from_ms)}.")
    if done.superseded:
        console.print(f"It takes the time of version {', '.join(map(str, done.superseded))}, which waited.")


def approve_command(
    path: PlanPath,
    key: Annotated[Path, typer.Option(help="PEM file of an Ed25519 private key, mode 0600.")],
    name: Annotated[str, typer.Option(help="Who approves, as the service's configuration names them.")],
    out: Annotated[Path, typer.Option(help="The file to write; it must not exist.")],
) -> None:
    """Approve a version of a plan: sign its name, version and hash."""
    from hushmeter.errors import ConfigError
    from hushmeter.plan.approving import approve as sign
    from hushmeter.plan.reading import parse_recorded
    from hushmeter.service.deployment.approvals import approval_text, read_private_key

    plan = parse_recorded(read_plan_file(path))
    signed = sign(read_private_key(key), name, plan.name, plan.version, plan.plan_hash)
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(approval_text(signed, plan))
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror}; choose a file that does not exist yet") from None
    typer.echo(f"{name} approves version {plan.version} of plan {plan.name} ({plan.plan_hash[:12]}...)")
    typer.echo(f"In the service's configuration, under approvers:  {name}: {signed.public_key.hex()}")
