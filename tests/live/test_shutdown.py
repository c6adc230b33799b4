"""Stopping: sockets are told to connect again, and what is in flight is answered first."""

import asyncio
import time
from contextlib import AsyncExitStack

import asyncpg

from tests.conftest import Cluster
from tests.live.raw import Raw, hello
from tests.live.talk import opened, talking
from tests.sync.processes import Process
from tests.sync.wire import put

WAITING = (
    "select count(*) from pg_locks where not granted and database ="
    " (select oid from pg_database where datname = current_database())"
)


async def test_a_stop_tells_every_socket_to_connect_again(cluster_18: Cluster) -> None:
    """Those who read nothing, or never said hello, must not hold up the end."""
    process = Process(cluster_18.clone())
    process.wait_until_ready()
    async with AsyncExitStack() as stack:
        talks = [
            await stack.enter_async_context(talking(process.url, f"account-{number % 20}"))
            for number in range(60)
        ]
        silent = await stack.enter_async_context(opened(process.url))
        frozen = Raw(process.url, buffer=4_096).send(hello("account-1", "frozen"))
        began = time.monotonic()
        ending = asyncio.create_task(asyncio.to_thread(process.end))
        assert {await talk.closed() for talk in talks} == {(1012, "the process stops")}
        assert (await silent.closed())[0] == 1012
        await ending
        assert time.monotonic() - began < 15  # and not the 30 s after which it would be cut off
        frozen.close()


async def test_a_push_in_flight_is_answered_before_the_socket_is_closed(
    cluster_18: Cluster, account: str
) -> None:
    """Whoever has to ask again whether a write was made has waited for nothing."""
    url = cluster_18.clone()
    process = Process(url)
    process.wait_until_ready()
    obstacle = await asyncpg.connect(url)
    async with talking(process.url, account) as talk:
        async with obstacle.transaction():
            await obstacle.execute("lock table heads in exclusive mode")
            await talk.send("push", ref=1, mutations=[put("a", 1)])
            while await obstacle.fetchval(WAITING) == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            ending = asyncio.create_task(asyncio.to_thread(process.end))
            await asyncio.sleep(0.7)
        assert (await talk.next("pushed"))["results"][0]["outcome"] == "applied"
        assert await talk.closed() == (1012, "the process stops")
    await ending
    await obstacle.close()
