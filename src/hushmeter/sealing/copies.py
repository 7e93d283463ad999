"""Which copy of a report counts, in every window over it: the one received first (P2).

Copies are rows of one unit, one storage window and one report id. Two copies that were received in the same millisecond are
told apart by a hash of what they say, under a key of their period. So the unit's own rows and a secret decide: another unit
does not, nor does the order in which segments are registered and read, and nobody finds the outcome by trial.

References:
    RFC 7693, the BLAKE2 hash: keyed, with a personalisation that tells the uses of one key apart.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

import numpy as np

from hushmeter.model.arrays import Bool, Int64, UInt64
from hushmeter.model.report import TOTALS, ReportBatch, gathered, pairs_of
from hushmeter.sealing.radix import first_of_runs

DIGEST_BYTES: Final = 16
_HEAD = struct.Struct(">QQqqIQ")
_LENGTH = struct.Struct(">q")
_NO_TOKEN: Final = -1
_BEFORE_ALL = np.int64(np.iinfo(np.int64).min)


def copy_key(period_key: bytes) -> bytes:
    """The secret that copies of a period are told apart by; one for all windows over them, so that all choose alike."""
    return hashlib.blake2b(key=period_key, person=b"copies", digest_size=32).digest()


def counting(rows: ReportBatch, copies: Int64, begins: Bool, key: bytes) -> Bool:
    """Which of some rows count: one of each report.

    A row of totals counts before any other row. Its report was received before every other copy that is left, and its
    points have been added to those of other reports, so that nobody can take them out again.

    Args:
        rows: the rows.
        copies: int64[k], indices, report after report.
        begins: bool[k], where reports begin.
        key: see `copy_key`.

    Returns:
        bool[k], true once a report.

    Privacy:
        A function of one unit's own rows and a secret, whatever the order of rows is (P9).
    """
    counts = np.zeros(len(copies), np.bool_)
    if not len(copies):
        return counts
    receipts = np.where(rows.plan_versions[copies] == TOTALS, _BEFORE_ALL, rows.received_at_ms[copies])
    reports = np.cumsum(begins) - 1
    earliest = np.flatnonzero(receipts == np.minimum.reduceat(receipts, np.flatnonzero(begins))[reports])
    first = first_of_runs(reports[earliest])
    alone = first & np.append(first[1:], True)
    counts[earliest[alone]] = True
    if not alone.all():
        tied = earliest[~alone]
        begins = first[~alone]
        same = _same_as_first(rows, copies[tied], begins)
        group = np.cumsum(begins) - 1
        # Of copies that say the same any one may stand for their report. Nearly all copies that tie are such.
        differ = np.bincount(group[~same], minlength=int(group[-1]) + 1)[group] > 0
        counts[tied[begins & ~differ]] = True
        tied, group = tied[differ], group[differ]
        digests = content_digests(rows, copies[tied], key)
        order = np.lexsort((digests[:, 1], digests[:, 0], group))
        counts[tied[order[first_of_runs(group[order])]]] = True
    return counts


def _same_as_first(rows: ReportBatch, chosen: Int64, begins: Bool) -> Bool:
    """Which rows say just what the first of their group says: interval, plan version, and points in their order.

    Args:
        rows: the rows.
        chosen: int64[k], indices of some, group after group.
        begins: bool[k], where groups begin.

    Returns:
        bool[k].
    """
    leads = chosen[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    same: Bool = np.diff(rows.offsets)[chosen] == np.diff(rows.offsets)[leads]
    for column in (rows.interval_start_ms, rows.interval_end_ms, rows.plan_versions):
        same &= column[chosen] == column[leads]
    alike = np.flatnonzero(same)
    offsets, points = gathered(rows.offsets, chosen[alike])
    _, theirs = gathered(rows.offsets, leads[alike])
    others = np.zeros(len(points) + 1, np.int64)
    # Equal tokens have equal numbers here, because the dictionary holds each token once.
    np.cumsum(
        (rows.series[points] != rows.series[theirs])
        | (rows.values[points] != rows.values[theirs])
        | (rows.token_numbers[points] != rows.token_numbers[theirs]),
        out=others[1:],
    )
    same[alike] = others[offsets[1:]] == others[offsets[:-1]]
    return same


def content_digests(rows: ReportBatch, chosen: Int64, key: bytes) -> UInt64:
    """A keyed hash of what some reports say, of 128 bits.

    The hash is over decoded content: report id, interval, plan version, and the points in their order, each with the bytes
    of its token. The number that a token has here does not enter, nor does how a report was sent or is stored.

    Args:
        rows: the rows.
        chosen: int64[k], indices of some.
        key: see `copy_key`.

    Returns:
        uint64[k, 2].
    """
    return pairs_of([_digest(rows, row, key) for row in chosen.tolist()])


def _digest(rows: ReportBatch, row: int, key: bytes) -> bytes:
    first, after = int(rows.offsets[row]), int(rows.offsets[row + 1])
    high, low = rows.report_ids[row].tolist()
    interval = int(rows.interval_start_ms[row]), int(rows.interval_end_ms[row])
    found = hashlib.blake2b(key=key, digest_size=DIGEST_BYTES)
    found.update(_HEAD.pack(high, low, *interval, int(rows.plan_versions[row]), after - first))
    found.update(rows.series[first:after].astype(">u4").tobytes())
    found.update(rows.values[first:after].astype(">i8").tobytes())
    for number in rows.token_numbers[first:after].tolist():
        token = rows.tokens[number - 1] if number else b""
        found.update(_LENGTH.pack(len(token) if number else _NO_TOKEN) + token)
    return found.digest()
