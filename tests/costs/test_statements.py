"""How many statements a request costs: batches stay cheap only while nobody adds one a write."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx
import pytest

from app.database import engine
from tests.conftest import Cluster, Service
from tests.costs import figures
from tests.costs.statement_log import StatementLog
from tests.ledger.wire import record, xp
from tests.sync.database import fetch
from tests.sync.wire import Json, sync

StartService = Callable[..., Service]
HISTORY = 8
BATCH_SIZES = "select count(*) from documents where account <> 'blocker' group by xmin::text"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes that wait for whoever is held."""
    monkeypatch.setattr(engine, "HELD_AFTER_MS", 60_000)


@pytest.fixture
def watched(cluster_18: Cluster, start_service: StartService) -> tuple[Service, StatementLog]:
    """A service with one lane whose statements are logged, and the log."""
    url = cluster_18.clone()
    log = StatementLog(url)
    log.watch()
    return start_service(url, write_lanes=1, history=HISTORY), log


def writes(count: int, number: int, **more: Any) -> list[Json]:
    """Mutations on the current version of as many documents, without ids."""
    return [
        {"op": "put", "key": f"k{index}", "base": number, "value": {"n": number}, **more}
        for index in range(count)
    ]


def put_all(client: httpx.Client, mutations: list[Json], outcome: str = "applied") -> None:
    """PUTs that must come to an outcome, one after the other."""
    for one in mutations:
        body = {name: one[name] for name in ("base", "value", "device") if name in one}
        answer = client.put(f"/v1/documents/{one['key']}", json=body)
        assert answer.json()["outcome"] == outcome, answer.text


def listed(statements: list[str]) -> str:
    return "\n".join(statements)


@pytest.mark.parametrize("count", [1, 25, 400])
def test_a_push_costs_the_same_statements_whatever_its_size(
    watched: tuple[Service, StatementLog], start_service: StartService, count: int
) -> None:
    """A statement a write would make a sync of 500 as dear as 500 requests."""
    service, log = watched
    with service.client("writer") as client:
        cursor = push(client, count, 1, push(client, count, 0))
        with log.recorded() as statements:
            cursor = push(client, count, 2, cursor)
        with log.recorded() as late:
            push(client, count, 3)
    assert len(statements) == figures.PUSH_STATEMENTS, listed(statements)
    assert len(late) == figures.PUSH_STATEMENTS + figures.PULL_STATEMENTS, listed(late)
    other = start_service(service.database_url, write_lanes=1, history=HISTORY)
    with other.client("writer") as client:
        cursor = sync(client)["cursor"]
        with log.recorded() as statements:
            push(client, count, 4, cursor)
    assert len(statements) == figures.COLD_PUSH_STATEMENTS, listed(statements)


@pytest.mark.parametrize("count", [1, 25, 400])
def test_events_cost_the_same_statements_however_many(
    watched: tuple[Service, StatementLog], start_service: StartService, count: int
) -> None:
    """500 events are one statement, as the ledger promises, and not 500."""
    service, log = watched
    with service.client("player") as client:
        for _ in range(HISTORY):  # so that the oldest revisions leave the ring
            record(client, *(xp(1) for _ in range(count)))
        with log.recorded() as statements:
            record(client, *(xp(1) for _ in range(count)))
    assert len(statements) == figures.EVENTS_STATEMENTS, listed(statements)
    other = start_service(service.database_url, write_lanes=1, history=HISTORY)
    with other.client("player") as client, log.recorded() as statements:
        record(client, *(xp(1) for _ in range(count)))
    assert len(statements) == figures.COLD_EVENTS_STATEMENTS, listed(statements)


def push(client: httpx.Client, count: int, number: int, cursor: str | None = None) -> str:
    """The cursor after it."""
    mutations = writes(count, number)
    for index, one in enumerate(mutations):
        one["id"] = f"0199aaaa-{number:04x}-7000-8000-{index:012x}"
    answer = sync(client, *mutations, cursor=cursor)
    assert {result["outcome"] for result in answer["results"]} == {"applied"}
    return str(answer["cursor"])


