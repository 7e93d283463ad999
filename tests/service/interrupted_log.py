"""An intake log that lets something happen, or fail, whenever the sealer has just read rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from hushmeter.errors import Failure
from hushmeter.ports import IntakeLog
from hushmeter.service.deployment.context import Context


class InterruptedLog:
    """A log, and what happens whenever rows have been read from it."""

    def __init__(self, log: IntakeLog, happens: Callable[[], object]) -> None:
        self._log, self._happens = log, happens

    def __getattr__(self, name: str) -> object:
        if name != "read":
            return getattr(self._log, name)

        def read(*arguments: object) -> object:
            rows = self._log.read(*arguments)  # type: ignore[arg-type]
            self._happens()
            return rows

        return read


def interrupted(context: Context, happens: Callable[[], object]) -> Context:
    """The deployment, with something that happens whenever rows are read."""
    return dataclasses.replace(context, log=InterruptedLog(context.log, happens))  # type: ignore[arg-type]


def failing(*times: bool) -> Callable[[], None]:
    """What fails at some of its first calls."""
    left = list(times)

    def fail() -> None:
        if left and left.pop(0):
            raise Failure("the disk is away")

    return fail
