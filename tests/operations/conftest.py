"""The fixtures of the service, with every answer held against its OpenAPI document."""

from collections.abc import Callable

import pytest

from app.operations import recorder
from tests.cli.conftest import folder, invoke
from tests.conftest import Service
from tests.documents.contract import StartService, checked

pytest.register_assert_rewrite("tests.documents.api")

__all__ = ["folder", "invoke"]


@pytest.fixture
def start_service(
    start_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> StartService:
    """Services that record at once, and whose clients check what they are answered."""
    monkeypatch.setattr(recorder, "WRITE_EVERY_S", 0.05)
    return lambda *arguments, **overrides: checked(start_service(*arguments, **overrides))
