"""Destroys what no window needs any more: keys first, then files (P3, P7)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import structlog

from hushmeter.model.key_names import data_key, period_key
from hushmeter.service.deployment.consent_registers import Registers
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.logs import fields_of
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.sealer.totals_rewriting import ends

_log = structlog.get_logger("hushmeter.sealer")


@contextlib.contextmanager
def others_go_on(meters: Meters, key: str) -> Iterator[None]:
    """Logs and counts whatever goes wrong inside, so that one thing that cannot be destroyed keeps no other one.

    Args:
        meters: operators' metrics.
        key: what is being destroyed, for the log.
    """
    try:
        yield
    except Exception as error:
        meters.failures.labels("scrub").inc()
        _log.error("destruction failed, will try again", key=key, **fields_of(error))


class Scrubbing:
    """Scrubs the storage windows and periods whose release windows have all ended. One thread calls.

    Args:
        context: the deployment.
        meters: operators' metrics.
        consent: the sealer's registers, which hold pseudonyms of periods.
    """

    def __init__(self, context: Context, meters: Meters, consent: Registers) -> None:
        self._context = context
        self._meters = meters
        self._consent = consent
        self._swept = False

    def run(self) -> None:
        """Destroys what has ended, and what an earlier attempt or another process left of it."""
        self._destroy_periods()
        self._destroy_storage_windows()

    def _destroy_periods(self) -> None:
        context, period = self._context, self._context.plan.privacy.period
        starts = {period.end_of(start): start for start in context.keys.periods()}
        ended = self._ended(starts)
        self._consent.keep([start for end_ms, start in starts.items() if end_ms not in ended])
        for end_ms in ended:
            start = starts[end_ms]
            with others_go_on(self._meters, period_key(start)):
                # The key goes last: while it is there, the next poll comes back to all of this.
                context.store.forget_kept_windows(start)
                context.keys.destroy(period_key(start))

    def _destroy_storage_windows(self) -> None:
        context, span = self._context, self._context.plan.finest.span
        found = context.log.storage_windows()
        if not self._swept:
            # A crash or a restore may leave keys without files. The first run looks for them, and no later one: each key
            # that is made from now on has files, or is destroyed by the first run of the next start.
            found = (*found, *context.keys.storage_windows())
        starts = {span.end_of(start): start for start in found}
        for end_ms in self._ended(starts):
            start = starts[end_ms]
            with others_go_on(self._meters, data_key(start)):
                context.store.mark_scrubbed(start)
                context.keys.destroy(data_key(start))
                context.log.destroy(start)
        self._swept = True

    def _ended(self, moments_ms: Iterable[int]) -> list[int]:
        """Those moments whose release windows have ended at every resolution."""
        has_ended, resolutions = ends(self._context), self._context.plan.resolutions
        return [m for m in moments_ms if all(has_ended(r.span.window_of(m)) for r in resolutions)]
