"""What PostgreSQL refuses to all rejects no mutation; who hangs takes no other account along."""

import asyncio
from collections.abc import Callable

import asyncpg
import httpx

from tests.conftest import Service
from tests.sync.wire import put


def push(client: httpx.Client) -> httpx.Response:
    body = {"device": "d", "mutations": [put("k", 1, 0), put("l", 2, 0)]}
    return client.post("/v1/sync", json=body)


async def test_a_failing_database_rejects_no_mutation(
    start_service: Callable[..., Service],
) -> None:
    """A client drops what was rejected, so a missing table or privilege must be a 5xx."""
    service = start_service()
    connection = await asyncpg.connect(service.database_url)
    try:
        await connection.execute("alter table revisions rename to hidden")
        with service.client("a") as client:
            failed = await asyncio.to_thread(push, client)
            assert failed.status_code == 500
            assert failed.json()["code"] == "internal"
            await connection.execute("alter table hidden rename to revisions")
            answer = await asyncio.to_thread(push, client)
            assert [one["outcome"] for one in answer.json()["results"]] == ["applied", "applied"]
    finally:
        await connection.close()


async def test_an_account_that_hangs_fails_alone(start_service: Callable[..., Service]) -> None:
    """Another session holds one account; writes of others that shared its batch are made."""
    service = start_service(write_lanes=1)
    connection = await asyncpg.connect(service.database_url)
    try:
        with service.client("a") as a, service.client("b") as b:
            for client in (a, b):
                assert client.put("/v1/documents/k", json={"value": 1}).status_code == 201
            async with connection.transaction():
                await connection.execute("select * from heads where account = 'a' for update")
                write = [
                    asyncio.to_thread(client.put, "/v1/documents/k", json={"value": number})
                    for number, client in ((2, a), (3, a), (4, b))
                ]
                first, second, other = await asyncio.gather(*write)
            assert [first.status_code, second.status_code] == [503, 503]
            assert first.json()["code"] == "database-unavailable"
            assert other.status_code == 200
    finally:
        await connection.close()
