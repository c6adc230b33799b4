"""Settings of the tests in this folder."""

import pytest
import structlog


@pytest.fixture(scope="session", autouse=True)
def _plain_log() -> None:
    """A traceback with all locals takes half a second to draw, and these tests fail on purpose."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
    )
