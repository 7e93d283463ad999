"""Structured logs to standard error; they hold no unit id, token, value, client address, or number from a Tally (R2)."""

from __future__ import annotations

import logging
import sys

import structlog


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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
