"""The fixtures of the service, with every answer held against its OpenAPI document."""

from collections.abc import Callable, Iterator

import pytest
import structlog

from tests.conftest import Service
from tests.documents.contract import CheckedService, StartService, checked

pytest.register_assert_rewrite("tests.documents.api")


@pytest.fixture(scope="session")
def service(service: Service) -> CheckedService:
    """The shared service; its clients check what they are answered."""
    return checked(service)


@pytest.fixture
def start_service(start_service: Callable[..., Service]) -> StartService:
    """Services with settings of their own; their clients check what they are answered."""
    return lambda *arguments, **overrides: checked(start_service(*arguments, **overrides))


@pytest.fixture(scope="package", autouse=True)
def _plain_log() -> Iterator[None]:
    """Tracebacks as in production: structlog's own show every local, which takes seconds here."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
    )
    yield
    structlog.reset_defaults()
