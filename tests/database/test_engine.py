"""The pool of connections, when the database misbehaves; and the era of a database."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from app.database import embedded, engine
from app.database.engine import Database, plain_url
from app.database.era import current_era
from app.database.migrate import migrate
from app.errors import Code, SynclineError
from tests.conftest import Cluster, Service
from tests.sync.database import execute


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.clone()


@asynccontextmanager
async def opened(
    url: str, *, pool_size: int = 1, statement_timeout_ms: int = 5_000
) -> AsyncIterator[Database]:
    database = Database(url, pool_size=pool_size, statement_timeout_ms=statement_timeout_ms)
    try:
        yield database
    finally:
        await database.close()


async def backend(database: Database) -> int:
    async with database.connection() as connection:
        return int(await connection.fetchval("select pg_backend_pid()"))


# --- URLs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("postgresql://u:p@h:1/d", "postgresql://u:p@h:1/d"),
        ("postgres://u@h/d", "postgresql://u@h/d"),
        ("postgresql+asyncpg://u@h/d", "postgresql://u@h/d"),
        ("postgresql+psycopg://u@h/d?sslmode=require", "postgresql://u@h/d?sslmode=require"),
        ("postgresql:///d?host=/run/x", "postgresql:///d?host=/run/x"),
        ("postgresql://u:a%2Bb://c@h/d", "postgresql://u:a%2Bb://c@h/d"),
        ("postgresql://h1:1,h2:2/d", "postgresql://h1:1,h2:2/d"),
    ],
)
def test_a_url_of_any_form_is_understood(given: str, plain: str) -> None:
    """People copy URLs from SQLAlchemy, libpq and hosting providers."""
    assert plain_url(given) == plain


@pytest.mark.parametrize("given", ["", "mysql://h/d", "h/d", "postgresql:/d", "+asyncpg://h/d"])
def test_another_url_is_refused(given: str) -> None:
    """A wrong URL is named at once, not when the first request fails."""
    with pytest.raises(ValueError, match="postgresql://"):
        plain_url(given)


# --- connections ----------------------------------------------------------------------------


async def test_a_lost_connection_is_thrown_away(url: str) -> None:
    """The server ended it while it lay in the pool; the next one is good."""
    async with opened(url) as database:
        first = await backend(database)
        assert await backend(database) == first, "a good connection is kept"
        await execute(url, f"select pg_terminate_backend({first})")
        await asyncio.sleep(0.1)
        assert await backend(database) != first


async def test_a_connection_lost_in_use_is_thrown_away(url: str) -> None:
    """The server ends it in the middle of a statement, which fails; the next one is good."""
    async with opened(url) as database:
        first = await backend(database)

        async def sleep() -> None:
            async with database.connection() as connection:
                await connection.execute("select pg_sleep(10)")

        sleeping = asyncio.create_task(sleep())
        await asyncio.sleep(0.1)
        await execute(url, f"select pg_terminate_backend({first})")
        with pytest.raises(engine.UNREACHABLE):
            await sleeping
        assert await backend(database) != first


async def test_an_open_transaction_is_never_handed_on(url: str) -> None:
    """A request that ends in mid-transaction must not leave its writes to the next one."""
    async with opened(url) as database:
        first = await backend(database)
        async with database.connection() as connection:
            await connection.execute("begin")
            await connection.execute("insert into heads values ('left', 1)")
        assert await backend(database) != first
        async with database.connection() as connection:
            assert not connection.is_in_transaction()
            assert await connection.fetchval("select count(*) from heads") == 0


@pytest.mark.parametrize("managed", [True, False])
async def test_a_cancelled_request_leaves_nothing_open(url: str, managed: bool) -> None:
    """A client hangs up while a statement runs inside a transaction."""
    async with opened(url) as database:
        begun = asyncio.Event()

        async def request() -> None:
            async with AsyncExitStack() as stack:
                connection = await stack.enter_async_context(database.connection())
                if managed:
                    await stack.enter_async_context(connection.transaction())
                else:
                    await connection.execute("begin")
                await connection.execute("insert into heads values ('left', 1)")
                begun.set()
                await connection.execute("select pg_sleep(10)")

        task = asyncio.create_task(request())
        await begun.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(3), database.connection() as connection:
            assert not connection.is_in_transaction()
            assert await connection.fetchval("select count(*) from heads") == 0


async def test_an_exhausted_pool_is_a_clear_error(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounded: who cannot have a connection in time is told so, and the pool recovers."""
    monkeypatch.setattr(engine, "POOL_TIMEOUT_S", 0.2)
    async with opened(url) as database:
        async with database.connection():
            with pytest.raises(SynclineError) as caught:
                await backend(database)
            assert caught.value.code is Code.DATABASE_UNAVAILABLE
        assert await backend(database) > 0


