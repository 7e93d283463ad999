"""Rows that a released window has left behind, as totals: what coarser windows may still use, and nothing else.

A report becomes its id alone, so that a copy of it that comes late still counts once (P2); the points of a unit's reports
become one point a series and token, which stands on one of them. Points that no waiting window releases, and what is not
allowed any more, are left out: consent that is given again reaches later intervals alone (P8). Every bound is applied to
sums (P4-P7), so that a tally of totals is the tally of the rows, whatever is decided and whatever arrives later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hushmeter.model.consent import ConsentTable
from hushmeter.model.report import TOTALS, Bool, ReportBatch, UInt32, gathered, pruned_tokens
from hushmeter.model.time import Int64, Window
from hushmeter.plan.catalog import Catalog
from hushmeter.sealing.mixing import content_hashes
from hushmeter.sealing.radix import first_of_runs
from hushmeter.sealing.rows import assigned, given_since


def totals(
    rows: ReportBatch, segments: Int64, windows: Sequence[tuple[Window, int]], catalog: Catalog, consent: ConsentTable
) -> tuple[ReportBatch, Int64]:
    """Adds the rows of some units up, within each segment, as far as windows that wait allow.

    Copies of one report that differ stay as they are, each, since which of them counts is decided window by window.

    Args:
        rows: every row of these units in one storage window, totals of before included.
        segments: int64[n], in which segment each row is: totals never join segments, which are rewritten one by one.
        windows: the release windows over the storage window that have not ended, each with its deadline.
        catalog: of the plan that they are released under.
        consent: of these units, under the pseudonyms of the windows' period, at this moment.

    Returns:
        The rows that are left; int64[k], which row each of them was.

    Privacy:
        The tally of every waiting window is the same with these rows as with those before, also beside later reports and
        later copies of these, and with every consent that later decisions can lead to. A later copy that says otherwise
        than its report does not count.
    """
    masks = _masks(rows, windows)
    since, units = _since(rows, consent)
    allowed = since <= rows.interval_start_ms[:, None]
    alive = _without_copies(rows, np.flatnonzero(masks), units, masks)
    single = _single(rows, alive, units)
    # What is not allowed now counts nowhere; where there are copies, it decides which of them does.
    stay = ~single | allowed[alive].any(axis=1)
    alive, single = alive[stay], single[stay]
    mine = alive[single]
    groups, carriers = _groups(rows, mine, (segments[mine], units[mine], masks[mine]))
    points, numbers = _points_of(rows, mine)
    chosen = _released(rows, mine, points, numbers, windows, catalog, masks, allowed)
    points, numbers = points[chosen], groups[numbers[chosen]]
    order = np.lexsort((rows.token_numbers[points], rows.series[points], numbers))
    points, numbers = points[order], numbers[order]
    cells = rows.series[points].astype(np.int64), rows.token_numbers[points].astype(np.int64)
    first = np.flatnonzero(first_of_runs(numbers, *cells))
    # Sums wrap as those of sealing do, which adds these up further.
    values = np.add.reduceat(rows.values[points], first) if len(first) else np.zeros(0, np.int64)
    added = (carriers[numbers[first]], rows.series[points[first]], values, rows.token_numbers[points[first]])
    others, at = _points_of(rows, alive[~single])
    kept = (alive[~single][at], rows.series[others], rows.values[others], rows.token_numbers[others])
    return _rebuilt(rows, alive, mine, (added, kept)), alive


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


def _by_report(rows: ReportBatch, chosen: Int64, units: Int64) -> tuple[Int64, Bool]:
    """Rows by report, totals first and then by receipt; where reports begin."""
    ids, totalled = rows.report_ids[chosen], rows.plan_versions[chosen] == TOTALS
    order = np.lexsort((rows.received_at_ms[chosen], ~totalled, ids[:, 1], ids[:, 0], units[chosen]))
    ids = ids[order]
    return order, first_of_runs(units[chosen][order], ids[:, 0], ids[:, 1])


def _without_copies(rows: ReportBatch, chosen: Int64, units: Int64, masks: Int64) -> Int64:
    """Leaves out copies that count in no window in which the first of their report does not, and say the same."""
    order, first = _by_report(rows, chosen, units)
    if first.all():
        return chosen
    ordered = chosen[order]
    leads = ordered[np.flatnonzero(first)[np.cumsum(first) - 1]]
    copies = np.flatnonzero(~first)
    hashes = content_hashes(rows.take(ordered[copies])), content_hashes(rows.take(leads[copies]))
    same = (hashes[0] == hashes[1]) | (rows.plan_versions[leads[copies]] == TOTALS)
    within = (masks[ordered[copies]] & ~masks[leads[copies]]) == 0
    stay = np.ones(len(chosen), np.bool_)
    stay[order[copies[same & within]]] = False
    return chosen[stay]


def _single(rows: ReportBatch, chosen: Int64, units: Int64) -> Bool:
    """Of which rows there is no other copy, bool[k]."""
    order, first = _by_report(rows, chosen, units)
    last = np.append(first[1:], True) if len(first) else first
    single = np.zeros(len(chosen), np.bool_)
    single[order] = first & last
    return single


def _groups(rows: ReportBatch, chosen: Int64, keys: tuple[Int64, ...]) -> tuple[Int64, Int64]:
    """Groups rows by some keys: int64[k], each one's group; int64[g], of each the row whose interval begins last.

    What was allowed before the interval of any row of a group was allowed before that one, and the rows of a group belong
    to the same windows, so that it can stand for all.
    """
    order = np.lexsort((rows.interval_start_ms[chosen], *keys))
    first = first_of_runs(*(key[order] for key in keys))
    groups = np.zeros(len(chosen), np.int64)
    groups[order] = np.cumsum(first) - 1
    last = np.append(first[1:], True) if len(first) else first
    return groups, chosen[order[last]]


def _points_of(rows: ReportBatch, chosen: Int64) -> tuple[Int64, Int64]:
    """The points of some rows, int64[m], and which of those rows each is of, int64[m]."""
    offsets, points = gathered(rows.offsets, chosen)
    return points, np.repeat(np.arange(len(chosen)), np.diff(offsets))


def _released(
    rows: ReportBatch,
    chosen: Int64,
    points: Int64,
    numbers: Int64,
    windows: Sequence[tuple[Window, int]],
    catalog: Catalog,
    masks: Int64,
    allowed: Bool,
) -> Bool:
    """Which points some window releases that their row belongs to, and are allowed for every purpose: bool[m] (P8)."""
    plan = catalog.plan
    usable = np.zeros((len(plan.metrics) + 1, len(chosen)), np.bool_)
    for index, metric in enumerate(plan.metrics):
        over = sum(1 << bit for bit, (window, _) in enumerate(windows) if metric in plan.metrics_in(window))
        purposes = [plan.purpose_names.index(purpose) for purpose in metric.purposes]
        usable[index] = (masks[chosen] & over > 0) & allowed[chosen][:, purposes].all(axis=1)
    # Series that the plan does not know are numbered -1: the last row, of nothing.
    metrics, _ = catalog.locate(rows.series[points])
    found: Bool = usable[metrics, numbers]
    return found


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
