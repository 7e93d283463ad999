"""The keys of pseudonyms that one worker keeps in memory, and when it forgets them (P3)."""

from __future__ import annotations

from collections.abc import Mapping

from hushmeter.errors import KeyGone
from hushmeter.model.key_names import period_key
from hushmeter.service.deployment.context import Context

PERIOD_KEYS_MAX = 16
"""Keys that are kept; the oldest period's goes first, and is read again where a report needs it."""


class PeriodKeys:
    """The keys of those periods whose reports a worker takes. The commit thread alone calls.

    Args:
        context: the deployment.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._keys: dict[int, bytes] = {}

    def key(self, period_start_ms: int) -> bytes:
        """The key of a period; the key ring makes it where the period has none yet.

        Args:
            period_start_ms: when the period starts.

        Raises:
            KeyGone: the period has ended and its key was destroyed, or it was lost.
            KeyUnavailable: the key cannot be read now.
        """
        key = self._keys.get(period_start_ms)
        if key is None:
            key = self._context.keys.get_or_create(period_key(period_start_ms))
            if len(self._keys) >= PERIOD_KEYS_MAX:
                self._keys.pop(min(self._keys))
            self._keys[period_start_ms] = key
        return key

    def kept(self) -> Mapping[int, bytes]:
        """The keys in memory, by start of their period; a view, which shows what is kept at each moment."""
        return self._keys

    def forget_ended(self, now_ms: int) -> None:
        """Forgets the keys that no report needs any more: a key that the ring destroys may be nowhere else (P3).

        A key is forgotten from the last deadline of its period on. It is forgotten sooner where the ring has lost it: what
        a worker took under such a key could never be released.

        Args:
            now_ms: the worker's time.
        """
        plan = self._context.plan
        for start in list(self._keys):
            end = plan.privacy.period.end_of(start)
            if all(self._context.deadline_ms(r.span.window_of(end)) <= now_ms for r in plan.resolutions):
                del self._keys[start]
                continue
            try:
                self._context.keys.get(period_key(start))
            except KeyGone:
                del self._keys[start]
