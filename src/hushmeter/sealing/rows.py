"""From rows to one row a report, sorted by unit: the copy that counts (P2), where the window holds it (T2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hushmeter.model.arrays import Bool, Int64, UInt64
from hushmeter.model.consent import NEVER, ConsentTable
from hushmeter.model.report import ReportBatch, UInt16
from hushmeter.model.time import Span, Window
from hushmeter.sealing.copies import counting
from hushmeter.sealing.radix import DIGIT_BITS, first_of_runs, sorted_by

_SORTED_BITS = 32
"""So many bits of pseudonyms are sorted by. About one bucket in a hundred has two units that share all of them."""
_FIRST_ODD, _SECOND_ODD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


def assigned(rows: ReportBatch, window: Window, deadline_ms: int) -> Int64:
    """The rows that belong to a window: their interval ends in it, is no longer than it, and arrived in time (T2).

    Args:
        rows: of all storage windows under the window.
        window: the release window.
        deadline_ms: from this moment on the window takes no report.

    Returns:
        int64[k], indices in rising order.
    """
    inside = (rows.interval_end_ms > window.start_ms) & (rows.interval_end_ms <= window.end_ms)
    in_time = rows.received_at_ms < deadline_ms
    fits = rows.interval_end_ms - rows.interval_start_ms <= window.end_ms - window.start_ms
    return np.flatnonzero(inside & in_time & fits)


@dataclass(frozen=True, slots=True)
class UnitRows:
    """Some rows, unit after unit.

    Attributes:
        rows: int64[j], their indices.
        units: int64[j], each one's unit in `pseudonyms`, rising.
        pseudonyms: uint64[u, 2], rising; also of units of which no row is left.
    """

    rows: Int64
    units: Int64
    pseudonyms: UInt64


def deduplicated(rows: ReportBatch, chosen: Int64, storage: Span, key: bytes) -> UnitRows:
    """One row for each (pseudonym, storage window, report_id), by unit (P2, P3): the copy received first.

    The copy that counts is chosen among all rows, also those that the window does not hold. Where the window does not hold
    the chosen copy, no copy counts in it. So no two windows over a report count different copies.

    Args:
        rows: the rows, of whole storage windows.
        chosen: int64[k], indices of those that belong to the window.
        storage: of which windows the storage windows are, the plan's finest: one id in two of them is two reports.
        key: see `copy_key`.

    Returns:
        The rows that count; units are told apart and sorted by their whole 16-byte pseudonyms.
    """
    units, ids = rows.pseudonyms, rows.report_ids
    # Different report ids of one unit almost never share these bits; the few that do are compared in full below.
    digits = ((ids[:, 0] * _FIRST_ODD + ids[:, 1] * _SECOND_ODD) >> np.uint64(64 - DIGIT_BITS)).astype(np.uint16)
    order, first = _by_unit(units[:, 0], units[:, 1], digits)
    numbers, pseudonyms = np.cumsum(first) - 1, units[order[first]]
    found = digits.take(order)
    again = np.zeros(len(order), np.bool_)
    again[1:] = ~first[1:] & (found[1:] == found[:-1])
    some_do_not_count = len(chosen) < len(rows)
    if some_do_not_count or again.any():
        stay = np.ones(len(order), np.bool_)
        if some_do_not_count:
            stay[:] = False
            stay[chosen] = True
            stay = stay.take(order)
        suspects = again.copy()
        suspects[:-1] |= again[1:]
        at = np.flatnonzero(suspects)
        stay[at[_copies(rows, order[at], ~again[at], storage, key)]] = False
        order, numbers = order.compress(stay), numbers.compress(stay)
    return UnitRows(order, numbers, pseudonyms)


def _by_unit(high: UInt64, low: UInt64, digits: UInt16) -> tuple[Int64, Bool]:
    """The order by pseudonym, and within a unit by digit.

    Args:
        high: uint64[n], first halves of the pseudonyms.
        low: uint64[n], second ones.
        digits: uint16[n].

    Returns:
        int64[n], the order; bool[n], whether a row in that order is the first one of its unit.
    """
    if not len(high):
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    # Units of one bucket share the leading bits of their pseudonyms. Sorting begins at the first bit that differs.
    smallest = high.min()
    shift = np.uint64(max(0, int(high.max() - smallest).bit_length() - _SORTED_BITS))
    order = sorted_by(((high - smallest) >> shift, _SORTED_BITS), (digits, DIGIT_BITS))
    halves = high.take(order), low.take(order)
    first = first_of_runs(*halves)
    if not (halves[0][1:] > halves[0][:-1])[first[1:]].all():
        order = np.lexsort((digits, low, high))
        first = first_of_runs(high[order], low[order])
    return order, first


def _copies(rows: ReportBatch, suspects: Int64, first: Bool, storage: Span, key: bytes) -> Bool:
    """Which rows are copies of a report that another row stands for.

    Args:
        rows: the rows.
        suspects: int64[s], indices of some, group by group; two rows of one report are in one group.
        first: bool[s], where groups begin.
        storage: see `deduplicated`.
        key: see `copy_key`.
    """
    ids, windows = rows.report_ids[suspects], storage.starts(rows.interval_end_ms[suspects])
    order, begins = np.arange(len(suspects)), first
    same = (ids[1:] == ids[:-1]).all(axis=1) & (windows[1:] == windows[:-1])
    if not (first[1:] | same).all():
        # Reports of different ids share a digit: their rows are brought into the order of whole ids.
        keys = (windows, ids[:, 1], ids[:, 0], np.cumsum(first))
        order = np.lexsort(keys)
        begins = first_of_runs(*(column[order] for column in keys))
    copies = np.zeros(len(suspects), np.bool_)
    copies[order] = ~counting(rows, suspects[order], begins, key)
    return copies


def given_since(units: UInt64, consent: ConsentTable) -> Int64:
    """Since when each unit has allowed each purpose (P8).

    Args:
        units: uint64[u, 2], sorted and unique.
        consent: the period's table.

    Returns:
        int64[u, p], `NEVER` where consent is not given, which is the default for units that the table does not hold.
    """
    since = np.full((len(units), len(consent.purposes)), NEVER, np.int64)
    place = places_of(units, consent.pseudonyms)
    since[place >= 0] = consent.given_since_ms[place[place >= 0]]
    return since


def places_of(units: UInt64, known: UInt64) -> Int64:
    """Where each unit stands in a sorted list of pseudonyms.

    Args:
        units: uint64[u, 2].
        known: uint64[k, 2], rising, each once.

    Returns:
        int64[u], -1 where the list does not hold the unit.
    """
    high, low = known[:, 0], known[:, 1]
    place = np.searchsorted(high, units[:, 0])
    # Pseudonyms that share their upper half stand side by side: step on until the lower half is reached.
    while (behind := _before(high, low, place, units)).any():
        place[behind] += 1
    inside = np.flatnonzero(place < len(high))
    hit = inside[(high[place[inside]] == units[inside, 0]) & (low[place[inside]] == units[inside, 1])]
    found = np.full(len(units), -1, np.int64)
    found[hit] = place[hit]
    return found


def _before(high: UInt64, low: UInt64, place: Int64, units: UInt64) -> Bool:
    if not len(high):
        return np.zeros(len(place), np.bool_)
    at = np.minimum(place, len(high) - 1)
    behind: Bool = (place < len(high)) & (high[at] == units[:, 0]) & (low[at] < units[:, 1])
    return behind
