"""One window's rows on disk, as workers leave them: encrypted frames in segments of the log, under a key of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.sealing.hushmeter import WINDOW, catalog_of, rows_of
from benchmarks.sealing.workload import L0, SALT, typical
from hushmeter import limits
from hushmeter.model.arrays import UInt64
from hushmeter.model.consent import ConsentTable
from hushmeter.model.report import ReportBatch
from hushmeter.model.stored import SegmentRecord
from hushmeter.pipeline.bucket_jobs import SealingJob
from hushmeter.storage.keys.files import DirectoryKeyRing
from hushmeter.storage.log.intake_log import FileIntakeLog

_DEPLOYMENT = "5ca1e" + "0" * 27
_FLEET_VALUES = 2_000_000
"""Of one fleet; larger windows have several."""
_FRAME_REPORTS = 5_000
_START = WINDOW.start_ms


@dataclass(frozen=True, slots=True)
class StoredWindow:
    """A window that was written.

    Attributes:
        job: what seals it.
        segments: its segments, closed and not yet compacted.
        consent: of its units.
    """

    job: SealingJob
    segments: tuple[SegmentRecord, ...]
    consent: ConsentTable

    @classmethod
    def opened(cls, directory: Path) -> StoredWindow:
        """What `written` has left in a directory."""
        told = json.loads((directory / "segments.json").read_text(encoding="utf-8"))
        segments = tuple(
            SegmentRecord(i + 1, name, "benchmark", _START, frozenset({WINDOW.resolution}), closed=True, frames=frames)
            for i, (name, frames) in enumerate(told)
        )
        allowed = np.load(directory / "allowed.npy")
        job = SealingJob(
            _log(directory),
            {_START: [s.segment_id for s in segments]},
            0,
            WINDOW,
            catalog_of((2_000,), L0),
            SALT,
            bytes(32),
            {},
        )
        return cls(job, segments, ConsentTable(("compare",), allowed, np.zeros((len(allowed), 1), np.int64)))


def written(directory: Path, values: int) -> None:
    """Writes a window of typical reports with about so many values."""
    log = _log(directory)
    catalog = catalog_of((2_000,), L0)
    segments: list[tuple[str, int]] = []
    allowed: list[UInt64] = []
    fleets = max(1, round(values / _FLEET_VALUES))
    name, size = log.create(_START), 0
    for fleet in range(fleets):
        workload = typical(values // fleets, seed=1 + fleet)
        allowed.append(workload.allowed)
        for frame in _frames(rows_of(workload, catalog.first_series(0))):
            if size > limits.SEGMENT_MAX_BYTES:
                segments.append((name, log.close(_START, name)))
                name = log.create(_START)
            size = log.append(_START, name, frame)
    segments.append((name, log.close(_START, name)))
    units = np.concatenate(allowed)
    np.save(directory / "allowed.npy", units[np.lexsort((units[:, 1], units[:, 0]))])
    (directory / "segments.json").write_text(json.dumps(segments), encoding="utf-8")


def _log(directory: Path) -> FileIntakeLog:
    return FileIntakeLog(directory / "log", DirectoryKeyRing.open(directory / "keys", bytes(32)), _DEPLOYMENT)


def _frames(rows: ReportBatch) -> Iterator[ReportBatch]:
    for first in range(0, len(rows), _FRAME_REPORTS):
        yield rows.take(np.arange(first, min(first + _FRAME_REPORTS, len(rows))))


if __name__ == "__main__":
    written(Path(sys.argv[1]), int(sys.argv[2]))
