"""The write path under adversity: batches, queue bounds, poison, lost commits, stopping."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, NoReturn, cast
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import pytest

from app.clock import system_clock
from app.database import retry
from app.database.engine import Database, KeptConnection
from app.documents import store
from app.documents.lane import SHARE
from app.documents.model import Decision, Limits, Mutation
from app.documents.mutations import Intake
from app.documents.pipeline import Pipeline, PipelineSettings
from app.documents.submission import Submission
from app.documents.types import PatchDocument, PutDocument
from app.errors import Code, SynclineError
from merge_rules.documents import shipped_registry
from tests.conftest import Cluster, Service
from tests.sync.database import REFUSE_POISON, fetch
from tests.sync.wire import documents, outcomes, patch, put, refused, sync

INTAKE = Intake(max_keys=1000, max_operations=100)


def add(amount: int, key: str = "user_stats") -> Mutation:
    """An increment of a device."""
    sent = {"id": str(uuid4()), "device": "d1", "delta": {"xp": amount}}
    body = msgspec.json.decode(msgspec.json.encode(sent), type=PatchDocument)
    return INTAKE.patch(key, body, system_clock())


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.clone()


WRITES = "with "
"""How the statement begins that writes a batch."""


class LosesCommits(Database):
    """A database whose connection dies at the first COMMITs, before or after they are done."""

    def __init__(self, url: str, moments: list[str]) -> None:
        super().__init__(url, pool_size=2, statement_timeout_ms=5_000)
        self.moments = moments

    def kept(self, *, patient: bool = True) -> KeptConnection:
        return _Kept(self, patient=patient)


class _Kept(KeptConnection):
    def __init__(self, database: LosesCommits, *, patient: bool) -> None:
        super().__init__(partial(database.connect, patient=patient))
        self._moments = database.moments

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Any]:
        async with super().use() as connection:
            yield _Losing(connection, self._moments)


class _Losing:
    """A connection that is cut at COMMIT."""

    def __init__(self, connection: Any, moments: list[str]) -> None:
        self._connection = connection
        self._moments = moments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """A write outside a transaction commits by itself."""
        if not query.startswith(WRITES) or self._connection.is_in_transaction():
            return cast(list[Any], await self._connection.fetch(query, *arguments))
        moment = self._moments.pop(0) if self._moments else "none"
        written = await self._connection.fetch(query, *arguments) if moment != "before" else []
        if moment != "none":
            self._cut()
        return cast(list[Any], written)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            yield
        except BaseException:
            await transaction.rollback()
            raise
        moment = self._moments.pop(0) if self._moments else "none"
        if moment == "after":
            await transaction.commit()
        if moment != "none":
            self._cut()
        await transaction.commit()

    def _cut(self) -> NoReturn:
        self._connection.terminate()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle")


class Pausing(Database):
    """A database whose kept connections can be made to wait, so that a lane is busy."""

    def __init__(self, url: str) -> None:
        super().__init__(url, pool_size=3, statement_timeout_ms=5_000)
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    def kept(self, *, patient: bool = True) -> KeptConnection:
        return _Waiting(self, patient=patient)

    @asynccontextmanager
    async def busy(self, pipeline: Pipeline) -> AsyncIterator[asyncio.Task[list[Decision]]]:
        """A write of `a` is on its way and stays there, so that everything else waits."""
        self.goes_on.clear()
        first = asyncio.create_task(pipeline.submit(Submission("a", [add(1)])))
        await asyncio.sleep(0)
        while pipeline.waiting:  # noqa: ASYNC110 - a lane tells nobody when it takes a batch
            await asyncio.sleep(0)
        try:
            yield first
        finally:
            self.goes_on.set()


class _Waiting(KeptConnection):
    def __init__(self, database: Pausing, *, patient: bool) -> None:
        super().__init__(partial(database.connect, patient=patient))
        self._database = database

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Any]:
        await self._database.goes_on.wait()
        async with super().use() as connection:
            yield connection


@asynccontextmanager
async def running(database: Database, **settings: Any) -> AsyncIterator[Pipeline]:
    """A pipeline on a database, stopped in the end."""
    defaults: dict[str, Any] = {
        "lanes": 1,
        "queue_limit": 100,
        "batch_limit": 100,
        "history": 8,
        "max_documents": 100,
        "limits": Limits(100_000, 1_000),
    }
    chosen = PipelineSettings(**{**defaults, **settings})
    pipeline = Pipeline(database, shipped_registry(), system_clock, chosen)
    pipeline.start()
    try:
        yield pipeline
    finally:
        await pipeline.stop()
        await database.close()


def plain(url: str) -> Database:
    return Database(url, pool_size=3, statement_timeout_ms=5_000)


@asynccontextmanager
async def locked(url: str, account: str) -> AsyncIterator[None]:
    """Holds an account's head, so that what writes it has to wait."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await store.read_heads(connection, [account], lock=True)
            yield
    finally:
        await connection.close()


