"""Reports at a border between versions of the plan: each is judged by the plan of its own interval's end."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hushmeter.ingest.admission import Admission, Door, admit
from hushmeter.ingest.raw import RawReports
from hushmeter.model.arrays import Int64
from hushmeter.model.report import ReportBatch


def admit_by(raw: RawReports, doors: Mapping[int, Door], of_report: Int64, now_ms: int) -> Admission:
    """Judges reports that arrive now, each at its own door.

    Args:
        raw: n reports.
        doors: by number; plans with the same resolutions.
        of_report: int64[n], the number of each report's door.
        now_ms: the server's receipt.
    """
    numbers = np.unique(of_report).tolist()
    if len(numbers) <= 1:
        return admit(raw, doors[numbers[0] if numbers else max(doors)], now_ms)
    rows = [np.flatnonzero(of_report == number) for number in numbers]
    parts = [admit(raw.take(mine), doors[number], now_ms) for number, mine in zip(numbers, rows, strict=True)]
    reasons = np.zeros(len(raw), np.int64)
    missed = np.zeros((len(raw), parts[0].missed.shape[1]), np.bool_)
    malformed: dict[int, str] = {}
    for mine, part in zip(rows, parts, strict=True):
        reasons[mine], missed[mine] = part.reasons, part.missed
        malformed |= {int(mine[i]): text for i, text in part.malformed.items()}
    admitted = np.concatenate([mine[part.admitted] for mine, part in zip(rows, parts, strict=True)])
    # Which of two copies came first, and which report a unit's limit refuses, is a matter of arrival, not of doors.
    arrival = np.argsort(admitted)
    subjects = [subject for part in parts for subject in part.subjects]
    return Admission(
        ReportBatch.concat([part.batch for part in parts]).take(arrival),
        [subjects[i] for i in arrival.tolist()],
        np.concatenate([part.storage_starts for part in parts])[arrival],
        admitted[arrival],
        reasons,
        missed,
        malformed,
    )
