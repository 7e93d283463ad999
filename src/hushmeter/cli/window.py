"""`hushmeter window`: what an operator can do with a window that waits."""

from __future__ import annotations

from typing import Annotated

import typer

from hushmeter.cli.options import ConfigFile, KeysDir, StateDir, existing_context, moment_of

window_app = typer.Typer(help="Windows that wait to be released.", no_args_is_help=True)


@window_app.callback()
def window() -> None:
    """Windows that wait to be released."""


@window_app.command()
def lose(
    resolution: Annotated[str, typer.Argument(help="Of the window, as in the plan: 1h.")],
    start: Annotated[str, typer.Argument(help="Where it begins: 2026-03-02T10:00:00Z.")],
    config: ConfigFile = None,
    state_dir: StateDir = None,
    keys_dir: KeysDir = None,
) -> None:
    """Give up a window that waits: it is charged in full and never released, and whoever withdrew since is in nothing."""
    from hushmeter.service.sealer.giving_up import give_up

    start_ms = round(moment_of(start).timestamp() * 1000)
    with existing_context(config, state_dir, keys_dir) as context:
        lost = give_up(context, resolution, start_ms)
    typer.echo(
        f"Window {lost} is LOST: charged in full, never released. Its raw rows are destroyed with its coarser windows."
    )
