"""`hushmeter ledger`: read and verify what was spent, from the state or from a running service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hushmeter.api.query.v1.query_pb2 import BudgetStatement
from hushmeter.channels import ClientIdentity
from hushmeter.cli import printing
from hushmeter.cli.connection import (
    DEFAULT_TARGET,
    CaFile,
    ClientCertificate,
    ClientKey,
    CredentialFile,
    TargetWithoutState,
)
from hushmeter.cli.options import existing_store
from hushmeter.errors import ConfigError
from hushmeter.model.ledger import LedgerEntry, PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency

if TYPE_CHECKING:
    from hushmeter.analyst import AnalystClient

ledger_app = typer.Typer(help="Read and verify the privacy ledger.", no_args_is_help=True)

StateToRead = Annotated[Path | None, typer.Option(help="Read this state directory.")]


@ledger_app.command("show")
def show_ledger(
    state_dir: StateToRead = None,
    target: TargetWithoutState = DEFAULT_TARGET,
    limit: int = 20,
    as_json: bool = False,
    ca_file: CaFile = None,
    client_certificate: ClientCertificate = None,
    client_key: ClientKey = None,
    credential_file: CredentialFile = None,
) -> None:
    """Print the newest entries, or every entry as a line of JSON."""
    from collections import deque

    from rich import box
    from rich.table import Table

    from hushmeter.ledger.checkpoint import is_checkpoint

    identity = ClientIdentity(ca_file, client_certificate, client_key, credential_file)
    entries = _entries(state_dir, target, identity)
    if as_json:
        for entry in entries:
            fields = {"sequence": entry.sequence, "entry_hash": entry.entry_hash.hex(), **entry.fields}
            typer.echo(json.dumps(fields))
        return
    table = Table(title="Privacy ledger, newest entries", box=box.SIMPLE)
    for column in ("entry", "metric", "view", "measurement", "window", "mechanism", "scale", "loss"):
        table.add_column(column)
    from hushmeter.model.time import iso

    for entry in deque(entries, maxlen=limit):
        if is_checkpoint(entry):
            table.add_row(str(entry.sequence), "checkpoint")
            continue
        f = entry.fields
        view = f["view"]
        table.add_row(
            str(entry.sequence),
            str(f["metric"]),
            ", ".join(view) if isinstance(view, list) else "",
            str(f["measurement"]),
            f"{f['resolution']} {iso(int(str(f['window_start_ms'])))}",
            str(f["mechanism"]),
            f"{float(str(f['scale'])):,.1f}",
            f"{float(Fraction(str(f['loss']))):.3g} {f['currency']}",
        )
    printing.console().print(table)


@ledger_app.command("verify")
def verify_ledger(
    state_dir: StateToRead = None,
    target: TargetWithoutState = DEFAULT_TARGET,
    ca_file: CaFile = None,
    client_certificate: ClientCertificate = None,
    client_key: ClientKey = None,
    credential_file: CredentialFile = None,
) -> None:
    """Check the hash chain, every budget and, with --state-dir, every stored release; exit status 1 where one fails."""
    from hushmeter.errors import LedgerBroken
    from hushmeter.ledger.accountant import epsilon_and_delta, span_costs
    from hushmeter.ledger.entries import verify_budget, verify_chain
    from hushmeter.model.time import Span, iso
    from hushmeter.noise.opendp import OpenDPMechanisms

    identity = ClientIdentity(ca_file, client_certificate, client_key, credential_file)
    try:
        summary = verify_chain(_entries(state_dir, target, identity), _salts(state_dir))
        budgets, period = _budgets(state_dir, target, identity)
        verify_budget(summary, budgets[min(budgets)], budgets)
    except LedgerBroken as error:
        typer.echo(f"the ledger does not hold: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{summary.count} entries, chain intact, head {summary.head_hash.hex()}")
    if summary.first > 1:
        typer.echo(f"entries before {summary.first}, a checkpoint, are withheld; --state-dir verifies them too")
    for start, loss in sorted(summary.by_period.items())[-5:]:
        budget = budgets[max((at for at in budgets if at <= start), default=min(budgets))]
        spent, whole = float(loss.amount), float(budget.loss.amount)
        typer.echo(f"  period {iso(start)}: {budget.currency} {spent:.6f} of {whole:.6f}, delta {float(loss.delta):.3g}")
    typer.echo(f"no period of {len(summary.by_period)} has spent more than its budget")
    if summary.by_period:
        typer.echo("what one unit's record has cost at most, whenever it began:")
        for cost in span_costs(summary.by_period, Span.parse(period)):
            epsilon, delta = epsilon_and_delta(cost.loss, budgets[max(budgets)], OpenDPMechanisms())
            typer.echo(f"  epsilon {epsilon:8.3f}, delta {delta:.3g}  in {cost.name}, {cost.periods} periods")
    if state_dir is not None:
        _verify_releases(state_dir)


def _verify_releases(state_dir: Path) -> None:
    from hushmeter.service.disclosure.verified_releases import discrepancies

    with existing_store(state_dir) as store:
        found = list(discrepancies(store))
    if found:
        typer.echo("\n".join(["the releases are not what the ledger says:", *found]), err=True)
        raise typer.Exit(1)
    typer.echo("every release is what the ledger says, and none is missing")


def _salts(state_dir: Path | None) -> dict[int, bytes]:
    """Of the checkpoints in a state; a service begins with the newest, which then needs none."""
    if state_dir is None:
        return {}
    with existing_store(state_dir) as store:
        return store.checkpoints()


def _budgets(state_dir: Path | None, target: str, identity: ClientIdentity) -> tuple[dict[int, PrivacyBudget], str]:
    """The budget of a period, by the moment from which periods have it; and the period."""
    if state_dir is not None:
        from hushmeter.plan.reading import parse_recorded
        from hushmeter.service.deployment.foundation import ensure_founded

        with existing_store(state_dir) as store:
            deployment, versions = ensure_founded(store.deployment(), state_dir), store.plan_versions()
        plan = parse_recorded(deployment.plan_text)
        budgets: dict[int, PrivacyBudget] = {}
        for v in versions:
            # A version takes the time of those that waited for it or for a later moment.
            budgets = {at: b for at, b in budgets.items() if at < v.active_from_ms} | {v.active_from_ms: v.budget}
        return budgets, plan.privacy.period.name
    with _analyst_at(target, identity) as client:
        catalog = client.metrics()
    return {v.active_from_ms: _budget_of(v.budget) for v in catalog.plan_versions}, catalog.budget.period


def _budget_of(statement: BudgetStatement) -> PrivacyBudget:
    loss = PrivacyLoss(Fraction(statement.amount), Fraction(statement.selection_delta))
    return PrivacyBudget(statement.epsilon, statement.delta, Currency(statement.currency), loss)


def _entries(state_dir: Path | None, target: str, identity: ClientIdentity) -> Iterator[LedgerEntry]:
    if state_dir is not None:
        with existing_store(state_dir) as store:
            yield from store.ledger()
        return
    with _analyst_at(target, identity) as client:
        for e in client.ledger():
            yield LedgerEntry(e.sequence, e.content, e.previous_hash, e.entry_hash)


@contextmanager
def _analyst_at(target: str, identity: ClientIdentity) -> Iterator[AnalystClient]:
    """A client for analysts, whose refusals say that a state directory can be read instead."""
    import grpc

    from hushmeter.analyst import AnalystClient

    try:
        with AnalystClient(target, identity=identity) as client:
            yield client
    except grpc.RpcError as error:
        raise ConfigError(f"cannot read the ledger from {target}: {error.details()}; or give --state-dir") from None
