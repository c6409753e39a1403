"""The worker's log: static words with ids, never patient data."""

import logging
import sys
import warnings
from typing import Any

import structlog

__all__ = ["configure", "log"]

log: Any = structlog.get_logger()


def configure(level: str, form: str) -> None:
    """Set up structlog.

    Parameters
    ----------
    level : {"debug", "info", "warning", "error"}
        The least that is logged.
    form : {"console", "json"}
        For people or for machines.
    """
    _silence_pydicom()
    renderer: Any = structlog.processors.JSONRenderer()
    if form == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _silence_pydicom() -> None:
    """Keep pydicom's messages out of the log: they quote values, a patient's name among them."""
    logger = logging.getLogger("pydicom")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    warnings.filterwarnings("ignore", module="pydicom")
