"""Logs go to stderr: for people on a terminal, as JSON lines elsewhere."""

import logging
import sys

import structlog


def log_to_stderr() -> None:
    """Configures every logger of this process, libraries' included."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    # It tells the address of each socket, and in a query people put what belongs into no log.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
