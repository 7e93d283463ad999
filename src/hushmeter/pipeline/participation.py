"""What a period carries from window to window: pseudonyms of consent, and encrypted sets of kept windows (P3, P7).

    carried_into(window) -> CarriedWindows -> sealing -> Tally -> carried_on(carried, tally) -> publication

Each step takes what the step before it returned, and the values are frozen: none can be left out or done twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog

from hushmeter.consent.register import ConsentRegister
from hushmeter.ingest.identity import pseudonyms_of, window_salt
from hushmeter.model.consent import ConsentTable
from hushmeter.model.key_names import period_key
from hushmeter.model.participation import KeptWindows
from hushmeter.model.plan import Plan
from hushmeter.model.tally import Tally
from hushmeter.model.time import Window
from hushmeter.plan.built_in import capped_metrics
from hushmeter.ports import KeyRing, StateStore, WindowStore
from hushmeter.sealing.copies import copy_key
from hushmeter.sealing.participation import decrypted, encrypted, window_index
from hushmeter.sealing.seal import Participation

_log = structlog.get_logger("hushmeter.sealer")


def consent_table(keys: KeyRing, consent: ConsentRegister, period: Window) -> ConsentTable:
    """Consent under the pseudonyms of a period, as of the register's newest decision."""
    key = keys.get_or_create(period_key(period.start_ms))
    return consent.table(period.start_ms, lambda subjects: pseudonyms_of(key, subjects))


def sealing_secrets(keys: KeyRing, window: Window, period: Window) -> tuple[bytes, bytes]:
    """What the key of a period gives a window: its salt, for orders of partitions (P4), and the copies' key (P2)."""
    key = keys.get_or_create(period_key(period.start_ms))
    return window_salt(key, window), copy_key(key)


def kept_windows_of(
    store: WindowStore, keys: KeyRing, metric: str, resolution: str, period_start_ms: int
) -> KeptWindows | None:
    """Which windows of a period have kept which units; None before the first (P7).

    Raises:
        KeyGone, KeyUnavailable: the sets cannot be read.
    """
    ciphertext = store.kept_windows(metric, resolution, period_start_ms)
    if ciphertext is None:
        return None
    return decrypted(ciphertext, keys.get(period_key(period_start_ms)), _place(metric, resolution, period_start_ms))


def _place(metric: str, resolution: str, period_start_ms: int) -> bytes:
    return f"{metric}/{resolution}/{period_start_ms}".encode()


def resting_metrics(
    plan: Plan, window: Window, store: StateStore, deployment_id: str, rests: Collection[int]
) -> frozenset[str]:
    """The metrics of bounded participation that a window releases nothing of.

    They rest for the whole period where a restore (C6), a lost publication (C7) or damage took the sets of kept windows:
    nobody knows any more which units were kept, and releasing more windows of them could exceed their cap (P7).

    Args:
        plan: in force.
        window: that is asked about.
        store: where the sets are kept, encrypted.
        deployment_id: whose restores count.
        rests: see `RingRecord`.
    """
    capped = frozenset(metric.name for metric in capped_metrics(plan, window.resolution))
    period = plan.privacy.period.window_of(window.end_ms)
    restored = {plan.privacy.period.window_of(r.at_ms).start_ms for r in store.restores(deployment_id)}
    if period.start_ms in restored.union(rests):
        return capped
    place = window.resolution, period.start_ms, window.start_ms
    missing = frozenset(metric for metric in capped if store.lacks_kept_windows(metric, *place))
    if missing:
        _log.error("sets of kept windows are missing; their metrics rest", metrics=sorted(missing), period=str(period))
    return missing


@dataclass(frozen=True, slots=True)
class CarriedWindows:
    """The sets of kept windows that one window is sealed with: made by `carried_into`, carried on by `carried_on`.

    Attributes:
        resolution: of the window.
        period_start_ms: of the period that holds the window.
        by_metric: what earlier windows of the period kept, of every metric that bounds its participation.
    """

    resolution: str
    period_start_ms: int
    by_metric: Mapping[str, Participation]


def carried_into(plan: Plan, window: Window, store: WindowStore, keys: KeyRing) -> CarriedWindows:
    """What earlier windows of its period carry into a window.

    Args:
        plan: in force.
        window: that is to be sealed; windows of a resolution come strictly in time order.
        store: where the sets are kept, encrypted.
        keys: hold the period's key.

    Raises:
        KeyGone, KeyUnavailable: the sets cannot be read.
    """
    span, at = plan.resolution(window.resolution).span, window.resolution
    period = plan.privacy.period.window_of(window.end_ms)
    index = window_index(window, period, span)
    none = KeptWindows.none(span.most_in(plan.privacy.period))
    found = {
        metric.name: kept_windows_of(store, keys, metric.name, at, period.start_ms) for metric in capped_metrics(plan, at)
    }
    by_metric = {name: Participation(none if earlier is None else earlier, index) for name, earlier in found.items()}
    return CarriedWindows(at, period.start_ms, by_metric)


def carried_on(carried: CarriedWindows, tally: Tally, keys: KeyRing) -> dict[str, bytes]:
    """What the period has kept once a window is published: encrypted sets by metric, which publication alone may store.

    Args:
        carried: what the window was sealed with.
        tally: what it was sealed to, without the metrics that rest: their sets stay as they are.
        keys: hold the period's key.
    """
    at, start, key = carried.resolution, carried.period_start_ms, period_key(carried.period_start_ms)
    kept = {m: p.earlier.keeping(tally.kept[m], p.index) for m, p in carried.by_metric.items() if m in tally.kept}
    return {m: encrypted(windows, keys.get_or_create(key), _place(m, at, start)) for m, windows in kept.items()}
