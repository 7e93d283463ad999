"""`hushmeter transparency`: the public record, and what anybody can check of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hushmeter.cli.options import ConfigFile, DatabaseDir, KeysDir, PublicKey, existing_context, public_key_of, read_text
from hushmeter.transparency.words import RecordFormat

transparency_app = typer.Typer(help="Show and verify the public record of a deployment.", no_args_is_help=True)


@transparency_app.callback()
def transparency() -> None:
    """Show and verify the public record of a deployment."""


@transparency_app.command("show")
def show_record(
    config: ConfigFile = None,
    state_dir: DatabaseDir = None,
    keys_dir: KeysDir = None,
    written_as: Annotated[
        RecordFormat, typer.Option("--format", help="json is the whole record, signed.")
    ] = RecordFormat.MARKDOWN,
    out: Annotated[Path | None, typer.Option(help="A file; standard output by default.")] = None,
) -> None:
    """Write what is collected, for what, and what it has cost: from plan, ledger and releases alone."""
    from hushmeter.errors import ConfigError
    from hushmeter.service.disclosure.public_record import signed_record, written

    with existing_context(config, state_dir, keys_dir) as context:
        text = written(signed_record(context), written_as)
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror}") from None


@transparency_app.command("verify")
def verify_record_file(
    file: Annotated[Path, typer.Argument(help="A record as JSON or HTML.")],
    public_key: PublicKey = None,
    earlier: Annotated[Path | None, typer.Option(help="A record from before: this one must go on from it.")] = None,
) -> None:
    """Check signature and hash chain of a record; exit status 1 where something does not hold."""
    from hushmeter.errors import LedgerBroken
    from hushmeter.transparency.record import WITHHELD
    from hushmeter.transparency.signing import verify_record as verified

    key = None if public_key is None else public_key_of(public_key)
    try:
        found = verified(_record_in(file), key, None if earlier is None else _record_in(earlier))
    except LedgerBroken as error:
        typer.echo(f"the record does not hold: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(
        f"deployment {found.deployment_id}, as of {found.as_of}: signature and chain of {found.entries} entries hold"
    )
    typer.echo(f"head {found.head}")
    if found.first > 1:
        typer.echo(WITHHELD.format(count=found.first - 1, first=found.first))
    if found.compared == 0 and earlier is not None:
        typer.echo(
            "The earlier record and this one have no entry in common; what was checked is that no period costs less now."
        )
    elif found.compared is not None:
        typer.echo(f"The {found.compared} entries that the earlier record shares with this one are the same.")
    if key is None:
        typer.echo(
            f"The key is the record's own, {found.key.hex()}: compare it with the one that the operator has published."
        )


@transparency_app.command()
def key(config: ConfigFile = None, state_dir: DatabaseDir = None, keys_dir: KeysDir = None) -> None:
    """Print the public key that the deployment signs with; publish it where it cannot be replaced unseen."""
    from hushmeter.signatures import SIGNING_KEY_NAME, public_key

    with existing_context(config, state_dir, keys_dir) as context:
        typer.echo(public_key(context.keys.get_or_create(SIGNING_KEY_NAME)).hex())


def _record_in(path: Path) -> str:
    from hushmeter.transparency.html import record_in

    return record_in(read_text(path))
