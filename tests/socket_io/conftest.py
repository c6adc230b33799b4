"""A service that speaks Socket.IO, and real clients of it."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Cluster, Service, serving
from tests.socket_io.client import SocketIoClient

Connect = Callable[..., SocketIoClient]


@pytest.fixture(scope="session")
def service(cluster_18: Cluster) -> Iterator[Service]:
    """One for all tests of this folder, which use accounts of their own."""
    with serving(cluster_18.clone(), socketio=True) as running:
        yield running
        # As a signal does: requests of clients that poll would hold up the end.
        running.app.state.operations.draining = True


@pytest.fixture
def account() -> str:
    return f"account-{secrets.token_hex(8)}"


@pytest.fixture
def connect(service: Service) -> Iterator[Connect]:
    """Connects a client with a token of an account; ends it with the test."""
    clients: list[SocketIoClient] = []

    def start(account: str | None, *, url: str | None = None, **options: Any) -> SocketIoClient:
        if account is not None:
            options.setdefault("auth", {})["token"] = service.token(account)
        client = SocketIoClient(url or service.url, **options)
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.end()
