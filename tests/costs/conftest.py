"""A service for the tests of one module, so that thousands of writes are made once."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from app.documents import housekeeping
from app.leaderboard.keeper import Keeper
from tests.conftest import Service, serving


@pytest.fixture(autouse=True)
def _nothing_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process does beside requests is no cost of one."""

    async def rest(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Keeper, "run", rest)
    monkeypatch.setattr(housekeeping, "run", rest)


@pytest.fixture(scope="module")
def start_module_service() -> Iterator[Callable[..., Service]]:
    with ExitStack() as stack:

        def start(database_url: str, **overrides: Any) -> Service:
            return stack.enter_context(serving(database_url, **overrides))

        yield start
