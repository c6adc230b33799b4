"""The fixtures of the service, with every answer held against its OpenAPI document."""

from collections.abc import Callable

import pytest

from tests.conftest import Cluster, Service
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


@pytest.fixture
def own_service(cluster: Cluster, start_service: StartService) -> CheckedService:
    """A service with a database of its own, on each server."""
    return start_service(cluster.clone())