async def test_a_database_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, unknown host, wrong database: all are the same to a caller, who tries again."""
    for url in ("postgresql://u:p@127.0.0.1:9/d", "postgresql://u@127.0.0.1:9/d?host=/nowhere"):
        async with opened(url) as database:
            with pytest.raises(SynclineError) as caught:
                await backend(database)
            assert caught.value.code is Code.DATABASE_UNAVAILABLE


# --- the service ----------------------------------------------------------------------------


def unavailable(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    assert response.json()["code"] == "database-unavailable"
    assert int(response.headers["retry-after"]) >= 1


def add(client: httpx.Client, number: int, amount: int = 1) -> httpx.Response:
    body = {"id": f"00000000-0000-4000-8000-{number:012}", "device": "d", "delta": {"xp": amount}}
    return client.patch("/v1/documents/user_stats", json=body)


SLOW = (
    "create function slow() returns trigger language plpgsql as"
    " 'begin perform pg_sleep(60); return new; end'",
    "create trigger slow before update on documents for each row execute function slow()",
)


async def _lock_table(url: str, table: str, seconds: float) -> None:
    await _hold(url, f"lock table {table} in access exclusive mode", seconds)


async def _hold(url: str, lock: str, seconds: float) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute(lock)
            await asyncio.sleep(seconds)
    finally:
        await connection.close()


async def test_a_slow_statement_is_unavailable_and_half_does_nothing(
    start_service: Callable[..., Service],
) -> None:
    """The statement timeout ends a write that takes too long; sent again, it counts once."""
    service = start_service(statement_timeout_ms=300)
    with service.client("a") as client:
        assert add(client, 1).status_code == 201
        await execute(service.database_url, *SLOW)
        unavailable(await asyncio.to_thread(add, client, 2))
        await execute(service.database_url, "drop trigger slow on documents")
        assert client.get("/v1/documents/user_stats").json()["value"] == {"xp": 1}
        assert add(client, 2).json()["value"] == {"xp": 2}
        assert add(client, 2).json()["outcome"] == "duplicate"


def test_no_connection_to_be_had_is_unavailable(
    start_service: Callable[..., Service],
    cluster_18: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pool that is used up answers 503 and serves again after. Documents are read and written
    on connections of their own, and do not notice."""
    monkeypatch.setattr(engine, "POOL_TIMEOUT_S", 0.2)
    service = start_service(pool_size=1, statement_timeout_ms=5_000)
    history = "/v1/documents/user_stats/revisions"
    with service.client("a") as client:
        assert add(client, 1).status_code == 201

        async def during_lock() -> None:
            lock = asyncio.create_task(_lock_table(service.database_url, "revisions", 1.5))
            await asyncio.sleep(0.1)
            with service.client("a") as other:
                waiting = asyncio.create_task(asyncio.to_thread(other.get, history))
                await asyncio.sleep(0.2)
                unavailable(await asyncio.to_thread(client.get, history))
                assert client.get("/v1/documents/user_stats").json()["value"] == {"xp": 1}
                await lock
                assert (await waiting).status_code == 200

        asyncio.run(during_lock())
        assert client.get(history).status_code == 200


@pytest.fixture
def own_cluster() -> Iterator[tuple[Path, str]]:
    """A server of its own, to be killed: its data directory and URL."""
    folder = Path(tempfile.mkdtemp(prefix="sl"))
    folder.chmod(0o755)
    try:
        with embedded.start(folder, report=lambda _: None) as running:
            asyncio.run(_migrate(running.url))
            yield folder, running.url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _migrate(url: str) -> None:
    async with opened(url) as database:
        await migrate(database)


