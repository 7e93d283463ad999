"""Seeded windows to seal: what the log hands the sealer, as plain columns that each engine puts into its own form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hushmeter.model.arrays import Bool, Int64, UInt64
from hushmeter.model.report import UInt32, gathered

L0 = 20
"""Partitions of one unit that are kept."""
LOW, HIGH = 0, 100
"""Range of one unit's sum in one partition."""
SALT = bytes(range(16))
"""Key of the units' orders of partitions."""

_REPORTS_PER_UNIT = 5
_DUPLICATED, _WITHDRAWN = 0.03, 0.02
_VALUE_MEAN = 12
_TYPICAL_PARTITIONS = 2_000
_DRAWN = 1.5
"""So many times the values of a report are drawn, since it names a partition once."""


@dataclass(frozen=True, slots=True)
class Workload:
    """The rows of one window in the order of their arrival, duplicates included: n reports with m values.

    Attributes:
        name: of the workload.
        shape: sizes of the dimensions; a partition's number is mixed radix, the last dimension fastest.
        pseudonyms, report_ids: uint64[n, 2].
        offsets: int64[n + 1], of each report's values.
        partitions: uint32[m], each at most once in a report.
        values: int64[m].
        allowed: uint64[u, 2], the units that have given consent, in rising order.
    """

    name: str
    shape: tuple[int, ...]
    pseudonyms: UInt64
    report_ids: UInt64
    offsets: Int64
    partitions: UInt32
    values: Int64
    allowed: UInt64

    @property
    def partition_count(self) -> int:
        """How many partitions there are."""
        return int(np.prod(self.shape))

    @property
    def reports(self) -> Int64:
        """int64[m], the report of each value."""
        return np.repeat(np.arange(len(self.pseudonyms)), np.diff(self.offsets))

    def told(self) -> dict[str, object]:
        """What a report of the benchmark says of it."""
        return {
            "values": len(self.values),
            "reports": len(self.pseudonyms),
            "units": len(np.unique(self.pseudonyms[:, 0])),
            "units_that_allow": len(self.allowed),
            "partitions": self.partition_count,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What sealing says of each partition.

    Attributes:
        units: int64[partitions], how many units are in it.
        sums: int64[partitions], of their bounded sums.
    """

    units: Int64
    sums: Int64

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Answer) and np.array_equal(self.units, other.units) and np.array_equal(self.sums, other.sums)
        )

    __hash__ = None  # type: ignore[assignment]


def spread_out(count: int, partitions: Int64, units: Int64, sums: Int64) -> Answer:
    """The answer of an engine that says nothing of partitions without units.

    Args:
        count: how many partitions there are.
        partitions: int[k], those with units, each once.
        units: int[k], how many.
        sums: int[k], theirs.
    """
    answer = Answer(np.zeros(count, np.int64), np.zeros(count, np.int64))
    answer.units[partitions], answer.sums[partitions] = units, sums
    return answer


def workloads(values: int) -> Iterator[Workload]:
    """All workloads, one after another, with about so many values each."""
    yield typical(values)
    yield wide(values)
    yield skewed(values)
    yield tiny(values)


def typical(values: int, seed: int = 1) -> Workload:
    """A fleet that reports often: most of its units are in more partitions than they keep."""
    return _made("typical", values, seed, (_TYPICAL_PARTITIONS,))


def wide(values: int) -> Workload:
    """A million partitions: tables of partitions no longer fit the caches, and hardly two values share one."""
    return _made("wide", values, 2, (1_000, 1_000))


def skewed(values: int) -> Workload:
    """One unit in a hundred sends three reports in ten: sorting within units and splitting by units get uneven."""
    return _made("skewed", values, 3, (_TYPICAL_PARTITIONS,), heavy=(0.01, 0.3))


def tiny(values: int) -> Workload:
    """One to three values a report: what a report costs is what counts; few units are in too many partitions."""
    return _made("tiny", values, 4, (_TYPICAL_PARTITIONS,), lengths=(1, 3))


def _made(
    name: str,
    values: int,
    seed: int,
    shape: tuple[int, ...],
    *,
    lengths: tuple[int, int] = (15, 25),
    heavy: tuple[float, float] = (0.0, 0.0),
) -> Workload:
    rng = np.random.default_rng(seed)
    offsets, partitions = _partitions(rng, values, int(np.prod(shape)), lengths)
    n = len(offsets) - 1
    count = max(1, n // _REPORTS_PER_UNIT)
    first = round(count * heavy[0])
    units = rng.integers(first, count, n)
    from_heavy = rng.random(n) < heavy[1]
    units[from_heavy] = rng.integers(0, max(1, first), np.count_nonzero(from_heavy))
    fleet, ids = (rng.integers(0, 2**64, (size, 2), np.uint64) for size in (count, n))
    chosen = rng.permutation(np.append(np.arange(n), rng.choice(n, round(n * _DUPLICATED), replace=False)))
    of_chosen, points = gathered(offsets, chosen)
    allowed = fleet[rng.random(count) >= _WITHDRAWN]
    return Workload(
        name,
        shape,
        fleet[units[chosen]],
        ids[chosen],
        of_chosen,
        partitions[points],
        rng.geometric(1 / _VALUE_MEAN, len(partitions))[points],
        allowed[np.lexsort((allowed[:, 1], allowed[:, 0]))],
    )


def _partitions(rng: np.random.Generator, values: int, count: int, lengths: tuple[int, int]) -> tuple[Int64, UInt32]:
    """Reports' offsets and their values' partitions, after Zipf's law, so that with duplicates there are `values`."""
    wanted = values / (1 + _DUPLICATED)
    reports = round(wanted / ((lengths[0] + lengths[1]) / 2))
    sizes = rng.integers(lengths[0], lengths[1] + 1, reports)
    drawn = sizes if lengths[1] <= 3 else np.ceil(sizes * _DRAWN).astype(np.int64)
    cumulative = np.cumsum(1 / np.arange(1, count + 1))
    ranks = np.searchsorted(cumulative, rng.random(int(drawn.sum())) * cumulative[-1])
    partitions = rng.permutation(count)[ranks]
    report = np.repeat(np.arange(reports), drawn)
    keep = _first_of_each(report * count + partitions)
    # Cut each report to its size, now that no partition is in it twice.
    kept = report[keep]
    starts = np.searchsorted(kept, np.arange(reports))
    keep = keep[np.arange(len(kept)) - starts[kept] < sizes[kept]]
    offsets = np.zeros(reports + 1, np.int64)
    np.cumsum(np.bincount(report[keep], minlength=reports), out=offsets[1:])
    return offsets, partitions[keep].astype(np.uint32)


def _first_of_each(keys: npt.NDArray[np.int64]) -> Int64:
    """int64[k], where each distinct key stands first, in rising order."""
    order = np.argsort(keys, kind="stable")
    first: Bool = np.ones(len(keys), np.bool_)
    first[1:] = keys[order[1:]] != keys[order[:-1]]
    return np.sort(order[first])
