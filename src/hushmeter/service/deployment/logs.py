"""Structured logs to standard error; they hold no unit id, token, value, client address, or number from a Tally (R2)."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from pathlib import Path
from typing import TextIO, cast

import structlog

from hushmeter.errors import HushmeterError
from hushmeter.storage.disk import has_remedy, remedy_of


def configure_logs(log_format: str, *, quiet: bool = False) -> None:
    """Sets up logging of a process: `json` for machines, `console` for people; quiet leaves out what is in order."""
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if quiet else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _LossyStream(sys.stderr))),
        cache_logger_on_first_use=True,
    )


def silence_logs() -> None:
    """Leaves everything out: for a process whose service is a rehearsal."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


class _LossyStream:
    """Standard error that may be closed or full: a line that cannot be written is left out, and whoever logs it goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def fields_of(error: BaseException) -> dict[str, str]:
    """What a log may say of an error: our own errors' text, which names nobody; of others the place alone (R2)."""
    if isinstance(error, HushmeterError):
        return {"kind": type(error).__name__, "error": str(error)}
    place = _place_of(error)
    if isinstance(error, OSError) and has_remedy(error):
        # The system's own text for such an error names no file.
        return {"kind": type(error).__name__, "error": f"{error.strerror}; {remedy_of(error)}", "at": place}
    return {"kind": type(error).__name__, "at": place}


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:]]
    return " > ".join(places)