async def held(url: str, account: str, key: str = "user_stats") -> tuple[int, Any]:
    """Version and value of a document; 0 if there is none."""
    connection = await asyncpg.connect(url)
    try:
        found = await store.read_document(connection, account, key)
    finally:
        await connection.close()
    if found is None:
        return 0, None
    return found.version, msgspec.json.decode(found.stored.value or b"null")


async def test_a_cancelled_caller_leaves_its_batch_intact(url: str) -> None:
    """A client that hangs up must neither undo its write half-way nor take others with it."""
    async with running(plain(url)) as pipeline:
        async with locked(url, "a"):
            tasks = [
                asyncio.create_task(pipeline.submit(Submission("a", [add(10**i)])))
                for i in range(4)
            ]
            await asyncio.sleep(0.05)
            tasks[0].cancel()
            tasks[2].cancel()
            await asyncio.sleep(0.05)
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(one, asyncio.CancelledError) for one in done] == [
            True,
            False,
            True,
            False,
        ]
        assert (await pipeline.submit(Submission("a", [add(10_000)])))[0].outcome == "applied"
        assert await held(url, "a") == (5, {"xp": 11_111})


async def test_waiting_submissions_share_a_commit(url: str) -> None:
    """While one batch commits the next fills: no timer, and no commit for each write."""
    database = Pausing(url)
    async with running(database) as pipeline:
        async with database.busy(pipeline) as first:
            rest = [
                asyncio.create_task(pipeline.submit(Submission(name, [add(1)])))
                for name in ("a", "b", "a", "c")
            ]
            await asyncio.sleep(0)
        await asyncio.gather(first, *rest)
    rows = await _rows(url, "select distinct xmin::text from documents")
    assert len(rows) == 1, "a, b and c were written by one transaction"


