"""What raw data is held on one unit now, and when it is destroyed: for the unit itself alone (R3).

What a unit is told is made of its own record, the plan and the time (R4). In which form its rows stand, whether the sealer
is late, and when segments end depends on others: so rows are told as the schedule has them, and not as they stand.
"""

from __future__ import annotations

import contextlib
import itertools
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hushmeter.consent.register import ConsentRegister
from hushmeter.errors import KeyGone, SegmentLost
from hushmeter.ingest.identity import pseudonyms_of
from hushmeter.model.arrays import Int64
from hushmeter.model.key_names import period_key
from hushmeter.model.report import ReportBatch, UInt32
from hushmeter.model.states import WindowState
from hushmeter.model.time import Resolution, Window
from hushmeter.pipeline.claims import ring_record
from hushmeter.pipeline.participation import kept_windows_of, resting_metrics
from hushmeter.plan.built_in import capped_metrics
from hushmeter.sealing.copies import copy_key
from hushmeter.sealing.participation import window_index
from hushmeter.sealing.totals import first_copies, still_used
from hushmeter.service.deployment.context import Context
from hushmeter.transparency.receipt import erased_by_ms


@dataclass(frozen=True, slots=True)
class HeldRows:
    """Rows of one unit in one storage window.

    Attributes:
        window: the storage window.
        reports: how many reports, each once.
        points: by metric, in how many different cells of series and token some window that waits may still count a value.
        dies_ms: from this moment on they are destroyed, once every window over them has ended.
    """

    window: Window
    reports: int
    points: dict[str, int]
    dies_ms: int


@dataclass(frozen=True, slots=True)
class HeldKept:
    """In how many windows whose deadline has passed a metric of bounded participation keeps the unit (P7).

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
class HeldErasure:
    """An erasure whose time is not over.

    Attributes:
        at_ms: when it was received.
        gone_by_ms: by when the rows that it removes are gone, as its receipt says.
    """

    at_ms: int
    gone_by_ms: int


@dataclass(frozen=True, slots=True)
class Holdings:
    """All raw data on one unit.

    Attributes:
        rows: by storage window, in time order; none that an erasure removes.
        kept: sets of kept windows that it is in.
        decisions: how many decisions of it are recorded; they stay, so that withdrawals bind.
        erasure: the newest one; None where it never asked for one, or its time is over.
    """

    rows: tuple[HeldRows, ...]
    kept: tuple[HeldKept, ...]
    decisions: int
    erasure: HeldErasure | None


@dataclass(frozen=True, slots=True)
class _Name:
    """What a unit is known by in one period, and the secret that its copies are told apart by."""

    pseudonym: bytes
    copy_key: bytes


def holdings(context: Context, subject: bytes, allowed: Mapping[int, Int64], now_ms: int) -> Holdings:
    """Reads what is held on a unit.

    What is read does not depend on whether the unit is known: the same buckets of the same files.

    Args:
        context: the deployment.
        subject: of the unit.
        allowed: since when it has allowed each purpose, int64[purposes], by version of the plan whose windows wait.
        now_ms: the moment that is asked about.

    Privacy:
        A function of the unit's own record, the plan and the moment (R4).
    """
    names = _names(context, subject)
    return Holdings(
        tuple(_rows(context, subject, names, allowed, now_ms)),
        tuple(_kept(context, subject, names, now_ms)),
        context.store.count_decisions(subject),
        _erasure(context, subject, now_ms),
    )


def _names(context: Context, subject: bytes) -> dict[int, _Name]:
    """By start of each period whose key is there; keys are not held beyond this call (P3)."""
    found = {}
    for start in context.keys.periods():
        with contextlib.suppress(KeyGone):
            key = context.keys.get(period_key(start))
            found[start] = _Name(pseudonyms_of(key, [subject])[0], copy_key(key))
    return found


def _erasure(context: Context, subject: bytes, now_ms: int) -> HeldErasure | None:
    """By its receipt, not by when its rows are gone: that depends on who else asked."""
    at_ms = context.store.erased_at_ms(subject)
    if at_ms is None:
        return None
    gone_by_ms = erased_by_ms(context.timeline.at(at_ms).plan, at_ms)
    return HeldErasure(at_ms, gone_by_ms) if now_ms < gone_by_ms else None


def _rows(
    context: Context, subject: bytes, names: Mapping[int, _Name], allowed: Mapping[int, Int64], now_ms: int
) -> Iterator[HeldRows]:
    plan, metric_of = context.plan, _metric_names(context)
    # Rows in these segments go: whether they have gone already is not told.
    erased_through = max((e.last_segment for e in context.store.erasures() if e.subject == subject), default=0)
    for start in context.log.storage_windows():
        storage = plan.finest.span.window_from(start)
        waiting = [w for r in plan.resolutions if context.deadline_ms(w := r.span.window_of(storage.end_ms)) > now_ms]
        name = names.get(plan.privacy.period.window_of(storage.end_ms).start_ms)
        if name is None or not waiting:
            continue
        reports = _reports_of(context, start, name, erased_through)
        if len(reports):
            points = Counter(map(metric_of, _cells(context, reports, waiting, allowed).tolist()))
            yield HeldRows(storage, len(reports), dict(sorted(points.items())), context.dies_ms(storage.end_ms))


def _reports_of(context: Context, start_ms: int, name: _Name, after_segment: int = 0) -> ReportBatch:
    """The unit's reports, each once, in those segments of a storage window that were registered after one."""
    found = [ReportBatch.empty()]
    for segment in context.store.segments([start_ms]):
        # Rows that cannot be read any more are told to the operator where they would be sealed.
        with contextlib.suppress(KeyGone, SegmentLost):
            if segment.sequence > after_segment:
                found.append(context.log.rows_of(start_ms, segment.segment_id, name.pseudonym))
    rows = ReportBatch.concat(found)
    return rows.take(first_copies(rows, np.arange(len(rows)), np.zeros(len(rows), np.int64), name.copy_key))


