"""A real Redis, and a database of its own for each module."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.conftest import Cluster
from tests.leaderboard.lab import Lab, Server, redis_server


@pytest.fixture
def server() -> Iterator[Server]:
    """A Redis of the test's own, which it may break."""
    with redis_server() as running:
        yield running


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    with redis_server() as running:
        yield running


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One loop for all examples of a property, since connections belong to a loop."""
    with asyncio.Runner() as running:
        yield running


@pytest.fixture(scope="module")
def lab(cluster: Cluster, runner: asyncio.Runner) -> Iterator[Lab]:
    made = Lab(cluster.clone())
    yield made
    runner.run(made.close())