async def _rows(url: str, sql: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        rows: list[Any] = await connection.fetch(sql)
        return rows
    finally:
        await connection.close()


async def test_a_full_queue_refuses_and_recovers(url: str) -> None:
    """Bounded: what does not fit is told at once, and what waits is not harmed."""
    async with running(plain(url), queue_limit=3) as pipeline:
        async with locked(url, "a"):
            first = asyncio.create_task(pipeline.submit(Submission("a", [add(1)])))
            await asyncio.sleep(0.05)
            waiting = asyncio.create_task(
                pipeline.submit(Submission("a", [add(10), add(10), add(10)]))
            )
            await asyncio.sleep(0)
            with pytest.raises(SynclineError) as caught:
                await pipeline.submit(Submission("b", [add(1)]))
            assert caught.value.code is Code.OVERLOADED
        await asyncio.gather(first, waiting)
        await pipeline.submit(Submission("b", [add(1)]))
        assert await held(url, "a") == (4, {"xp": 31})
        assert await held(url, "b") == (1, {"xp": 1})


async def test_a_flood_fills_no_queue_but_its_own(url: str) -> None:
    """One account may have a part of the queue, and of a batch while others wait: what another
    sends behind a thousand of its mutations is written before most of them are."""
    settings: dict[str, Any] = {"queue_limit": 4_096, "batch_limit": 512}
    database = Pausing(url)
    async with running(database, **settings) as pipeline:
        async with database.busy(pipeline) as first:
            flood = [
                asyncio.create_task(
                    pipeline.submit(Submission("flood", [add(1) for _ in range(8)]))
                )
                for _ in range(128)
            ]
            await asyncio.sleep(0)
            with pytest.raises(SynclineError) as caught:
                await pipeline.submit(Submission("flood", [add(1)]))
            assert caught.value.code is Code.OVERLOADED
            other = asyncio.create_task(pipeline.submit(Submission("other", [add(1)])))
            await asyncio.sleep(0)
        await asyncio.gather(first, other)
        assert sum(task.done() for task in flood) <= 2 * SHARE // 8
        await asyncio.gather(*flood)
        assert (await held(url, "flood"))[1] == {"xp": 8 * 128}


async def test_stop_answers_everything(url: str) -> None:
    """A process that ends has told every caller what became of its write."""
    async with running(plain(url), lanes=2, batch_limit=2) as pipeline:
        async with locked(url, "a"):
            tasks = [
                asyncio.create_task(pipeline.submit(Submission(name, [add(1)])))
                for name in ["a", "b", "c"] * 5
            ]
            await asyncio.sleep(0.05)
            stopping = asyncio.create_task(pipeline.stop())
            await asyncio.sleep(0)
            with pytest.raises(SynclineError) as caught:
                await pipeline.submit(Submission("a", [add(1)]))
            assert caught.value.code is Code.SHUTTING_DOWN
        await asyncio.wait_for(stopping, 10)
        assert all(task.done() for task in tasks)
        assert [task.result()[0].outcome for task in tasks] == ["applied"] * 15
    assert await held(url, "a") == (5, {"xp": 5})


async def test_a_batch_with_a_row_that_postgresql_refuses(url: str) -> None:
    """What PostgreSQL will not store is rejected alone; neighbours of the same batch, in the
    same submission and in others, are committed."""
    await _rows(url, REFUSE_POISON)
    database = Pausing(url)
    async with running(database) as pipeline:
        async with database.busy(pipeline) as first:
            mixed = [add(10), add(1, "poison"), add(100), add(1, "poison"), add(1000)]
            tasks = [
                asyncio.create_task(pipeline.submit(one))
                for one in (
                    Submission("b", [add(1)]),
                    Submission("a", mixed),
                    Submission("a", [add(1, "poison")]),
                    Submission("a", [add(10_000)]),
                )
            ]
            await asyncio.sleep(0)
        await first
        done = await asyncio.gather(*tasks, return_exceptions=True)
    neighbour, between, alone, behind = done
    assert isinstance(alone, SynclineError)
    assert alone.code is Code.INTERNAL
    assert isinstance(neighbour, list)
    assert isinstance(between, list)
    assert isinstance(behind, list)
    assert [_told(one) for one in between] == [
        "applied",
        Code.INTERNAL,
        "applied",
        Code.INTERNAL,
        "applied",
    ]
    assert (await held(url, "a"))[1] == {"xp": 11_111}
    assert (await held(url, "b"))[1] == {"xp": 1}
    assert await held(url, "a", "poison") == (0, None)


def _told(decision: Decision) -> Any:
    return decision.outcome if decision.problem is None else decision.problem.code


@pytest.mark.parametrize(
    ("moments", "outcome"),
    [
        (["before"], "applied"),
        (["after"], "duplicate"),
        (["before", "after"], "duplicate"),
        (["after", "before", "after"], "duplicate"),
    ],
)
async def test_an_unknown_commit_is_resolved_by_the_ids(
    url: str, moments: list[str], outcome: str
) -> None:
    """The connection died between COMMIT and its answer. Either way each counts once."""
    async with running(LosesCommits(url, list(moments))) as pipeline:
        submission = Submission("a", [add(1), add(10)])
        decisions = await pipeline.submit(submission)
        assert [one.outcome for one in decisions] == [outcome, outcome]
        assert await held(url, "a") == (2, {"xp": 11})


async def test_a_commit_that_stays_unknown_is_unavailable_and_not_rejected(url: str) -> None:
    """An infrastructure failure is never a rejection: the client sends the same ids again."""
    async with running(LosesCommits(url, ["after"] + ["before"] * (retry.RETRIES - 1))) as pipeline:
        mutation = add(1)
        with pytest.raises(SynclineError) as caught:
            await pipeline.submit(Submission("a", [mutation]))
        assert caught.value.code is Code.DATABASE_UNAVAILABLE
        (again,) = await pipeline.submit(Submission("a", [mutation]))
        assert again.outcome == "duplicate"
        assert await held(url, "a") == (1, {"xp": 1})


async def test_the_device_keeps_the_last_id_of_a_batch(url: str) -> None:
    """A write without an id in the same batch must not make the server forget the one before:
    the device's next sync would look like a fork."""
    async with running(plain(url)) as pipeline:
        earlier, last = add(1), add(1)
        await pipeline.submit(Submission("a", [earlier]))
        body = PutDocument(value=msgspec.Raw(b"1"), device="d1")
        nameless = INTAKE.put("notes", body, system_clock())
        await pipeline.submit(Submission("a", [last, nameless]))
        following = Submission("a", [add(1)], "d1", checks_fork=True, previous=last.id)
        assert (await pipeline.submit(following))[0].outcome == "applied"


# --- over HTTP ------------------------------------------------------------------------------


Block = Callable[[str, str], Callable[[], None]]


@pytest.fixture
def block() -> Iterator[Block]:
    """Holds an account's head of a database, until what it gives is called."""
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))

        def start(url: str, account: str) -> Callable[[], None]:
            held_it: Future[Callable[[], None]] = Future()

            async def hold() -> None:
                ended = asyncio.Event()
                loop = asyncio.get_running_loop()
                async with locked(url, account):
                    held_it.set_result(lambda: _set(loop, ended))
                    await ended.wait()

            pool.submit(asyncio.run, hold())
            release = held_it.result(10)
            stack.callback(release)
            return release

        yield start


