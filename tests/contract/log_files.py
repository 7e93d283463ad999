"""Where the intake log in files lies in these suites, and what they ask of a segment."""

from __future__ import annotations

from pathlib import Path

import pytest

from hushmeter.errors import SegmentLost
from hushmeter.testing.contracts.report_rows import START

DEPLOYMENT = "d" * 32


def path_of(tmp_path: Path, segment: str, suffix: str = "frames") -> Path:
    """Where a segment's file lies."""
    return tmp_path / "log" / str(START) / f"{segment}.{suffix}"


def assert_lost(log, segment: str) -> None:
    """Whatever a sealer counts of a dead owner's segment, it then finds the segment lost, and says which."""
    frames = log.count_frames(START, segment)
    with pytest.raises(SegmentLost, match=f"{START}/{segment}"):
        log.compact(START, segment, frames)
