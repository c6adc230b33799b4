"""A service for the tests of one module, so that thousands of writes are made once."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conftest import Service, serving


@pytest.fixture(scope="module")
def start_module_service() -> Iterator[Callable[..., Service]]:
    with ExitStack() as stack:

        def start(database_url: str, **overrides: Any) -> Service:
            return stack.enter_context(serving(database_url, **overrides))

        yield start
