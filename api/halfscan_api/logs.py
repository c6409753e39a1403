"""Logs: structlog over the standard library, so that gunicorn and Alembic speak the same way.

An event is a static word, and its values are ids, counts and times. A patient's name passes
through only where images are blinded, and pydicom's messages, which quote values, are turned off.
"""

import logging
import sys
import warnings

import structlog
from structlog.typing import Processor

from halfscan_api.settings import Settings


def configure_logging(settings: Settings) -> None:
    """Send every log line of the process to standard error, as JSON or for a terminal."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # As plain text: the richer formatters print local variables, and so tokens and passwords.
        structlog.processors.format_exc_info,
    ]
    last: Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    # Alembic tells at each start which dialect it found; halfscan_api.migrate tells what matters.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    quotes = logging.getLogger("pydicom")
    quotes.addHandler(logging.NullHandler())
    quotes.propagate = False
    warnings.filterwarnings("ignore", module="pydicom")
