"""Takes a deployment up again from a backup (C6): what cannot be known any more counts against nobody's privacy.

Rows are gone, so windows that ended meanwhile are LOST, at their full price: they may have been released. Which windows had
kept which units is gone, so metrics of bounded participation rest until the period ends. Withdrawals and revocations that
came after the backup are gone, so everybody is asked again, and every credential is made anew.

The keys' record outlives the state and says what the backup cannot (C7): windows up to the newest one that was ever claimed
are LOST, no period is charged less than it was, and where the newest version of the plan is not in the backup, nobody knows
what it priced: the whole period is LOST, and the state serves again once that very version was applied.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from hushmeter.errors import ConfigError, StateConflict
from hushmeter.ledger.accountant import period_loss, spendings_of
from hushmeter.ledger.checkpoint import is_checkpoint
from hushmeter.ledger.entries import LOST_HISTORY, unknown_charge, verify_budget, verify_chain
from hushmeter.model.key_names import data_key
from hushmeter.model.ledger import GENESIS, LedgerMark, PrivacyLoss
from hushmeter.model.ring import PlanMark, RingRecord
from hushmeter.model.states import WindowState
from hushmeter.model.time import Window, iso
from hushmeter.pipeline.claims import move_record, ring_record
from hushmeter.pipeline.settlement import charge_of_lost
from hushmeter.plan.built_in import capped_metrics
from hushmeter.ports import Clock, Mechanisms, Restore, StateStore, WindowStore
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.key_opening import open_keys
from hushmeter.service.deployment.opening import context_of, serving_now, timeline_of
from hushmeter.service.deployment.plan_timeline import lacks
from hushmeter.service.deployment.state_lock import LOCK_NAME, take_lock
from hushmeter.storage.disk import failure_of, make_directory, sync_directory
from hushmeter.storage.state.database import STATE_NAME, Database, url_of
from hushmeter.storage.state.store import SqlStateStore

_PARTIAL = f"{STATE_NAME}.restoring"


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of a deployment.

    Attributes:
        deployment_id: which.
        plan: name and version.
        lost: how many windows ended since the backup, or were not released in it.
        closed: metrics of bounded participation, which rest until `closed_until_ms`.
        missing: the newest version of the plan, where the backup does not hold it: nothing is served before it is applied.
    """

    deployment_id: str
    plan: str
    lost: int
    closed: tuple[str, ...]
    closed_until_ms: int
    missing: PlanMark | None


def restore(backup: Path, config: Config, clock: Clock, mechanisms: Mechanisms) -> Restored:
    """Restores a deployment into a new state directory; where it fails or is interrupted, nothing can be served there.

    The keys are those that `config` names: the deployment's own, where they outlived the state, or new ones. With new ones
    nobody's decisions can be found any more, not even withdrawals; nothing is given until it is asked for again.

    Raises:
        ConfigError: the state directory is in use, the backup is none, or the keys are another deployment's.
        StateConflict: the keys have seen another history than the backup's (a fork), or the clock is behind.
        LedgerBroken: the backup's ledger does not hold.
        KeyUnavailable: the master key is missing or another one.
        StorageFull, Failure: the disk refused; to be called again.
    """
    make_directory(config.state_dir)
    with take_lock(config.state_dir):
        _refuse_used(config)
        partial = config.state_dir / _PARTIAL
        _copy(backup, partial)
        # A backup of an earlier hushmeter: only the copy is brought to today's schema.
        Database.migrate(url_of(partial))
        store = SqlStateStore.open(url_of(partial))
        try:
            restored = _settle(store, config, clock, mechanisms)
            store.settle_in_one_file()
        finally:
            store.close()
        try:
            partial.rename(config.state_dir / STATE_NAME)
            sync_directory(config.state_dir)
        except OSError as error:
            raise failure_of(error, f"putting the restored state into {config.state_dir}") from None
    return restored


