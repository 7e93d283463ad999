"""Takes a deployment up again from a backup (C6): what cannot be known any more counts against nobody's privacy.

Rows are gone, so windows that ended meanwhile are LOST, at their full price: they may have been released. Which windows had
kept which units is gone, so metrics of bounded participation rest until the period ends. Withdrawals and revocations that
came after the backup are gone, so everybody is asked again, and every credential is made anew.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from hushmeter.errors import ConfigError, StateConflict
from hushmeter.ledger.checkpoint import is_checkpoint
from hushmeter.ledger.entries import verify_budget, verify_chain
from hushmeter.model.ledger import LedgerMark
from hushmeter.model.states import WindowState
from hushmeter.model.time import iso
from hushmeter.pipeline import lose_window
from hushmeter.plan.built_in import capped_metrics
from hushmeter.ports import Clock, Mechanisms, Restore, StateStore
from hushmeter.service.config import Config
from hushmeter.service.context import Context
from hushmeter.service.founding import make_directory, open_keys, timeline_of
from hushmeter.service.supervisor import LOCK_NAME, hold_lock
from hushmeter.storage.database import STATE_NAME, url_of
from hushmeter.storage.files import failure_of, sync_directory
from hushmeter.storage.intake_log import FileIntakeLog
from hushmeter.storage.state import SqlStateStore

_PARTIAL = f"{STATE_NAME}.restoring"


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of a deployment.

    Attributes:
        deployment_id: which.
        plan: name and version.
        lost: how many windows ended since the backup, or were not released in it.
        closed: metrics of bounded participation, which rest until `closed_until_ms`.
    """

    deployment_id: str
    plan: str
    lost: int
    closed: tuple[str, ...]
    closed_until_ms: int


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
    with hold_lock(config.state_dir):
        _refuse_used(config)
        partial = config.state_dir / _PARTIAL
        _copy(backup, partial)
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
    verify_budget(verify_chain(store.ledger(), store.checkpoints()), deployment.budget, budgets)
    keys = open_keys(config, new=True)
    head = store.ledger_head(deployment.deployment_id)
    _refuse_fork(keys.mark(), head, store)
    log = FileIntakeLog(config.state_dir / "log", keys, deployment.deployment_id)
    context = Context.of(deployment, timeline, clock=clock, log=log, keys=keys, store=store, mechanisms=mechanisms)
    plan = context.plan
    _refuse_slow_clock(context, now_ms)
    for start in keys.storage_windows():
        if plan.finest.span.end_of(start) <= now_ms:
            keys.destroy(f"data/{start}")
    store.record_restore(Restore(now_ms, head.sequence, keys.mark()))
    lost = _lose_ended(context, now_ms)
    keys.restart_mark(store.ledger_head(deployment.deployment_id))
    closed = {m.name for r in plan.resolutions for m in capped_metrics(plan, r.name)}
    until = plan.privacy.period.window_of(now_ms).end_ms
    return Restored(deployment.deployment_id, f"{plan.name} version {plan.version}", lost, tuple(sorted(closed)), until)


def _refuse_fork(mark: LedgerMark | None, head: LedgerMark, store: StateStore) -> None:
    if mark is None:
        return
    if mark.deployment_id != head.deployment_id:
        raise ConfigError(
            f"the keys belong to deployment {mark.deployment_id}, the backup to {head.deployment_id}; give the keys_dir of "
            "this deployment, or a new one"
        )
    at = next(store.ledger(mark.sequence), None) if mark.sequence else None
    # A backup of before salts ends with the checkpoint that it got when it was opened, after all that was published in it.
    added = at is not None and at.sequence == head.sequence and is_checkpoint(at)
    if at is not None and at.entry_hash != mark.entry_hash and not added:
        raise StateConflict(
            f"the backup has another history than its keys have seen: entry {mark.sequence} of its ledger is not the one "
            "that was published. Restore a backup of the newest history"
        )


def _refuse_slow_clock(context: Context, now_ms: int) -> None:
    states = [WindowState.CLOSING, WindowState.SEALED, WindowState.RELEASED, WindowState.LOST]
    newest = max((r.window.end_ms for r in context.store.windows(states)), default=0)
    if newest > now_ms:
        raise StateConflict(
            f"the clock says {iso(now_ms)}, but the backup knows a window that ended at {iso(newest)}; set the clock, and "
            "try again"
        )


def _lose_ended(context: Context, now_ms: int) -> int:
    """Every window that has ended and is not RELEASED becomes LOST, each resolution in time order; returns how many."""
    store = context.store
    for column in range(len(context.plan.resolutions)):
        for window in context.upcoming(column):
            if window.end_ms > now_ms:
                break
            # It is lost, whoever has agreed: nothing needs its consent.
            store.begin_closing(window, window.end_ms)
    waiting = store.windows([WindowState.CLOSING, WindowState.SEALED])
    for record in waiting:
        if record.state is WindowState.CLOSING:
            store.mark_sealed(record.window)
        lose_window(record.window, context.sealing_ports(record.window))
    return len(waiting)
