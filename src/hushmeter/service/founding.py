"""Opens a deployment's state, or founds it: master key, key ring, database, plan, budget, series numbers."""

from __future__ import annotations

import datetime as dt
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import structlog

from hushmeter.claims import ensure_newest, moved, record_of
from hushmeter.errors import ConfigError, KeyUnavailable, PlanError, StateConflict
from hushmeter.model.ledger import PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency, float_down
from hushmeter.model.plan import Plan
from hushmeter.model.records import Approval
from hushmeter.model.ring import PlanMark, RingRecord, Serving
from hushmeter.plan.catalog import assign_blocks
from hushmeter.plan.check import check_plan
from hushmeter.plan.reading import parse_plan
from hushmeter.plan.shares import choose_currency
from hushmeter.ports import Clock, Deployment, KeyRing, Mechanisms, StateStore
from hushmeter.service.approvals import ensure_plan_approved
from hushmeter.service.config import Config
from hushmeter.service.context import Context
from hushmeter.service.eras import Era, Timeline, plan_mark
from hushmeter.storage.database import STATE_NAME
from hushmeter.storage.files import failure_of, is_the_systems
from hushmeter.storage.intake_log import FileIntakeLog
from hushmeter.storage.keys import CHECK_NAME, DirectoryKeyRing
from hushmeter.storage.known_keys import KnownKeys
from hushmeter.storage.master_key import create_master_key, load_master_key
from hushmeter.storage.publications import PublicationFiles
from hushmeter.storage.state import SqlStateStore

MASTER_KEY_NAME = "master.key"
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
        serves: begins an epoch, so that every other state of the deployment stops; else the process belongs to the epoch
            that the state has begun last, or only reads: then nothing is made or moved, neither the keys' record nor the
            state's schema (C7).

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
    if store.migrated_from is not None:
        told = {"before": store.migrated_from, "now": store.schema_version(), "state": str(config.state_dir)}
        structlog.get_logger("hushmeter.serve").warning("the state was brought to another schema", **told)
    deployment = store.deployment()
    ring = open_keys(config, new=deployment is None)
    if deployment is None:
        _refuse_used_keys(config, ring)
        if plan_text is None:
            raise ConfigError(
                f"{config.state_dir} is new and no plan was given; start with --plan FILE (hushmeter plan init writes one)"
            )
        plan = parse_plan(plan_text, today(clock))
        ensure_plan_approved(config, plan, approvals)
        budget = budget_of(plan, mechanisms)
        check_plan(plan, budget)
        deployment = Deployment(secrets.token_hex(16), clock.now_ms(), plan.version, plan.plan_hash, plan_text, budget)
        store.found(deployment, assign_blocks(plan), approvals)
    elif plan_text is not None:
        _refuse_another_plan(store, plan_text)
    record = ring.record()
    known = _met(config, record, store, deployment.deployment_id)
    ensure_newest(known, store)
    if record is None:
        ring.swap(None, known)
    keys = KnownKeys(ring, store)
    # After a restore the decisions may be those that other keys found.
    decided = store.decisions_after(_BEYOND_ALL)[0] and not store.restores(deployment.deployment_id)
    keys.adopt(decided=bool(decided))
    keys.ensure_lasting(makes=True)
    return _context(config, clock, mechanisms, store, keys, deployment)


def _joined(config: Config, clock: Clock, mechanisms: Mechanisms, plan_text: str | None) -> Context:
    """Opens a deployment that another process serves or has served; see `open_context`."""
    store = SqlStateStore.existing(config.state_dir)
    deployment = store.deployment()
    if deployment is None:
        raise ConfigError(f"{config.state_dir} has not been founded yet; start it with hushmeter serve --plan FILE")
    if plan_text is not None:
        _refuse_another_plan(store, plan_text)
    ring = _existing_keys(config)
    try:
        _ensure_newest(config, ring, store, deployment.deployment_id)
    except StateConflict:
        if store.epoch():
            # Whoever belongs to an epoch that has ended hears that first.
            record_of(ring).ensure_serving(store.epoch())
        raise
    keys = KnownKeys(ring, store)
    keys.ensure_lasting()
    return _context(config, clock, mechanisms, store, keys, deployment)