def test_a_database_that_dies_and_comes_back(
    own_cluster: tuple[Path, str], start_service: Callable[..., Service]
) -> None:
    """PostgreSQL is killed. While it is away the service says 503 and is not ready; when it is
    back the service serves by itself, and no write counts twice or not at all."""
    folder, url = own_cluster
    service = start_service(url)
    with service.client("a") as client:
        assert add(client, 1).status_code == 201
        assert httpx.get(f"{service.url}/readyz").status_code == 200
        (pid_file,) = folder.glob("**/postmaster.pid")
        postmaster = int(pid_file.read_text().split()[0])
        status = Path(f"/proc/{postmaster}/status").read_text()
        supervisor = int(status.partition("PPid:")[2].split()[0])
        os.kill(supervisor, signal.SIGSTOP)  # or it has the server back before anybody notices
        os.kill(postmaster, signal.SIGKILL)
        deadline = time.monotonic() + 30
        try:
            # Sessions live on for a moment without the server that began them.
            while httpx.get(f"{service.url}/readyz").status_code == 200:
                assert time.monotonic() < deadline, "the database lives on"
            unavailable(add(client, 2))
            assert httpx.get(f"{service.url}/livez").status_code == 200
        finally:
            os.kill(supervisor, signal.SIGCONT)
        deadline = time.monotonic() + 30
        while (answer := add(client, 2)).status_code == 503:
            unavailable(answer)
            assert time.monotonic() < deadline, "the service does not come back"
        assert answer.json()["outcome"] == "applied"
        assert httpx.get(f"{service.url}/readyz").status_code == 200
        assert add(client, 2).json()["outcome"] == "duplicate"
        assert client.get("/v1/documents/user_stats").json()["value"] == {"xp": 2}


def test_a_server_with_no_connection_to_spare(start_service: Callable[..., Service]) -> None:
    """Others hold every connection that PostgreSQL gives: 503 with Retry-After and nothing half
    done; once one is free, the service goes on by itself."""
    folder = Path(tempfile.mkdtemp(prefix="sl"))
    folder.chmod(0o755)
    few = {"max_connections": "12"}
    try:
        with embedded.start(folder, options=few, report=lambda _: None) as running:
            asyncio.run(_migrate(running.url))
            service = start_service(running.url)
            with service.client("a") as client:
                with _all_connections(running.url):
                    unavailable(add(client, 1))
                    unavailable(client.get("/v1/documents/user_stats"))
                    unavailable(client.post("/v1/sync", json={}))
                assert add(client, 1).json()["outcome"] == "applied"
                assert add(client, 1).json()["outcome"] == "duplicate"
                assert client.get("/v1/documents/user_stats").json()["value"] == {"xp": 1}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _all_connections(url: str) -> Iterator[None]:
    """Takes every connection that can be had, for a while."""
    loop = asyncio.new_event_loop()
    held: list[asyncpg.Connection] = []
    try:
        with suppress(asyncpg.TooManyConnectionsError):
            while True:
                held.append(loop.run_until_complete(asyncpg.connect(url)))
        yield
    finally:
        for connection in held:
            loop.run_until_complete(connection.close())
        loop.close()


# --- the era --------------------------------------------------------------------------------


async def era(url: str, *, begin: bool = False) -> str:
    async with opened(url) as database, database.connection() as connection:
        return await current_era(connection, int(time.time() * 1000), begin=begin)


def named(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


async def test_an_era_lasts_until_a_restore(cluster: Cluster, url: str) -> None:
    """Cursors must outlive restarts and must not outlive a restore."""
    first = await era(url)
    assert await era(url) == first
    assert len(first) == 8
    both = await asyncio.gather(era(url), era(url))
    assert set(both) == {first}
    copy = named(url, f"{urlsplit(url).path[1:]}_copy")
    source = urlsplit(url).path[1:]
    await execute(named(url, "postgres"), f'create database "{source}_copy" template "{source}"')
    second = await era(copy)
    assert second != first
    assert await era(copy) == second
    assert await era(url) == first, "the original goes on"


async def test_processes_that_start_at_once_agree_on_the_era(url: str) -> None:
    """Two eras for one database would expire every cursor of the other process."""
    assert len(set(await asyncio.gather(*(era(url) for _ in range(5))))) == 1


def _dump_and_restore(source: str, target: str) -> None:
    programs = embedded.binaries()
    dump = subprocess.run([programs / "pg_dump", source], check=True, capture_output=True)
    subprocess.run(
        [programs / "psql", "-q", "-v", "ON_ERROR_STOP=1", target],
        input=dump.stdout,
        check=True,
        capture_output=True,
    )


async def test_a_dump_that_is_restored_begins_a_new_era(cluster_18: Cluster) -> None:
    """The way most backups are made: pg_dump, and psql into a new database."""
    url = cluster_18.clone()
    first = await era(url)
    restored = f"{urlsplit(url).path[1:]}_restored"
    await execute(named(url, "postgres"), f'create database "{restored}"')
    await asyncio.to_thread(_dump_and_restore, url, named(url, restored))
    second = await era(named(url, restored))
    assert second != first
    assert await era(url) == first


async def test_an_operator_can_begin_an_era(url: str) -> None:
    """Where a restore does not show itself, somebody has to say so."""
    first = await era(url)
    second = await era(url, begin=True)
    assert second != first
    assert await era(url) == second
