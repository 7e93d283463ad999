"""`hushmeter query`: private statistics on the command line."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterable
from enum import StrEnum
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
    analyst_at,
)
from hushmeter.cli.options import moment_of, public_key_of, read_text

if TYPE_CHECKING:
    import pyarrow as pa

    from hushmeter.analyst import AnalystClient


_ONLY_IN_DATA = frozenset(
    {"metric", "resolution", "window_end", "plan_version", "rolled_up_from", "rho", "delta", "release_id", "completeness"}
    | {"max_windows", "consistent_value", "consistent_std", "consistent_low", "consistent_high", "consistent_as_of"}
    | {"purposes"}
)
_ALWAYS = frozenset({"window_start", "statistic", "value", "noise_std", "interval_low", "interval_high", "epsilon"})
"""Columns that are printed also where all of their cells are zero; others are left out where they say nothing."""
_HEADINGS = {"window_start": "window", "noise_std": "std", "interval_low": "low", "interval_high": "high"}


class OutputFormat(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def query(
    metric: Annotated[str, typer.Argument(help="The metric; leave it out to list what can be asked for.")] = "",
    view: Annotated[str, typer.Option(help="Dimensions to group by, with commas; none is the total.")] = "",
    resolution: Annotated[str, typer.Option(help="For example 1d.")] = "",
    start: Annotated[str, typer.Option(help="Windows that end after this time (ISO 8601, UTC).")] = "",
    end: Annotated[str, typer.Option(help="Windows that end at or before this time.")] = "",
    where: Annotated[list[str] | None, typer.Option(help="dimension=value; may be repeated.")] = None,
    statistic: Annotated[list[str] | None, typer.Option(help="Only these statistics; may be repeated.")] = None,
    roll_up_time: Annotated[bool, typer.Option("--roll-up-time", help="Add all windows up, where that is lawful.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check the releases against the ledger instead.")] = False,
    record: Annotated[Path | None, typer.Option(help="With --verify: the public record whose ledger counts.")] = None,
    public_key: Annotated[str | None, typer.Option(help="With --record: that it must be signed with.")] = None,
    output: Annotated[OutputFormat, typer.Option("--format", help="How to write the answer.")] = OutputFormat.TABLE,
    out: Annotated[Path | None, typer.Option(help="Write to this file; needed for parquet.")] = None,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = None,
    client_certificate: ClientCertificate = None,
    client_key: ClientKey = None,
    credential_file: CredentialFile = None,
) -> None:
    """Ask a running service for private statistics."""
    identity = ClientIdentity(ca_file, client_certificate, client_key, credential_file)
    with analyst_at(target, identity) as client:
        if not metric:
            _list_metrics(client)
            return
        dimensions = [name.strip() for name in view.split(",") if name.strip()]
        if verify:
            if where or statistic or roll_up_time:
                raise typer.BadParameter("--verify is of whole views: leave out --where, --statistic and --roll-up-time")
            _verify(client, metric, dimensions, resolution, (_moment(start), _moment(end)), record, public_key)
            return
        table = client.releases(
            metric,
            dimensions,
            resolution=resolution,
            start=_moment(start),
            end=_moment(end),
            where=_filters(where or []),
            statistics=statistic or [],
            roll_up_time=roll_up_time,
        )
    _write(table, output, out)


def _verify(
    client: AnalystClient,
    metric: str,
    view: list[str],
    resolution: str,
    span: tuple[dt.datetime | None, dt.datetime | None],
    record: Path | None,
    public_key: str | None,
) -> None:
    from hushmeter.errors import LedgerBroken

    text = None if record is None else read_text(record)
    key = None if public_key is None else public_key_of(public_key)
    start, end = span
    try:
        found = client.verify(metric, view, resolution=resolution, start=start, end=end, record=text, public_key=key)
    except LedgerBroken as error:
        typer.echo(f"the releases do not hold: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{found.verified} releases are what the ledger commits to, head {found.head.hex()}")
    if found.withheld:
        typer.echo(f"{found.withheld} are from before the public ledger begins, and cannot be verified with it")


def _write(table: pa.Table, output: OutputFormat, out: Path | None) -> None:
    import json

    from pyarrow import csv, parquet

    if output is OutputFormat.PARQUET:
        if out is None:
            raise typer.BadParameter("parquet needs a file: add --out FILE")
        parquet.write_table(table, out)
    elif output is OutputFormat.CSV:
        csv.write_csv(table.cast(_plain(table)), out or sys.stdout.buffer)
    elif output is OutputFormat.JSON:
        text = json.dumps(table.to_pylist(), default=lambda value: value.isoformat(), indent=1)
        if out is None:
            typer.echo(text)
        else:
            out.write_text(text + "\n", encoding="utf-8")
    else:
        _print(table, out)


def _plain(table: pa.Table) -> pa.Schema:
    """The table's schema without dictionaries, for formats that have none."""
    import pyarrow as pa

    fields = [(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in table.schema]
    return pa.schema(fields)


def _print(table: pa.Table, out: Path | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    empty = {None, False, ""}
    shown = [
        name
        for name in table.column_names
        if name not in _ONLY_IN_DATA and (name in _ALWAYS or not empty.issuperset(table.column(name).unique().to_pylist()))
    ]
    printed = Table(box=box.SIMPLE)
    for name in shown:
        numeric = table.schema.field(name).type == "double"
        printed.add_column(_HEADINGS.get(name, name), justify="right" if numeric else "left", no_wrap=True)
    for row in table.select(shown).to_pylist():
        printed.add_row(*(Text(_cell(row[name])) for name in shown))
    if out is None:
        printing.console().print(printed)
    else:
        with out.open("w", encoding="utf-8") as file:
            Console(file=file, width=200).print(printed)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 100 else f"{value:,.1f}"
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, dt.datetime) else str(value)


def _list_metrics(client: AnalystClient) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    answer = client.metrics()
    table = Table(title="What can be asked for", box=box.SIMPLE)
    for column in ("metric", "kind", "views", "at", "statistics", "unit", "purposes"):
        table.add_column(column)
    for m in answer.metrics:
        views = "\n".join(_view(v.dimensions, v.private_partitions, v.expected_hidden_share) for v in m.views)
        table.add_row(
            m.name, m.kind, views, ", ".join(m.resolutions), ", ".join(m.statistics), Text(m.unit), ", ".join(m.purposes)
        )
    console = printing.console()
    console.print(table)
    b = answer.budget
    console.print(
        f"One {b.privacy_unit}'s whole record of {b.period} costs at most epsilon {b.epsilon:g}, delta {b.delta:g}."
    )


def _view(dimensions: Iterable[str], private: bool, hidden: float) -> str:
    name = ", ".join(dimensions) or "(total)"
    return f"{name} (private, {hidden:.1%} of units expected hidden)" if private else name


def _filters(pairs: list[str]) -> dict[str, list[str]]:
    filters: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"--where takes dimension=value, got {pair!r}")
        filters.setdefault(name, []).append(value)
    return filters


def _moment(text: str) -> dt.datetime | None:
    return moment_of(text) if text else None