def _cells(context: Context, reports: ReportBatch, waiting: Sequence[Window], allowed: Mapping[int, Int64]) -> UInt32:
    """The series of each different (series, token) in which some waiting window may still count a value.

    The same of rows as they came and of totals of any window that has ended: a total stands where its values did.
    """
    used = np.zeros(len(reports.series), np.bool_)
    for window in waiting:
        era = context.timeline.at(window.start_ms)
        since = allowed.get(era.version.version)
        if since is None:
            # A version that was learnt a moment ago begins later: no row is in its windows yet.
            continue
        since = np.tile(since, (len(reports), 1))
        used |= still_used(reports, [(window, context.deadline_ms(window))], era.catalog, since)
    cells = np.column_stack((reports.series[used], reports.token_numbers[used]))
    return np.unique(cells, axis=0)[:, 0]


def _metric_names(context: Context) -> Callable[[int], str]:
    blocks = context.store.series_blocks()
    firsts = [b.first for b in blocks]
    return lambda number: blocks[bisect_right(firsts, number) - 1].metric


def _kept(context: Context, subject: bytes, names: Mapping[int, _Name], now_ms: int) -> Iterator[HeldKept]:
    """By the schedule: a window keeps the unit from its deadline on, whenever it is published (R4)."""
    for start, name in names.items():
        plan = context.timeline.at(start).plan
        period = plan.privacy.period.window_from(start)
        dies_ms = context.dies_ms(period.end_ms)
        for resolution in plan.resolutions if dies_ms > now_ms else ():
            capped = capped_metrics(plan, resolution.name)
            # What waits is read before the sets: a window that is published meanwhile is in one of both.
            waiting = _waiting(context, resolution, period, now_ms) if capped else []
            present = {window: _metrics_in(context, subject, name, window) for window in waiting}
            for metric in capped:
                windows = set[int]()
                with contextlib.suppress(KeyGone):
                    kept = kept_windows_of(context.store, context.keys, metric.name, resolution.name, start)
                    windows = set() if kept is None else kept.windows_of(name.pseudonym)
                most = metric.bounds[resolution.name].max_windows or 0
                for window in (w for w in waiting if metric.name in present[w]):
                    index = window_index(window, period, resolution.span)
                    if sum(earlier < index for earlier in windows) < most:
                        windows.add(index)
                if windows:
                    yield HeldKept(metric.name, resolution.name, period, len(windows), dies_ms)


def _waiting(context: Context, resolution: Resolution, period: Window, now_ms: int) -> list[Window]:
    """The windows of a period whose deadline has passed and which have not ended, in time order.

    None where nothing of a metric of bounded participation is released any more in that period (C6, C7).
    """
    plan = context.timeline.at(period.start_ms).plan
    first, rests = resolution.span.window_from(period.start_ms), ring_record(context.keys).rests
    if resting_metrics(plan, first, context.store, context.deployment.deployment_id, rests):
        return []
    column = plan.resolutions.index(resolution)
    # Those that are still open first: one that begins to close meanwhile is among the others.
    found = set(itertools.takewhile(lambda w: context.deadline_ms(w) <= now_ms, context.upcoming(column)))
    begun = context.store.windows([WindowState.CLOSING, WindowState.FIXED])
    found |= {record.window for record in begun if record.window.resolution == resolution.name}
    return sorted((w for w in found if period.start_ms <= w.start_ms < period.end_ms), key=lambda w: w.start_ms)


def _metrics_in(context: Context, subject: bytes, name: _Name, window: Window) -> set[str]:
    """The metrics of which a window whose deadline has passed may count the unit, as its consent stood then (P8)."""
    era, deadline_ms = context.timeline.at(window.start_ms), context.deadline_ms(window)
    register = ConsentRegister(era.plan.purposes)
    register.take(0, [d for d in context.store.decisions_of(subject) if d.received_at_ms < deadline_ms])
    since = register.given_since([subject])
    # An erasure of before the cut-off is carried out before the window is sealed, whenever that is.
    erased = (e for e in context.store.erasures() if e.subject == subject and e.at_ms < deadline_ms)
    erased_through = max((e.last_segment for e in erased), default=0)
    found = set[int]()
    for storage in era.plan.finest.span.tiles(window):
        reports = _reports_of(context, storage.start_ms, name, erased_through)
        allowed = np.tile(since, (len(reports), 1))
        used = still_used(reports, [(window, deadline_ms)], era.catalog, allowed)
        found |= set(np.unique(reports.series[used]).tolist())
    return set(map(_metric_names(context), found))
