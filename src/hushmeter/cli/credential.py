"""`hushmeter credential`: who may come in. Works on the state directory; running workers follow within two seconds."""

from __future__ import annotations

import datetime as dt
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from hushmeter import limits
from hushmeter.access.credentials import ID_BYTES, SECRET_BYTES, Credential, bearer_of, hash_of
from hushmeter.access.roles import Role
from hushmeter.cli import printing
from hushmeter.cli.options import existing_store
from hushmeter.clock import SystemClock
from hushmeter.errors import ConfigError
from hushmeter.model.plan import Plan
from hushmeter.model.time import DAY_MS, date_of
from hushmeter.ports import CredentialStore

credential_app = typer.Typer(help="Make, list and revoke credentials, and read the access log.", no_args_is_help=True)

OwnStateDir = Annotated[Path, typer.Option(help="The state directory of the service.")]
STATE_DIR = Path("hushmeter-state")


@credential_app.command()
def create(
    role: Annotated[Role, typer.Option(help="What it is for.")],
    purpose: Annotated[list[str] | None, typer.Option(help="An analyst may ask for this; may be repeated.")] = None,
    name: Annotated[str, typer.Option(help="Whose it is, for people.")] = "",
    expires: Annotated[str, typer.Option(help="After so many days, such as 90d; never by default.")] = "",
    state_dir: OwnStateDir = STATE_DIR,
) -> None:
    """Make a credential and print it, once: only a hash of it is kept."""
    lifetime_ms = _lifetime_ms(expires)
    with _store(state_dir) as (store, plan):
        unknown = [p for p in purpose or [] if p not in plan.purpose_names]
        if unknown:
            raise ConfigError(
                f"the plan has no purpose {', '.join(map(repr, unknown))}; its purposes are {', '.join(plan.purpose_names)}"
            )
        now = SystemClock().now_ms()
        credential_id, secret = secrets.token_hex(ID_BYTES), secrets.token_bytes(SECRET_BYTES)
        # In the plan's order, each once.
        purposes = tuple(p for p in plan.purpose_names if p in (purpose or []))
        expires_at_ms = None if lifetime_ms is None else now + lifetime_ms
        store.add_credential(Credential(credential_id, name, role, purposes, hash_of(secret), now, expires_at_ms))
    typer.echo(bearer_of(credential_id, secret))
    typer.echo(
        "Keep it in a file that only its user may read, or in HUSHMETER_CREDENTIAL. It is not shown again.", err=True
    )


@credential_app.command("list")
def list_all(state_dir: OwnStateDir = STATE_DIR) -> None:
    """Print every credential that was ever made; none of their secrets is known here."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    for column in ("id", "name", "role", "purposes", "created", "state"):
        table.add_column(column, no_wrap=column == "id")
    with _store(state_dir) as (store, _):
        now = SystemClock().now_ms()
        for c in store.credentials()[1]:
            purposes, made = ", ".join(c.purposes), _day(c.created_at_ms)
            table.add_row(c.credential_id, Text(c.name), c.role, purposes, made, _state(c, now))
    printing.console().print(table)


@credential_app.command()
def revoke(
    credential_id: Annotated[str, typer.Argument(help="The id, as `list` prints it.")], state_dir: OwnStateDir = STATE_DIR
) -> None:
    """Refuse a credential from now on, for good."""
    with _store(state_dir) as (store, _):
        if not store.revoke_credential(credential_id, SystemClock().now_ms()):
            raise ConfigError(
                "there is no credential of that id; hushmeter credential list prints all (an id has 16 digits)"
            )
    typer.echo(f"{credential_id} is revoked")


@credential_app.command()
def log(
    after: Annotated[int, typer.Option(help="Lines after this number.")] = 0, state_dir: OwnStateDir = STATE_DIR
) -> None:
    """Print the access log, a line of JSON each: who asked what, when, for which purposes, and why not."""
    import json

    with _store(state_dir) as (store, _):
        for number, line in store.access_log(after):
            at = dt.datetime.fromtimestamp(line.at_ms / 1000, dt.UTC).isoformat(timespec="milliseconds")
            fields = {
                "number": number,
                "at": at,
                "credential": line.credential_id,
                "what": line.what,
                "purposes": line.purposes,
                "allowed": not line.refused,
                "refused": line.refused,
            }
            typer.echo(json.dumps(fields))


def _lifetime_ms(text: str) -> int | None:
    if not text:
        return None
    found = re.fullmatch(r"([1-9]\d{0,3})d", text)
    if found is None or int(found[1]) > limits.CREDENTIAL_LIFETIME_MAX_DAYS:
        raise ConfigError(f"--expires takes days, from 1d to {limits.CREDENTIAL_LIFETIME_MAX_DAYS}d, got {text!r}")
    return int(found[1]) * DAY_MS


def _state(c: Credential, now_ms: int) -> str:
    if c.revoked_at_ms is not None:
        return f"revoked {_day(c.revoked_at_ms)}"
    if c.expires_at_ms is None:
        return "valid"
    return f"{'expired' if c.expired(now_ms) else 'valid until'} {_day(c.expires_at_ms)}"


def _day(at_ms: int) -> str:
    return date_of(at_ms).isoformat()


@contextmanager
def _store(state_dir: Path) -> Iterator[tuple[CredentialStore, Plan]]:
    """The credentials of a founded deployment, and the newest version of its plan: purposes can be given out beforehand."""
    from hushmeter.plan.reading import parse_recorded
    from hushmeter.service.deployment.foundation import ensure_founded

    with existing_store(state_dir) as store:
        newest = ensure_founded(store.plan_versions(), state_dir)[-1]
        yield store, parse_recorded(newest.plan_text)
