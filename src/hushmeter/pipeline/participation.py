"""What a period carries from window to window: pseudonyms of consent, and encrypted sets of kept windows (P3, P7)."""

from __future__ import annotations

from collections.abc import Collection

import structlog

from hushmeter.consent.register import ConsentRegister
from hushmeter.ingest.identity import pseudonyms_of
from hushmeter.model.consent import ConsentTable
from hushmeter.model.key_names import period_key
from hushmeter.model.participation import KeptWindows
from hushmeter.model.plan import Plan
from hushmeter.model.tally import Tally
from hushmeter.model.time import Window
from hushmeter.plan.built_in import capped_metrics
from hushmeter.ports import KeyRing, StateStore
from hushmeter.sealing.participation import decrypted, encrypted, window_index
from hushmeter.sealing.seal import Participation

_log = structlog.get_logger("hushmeter.sealer")


def consent_table(keys: KeyRing, consent: ConsentRegister, period: Window) -> ConsentTable:
    """Consent under the pseudonyms of a period, as of the register's newest decision."""
    key = keys.get_or_create(period_key(period.start_ms))
    return consent.table(period.start_ms, lambda subjects: pseudonyms_of(key, subjects))


def kept_windows_of(
    store: StateStore, keys: KeyRing, metric: str, resolution: str, period_start_ms: int
) -> KeptWindows | None:
    """Which windows of a period have kept which units; None before the first (P7).

    Raises:
        KeyGone, KeyUnavailable: the sets cannot be read.
    """
    sealed = store.kept_windows(metric, resolution, period_start_ms)
    if sealed is None:
        return None
    return decrypted(sealed, keys.get(period_key(period_start_ms)), _place(metric, resolution, period_start_ms))


def _place(metric: str, resolution: str, period_start_ms: int) -> bytes:
    return f"{metric}/{resolution}/{period_start_ms}".encode()


class CarriedWindows:
    """The sets that one window is sealed with, and that its publication carries on.

    Args:
        plan: in force.
        window: that is sealed; windows of a resolution come strictly in time order.
        period: that holds it.
        store: where the sets are kept, encrypted; changed by publication alone.
        keys: holds the period's key.
    """

    def __init__(self, plan: Plan, window: Window, period: Window, store: StateStore, keys: KeyRing) -> None:
        self._plan, self._window, self._period = plan, window, period
        self._store, self._keys = store, keys
        self._before: dict[str, Participation] = {}

    def before(self) -> dict[str, Participation]:
        """What earlier windows of the period kept, by metric.

        Raises:
            KeyGone, KeyUnavailable: the sets cannot be read.
        """
        span = self._plan.resolution(self._window.resolution).span
        index = window_index(self._window, self._period, span)
        none = KeptWindows.none(span.most_in(self._plan.privacy.period))
        for metric in capped_metrics(self._plan, self._window.resolution):
            earlier = kept_windows_of(self._store, self._keys, metric.name, self._window.resolution, self._period.start_ms)
            self._before[metric.name] = Participation(none if earlier is None else earlier, index)
        return self._before

    def closed(self, deployment_id: str, rests: Collection[int]) -> frozenset[str]:
        """Metrics that a restore has closed for the rest of its period (C6), a publication that was lost (C7), or damage.

        Which windows had kept which units died with the state; releasing more of them could exceed their cap (P7).

        Args:
            deployment_id: whose restores.
            rests: see `RingRecord`.
        """
        restores = self._store.restores(deployment_id)
        restored = {self._plan.privacy.period.window_of(r.at_ms).start_ms for r in restores}
        capped = frozenset(metric.name for metric in capped_metrics(self._plan, self._window.resolution))
        if self._period.start_ms in restored.union(rests):
            return capped
        place = self._window.resolution, self._period.start_ms, self._window.start_ms
        missing = frozenset(metric for metric in capped if self._store.lacks_kept_windows(metric, *place))
        if missing:
            _log.error(
                "sets of kept windows are missing; their metrics rest", metrics=sorted(missing), period=str(self._period)
            )
        return missing

    def after(self, tally: Tally) -> dict[str, bytes]:
        """What the period has kept once this window is published, encrypted, by metric."""
        kept = {m: b.earlier.keeping(tally.kept[m], b.index) for m, b in self._before.items() if m in tally.kept}
        at, start = self._window.resolution, self._period.start_ms
        return {metric: encrypted(windows, self._key(), _place(metric, at, start)) for metric, windows in kept.items()}

    def _key(self) -> bytes:
        return self._keys.get_or_create(period_key(self._period.start_ms))