@pytest.mark.parametrize("count", [2, 60])
async def test_a_batch_of_many_accounts_costs_the_same_statements(
    patient: None, watched: tuple[Service, StatementLog], start_service: StartService, count: int
) -> None:
    """Under load a batch is of as many accounts as writes: W1 is nothing else.

    An account whose head is held keeps the lane busy, so that the others wait together.
    """
    service, log = watched
    async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
        for account in ("blocker", *accounts(count)):
            await write(client, service, account, 0)
        spent, version = await one_whole_batch(client, service, log, count, 1)
    assert len(spent) == 2 * figures.BATCH_STATEMENTS, listed(spent)
    other = start_service(service.database_url, write_lanes=1, history=HISTORY)
    async with httpx.AsyncClient(base_url=other.url, timeout=30) as client:
        spent, _ = await one_whole_batch(client, other, log, count, version, tries=1)
    assert len(spent) == 2 * figures.COLD_BATCH_STATEMENTS, listed(spent)


async def one_whole_batch(
    client: httpx.AsyncClient,
    service: Service,
    log: StatementLog,
    count: int,
    version: int,
    tries: int = 4,
) -> tuple[list[str], int]:
    """The statements of a batch with all accounts in it, and the version after it."""
    for number in range(version, version + tries):
        with log.recorded() as statements:
            await one_batch(client, service, count, number)
        rows = await asyncio.to_thread(fetch, service.database_url, BATCH_SIZES)
        if [row[0] for row in rows] == [count]:
            return statements, number + 1
    raise AssertionError("the writes never came together in one batch")


def accounts(count: int) -> list[str]:
    return [f"account-{number}" for number in range(count)]


async def one_batch(client: httpx.AsyncClient, service: Service, count: int, number: int) -> None:
    """Two batches: one of the blocker alone, and what came while it waited."""
    settings = {"log_statement": "none"}
    blocker = await asyncpg.connect(service.database_url, server_settings=settings)
    try:
        async with asyncio.TaskGroup() as group, blocker.transaction():
            await blocker.execute("select from heads where account = 'blocker' for update")
            group.create_task(write(client, service, "blocker", number))
            await asyncio.sleep(0.2)
            for account in accounts(count):
                group.create_task(write(client, service, account, number))
            await asyncio.sleep(0.2 + 0.2 * number)
    finally:
        await blocker.close()


async def write(client: httpx.AsyncClient, service: Service, account: str, number: int) -> None:
    body = {"base": number, "device": "d1", "value": {"n": number}}
    headers = {"Authorization": f"Bearer {service.token(account)}"}
    answer = await client.put("/v1/documents/k", json=body, headers=headers)
    assert answer.json().get("outcome") == "applied", answer.text


def test_a_single_write_costs_no_more_than_its_kind(
    watched: tuple[Service, StatementLog],
) -> None:
    """What only some writes need must not be asked for all of them."""
    service, log = watched
    with service.client() as client:
        put_all(client, [one for number in range(2) for one in writes(1, number)])
        with log.recorded() as plain:
            put_all(client, writes(1, 2))
        with log.recorded() as merge:
            put_all(client, [{"key": "k0", "base": 2, "value": {"n": 5}, "device": "d2"}], "merged")
        put_all(client, [one for number in range(4, HISTORY + 2) for one in writes(1, number)])
        with log.recorded() as ring:
            put_all(client, writes(1, HISTORY + 2))
    assert len(plain) == figures.WRITE_STATEMENTS, listed(plain)
    assert len(ring) == figures.RING_STATEMENTS, listed(ring)
    assert len(merge) == figures.MERGE_STATEMENTS, listed(merge)


def test_a_read_and_a_pull_cost_one_statement(watched: tuple[Service, StatementLog]) -> None:
    """Most requests change nothing, so a second question would be half of all questions."""
    service, log = watched
    with service.client() as client:
        put_all(client, writes(5, 0))
        cursor = sync(client)["cursor"]
        put_all(client, writes(3, 1))
        later = sync(client, cursor=cursor)
        assert len(later["changes"]) == 3
        with log.recorded() as read:
            assert client.get("/v1/documents/k1").json()["version"] == 2
        with log.recorded() as three:
            assert len(sync(client, cursor=cursor)["changes"]) == 3
        with log.recorded() as nothing:
            assert sync(client, cursor=later["cursor"])["changes"] == []
    assert len(read) == figures.READ_STATEMENTS, listed(read)
    assert len(three) == figures.PULL_STATEMENTS, listed(three)
    assert len(nothing) == figures.PULL_STATEMENTS, listed(nothing)
