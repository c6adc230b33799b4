"""Real PostgreSQL, real HTTP: what the tests of the service stand on.

One cluster a server version for the whole run, one database with the schema as a template,
clones of it where a test needs its own. Tests that share a service use accounts of their own.
"""

import asyncio
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import msgspec
import pytest
import uvicorn
from hypothesis import settings as hypothesis_settings

from app.auth.tokens import mint
from app.clock import system_clock
from app.compiled import is_compiled
from app.database import embedded
from app.database.engine import Database
from app.database.migrate import migrate
from app.http_protocol import BoundedHttpProtocol
from app.main import create_app
from app.settings import Settings
from app.socket_protocol import SocketProtocol

# A deadline would assert a timing, and no test here does: examples that start a service, write to a
# database or read a whole document back take as long as the machine lets them.
hypothesis_settings.register_profile("no timings", hypothesis_settings.default, deadline=None)
hypothesis_settings.load_profile("no timings")


def pytest_configure() -> None:
    """Who wants compiled code tested must not be content with its sources."""
    if os.environ.get("TESTS_ON_COMPILED") and not is_compiled():
        raise pytest.UsageError("TESTS_ON_COMPILED is set, and the code is plain Python")


SECRET = "only-for-tests-" + "0" * 32
ADMIN_TOKEN = "only-for-operators-" + "0" * 32
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
TEMPLATE = "syncline"


@dataclass(frozen=True)
class Cluster:
    """A running server whose database `syncline` holds the schema and nothing else."""

    url: str
    name: str

    def clone(self) -> str:
        """The URL of a fresh database; takes a tenth of a second."""
        database = f"test_{secrets.token_hex(6)}"
        statement = f'create database "{database}" template "{TEMPLATE}"'
        with ThreadPoolExecutor(1) as thread:  # since a caller may run in a loop itself
            thread.submit(lambda: asyncio.run(self._execute(statement))).result()
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"/{database}"))

    async def _execute(self, sql: str) -> None:
        parts = urlsplit(self.url)
        connection = await asyncpg.connect(urlunsplit(parts._replace(path="/postgres")))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


def start_cluster(
    name: str, binaries: Path | None, options: Mapping[str, str] = MappingProxyType(NOT_DURABLE)
) -> Iterator[Cluster]:
    """A server of its own; of its folder, a gigabyte after a whole run, nothing stays."""
    folder = Path(tempfile.mkdtemp(prefix="syncline-tests-"))
    folder.chmod(0o755)
    try:
        with embedded.start(
            folder, options=options, binaries=binaries, report=lambda _: None
        ) as running:
            asyncio.run(_bring_up_to_date(running.url))
            yield Cluster(running.url, name)
        _await_stop(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _await_stop(folder: Path) -> None:
    """The server stops once nobody uses it, and until then writes into its folder."""
    deadline = time.monotonic() + 30
    while any(folder.glob("**/postmaster.pid")) and time.monotonic() < deadline:
        time.sleep(0.05)


async def _bring_up_to_date(url: str) -> None:
    database = Database(url, pool_size=1, statement_timeout_ms=10_000)
    await migrate(database)
    await database.close()


@pytest.fixture(scope="session")
def cluster_18() -> Iterator[Cluster]:
    """The embedded PostgreSQL 18."""
    yield from start_cluster("PostgreSQL 18", None)


@pytest.fixture(scope="session")
def cluster_15() -> Iterator[Cluster]:
    """Debian's PostgreSQL 15, the oldest that is promised."""
    if not DEBIAN_15.exists():
        pytest.skip("Debian's PostgreSQL 15 is not installed (apt-get install postgresql-15)")
    yield from start_cluster("PostgreSQL 15", DEBIAN_15)


@pytest.fixture(scope="session", params=["18", "15"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Both servers, one after the other."""
    found: Cluster = request.getfixturevalue(f"cluster_{request.param}")
    return found


@dataclass
class Service:
    """A service that listens, and clients of it."""

    url: str
    database_url: str
    app: Any = None

    def token(self, account: str, **claims: Any) -> str:
        return mint(SECRET, account, ttl_s=3600, now_ms=system_clock(), **claims)

    def client(self, account: str | None = None) -> httpx.Client:
        """A client of an account; a new one if none is named."""
        account = account or f"account-{secrets.token_hex(8)}"
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.token(account)}"},
            timeout=30.0,
        )

    def operator(self, token: str = ADMIN_TOKEN) -> httpx.Client:
        """A client of the admin routes."""
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30.0)


@contextmanager
def serving(database_url: str, **overrides: Any) -> Iterator[Service]:
    """The service, in a thread with its own loop, on a socket of its own."""
    settings = msgspec.structs.replace(
        Settings(database_url=database_url, jwt_secret=SECRET, admin_token=ADMIN_TOKEN),
        **overrides,
    )
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_level="warning",
        lifespan="on",
        http=BoundedHttpProtocol,
        ws=SocketProtocol,
        ws_max_size=settings.live_frame_bytes,
        ws_ping_interval=settings.live_ping_s,
        ws_ping_timeout=settings.live_ping_timeout_s,
        ws_per_message_deflate=False,
        h11_max_incomplete_event_size=settings.max_header_bytes,
    )
    server = uvicorn.Server(config)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        assert time.monotonic() < deadline, "the service did not start in time"
        time.sleep(0.01)
    try:
        yield Service(f"http://127.0.0.1:{sock.getsockname()[1]}", database_url, app)
    finally:
        server.should_exit = True
        thread.join(20)
        sock.close()


@pytest.fixture(scope="session")
def service(cluster: Cluster) -> Iterator[Service]:
    """One service on each server, shared by tests that use accounts of their own."""
    with serving(cluster.clone()) as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    """A client of a new account."""
    with service.client() as running:
        yield running


@pytest.fixture
def start_service(cluster_18: Cluster) -> Iterator[Callable[..., Service]]:
    """Starts services with settings of their own; each has its own database if none is named."""
    contexts: list[Any] = []

    def start(database_url: str | None = None, **overrides: Any) -> Service:
        context = serving(database_url or cluster_18.clone(), **overrides)
        contexts.append(context)
        running: Service = context.__enter__()
        return running

    yield start
    for context in reversed(contexts):
        context.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own variables must not change what the tests see."""
    for name in list(os.environ):
        if name.startswith("SYNCLINE_"):
            monkeypatch.delenv(name)
