"""`hushmeter serve` as an operator starts it: processes of its own, on the machine's clock."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hushmeter.patience import PATIENCE_S


@dataclass(frozen=True)
class Served:
    """A service that answers.

    Attributes:
        target: `host:port`.
        said: what was printed until it served.
        log: the file of its log.
    """

    target: str
    said: str
    log: Path


@contextlib.contextmanager
def hushmeter_serve(directory: Path, *options: str, **environment: str) -> Iterator[Served]:
    """Serves in a directory for as long as the block lasts, and ends in good order.

    Args:
        directory: where the command runs; its log is written there.
        options: of the command, beside a free loopback port.
        environment: variables of its own.
    """
    command = [sys.executable, "-m", "hushmeter", "serve", "--listen", "127.0.0.1:0", *options]
    path = directory / "log"
    with (
        path.open("w") as log,
        subprocess.Popen(
            command, cwd=directory, env=os.environ | environment, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout is not None
        said = ""
        while "hushmeter serves plan" not in said and (line := process.stdout.readline()):
            said += line
        assert " on " in said, path.read_text()
        try:
            yield Served(said.rpartition(" on ")[2].split()[0], said, path)
        finally:
            process.terminate()
            status = process.wait(PATIENCE_S)
    assert status == 0, path.read_text()