def _ensure_newest(config: Config, ring: KeyRing, store: StateStore, deployment_id: str) -> None:
    """Compares a state with its keys as of one moment: whoever serves it moves both, one after the other."""
    while True:
        record = ring.record()
        try:
            return ensure_newest(_met(config, record, store, deployment_id), store)
        except StateConflict:
            if ring.record() == record:
                raise


def _context(
    config: Config, clock: Clock, mechanisms: Mechanisms, store: StateStore, keys: KeyRing, deployment: Deployment
) -> Context:
    return Context.of(
        deployment,
        timeline_of(config, store, clock, mechanisms),
        clock=clock,
        log=FileIntakeLog(config.state_dir / "log", keys, deployment.deployment_id),
        keys=keys,
        store=store,
        mechanisms=mechanisms,
        publications=PublicationFiles(config.state_dir / "publications"),
        epoch=store.epoch(),
    )


def budget_of(plan: Plan, mechanisms: Mechanisms, founded: Currency | None = None) -> PrivacyBudget:
    """The period's budget in the plan's currency, which is chosen here where the plan leaves it open (C1).

    A deployment keeps the currency that it was `founded` with, so that the losses of its periods add up.

    Private partitions, where the plan has any, may spend half of delta, the conversion of rho the other half; pure losses
    need no conversion, and leave all of it to the partitions (C5). Epsilon and delta never exceed what the plan says.
    """
    epsilon, delta = (float_down(Fraction(stated)) for stated in (plan.privacy.epsilon, plan.privacy.delta))
    selecting = any(m.open_dimension(view) for m in plan.metrics for view in m.views)
    halved = Fraction(delta) / 2 if selecting else Fraction(0)
    conversion = delta / 2 if selecting else delta
    losses = {
        Currency.ZCDP: PrivacyLoss(mechanisms.zcdp_budget(epsilon, conversion), halved),
        Currency.PURE: PrivacyLoss(Fraction(epsilon), 2 * halved),
    }
    if founded is not None and plan.privacy.currency not in {None, founded}:
        raise PlanError(
            f"privacy.currency: this deployment was founded with {founded}, in which its periods add up; write {founded} "
            "or auto, or found another deployment"
        )
    currency = founded or choose_currency(plan, losses)
    return PrivacyBudget(epsilon, delta, currency, losses[currency])


def read_plan_file(path: Path) -> str:
    """The text of a plan file; raises `PlanError` where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"cannot read the plan {path}: {error}") from None


def timeline_of(config: Config, store: StateStore, clock: Clock, mechanisms: Mechanisms) -> Timeline:
    """The versions of the plan that a store holds, approved as the configuration asks."""
    return Timeline(store.plan_versions, store.series_blocks, mechanisms, partial(_ensure_approved, config, clock))


def _ensure_approved(config: Config, clock: Clock, era: Era) -> None:
    """A version whose windows are all over needs nobody's approval any more."""
    if era.takes_until_ms() > clock.now_ms():
        ensure_plan_approved(config, era.plan, era.version.approvals)


def today(clock: Clock) -> dt.date:
    """The day it is, UTC."""
    return dt.datetime.fromtimestamp(clock.now_ms() / 1000, dt.UTC).date()


