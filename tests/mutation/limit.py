"""A limit on the processor time of one test: a mutant that loops for ever is found by the first test that meets it."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from types import FrameType
from typing import Final

import pytest

TEST_CPU_S: Final = "HUSHMETER_TEST_CPU_S"
"""The environment variable: seconds of processor time that one test may take. Without it tests have no limit."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Ends the process of a test that takes longer, with the exit code of a test that failed.

    The kernel counts the process's own time, so other programs on the machine change nothing. Raising an exception would
    not do: Hypothesis runs an example that failed once more.
    """
    limit = float(os.environ.get(TEST_CPU_S, "0"))
    if limit:
        signal.signal(signal.SIGPROF, _end)
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(int(pytest.ExitCode.TESTS_FAILED))
