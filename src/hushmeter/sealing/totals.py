"""Rows that a window has left behind for good become totals: what coarser windows may still use, and nothing else.

Of each report one copy counts, the same in every window (P2); its other copies are left out. The row of the copy that
counts stays with id and receipt, so that a copy which comes late counts nowhere. The points of a unit's reports become one
point a series and token, which stands on one of these rows. Points that no waiting window releases are left out, and points
that their unit does not allow any more: consent that is given again reaches later intervals alone (P8). Every bound is
applied to sums (P4-P7), so that a tally of totals is the tally of the rows, whatever is decided and whatever arrives
afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hushmeter.model.arrays import Bool, Int64
from hushmeter.model.consent import ConsentTable
from hushmeter.model.report import TOTALS, ReportBatch, UInt32, gathered, pruned_tokens
from hushmeter.model.time import Window
from hushmeter.plan.catalog import Catalog
from hushmeter.sealing.copies import counting
from hushmeter.sealing.radix import first_of_runs
from hushmeter.sealing.rows import assigned, given_since


def totals(
    rows: ReportBatch,
    segments: Int64,
    fixed_ms: int,
    windows: Sequence[tuple[Window, int]],
    catalog: Catalog,
    consent: ConsentTable,
    key: bytes,
) -> tuple[ReportBatch, Int64]:
    """Adds the rows of some units up, within each segment, as far as windows that wait allow.

    Args:
        rows: every row of these units in one storage window that was received before `fixed_ms`, and others; totals of
            before included.
        segments: int64[n], in which segment each row is: totals never join segments, which are rewritten one by one.
        fixed_ms: no row that was received before this moment can be added to the storage window any more: the deadline of
            a window over it whose rows are final. Rows that were received later stay as they are: an earlier copy of their
            reports may still be found.
        windows: the release windows over the storage window that have not ended, each with its deadline.
        catalog: of the plan that they are released under.
        consent: of these units, under the pseudonyms of the windows' period, as of now or earlier.
        key: see `copy_key`.

    Returns:
        The rows that are left; int64[k], which row each of them was.

    Privacy:
        The tally of every waiting window is the same with these rows as with those before, also beside later reports and
        later copies of these, and with every consent that later decisions can lead to: whether rows have become totals, and
        when, decides nothing (P9).
    """
    since, units = _since(rows, consent)
    fixed = (rows.received_at_ms < fixed_ms) | (rows.plan_versions == TOTALS)
    mine = first_copies(rows, np.flatnonzero(fixed), units, key)
    groups, carriers = _groups(rows, mine, (segments[mine], units[mine], _masks(rows, windows)[mine]))
    points, numbers = _points_of(rows, mine)
    chosen = still_used(rows, windows, catalog, since)[points]
    points, numbers = points[chosen], groups[numbers[chosen]]
    order = np.lexsort((rows.token_numbers[points], rows.series[points], numbers))
    points, numbers = points[order], numbers[order]
    cells = rows.series[points].astype(np.int64), rows.token_numbers[points].astype(np.int64)
    first = np.flatnonzero(first_of_runs(numbers, *cells))
    # A sum may wrap around in int64. Sealing adds it up further in the same arithmetic, so the unit's total is the same.
    values = np.add.reduceat(rows.values[points], first)
    added = (carriers[numbers[first]], rows.series[points[first]], values, rows.token_numbers[points[first]])
    others = np.flatnonzero(~fixed)
    theirs, at = _points_of(rows, others)
    kept = (others[at], rows.series[theirs], rows.values[theirs], rows.token_numbers[theirs])
    alive = np.sort(np.concatenate((mine, others)))
    return _rebuilt(rows, alive, mine, (added, kept)), alive


def first_copies(rows: ReportBatch, chosen: Int64, units: Int64, key: bytes) -> Int64:
    """Of some rows of one storage window those that count, one a report (P2).

    Args:
        rows: the rows.
        chosen: int64[k], indices of some.
        units: int64[n], the number of each row's unit.
        key: see `copy_key`.

    Returns:
        int64[j], indices, rising.
    """
    ids, units = rows.report_ids[chosen], units[chosen]
    order = np.lexsort((ids[:, 1], ids[:, 0], units))
    begins = first_of_runs(units[order], ids[order, 0], ids[order, 1])
    return np.sort(chosen[order[counting(rows, chosen[order], begins, key)]])


def still_used(rows: ReportBatch, windows: Sequence[tuple[Window, int]], catalog: Catalog, since: Int64) -> Bool:
    """Which points some window releases that their row belongs to, and are allowed for every purpose (P8).

    Args:
        rows: n rows with m points.
        windows: some release windows, each with its deadline.
        catalog: of the plan that they are released under.
        since: int64[n, purposes], since when each row's unit has allowed each purpose of that plan.

    Returns:
        bool[m]; the same of a point and of the total that it has been added to.
    """
    plan, masks = catalog.plan, _masks(rows, windows)
    allowed = since <= rows.asks_consent_at_ms[:, None]
    usable = np.zeros((len(plan.metrics) + 1, len(rows)), np.bool_)
    for index, metric in enumerate(plan.metrics):
        over = sum(1 << bit for bit, (window, _) in enumerate(windows) if metric in plan.metrics_in(window))
        purposes = [plan.purpose_names.index(purpose) for purpose in metric.purposes]
        usable[index] = (masks & over > 0) & allowed[:, purposes].all(axis=1)
    # `locate` gives a series that the plan does not know the metric -1, which is the last row of `usable`: no window uses
    # it.
    metrics, _ = catalog.locate(rows.series)
    found: Bool = usable[metrics, np.repeat(np.arange(len(rows)), np.diff(rows.offsets))]
    return found


def _masks(rows: ReportBatch, windows: Sequence[tuple[Window, int]]) -> Int64:
    """Which windows each row belongs to, a bit each: int64[n]."""
    masks = np.zeros(len(rows), np.int64)
    for bit, (window, deadline_ms) in enumerate(windows):
        masks[assigned(rows, window, deadline_ms)] |= 1 << bit
    return masks


def _since(rows: ReportBatch, consent: ConsentTable) -> tuple[Int64, Int64]:
    """Since when each row's unit has allowed each purpose, int64[n, p], and the number of its unit, int64[n]."""
    order = np.lexsort((rows.pseudonyms[:, 1], rows.pseudonyms[:, 0]))
    first = first_of_runs(rows.pseudonyms[order, 0], rows.pseudonyms[order, 1])
    units = np.zeros(len(rows), np.int64)
    units[order] = np.cumsum(first) - 1
    return given_since(rows.pseudonyms[order[first]], consent)[units], units


