"""What all tests find around them, whatever the machine and the shell that they were started from."""

from __future__ import annotations

import datetime as dt
import os

from hushmeter.service.deployment.logs import configure_logs


def settle() -> None:
    """Quiets the logs, and sets what processes that a test starts inherit."""
    configure_logs("console", quiet=True)
    # Tables are as wide as in a pipe: a process that another one starts inherits a width that readline has set there.
    os.environ.pop("COLUMNS", None)
    # The process that starts those that share the tests comes by here first: all of them have one day, also at midnight.
    os.environ.setdefault("HUSHMETER_FAULTS_OF_DAY", str(dt.datetime.now(dt.UTC).toordinal()))
