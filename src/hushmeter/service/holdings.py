"""What raw data is held on one unit now, and when it dies: for the unit itself, and for nobody else (R3).

Read as it is at this moment, beside everything that goes on: what dies meanwhile is left out.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from hushmeter.carried import kept_windows
from hushmeter.errors import KeyGone, SegmentLost
from hushmeter.ingest.identity import pseudonyms_of
from hushmeter.model.report import TOTALS, ReportBatch
from hushmeter.model.time import Window
from hushmeter.plan.built_in import capped_metrics
from hushmeter.service.context import Context


@dataclass(frozen=True, slots=True)
class HeldRows:
    """Rows of one unit in one storage window.

    Attributes:
        window: the storage window.
        reports: how many rows stand as they were reported.
        totals: how many rows hold totals of several reports, or a report's id alone.
        points: by metric, how many values.
        dies_ms: from this moment on they are destroyed, once every window over them has ended.
    """

    window: Window
    reports: int
    totals: int
    points: dict[str, int]
    dies_ms: int


@dataclass(frozen=True, slots=True)
class HeldKept:
    """In how many windows of a period a metric of bounded participation has kept the unit (P7).

    Attributes:
        metric, resolution: whose windows.
        period: of protection.
        windows: how many.
        dies_ms: as of `HeldRows`.
    """

    metric: str
    resolution: str
    period: Window
    windows: int
    dies_ms: int


@dataclass(frozen=True, slots=True)
class Holdings:
    """All raw data on one unit.

    Attributes:
        rows: by storage window, in time order.
        kept: sets of kept windows that it is in.
        decisions: how many decisions of it are recorded; they stay, so that withdrawals bind.
        erasure_ms: since when the removal of rows has been waiting; None where none is.
    """

    rows: tuple[HeldRows, ...]
    kept: tuple[HeldKept, ...]
    decisions: int
    erasure_ms: int | None


def holdings(context: Context, subject: bytes) -> Holdings:
    """Reads what is held on a unit.

    What is read does not depend on whether the unit is known: the same buckets of the same files.

    Args:
        context: the deployment.
        subject: of the unit.
    """
    pseudonyms = _pseudonyms(context, subject)
    waiting = [e.at_ms for e in context.store.erasures() if e.subject == subject]
    return Holdings(
        tuple(_rows(context, pseudonyms)),
        tuple(_kept(context, pseudonyms)),
        context.store.count_decisions(subject),
        min(waiting, default=None),
    )


def _pseudonyms(context: Context, subject: bytes) -> dict[int, bytes]:
    """By start of each period whose key is there, the unit's pseudonym; keys are not held beyond this call (P3)."""
    found = {}
    for start in context.keys.periods():
        with contextlib.suppress(KeyGone):
            (found[start],) = pseudonyms_of(context.keys.get(f"period/{start}"), [subject])
    return found


def _rows(context: Context, pseudonyms: dict[int, bytes]) -> Iterator[HeldRows]:
    plan, metric_of = context.plan, _metric_names(context)
    for start in context.log.storage_windows():
        window = plan.finest.span.window_from(start)
        pseudonym = pseudonyms.get(plan.privacy.period.window_of(window.end_ms).start_ms)
        if pseudonym is None:
            continue
        found = [ReportBatch.empty()]
        for segment in context.store.segments([start]):
            # Rows that cannot be read any more are told to the operator where they would be sealed.
            with contextlib.suppress(KeyGone, SegmentLost):
                found.append(context.log.rows_of(start, segment.segment_id, pseudonym))
        rows = ReportBatch.concat(found)
        if len(rows):
            totals = int(np.count_nonzero(rows.plan_versions == TOTALS))
            points = Counter(map(metric_of, rows.series.tolist()))
            yield HeldRows(window, len(rows) - totals, totals, dict(sorted(points.items())), context.dies_ms(window.end_ms))


def _metric_names(context: Context) -> Callable[[int], str]:
    blocks = context.store.series_blocks()
    firsts = [b.first for b in blocks]
    return lambda number: blocks[bisect_right(firsts, number) - 1].metric


def _kept(context: Context, pseudonyms: dict[int, bytes]) -> Iterator[HeldKept]:
    for start, pseudonym in pseudonyms.items():
        plan = context.timeline.at(start).plan
        period = plan.privacy.period.window_from(start)
        for resolution in plan.resolutions:
            for metric in capped_metrics(plan, resolution.name):
                with contextlib.suppress(KeyGone):
                    kept = kept_windows(context.store, context.keys, metric.name, resolution.name, start)
                    windows = 0 if kept is None else kept.windows_of(pseudonym)
                    if windows:
                        yield HeldKept(metric.name, resolution.name, period, windows, context.dies_ms(period.end_ms))
