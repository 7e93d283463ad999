"""Opens a deployment's state, or founds it: master key, key ring, database, plan, budget, series numbers."""

from __future__ import annotations

import datetime as dt
import os
import secrets
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

from hushmeter.errors import ConfigError, PlanError, StateConflict
from hushmeter.model.ledger import LedgerMark, PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency, float_down
from hushmeter.model.plan import Plan
from hushmeter.model.records import Approval
from hushmeter.plan.catalog import assign_blocks
from hushmeter.plan.check import check_plan
from hushmeter.plan.reading import parse_plan
from hushmeter.plan.shares import choose_currency
from hushmeter.ports import Clock, Deployment, KeyRing, Mechanisms, StateStore
from hushmeter.service.approvals import ensure_plan_approved, ensure_version_approved
from hushmeter.service.config import Config
from hushmeter.service.context import Context
from hushmeter.service.eras import Era, Timeline
from hushmeter.storage.intake_log import FileIntakeLog
from hushmeter.storage.keys import DirectoryKeyRing
from hushmeter.storage.known_keys import KnownKeys
from hushmeter.storage.master_key import create_master_key, load_master_key
from hushmeter.storage.state import SqlStateStore

MASTER_KEY_NAME = "master.key"
_BEYOND_ALL = 2**62


def open_context(
    config: Config,
    clock: Clock,
    mechanisms: Mechanisms,
    plan_text: str | None = None,
    approvals: Sequence[Approval] = (),
) -> Context:
    """Opens the deployment that a configuration names; founds it where the state directory is new.

    Args:
        config: the configuration.
        clock: time.
        mechanisms: noise.
        plan_text: the plan file's text; needed to found, and otherwise compared with the recorded ones.
        approvals: of the plan that is founded with; later versions have their own.

    Raises:
        ConfigError: the state cannot be used as asked.
        PlanError: the plan is not valid, overspends, or is not approved as the configuration asks.
        KeyUnavailable: the master key is missing or another one, or a key of the deployment is gone.
    """
    make_directory(config.state_dir)
    store = SqlStateStore.open(config.database_url)
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
    _compare_with_mark(config, ring, store, deployment)
    keys = known_keys(ring, store, deployment)
    timeline = timeline_of(config, store, clock, mechanisms)
    log = FileIntakeLog(config.state_dir / "log", keys, deployment.deployment_id)
    return Context.of(deployment, timeline, clock=clock, log=log, keys=keys, store=store, mechanisms=mechanisms)


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
        ensure_version_approved(config, era.version, era.plan)


def today(clock: Clock) -> dt.date:
    """The day it is, UTC."""
    return dt.datetime.fromtimestamp(clock.now_ms() / 1000, dt.UTC).date()


def make_directory(path: Path) -> None:
    """Makes a directory that only this account may read, unless there is one; `ConfigError` where that fails."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the state directory {path}: {error.strerror}; choose another state_dir") from None


def open_keys(config: Config, *, new: bool) -> DirectoryKeyRing:
    """Opens the key ring that a configuration names; makes a master key where a new deployment keeps its own."""
    make_directory(config.keys)
    path = config.master_key_file
    if path is None and not os.environ.get("HUSHMETER_MASTER_KEY"):
        path = config.keys / MASTER_KEY_NAME
        if new and not path.exists():
            create_master_key(path)
    return DirectoryKeyRing.open(config.keys, load_master_key(path, os.environ))


def known_keys(ring: KeyRing, store: StateStore, deployment: Deployment) -> KnownKeys:
    """The keys of a founded deployment; those that live as long as it does are there.

    Raises:
        KeyGone: one of them is not.
    """
    keys = KnownKeys(ring, store)
    # After a restore the decisions may be those that other keys found.
    decided = store.decisions_after(_BEYOND_ALL)[0] and not store.restores(deployment.deployment_id)
    keys.adopt(decided=bool(decided))
    keys.ensure_lasting()
    return keys


def _refuse_used_keys(config: Config, keys: KeyRing) -> None:
    mark = keys.mark()
    if mark is not None and mark.sequence:
        raise ConfigError(
            f"{config.state_dir} is new, but the keys in {config.keys} belong to deployment {mark.deployment_id}, which "
            "has released statistics; give that deployment's state_dir, or another keys_dir for a new one"
        )


def ensure_newest(keys: KeyRing, store: StateStore, deployment: Deployment) -> None:
    """Refuses a state whose keys have seen another history published, or a longer one (C6).

    Raises:
        StateConflict: it was copied, or taken back to an earlier day, or was restored elsewhere meanwhile.
    """
    mark, head = _mark_and_head(keys, store, deployment)
    if mark is None or not mark.sequence:
        return
    at = next(store.ledger(mark.sequence), None)
    if at is None or at.entry_hash != mark.entry_hash or mark.deployment_id != deployment.deployment_id:
        older = "is older than its keys" if head.sequence < mark.sequence else "has another history than its keys have seen"
        raise StateConflict(
            f"this state {older}: its ledger has {head.sequence} entries, and entry {mark.sequence} has been "
            "published. It was copied or taken back; going on would release windows a second time. Put the newest state "
            "back, or take a backup up with hushmeter restore"
        )


def _mark_and_head(keys: KeyRing, store: StateStore, deployment: Deployment) -> tuple[LedgerMark | None, LedgerMark]:
    # In this order: what another process publishes in between moves the ledger before the mark.
    mark = keys.mark()
    return mark, store.ledger_head(deployment.deployment_id)


def _compare_with_mark(config: Config, keys: KeyRing, store: StateStore, deployment: Deployment) -> None:
    """Refuses a state that is not the newest one its keys have seen: it would release windows twice (C6)."""
    mark, head = _mark_and_head(keys, store, deployment)
    foreign = mark is None or mark.deployment_id != deployment.deployment_id
    if foreign and (head.sequence or (mark is not None and mark.sequence)):
        raise ConfigError(
            f"the keys in {config.keys} have never seen the ledger of {config.state_dir}; "
            "give the keys_dir that this deployment has always used"
        )
    if mark is None or foreign:
        keys.move_mark(head)
        return
    ensure_newest(keys, store, deployment)
    keys.move_mark(head)


def _refuse_another_plan(store: StateStore, plan_text: str) -> None:
    offered = parse_plan(plan_text, dt.date.min, check_expiry=False)
    known = store.plan_versions()
    if offered.plan_hash not in {version.plan_hash for version in known}:
        raise ConfigError(
            f"this state runs version {known[-1].version} of its plan, the file holds {offered.name!r} version "
            f"{offered.version} with other content; start without --plan and change the plan with hushmeter plan apply, or "
            "found another deployment with a new state_dir"
        )
