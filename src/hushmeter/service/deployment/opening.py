"""Opens a deployment's state, or founds it: master key, key ring, database, plan, budget, series numbers."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from hushmeter.errors import ConfigError, StateConflict
from hushmeter.model.ring import RingRecord, Serving
from hushmeter.model.stored import Approval
from hushmeter.model.time import date_of
from hushmeter.pipeline.claims import ensure_newest, move_record, ring_record
from hushmeter.plan.catalog import assign_blocks
from hushmeter.plan.check import check_plan
from hushmeter.plan.reading import parse_plan, parse_recorded
from hushmeter.ports import Clock, Deployment, KeyRing, Mechanisms, PlanStore, StateStore
from hushmeter.service.deployment.approvals import ensure_plan_approved
from hushmeter.service.deployment.budget import budget_of
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.foundation import ensure_founded
from hushmeter.service.deployment.key_opening import existing_keys, open_keys, refuse_used_keys
from hushmeter.service.deployment.ledger_mark import ensure_newest_of_keys, record_met
from hushmeter.service.deployment.plan_timeline import Era, Timeline, plan_mark
from hushmeter.storage.disk import make_directory
from hushmeter.storage.keys.files import CHECK_NAME
from hushmeter.storage.keys.known_keys import KnownKeys
from hushmeter.storage.log.intake_log import FileIntakeLog
from hushmeter.storage.publications import PublicationFiles
from hushmeter.storage.state.database import STATE_NAME
from hushmeter.storage.state.store import SqlStateStore

_BEYOND_ALL = 2**62


def open_context(
    config: Config,
    clock: Clock,
    mechanisms: Mechanisms,
    plan_text: str | None = None,
    approvals: Sequence[Approval] = (),
    *,
    serves: bool = True,
) -> Context:
    """Opens the deployment that a configuration names; founds it where the state directory is new, and it is to serve.

    Args:
        config: the configuration.
        clock: time.
        mechanisms: noise.
        plan_text: the plan file's text; needed to found, and otherwise compared with the recorded ones.
        approvals: of the plan that is founded with; later versions have their own.
        serves: whether the process begins an epoch, so that every other state of the deployment stops. A process that
            does not belongs to the epoch that the state began last, or only reads: it makes and moves nothing, neither
            the keys' record nor the state's schema (C7).

    Raises:
        ConfigError: the state cannot be used as asked.
        StorageFull, Failure: the disk refused.
        StateConflict: it is not the newest one that its keys have seen.
        PlanError: the plan is not valid, overspends, or is not approved as the configuration asks.
        KeyUnavailable: the master key is missing or another one, or a key of the deployment is gone.
    """
    if not serves:
        return _joined(config, clock, mechanisms, plan_text)
    context = prepared(config, clock, mechanisms, plan_text, approvals)
    return replace(context, epoch=begin_to_serve(config, context))


def prepared(
    config: Config, clock: Clock, mechanisms: Mechanisms, plan_text: str | None = None, approvals: Sequence[Approval] = ()
) -> Context:
    """Opens or founds a deployment up to the moment in which it serves, which `begin_to_serve` is; see `open_context`.

    The keys' record stays as it is, so that a start which is refused now is as if it had not been tried (C7).
    """
    make_directory(config.state_dir)
    if (config.state_dir / CHECK_NAME).exists() and not (config.state_dir / STATE_NAME).exists():
        raise ConfigError(f"{config.state_dir} holds the keys of a deployment; choose another state_dir")
    store = SqlStateStore.open(config.database_url)
    deployment = store.deployment()
    ring = open_keys(config, new=deployment is None)
    if deployment is None:
        refuse_used_keys(config, ring)
        if plan_text is None:
            raise ConfigError(
                f"{config.state_dir} is new and no plan was given; start with --plan FILE (hushmeter plan init writes one)"
            )
        plan = parse_plan(plan_text, date_of(clock.now_ms()))
        ensure_plan_approved(config, plan, approvals)
        budget = budget_of(plan, mechanisms)
        check_plan(plan, budget)
        deployment = Deployment(secrets.token_hex(16), clock.now_ms(), plan.version, plan.plan_hash, plan_text, budget)
        store.found(deployment, assign_blocks(plan), approvals)
    elif plan_text is not None:
        _refuse_another_plan(store, plan_text)
    record = ring.record()
    known = record_met(config, record, store, deployment.deployment_id)
    ensure_newest(known, store)
    if record is None:
        ring.swap(None, known)
    keys = KnownKeys(ring, store)
    # After a restore the decisions may have been recorded under other keys: they do not show that these keys were used.
    decided = store.decisions_after(_BEYOND_ALL)[0] and not store.restores(deployment.deployment_id)
    keys.adopt(decided=bool(decided))
    keys.ensure_lasting(makes=True)
    timeline, epoch = timeline_of(config, store, clock, mechanisms), store.epoch()
    return context_of(config, deployment, timeline, clock=clock, keys=keys, store=store, mechanisms=mechanisms, epoch=epoch)


def _joined(config: Config, clock: Clock, mechanisms: Mechanisms, plan_text: str | None) -> Context:
    """Opens a deployment that another process serves or has served; see `open_context`."""
    store = SqlStateStore.existing(config.state_dir)
    deployment = ensure_founded(store.deployment(), config.state_dir)
    if plan_text is not None:
        _refuse_another_plan(store, plan_text)
    ring = existing_keys(config)
    try:
        ensure_newest_of_keys(config, ring, store, deployment.deployment_id)
    except StateConflict:
        if store.epoch():
            # Where the epoch of this state has ended, that is what the caller is told.
            ring_record(ring).ensure_serving(store.epoch())
        raise
    keys = KnownKeys(ring, store)
    keys.ensure_lasting()
    timeline, epoch = timeline_of(config, store, clock, mechanisms), store.epoch()
    return context_of(config, deployment, timeline, clock=clock, keys=keys, store=store, mechanisms=mechanisms, epoch=epoch)


def context_of(
    config: Config,
    deployment: Deployment,
    timeline: Timeline,
    *,
    clock: Clock,
    keys: KeyRing,
    store: StateStore,
    mechanisms: Mechanisms,
    epoch: str,
) -> Context:
    """The context of a founded deployment whose log and publications are in the state directory of a configuration."""
    return Context.of(
        deployment,
        timeline,
        clock=clock,
        log=FileIntakeLog(config.state_dir / "log", keys, deployment.deployment_id),
        keys=keys,
        store=store,
        mechanisms=mechanisms,
        publications=PublicationFiles(config.state_dir / "publications"),
        epoch=epoch,
    )


def timeline_of(config: Config, store: PlanStore, clock: Clock, mechanisms: Mechanisms) -> Timeline:
    """The versions of the plan that a store holds, approved as the configuration asks."""
    return Timeline(store.plan_versions, store.series_blocks, mechanisms, partial(_ensure_approved, config, clock))


def _ensure_approved(config: Config, clock: Clock, era: Era) -> None:
    """A version whose windows are all over needs nobody's approval any more."""
    if era.takes_until_ms() > clock.now_ms():
        ensure_plan_approved(config, era.plan, era.version.approvals)