def _refuse_used(config: Config) -> None:
    keys = config.keys.absolute()
    for path in sorted(config.state_dir.iterdir()):
        if path.name.startswith(_PARTIAL):
            path.unlink()
        elif path.name != LOCK_NAME and path.absolute() not in (keys, *keys.parents):
            raise ConfigError(
                f"{config.state_dir} holds {path.name}; restore into a new state_dir. Raw rows of before cannot be used any"
                " more: once the restored deployment serves, delete the old directory"
            )


def _copy(backup: Path, partial: Path) -> None:
    if not backup.is_file():
        raise ConfigError(f"there is no backup {backup}; hushmeter backup FILE makes one")
    try:
        partial.touch(mode=0o600)
        shutil.copyfile(backup, partial)
    except OSError as error:
        raise failure_of(error, f"copying the backup {backup}") from None


def _settle(store: StateStore, config: Config, clock: Clock, mechanisms: Mechanisms) -> Restored:
    deployment, now_ms = store.deployment(), clock.now_ms()
    if deployment is None:
        raise ConfigError("the backup holds no deployment; hushmeter backup FILE makes one of a state that was served")
    timeline = timeline_of(config, store, clock, mechanisms)
    budgets = {era.from_ms: era.version.budget for era in timeline.eras}
    summary = verify_chain(store.ledger(), store.checkpoints())
    # A restore may have charged for a history that was lost, under a budget that nobody knows. Such a period is not
    # compared with the budget: its charge stands as it was told (docs/decisions/0030).
    lost_in = {
        entry.fields.get("period_start_ms") for entry in store.ledger() if entry.fields.get("metric") == LOST_HISTORY
    }
    known_periods = {start: loss for start, loss in summary.by_period.items() if start not in lost_in}
    verify_budget(replace(summary, by_period=known_periods), deployment.budget, budgets)
    keys = open_keys(config, new=True)
    head = store.ledger_head(deployment.deployment_id)
    if keys.record() is None:
        keys.swap(None, RingRecord(LedgerMark(deployment.deployment_id, 0, GENESIS)))
    _refuse_fork(ring_record(keys), head, store)
    serving = serving_now(config, clock)
    epoch = serving.epoch
    context = context_of(
        config, deployment, timeline, clock=clock, keys=keys, store=store, mechanisms=mechanisms, epoch=epoch
    )
    _refuse_slow_clock(context, now_ms)
    # From here on the state that the backup was made of claims and acknowledges nothing more, where it still runs.
    known = move_record(keys, lambda record: record.served_by(serving))
    store.begin_epoch(epoch)
    for start in keys.storage_windows():
        if context.plan.finest.span.end_of(start) <= now_ms:
            keys.destroy(data_key(start))
    seen = known.head if known.head.sequence else None
    store.record_restore(Restore(now_ms, head.sequence, seen))
    missing = known.plan if lacks(timeline, known.plan) else None
    lost = _lose(context, known, now_ms, whole_period=missing is not None)
    charged = {start: period_loss(store.spent(start)) for start in {*known.charged, _period(context, now_ms).start_ms}}
    restored = known.restored(store.ledger_head(deployment.deployment_id), store.decision_mark(), charged)
    # In every period of which a window was ever claimed, also ahead of the clock, nobody knows which windows kept which
    # units.
    rests = {_period(context, end_ms).start_ms for end_ms in known.newest.values()}
    keys.swap(known, replace(restored, rests=restored.rests | rests))
    closed = {m.name for r in context.plan.resolutions for m in capped_metrics(context.plan, r.name)}
    plan = f"{context.plan.name} version {context.plan.version}"
    until = _period(context, now_ms).end_ms
    return Restored(deployment.deployment_id, plan, lost, tuple(sorted(closed)), until, missing)


def _period(context: Context, moment_ms: int) -> Window:
    return context.plan.privacy.period.window_of(moment_ms)


