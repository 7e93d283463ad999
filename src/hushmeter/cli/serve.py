"""`hushmeter serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from hushmeter.cli.options import StateDir, read_plan_file

if TYPE_CHECKING:
    from hushmeter.service.deployment.config import Config


def serve(
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML).")] = None,
    plan: Annotated[Path | None, typer.Option(help="Telemetry plan; needed on the first start alone.")] = None,
    state_dir: StateDir = None,
    keys_dir: Annotated[
        Path | None, typer.Option(help="Where keys live; beside the state, in STATE_DIR-keys, by default.")
    ] = None,
    listen: Annotated[str | None, typer.Option(help="host:port of the gRPC services.")] = None,
    metrics: Annotated[str | None, typer.Option(help="host:port of operators' metrics; '' for none.")] = None,
    workers: Annotated[int | None, typer.Option(help="Ingest processes.")] = None,
    sealers: Annotated[int | None, typer.Option(help="Processes that seal one window; one a core by default.")] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file: the service's certificate chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file: its private key, mode 0600.")] = None,
    tls_client_ca: Annotated[Path | None, typer.Option(help="PEM file: clients need a certificate of these.")] = None,
    plain: Annotated[
        bool,
        typer.Option("--i-accept-that-anyone-on-the-network-can-read-everything", help="Let plain text out."),
    ] = False,
    require_approval: Annotated[
        int | None, typer.Option(help="How many of the configuration's approvers must have signed the plan.")
    ] = None,
    approval: Annotated[
        list[Path] | None, typer.Option(help="Of the first plan: a file of plan approve; may be repeated.")
    ] = None,
    clock_is_right: Annotated[bool, typer.Option("--clock-is-right", help="Start, however far off it seems.")] = False,
    log_format: Annotated[str | None, typer.Option(help="console or json.")] = None,
) -> None:
    """Serve: take reports in, seal windows at their deadlines, answer queries. Loopback only by default."""
    from hushmeter.service.deployment.config import read_config
    from hushmeter.service.deployment.logs import configure_logs

    chosen = read_config(
        config,
        {
            "plan": plan,
            "state_dir": state_dir,
            "keys_dir": keys_dir,
            "listen": listen,
            "metrics": metrics,
            "workers": workers,
            "sealers": sealers,
            "tls_certificate": tls_certificate,
            "tls_key": tls_key,
            "tls_client_ca": tls_client_ca,
            "i_accept_that_anyone_on_the_network_can_read_everything": plain or None,
            "require_approval": require_approval,
            "log_format": log_format,
        },
    )
    configure_logs(chosen.log_format)
    plan_text = read_plan_file(chosen.plan) if chosen.plan is not None else None
    _run(chosen, plan_text, approval or [], clock_is_right=clock_is_right)


def _run(chosen: Config, plan_text: str | None, approvals: list[Path], *, clock_is_right: bool) -> NoReturn:
    """Founds or opens the deployment, and serves it until it is asked to stop; exits with the status."""
    from hushmeter.clock import SystemClock
    from hushmeter.noise.opendp import OpenDPMechanisms
    from hushmeter.service.deployment.approvals import read_approval
    from hushmeter.service.deployment.clock_check import ensure_clock
    from hushmeter.service.deployment.opening import begin_to_serve, prepared
    from hushmeter.service.deployment.state_lock import take_lock
    from hushmeter.service.door.tls import read_tls
    from hushmeter.service.processes.supervisor import Supervisor
    from hushmeter.storage.disk import make_directory

    clock = SystemClock()
    # Before anything is founded or started; each worker reads them again.
    read_tls(chosen, clock.now_ms())
    # The lock comes first: whoever opens the state to serve stops all others.
    make_directory(chosen.state_dir)
    with take_lock(chosen.state_dir):
        signed = [read_approval(path) for path in approvals]
        context = prepared(chosen, clock, OpenDPMechanisms(), plan_text, signed)
        ensure_clock(context, confirmed=clock_is_right)
        served = f"plan {context.plan.name} version {context.plan.version}"
        _warn_of_keys(chosen)

        def announce(address: str) -> None:
            typer.echo(f"hushmeter serves {served} on {address} (state in {chosen.state_dir})")

        supervisor = Supervisor(chosen, clock, announce)
        # Last of all: a start that is refused ends nobody's epoch.
        begin_to_serve(chosen, context)
        context.store.close()
        raise typer.Exit(supervisor.run())


def _warn_of_keys(config: Config) -> None:
    """Says at each start, in the output and in the log, that keys lie inside the state directory."""
    import structlog

    from hushmeter.service.deployment.key_opening import warning_of_keys

    if warning := warning_of_keys(config):
        structlog.get_logger("hushmeter.serve").warning("keys lie inside the state directory", keys=str(config.keys))
        typer.echo(f"Warning: {warning}.")
