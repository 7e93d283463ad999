"""What raw data a deployment holds now, and when it is destroyed: rows, kept windows, keys, decisions (P3, P7).

Operators see it; it names no unit. Counts of rows are not told, for they would have to be decrypted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from hushmeter.model.time import iso
from hushmeter.plan.built_in import capped_metrics
from hushmeter.service.deployment.context import Context
from hushmeter.transparency.receipt import erased_by_ms


class RowKind(StrEnum):
    """What is held."""

    ROWS = "raw rows"
    TOTALS = "compacted totals"
    KEPT_WINDOWS = "kept windows"
    PSEUDONYM_KEY = "key of pseudonyms"
    DECISIONS = "consent decisions"
    ERASURES = "rows to be erased"


@dataclass(frozen=True, slots=True)
class Held:
    """Something that is raw data, or lets somebody read it.

    Attributes:
        kind: of it.
        name: which: a window or period, and of kept windows the metric and resolution too.
        count: of it: segments, decisions, erasures; 1 where it is one thing.
        size_bytes: on the disk, encrypted.
        dies_ms: from this moment on the sealer destroys it, once every window that needs it has ended; None where it stays.
    """

    kind: RowKind
    name: str
    count: int
    size_bytes: int
    dies_ms: int | None


def held(context: Context) -> tuple[Held, ...]:
    """Everything that is held now, in the order in which it is destroyed; what stays comes last."""
    found = [*_rows(context), *_of_periods(context), *_erasures(context), *_decisions(context)]
    return tuple(sorted(found, key=lambda h: (h.dies_ms is None, h.dies_ms or 0, h.kind, h.name)))


def _rows(context: Context) -> Iterator[Held]:
    finest = context.plan.finest.span
    for start in context.log.storage_windows():
        window = finest.window_from(start)
        dies = context.dies_ms(window.end_ms)
        segments = [s.segment_id for s in context.store.segments([start])]
        totals = {name for name in segments if context.log.kept_for(start, name)}
        for kind, some in ((RowKind.ROWS, [n for n in segments if n not in totals]), (RowKind.TOTALS, sorted(totals))):
            if some:
                yield Held(kind, str(window), len(some), context.log.size_bytes(start, some), dies)


def _of_periods(context: Context) -> Iterator[Held]:
    plan = context.plan
    for start in context.keys.periods():
        period = plan.privacy.period.window_from(start)
        dies = context.dies_ms(period.end_ms)
        yield Held(RowKind.PSEUDONYM_KEY, str(period), 1, 0, dies)
        then = context.timeline.at(start).plan
        for resolution in then.resolutions:
            for metric in capped_metrics(then, resolution.name):
                kept = context.store.kept_windows(metric.name, resolution.name, start)
                if kept is not None:
                    name = f"{metric.name} at {resolution.name}, {period}"
                    yield Held(RowKind.KEPT_WINDOWS, name, 1, len(kept), dies)


def _erasures(context: Context) -> Iterator[Held]:
    waiting = context.store.erasures()
    if waiting:
        since = f"asked for by units, since {iso(waiting[0].at_ms)}"
        yield Held(RowKind.ERASURES, since, len(waiting), 0, erased_by_ms(context.plan, waiting[0].at_ms))


def _decisions(context: Context) -> Iterator[Held]:
    sequence, _ = context.store.decisions_after(_BEYOND_ALL)
    if sequence:
        yield Held(RowKind.DECISIONS, "of all units, by subject", sequence, 0, None)


_BEYOND_ALL = 2**62
