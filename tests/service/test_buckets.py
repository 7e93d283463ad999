"""One window sealed by several processes: the same tally as by one, from sealed files, with nothing but its own keys."""

from __future__ import annotations

import dataclasses
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hushmeter import limits
from hushmeter.errors import KeyGone, SegmentLost
from hushmeter.model.consent import ConsentTable
from hushmeter.model.key_names import data_key
from hushmeter.model.report import ReportBatch
from hushmeter.model.stored import SegmentRecord
from hushmeter.patience import PATIENCE_S
from hushmeter.pipeline.bucket_jobs import SealingJob, tally_of
from hushmeter.sealing.seal import seal
from hushmeter.storage.keys.files import DirectoryKeyRing
from hushmeter.storage.log.intake_log import FileIntakeLog
from hushmeter.testing.tallies import empty_tally
from tests.oracle.seal import Sealed
from tests.sealing import said
from tests.shared_bounding import catalog
from tests.strategies import DAY, batch_of

DEPLOYMENT = "d" * 32
PLAN = catalog(3)
START = DAY.start_ms
UNITS = 200


@dataclasses.dataclass
class Window:
    """A day of reports of many units in several segments, closed."""

    log: FileIntakeLog
    keys: DirectoryKeyRing
    job: SealingJob
    segments: list[SegmentRecord]
    consent: ConsentTable
    rows: ReportBatch

    def sealed(self, processes: int) -> Sealed:
        """What so many processes make of it."""
        return said(tally_of(self.job, self.segments, self.consent, processes=processes))


@pytest.fixture
def window(tmp_path: Path) -> Window:
    """Three segments, the last one empty; each unit reports in both of the others, and some allow nothing."""
    keys = DirectoryKeyRing.open(tmp_path / "keys", bytes(32))
    log = FileIntakeLog(tmp_path / "log", keys, DEPLOYMENT)
    rng = np.random.default_rng(1)
    fleet = [(int(high), int(low)) for high, low in rng.integers(0, 2**64, (UNITS, 2), np.uint64)]
    segments, batches = [], []
    for sequence, frames in enumerate((2, 1, 0)):
        name = log.create(START)
        for frame in range(frames):
            batches.append(reports_of(fleet, 1_000 * (10 * sequence + frame), rng))
            log.append(START, name, batches[-1])
        assert log.close(START, name) == frames
        segments.append(SegmentRecord(sequence + 1, name, "w", START, frozenset({"1d"}), closed=True, frames=frames))
    allowed = [(np.array(unit, ">u8").tobytes(), (0,)) for unit in fleet[: UNITS * 3 // 4]]
    job = SealingJob(log, {START: [s.segment_id for s in segments]}, 0, DAY, PLAN, bytes(16), bytes(32), {})
    return Window(log, keys, job, segments, ConsentTable.of(("tuning",), allowed), ReportBatch.concat(batches))


def reports_of(fleet: list[tuple[int, int]], first_id: int, rng: np.random.Generator) -> ReportBatch:
    """One report of each unit, with five points."""
    first = PLAN.first_series(0)
    return batch_of(
        [
            (unit, first_id + i, DAY.end_ms, DAY.end_ms - 1, DAY.end_ms, [(first + int(p), 1, None) for p in partitions])
            for i, unit in enumerate(fleet)
            for partitions in [rng.choice(24, 5, replace=False)]
        ],
        (),
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every window is large, and is cut finely."""
    monkeypatch.setattr(limits, "PARALLEL_BYTES", 1)
    monkeypatch.setattr(limits, "RUN_BYTES_TARGET", 4_000)
    monkeypatch.setattr(limits, "BUCKET_BYTES_TARGET", 10_000)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_seal_what_one_call_seals(window: Window, processes: int) -> None:
    """From sealed segments, cut into many runs or compacted by the processes, the tally is that of all rows at once."""
    whole = said(seal(window.rows, DAY, catalog=PLAN, consent=window.consent, salt=bytes(16), copy_key=bytes(32)))
    assert whole.vectors != said(empty_tally(PLAN.plan, DAY)).vectors
    first, *others = window.segments
    window.log.compact(START, first.segment_id, first.frames)
    assert window.log.bucket_bits(START, [first.segment_id]) > 2
    assert window.sealed(processes) == whole
    for other in others:
        window.log.compact(START, other.segment_id, other.frames)
    assert window.sealed(processes) == whole


@pytest.mark.usefixtures("small")
def test_a_window_without_rows_is_zeros(window: Window) -> None:
    """Empty segments, or none, are sealed as anything else, also where the window has no key yet."""
    later = DAY.end_ms
    name = window.log.create(later)
    window.log.close(later, name)
    empty = SegmentRecord(9, name, "w", later, frozenset({"1d"}), closed=True, frames=0)
    for job, segments in [
        (dataclasses.replace(window.job, segments={later: [name]}), [empty]),
        (dataclasses.replace(window.job, segments={}), []),
    ]:
        assert said(tally_of(job, segments, window.consent, processes=2)) == said(empty_tally(PLAN.plan, DAY))


@pytest.mark.usefixtures("small")
def test_what_is_lost_is_told_by_name(window: Window, tmp_path: Path) -> None:
    """An error in a process is the caller's error, with its own words."""
    path = tmp_path / "log" / str(START) / f"{window.segments[0].segment_id}.frames"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(SegmentLost, match=r"is damaged or does not belong there; its rows cannot be had back"):
        window.sealed(2)
    window.keys.destroy(data_key(START))
    with pytest.raises(KeyGone):
        window.sealed(2)


def test_a_reader_holds_the_keys_of_its_windows_alone(window: Window) -> None:
    """What is sent to a process opens the rows of the window that it seals, and no other's; it cannot write."""
    other = window.keys.get_or_create(data_key(DAY.end_ms))
    sent = pickle.dumps(window.log.reader([START]))
    assert window.keys.get(data_key(START)) in sent
    assert other not in sent
    assert bytes(32) not in sent, "the master key stays"
    with pytest.raises(KeyGone):
        pickle.loads(sent).read(  # noqa: S301
            DAY.end_ms, [window.segments[0].segment_id], 0, 0
        )


def test_processes_end_with_their_parent(tmp_path: Path) -> None:
    """Where the parent is killed, nothing that it started is left behind: its output ends when the last of them does."""
    program = tmp_path / "parent.py"
    program.write_text(
        "import multiprocessing, os, signal, time\n"
        "from hushmeter.pipeline.bucket_jobs import Processes\n"
        "if __name__ == '__main__':\n"
        "    pool = Processes(2)\n"
        "    for task in [pool._pool.submit(time.sleep, 0.1) for _ in range(2)]:\n"
        "        task.result()\n"
        "    print(len(multiprocessing.active_children()), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == -signal.SIGKILL
    assert int(done.stdout) > 0