def _set(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(event.set)


def test_an_overloaded_service_says_when_to_come_back(
    start_service: Callable[..., Service], block: Block
) -> None:
    """503 with Retry-After, for the request that does not fit and for no other."""
    service = start_service(queue_limit=3, write_lanes=1)
    with service.client("a") as client, ThreadPoolExecutor(4) as pool:
        release = block(service.database_url, "a")
        one = pool.submit(sync, client, patch("user_stats", delta={"xp": 1}))
        time.sleep(0.2)
        two = pool.submit(sync, client, *(patch("user_stats", delta={"xp": 10}) for _ in "ab"))
        time.sleep(0.2)
        body = {"device": "d1", "mutations": [patch("user_stats", delta={"xp": 100})]}
        response = client.post("/v1/sync", json=body)
        refused(response, 503, "overloaded")
        assert int(response.headers["retry-after"]) >= 1
        release()
        assert outcomes(one.result()) + outcomes(two.result()) == ["applied"] * 3
        assert documents(client) == {"user_stats": {"xp": 21}}
        assert client.post("/v1/sync", json=body).status_code == 200


def test_a_client_that_hangs_up_changes_nothing_for_others(
    start_service: Callable[..., Service], block: Block
) -> None:
    """A closed socket cancels a request, never the transaction that holds its write."""
    service = start_service(write_lanes=1)
    with service.client("a") as client, service.client("a") as hasty:
        release = block(service.database_url, "a")
        mutation = patch("user_stats", delta={"xp": 1})
        body = {"device": "d1", "mutations": [mutation]}
        with suppress(httpx.TimeoutException):
            hasty.post("/v1/sync", json=body, timeout=0.2)
        hasty.close()
        release()
        answer = sync(client, patch("user_stats", delta={"xp": 10}))
        assert outcomes(answer) == ["applied"]
        assert documents(client) == {"user_stats": {"xp": 11}}
        assert outcomes(sync(client, mutation)) == ["duplicate"]


def test_a_backend_killed_while_it_commits(start_service: Callable[..., Service]) -> None:
    """The real thing: backends are killed at random moments under load, COMMIT included; every
    answer is a success, and every increment counts once."""
    service = start_service()
    kill = (
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'syncline' and datname = current_database()"
    )
    ended = threading.Event()

    def write(account: str) -> int:
        written = 0
        with service.client(account) as client:
            while not ended.is_set():
                mutation = patch("user_stats", delta={"xp": 1})
                while client.post(
                    "/v1/sync", json={"device": "d1", "mutations": [mutation]}
                ).is_error:
                    time.sleep(0.01)
                written += 1
        return written

    with ThreadPoolExecutor(6) as pool:
        names = [f"a{i % 3}" for i in range(6)]
        writers = [pool.submit(write, name) for name in names]
        for _ in range(15):
            time.sleep(0.1)
            fetch(service.database_url, kill)
        ended.set()
        written = [writer.result() for writer in writers]
    for name in set(names):
        total = sum(count for at, count in zip(names, written, strict=True) if at == name)
        with service.client(name) as client:
            (change,) = sync(client)["changes"]
            assert (change["value"], change["version"]) == ({"xp": total}, total)
    assert sum(written) > 30


def test_a_rejected_row_in_a_sync_carries_a_problem(start_service: Callable[..., Service]) -> None:
    """Over HTTP the poisoned mutation is a result among others, in its place."""
    service = start_service()
    fetch(service.database_url, REFUSE_POISON)
    with service.client() as client:
        answer = sync(client, put("a", 1, 0), put("poison", 1, 0), put("b", 1, 0))
        assert outcomes(answer) == ["applied", "rejected", "applied"]
        problem = answer["results"][1]["problem"]
        assert (problem["status"], problem["code"]) == (500, "internal")
        assert documents(client) == {"a": 1, "b": 1}
        refused(client.put("/v1/documents/poison", json={"value": 1}), 500, "internal")