def make_directory(path: Path) -> None:
    """Makes a directory that only this account may read, unless there is one; `ConfigError` where that fails."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        if is_the_systems(error):
            raise failure_of(error, f"making the directory {path}") from None
        raise ConfigError(
            f"cannot make the directory {path}: {error.strerror}; choose another state_dir, or name a keys_dir"
        ) from None


def open_keys(config: Config, *, new: bool) -> DirectoryKeyRing:
    """Opens the key ring that a configuration names; makes a master key where a new deployment keeps its own.

    Raises:
        ConfigError: the directory is another deployment's state.
        KeyUnavailable: the master key is missing or another one.
    """
    if (config.keys / STATE_NAME).exists():
        raise ConfigError(
            f"{config.keys} holds a state, so the keys of {config.state_dir} cannot lie there; name a keys_dir"
        )
    make_directory(config.keys)
    path = config.master_key_file
    if path is None and not os.environ.get("HUSHMETER_MASTER_KEY"):
        path = config.keys / MASTER_KEY_NAME
        if new and not path.exists():
            create_master_key(path)
    return DirectoryKeyRing.open(config.keys, load_master_key(path, os.environ))


def warning_of_keys(config: Config) -> str | None:
    """What to tell an operator whose keys lie inside the state directory; None where they lie elsewhere."""
    if not config.keys_are_inside:
        return None
    beside = config.beside
    named = "" if config.keys_dir is None else f", name {beside} as keys_dir"
    if config.master_key_file is not None and config.master_key_file.resolve().is_relative_to(config.keys.resolve()):
        named += f", name {beside / config.master_key_file.name} as master_key_file"
    return (
        f"the keys are in {config.keys}, inside the state directory: whoever copies that can read every row that is there. "
        f"Stop the service, move them with 'mv {config.keys} {beside}'{named}, and start it again; nothing else changes"
    )


def newest_followed(config: Config, store: StateStore) -> PlanMark:
    """The newest version of the plan that the keys of a state have seen followed; version 0 where they have seen none.

    Raises:
        ConfigError: the keys are another deployment's, or the state is not founded.
        KeyUnavailable: there are none.
    """
    deployment = store.deployment()
    if deployment is None:
        raise ConfigError(f"{config.state_dir} has not been founded yet; start it with hushmeter serve --plan FILE")
    return _met(config, _existing_keys(config).record(), store, deployment.deployment_id).plan


def _existing_keys(config: Config) -> DirectoryKeyRing:
    if not (config.keys / CHECK_NAME).exists():
        raise KeyUnavailable(f"there are no keys in {config.keys}; give the keys_dir that this deployment has always used")
    return open_keys(config, new=False)


def _refuse_used_keys(config: Config, keys: KeyRing) -> None:
    record = keys.record()
    if record is not None and record.was_used:
        raise ConfigError(
            f"{config.state_dir} is new, but the keys in {config.keys} belong to deployment {record.head.deployment_id}, "
            "which has been in use; give that deployment's state_dir, or another keys_dir for a new one"
        )


def _met(config: Config, record: RingRecord | None, store: StateStore, deployment_id: str) -> RingRecord:
    """The record as it is once the keys have met a deployment; nothing is written."""
    head = store.ledger_head(deployment_id)
    if record is None or record.head.deployment_id != deployment_id:
        if head.sequence or (record is not None and record.was_used):
            raise ConfigError(
                f"the keys in {config.keys} have never seen the ledger of {config.state_dir}; "
                "give the keys_dir that this deployment has always used"
            )
        return RingRecord(head)
    if record.serving is None and record.head.sequence < head.sequence:
        # A mark of before: it was moved after a publication, so a crash between both left it behind.
        at = next(store.ledger(record.head.sequence), None) if record.head.sequence else None
        if at is None or at.entry_hash == record.head.entry_hash:
            return replace(record, head=head)
    return record


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
        known = _met(config, record, store, context.deployment.deployment_id)
        ensure_newest(known, store)
        return known.decided(store.decision_mark()).following(plan).served_by(serving)

    moved(context.keys, begun)
    store.begin_epoch(serving.epoch)
    return serving.epoch


def _refuse_another_plan(store: StateStore, plan_text: str) -> None:
    offered = parse_plan(plan_text, dt.date.min, check_expiry=False)
    known = store.plan_versions()
    if offered.plan_hash not in {version.plan_hash for version in known}:
        raise ConfigError(
            f"this state runs version {known[-1].version} of its plan, the file holds {offered.name!r} version "
            f"{offered.version} with other content; start without --plan and change the plan with hushmeter plan apply, or "
            "found another deployment with a new state_dir"
        )
