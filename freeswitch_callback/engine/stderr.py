"""The log of a process that runs for long: the engine's, and that of its pages."""

from __future__ import annotations

import logging
import sys

import structlog


def log_to_stderr(level: str, *, colours: bool | None = None) -> None:
    """One event a line, for people on a terminal and for journald."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() if colours is None else colours),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
