"""Seals a window that lies on disk, as the sealer of a server does; prints what it took, as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from benchmarks.scaling.window import StoredWindow
from hushmeter.model.measurement import MeasurementName
from hushmeter.pipeline.bucket_jobs import tally_of
from hushmeter.runtime import step_back


def main(directory: Path, processes: int) -> None:
    """Seals it with so many processes."""
    step_back()
    window = StoredWindow.opened(directory)
    begun = time.perf_counter()
    tally = tally_of(window.job, window.segments, window.consent, processes=processes)
    seconds = time.perf_counter() - begun
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    units = sum(int(v.sum()) for key, v in tally.vectors.items() if key.name is MeasurementName.UNITS)
    told = {
        "seconds": seconds,
        "cpu_seconds": sum(usage.ru_utime + usage.ru_stime for usage in (own, children)),
        # As if every process were as large as the largest one at the same moment.
        "peak_rss_bytes": 1024 * (own.ru_maxrss + processes * children.ru_maxrss),
        "units_in_partitions": units,
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
