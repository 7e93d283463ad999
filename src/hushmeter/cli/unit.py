"""`hushmeter erase` and `hushmeter unit`: what one unit can have removed, see, and check.

A unit's id and token come from files or standard input: an argument list is for everybody on the machine to read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hushmeter.channels import ClientIdentity
from hushmeter.cli import printing
from hushmeter.cli.connection import (
    DEFAULT_TARGET,
    CaFile,
    ClientCertificate,
    ClientKey,
    CredentialFile,
    Target,
    unit_at,
)
from hushmeter.cli.options import PublicKey, public_key_of, read_text
from hushmeter.errors import ConfigError

if TYPE_CHECKING:
    from hushmeter.api.consent.v1.consent_pb2 import GetUnitResponse

unit_app = typer.Typer(help="What raw data is held on one unit, and the receipt of its erasure.", no_args_is_help=True)

UnitIdFile = Annotated[Path, typer.Option(help="Holds the unit's id; - reads standard input.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="Holds the unit's token, in hexadecimal; by default one is asked for, which takes the role consent."),
]


def erase(
    unit_id_file: UnitIdFile,
    unit_token_file: TokenFile = None,
    out: Annotated[Path | None, typer.Option(help="Write the receipt here; standard output by default.")] = None,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = None,
    client_certificate: ClientCertificate = None,
    client_key: ClientKey = None,
    credential_file: CredentialFile = None,
) -> None:
    """Withdraw all consent of a unit, have its rows removed, and keep the signed receipt."""
    from hushmeter.model.time import iso

    if out is not None and out.exists():
        raise ConfigError(f"{out} exists; name another file, a receipt is never overwritten")
    unit_id, identity = _unit_id(unit_id_file), ClientIdentity(ca_file, client_certificate, client_key, credential_file)
    with unit_at(target, identity, unit_id, _token(unit_token_file)) as client:
        answer = client.erase(unit_id)
    if out is None:
        typer.echo(answer.receipt)
    else:
        try:
            out.write_text(answer.receipt + "\n", encoding="utf-8")
        except OSError as error:
            typer.echo(answer.receipt)
            raise ConfigError(f"cannot write {out}: {error.strerror}; the receipt is above") from None
    typer.echo(
        f"erasure received at {iso(answer.received_at_ms)}; rows are gone by {iso(answer.rows_gone_by_ms)}", err=True
    )


@unit_app.callback()
def unit() -> None:
    """What raw data is held on one unit, and the receipt of its erasure."""


@unit_app.command("show")
def show_unit(
    unit_id_file: UnitIdFile,
    unit_token_file: TokenFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = None,
    client_certificate: ClientCertificate = None,
    client_key: ClientKey = None,
    credential_file: CredentialFile = None,
) -> None:
    """Print what raw data is held on a unit now, and when it is destroyed."""
    unit_id, identity = _unit_id(unit_id_file), ClientIdentity(ca_file, client_certificate, client_key, credential_file)
    with unit_at(target, identity, unit_id, _token(unit_token_file)) as client:
        found = client.held(unit_id)
    if as_json:
        typer.echo(json.dumps(_plain(found), indent=1))
    else:
        _print(found)


@unit_app.command("verify")
def verify_receipt_file(
    receipt: Annotated[Path, typer.Argument(help="A receipt, as `hushmeter erase` wrote it.")],
    public_key: PublicKey = None,
) -> None:
    """Check the signature of an erasure's receipt, and print what it promises; exit status 1 where it does not hold."""
    from hushmeter.errors import LedgerBroken
    from hushmeter.transparency.receipt import verify_receipt

    key = None if public_key is None else public_key_of(public_key)
    try:
        found = verify_receipt(read_text(receipt), key)
    except LedgerBroken as error:
        typer.echo(f"the receipt does not hold: {error}", err=True)
        raise typer.Exit(1) from None
    content = found.content
    typer.echo(f"deployment {content['deployment']}, received at {content['received_at']}: the signature holds")
    for promise in found.promises:
        typer.echo(f"- {promise}")
    for cost in found.costs:
        typer.echo(f"- {cost}")
    if key is None:
        typer.echo(
            f"The key is the receipt's own, {found.key.hex()}: compare it with the one that the operator has published."
        )


def _unit_id(path: Path) -> str:
    text = sys.stdin.read() if str(path) == "-" else read_text(path)
    return text.removesuffix("\n").removesuffix("\r")


def _token(path: Path | None) -> bytes | None:
    """The token of a file; None where no file is named."""
    if path is None:
        return None
    try:
        return bytes.fromhex(read_text(path))
    except ValueError:
        raise ConfigError(f"{path} holds no token: write it in hexadecimal digits") from None


def _plain(found: GetUnitResponse) -> dict[str, object]:
    from hushmeter.model.time import iso

    return {
        "rows": [
            {
                "from": iso(r.window_start_ms),
                "to": iso(r.window_end_ms),
                "reports": r.reports,
                "points": dict(sorted(r.points.items())),
                "destroyed_at": iso(r.dies_ms),
            }
            for r in found.rows
        ],
        "kept_windows": [
            {
                "metric": k.metric,
                "resolution": k.resolution,
                "period_from": iso(k.period_start_ms),
                "period_to": iso(k.period_end_ms),
                "windows": k.windows,
                "destroyed_at": iso(k.dies_ms),
            }
            for k in found.kept
        ],
        "decisions": found.decisions,
        "erasure_received": iso(found.erasure_ms) if found.erasure_ms else None,
        "rows_gone_by": iso(found.rows_gone_by_ms) if found.rows_gone_by_ms else None,
    }


def _print(found: GetUnitResponse) -> None:
    from rich import box
    from rich.table import Table

    from hushmeter.model.time import iso

    console = printing.console()
    if found.erasure_ms:
        typer.echo(
            f"An erasure was received at {iso(found.erasure_ms)}: earlier rows are gone by {iso(found.rows_gone_by_ms)}."
        )
    if found.rows:
        table = Table(title="Rows of the unit", box=box.SIMPLE, caption=printing.DESTROYED)
        for column in ("storage window", "reports", "values", "destroyed at"):
            table.add_column(column, justify="right" if column == "reports" else "left")
        for r in found.rows:
            values = ", ".join(f"{metric} {count:,}" for metric, count in sorted(r.points.items()))
            table.add_row(iso(r.window_end_ms), f"{r.reports:,}", values or "none", iso(r.dies_ms))
        console.print(table)
    else:
        typer.echo("No row of the unit is held.")
    for k in found.kept:
        typer.echo(
            f"{k.metric} has counted the unit in {k.windows} windows of {k.resolution} in the period that ends "
            f"{iso(k.period_end_ms)}; that is forgotten at {iso(k.dies_ms)}."
        )
    typer.echo(f"Decisions of the unit that are recorded, and stay so that they bind: {found.decisions:,}.")
