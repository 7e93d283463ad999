"""From rows to one row a report, sorted by unit: assign to the window (T2), then drop duplicates (P2)."""

from __future__ import annotations

import numpy as np

from hushmeter.model.consent import NEVER, ConsentTable
from hushmeter.model.report import Bool, ReportBatch, UInt64
from hushmeter.model.time import Int64, Window
from hushmeter.sealing.mixing import content_hashes, mix
from hushmeter.sealing.radix import DIGIT_BITS, first_of_runs, sorted_by

_SORTED_BITS = 32
"""Of pseudonyms: two units of a bucket have these in common about once in a hundred buckets."""


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


def deduplicated(rows: ReportBatch, chosen: Int64) -> Int64:
    """One row for each (pseudonym, report_id), sorted by pseudonym (P2, P3).

    Of duplicates with different contents the one with the smallest content hash is kept, whatever the order of arrival.

    Args:
        rows: the rows.
        chosen: int64[k], indices of those that belong to the window.

    Returns:
        int64[j], indices of the kept rows, units in rising order of their whole 16-byte pseudonyms.
    """
    units, ids = rows.pseudonyms[chosen], rows.report_ids[chosen]
    # Reports of a unit whose ids differ are told apart by 16 bits of a hash, nearly always.
    digits = mix(ids[:, 0] ^ mix(ids[:, 1])) >> np.uint64(64 - DIGIT_BITS)
    order = _by_unit(units[:, 0].copy(), units[:, 1].copy(), digits)
    high, low, digits = units[order, 0], units[order, 1], digits[order]
    again = ~first_of_runs(high, low, digits)
    if again.any():
        again[:-1] |= again[1:]
        suspects = order[again]
        kept = np.ones(len(chosen), np.bool_)
        kept[_repeated(rows, chosen, suspects)] = False
        order = order[kept[order]]
    return chosen[order]


def _by_unit(high: UInt64, low: UInt64, digits: UInt64) -> Int64:
    """The order by pseudonym, and within a unit by digit.

    Args:
        high: uint64[n], first halves of the pseudonyms.
        low: uint64[n], second ones.
        digits: uint64[n], of `DIGIT_BITS` bits.
    """
    if not len(high):
        return np.zeros(0, np.int64)
    # The first bits that differ: units of one bucket have those before in common.
    smallest = high.min()
    shift = np.uint64(max(0, int(high.max() - smallest).bit_length() - _SORTED_BITS))
    order = sorted_by(((high - smallest) >> shift, _SORTED_BITS), (digits, DIGIT_BITS))
    sorted_high, sorted_low = high[order], low[order]
    swapped = (sorted_high[1:] < sorted_high[:-1]) | (
        (sorted_high[1:] == sorted_high[:-1]) & (sorted_low[1:] != sorted_low[:-1])
    )
    return np.lexsort((digits, low, high)) if swapped.any() else order


def _repeated(rows: ReportBatch, chosen: Int64, suspects: Int64) -> Int64:
    """Those of some rows that are not the first of their report, by content hash; indices into `chosen`."""
    taken = rows.take(chosen[suspects])
    units, ids = taken.pseudonyms, taken.report_ids
    hashes = content_hashes(taken)
    order = np.lexsort((hashes, ids[:, 1], ids[:, 0], units[:, 1], units[:, 0]))
    again: Int64 = suspects[order[~_changes(np.column_stack((units, ids))[order])]]
    return again


def unit_numbers(pseudonyms: UInt64) -> tuple[Int64, UInt64]:
    """Numbers the units of sorted pseudonyms.

    Args:
        pseudonyms: uint64[n, 2], sorted.

    Returns:
        int64[n], each row's unit from 0 on; uint64[u, 2], the units' pseudonyms.
    """
    first = _changes(pseudonyms)
    return np.cumsum(first) - 1, pseudonyms[first]


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


def _changes(keys: UInt64) -> Bool:
    """bool[n]: whether each row of sorted uint64[n, k] differs from the one before it; the first one does."""
    return first_of_runs(*keys.T)