def _refuse_fork(record: RingRecord, head: LedgerMark, store: WindowStore) -> None:
    known = record.head
    if known.deployment_id != head.deployment_id:
        raise ConfigError(
            f"the keys belong to deployment {known.deployment_id}, the backup to {head.deployment_id}; give the keys_dir "
            "of this deployment, or a new one"
        )
    at = next(store.ledger(known.sequence), None) if known.sequence else None
    # A backup of an old ledger, without salts, gets a checkpoint when it is opened, after all that was published in it.
    # Where that checkpoint is its newest entry, the keys know another entry of that number, and the backup is no fork for
    # that.
    added = at is not None and at.sequence == head.sequence and is_checkpoint(at)
    if at is not None and at.entry_hash != known.entry_hash and not added:
        raise StateConflict(
            f"the backup has another history than its keys have seen: entry {known.sequence} of its ledger is not the one "
            "that was published. Restore a backup of the newest history"
        )


def _refuse_slow_clock(context: Context, now_ms: int) -> None:
    states = [WindowState.CLOSING, WindowState.FIXED, WindowState.RELEASED]
    newest = max((r.window.end_ms for r in context.store.windows(states)), default=0)
    if newest > now_ms:
        raise StateConflict(
            f"the clock says {iso(now_ms)}, but the backup knows a window that ended at {iso(newest)}; set the clock, and "
            "try again"
        )


def _lose(context: Context, known: RingRecord, now_ms: int, *, whole_period: bool) -> int:
    """Every window that may have been released, and is not RELEASED in the backup, becomes LOST; returns how many.

    A window may have been released that has ended, by the clock or by what was ever claimed. Of a period whose prices are
    not known all windows are lost, also those that are still to come. Windows of a resolution are lost in time order.

    Args:
        context: of the backup.
        known: what the keys have seen; no period is charged less than it says.
        now_ms: the time.
        whole_period: lose all of the current period.
    """
    store = context.store
    latest = max([now_ms, *known.newest.values()])
    _close(context, known, now_ms, now_ms)
    period = _period(context, latest)
    if whole_period or not known.charged.get(period.start_ms, PrivacyLoss()).within(_loss_of_waiting(context, period)):
        # The period was charged more than these windows cost. Nobody knows whether it can pay for its later windows: they
        # are lost as well.
        _close(context, known, period.end_ms, now_ms)
    waiting = store.windows([WindowState.CLOSING, WindowState.FIXED])
    last = {_period(context, record.window.end_ms).start_ms: record.window for record in waiting}
    for record in waiting:
        if record.state is WindowState.CLOSING:
            store.mark_fixed(record.window)
        ports = context.sealing_ports(record.window)
        entries, loss, period = charge_of_lost(record.window, ports)
        budget, least = ports.prices.budget, known.charged.get(period.start_ms, PrivacyLoss())
        if last[period.start_ms] == record.window and entries and not least.within(loss):
            entries = (*entries, unknown_charge(entries[0], loss, least))
            budget = replace(budget, loss=budget.loss.at_least(least.at_least(loss)))
        store.mark_lost(record.window, entries, period.start_ms, budget)
    return len(waiting)


def _close(context: Context, known: RingRecord, through_ms: int, now_ms: int) -> None:
    """Begins to close every window that ends up to a moment, or was ever claimed."""
    for column, resolution in enumerate(context.plan.resolutions):
        last_ms = max(through_ms, known.newest.get(resolution.name, through_ms))
        for window in context.upcoming(column):
            if window.end_ms > last_ms:
                break
            # A window may be lost before it ends. Its cut-off is now then: no decision is received before a cut-off that is
            # fixed, and so a later one would put receipts into the future (P8).
            context.store.begin_closing(window, min(window.end_ms, now_ms))


def _loss_of_waiting(context: Context, period: Window) -> PrivacyLoss:
    """What a period has been charged once the windows that wait are charged as well."""
    store = context.store
    spent = list(store.spent(period.start_ms))
    for record in store.windows([WindowState.CLOSING, WindowState.FIXED]):
        if _period(context, record.window.end_ms) == period:
            prices = context.sealing_ports(record.window).prices
            spent += spendings_of(prices.charge(record.window, ()))
    return period_loss(spent)