def _groups(rows: ReportBatch, chosen: Int64, keys: tuple[Int64, ...]) -> tuple[Int64, Int64]:
    """Groups rows by some keys: int64[k], each one's group; int64[g], of each the row that asks for consent last.

    What was allowed in time for any row of a group was allowed in time for that one, and the rows of a group belong
    to the same windows, so that it can stand for all.
    """
    order = np.lexsort((rows.asks_consent_at_ms[chosen], *keys))
    first = first_of_runs(*(key[order] for key in keys))
    groups = np.zeros(len(chosen), np.int64)
    groups[order] = np.cumsum(first) - 1
    last = np.append(first[1:], True) if len(first) else first
    return groups, chosen[order[last]]


def _points_of(rows: ReportBatch, chosen: Int64) -> tuple[Int64, Int64]:
    """The points of some rows, int64[m], and which of those rows each is of, int64[m]."""
    offsets, points = gathered(rows.offsets, chosen)
    return points, np.repeat(np.arange(len(chosen)), np.diff(offsets))


def _rebuilt(
    rows: ReportBatch, alive: Int64, merged: Int64, points: Sequence[tuple[Int64, UInt32, Int64, UInt32]]
) -> ReportBatch:
    """The rows that are left, with other points, given as columns of row, series, value and token number."""
    of, series, values, tokens = (np.concatenate(column) for column in zip(*points, strict=True))
    order = np.argsort(of, kind="stable")
    lengths = np.bincount(of, minlength=len(rows))[alive]
    versions = rows.plan_versions.copy()
    versions[merged] = TOTALS
    left = replace(
        rows.take(alive),
        plan_versions=versions[alive],
        offsets=np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))),
        series=series[order],
        values=values[order],
        token_numbers=tokens[order],
    )
    dictionary, numbers = pruned_tokens(left.tokens, left.token_numbers)
    return replace(left, tokens=dictionary, token_numbers=numbers)