def serving_now(config: Config, clock: Clock) -> Serving:
    """A new epoch of the state that a configuration names, begun by this process."""
    state_dir = str(config.state_dir.absolute())
    return Serving(secrets.token_hex(16), socket.gethostname(), os.getpid(), clock.now_ms(), state_dir)


def begin_to_serve(config: Config, context: Context) -> str:
    """This state serves from now on, and no other one of the deployment; returns the epoch that begins (C7).

    Raises:
        StateConflict: the state is not the newest one, or lacks a version of the plan.
    """
    serving, store, plan = serving_now(config, context.clock), context.store, plan_mark(context.timeline)

    def begun(record: RingRecord) -> RingRecord:
        known = record_met(config, record, store, context.deployment.deployment_id)
        ensure_newest(known, store)
        return known.decided(store.decision_mark()).following(plan).served_by(serving)

    move_record(context.keys, begun)
    store.begin_epoch(serving.epoch)
    return serving.epoch


def _refuse_another_plan(store: PlanStore, plan_text: str) -> None:
    offered = parse_recorded(plan_text)
    known = store.plan_versions()
    if offered.plan_hash not in {version.plan_hash for version in known}:
        raise ConfigError(
            f"this state runs version {known[-1].version} of its plan, the file holds {offered.name!r} version "
            f"{offered.version} with other content; start without --plan and change the plan with hushmeter plan apply, or "
            "found another deployment with a new state_dir"
        )
