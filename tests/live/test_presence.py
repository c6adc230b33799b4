"""Who is connected, as every device of the account is told."""

import asyncio
from collections.abc import Callable

from tests.conftest import Cluster, Service, serving
from tests.live.raw import Raw, hello
from tests.live.talk import talking
from tests.sync.database import fetch

Start = Callable[..., Service]


async def until_rows(url: str, count: int) -> None:
    """Waits until the table has so many rows."""
    async with asyncio.timeout(10):
        while len(await asyncio.to_thread(fetch, url, "select from presence")) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_devices_see_each_other_come_and_go(service: Service, account: str) -> None:
    """The list is whole each time, so that a client need not count."""
    async with talking(service.url, account, "d1") as one:
        first = await one.until_present("d1")
        async with talking(service.url, account, "d2") as two:
            seen = await one.until_present("d1", "d2")
            assert (await two.until_present("d1", "d2")) == seen
            assert seen["devices"][0] == first["devices"][0]
            assert seen["devices"][1]["since"] >= seen["devices"][0]["since"]
        await one.until_present("d1")


async def test_a_device_with_two_sockets_is_there_once(service: Service, account: str) -> None:
    """Two tabs of one store are one device; it is there until the last one is closed."""
    async with talking(service.url, account, "d1") as one:
        async with talking(service.url, account, "d1") as two:
            await two.until_present("d1")
            assert all(len(f["devices"]) == 1 for f in one.frames if f["type"] == "presence")
        await one.quiet(1.0)
        lists = [f["devices"] for f in one.frames if f["type"] == "presence"]
        assert [[device["device"] for device in devices] for devices in lists] == [["d1"]] * len(
            lists
        )


async def test_a_cut_connection_leaves(service: Service, account: str) -> None:
    """A connection that is reset is no less gone than one that says goodbye."""
    async with talking(service.url, account, "d1") as one:
        raw = Raw(service.url).send(hello(account, "raw"))
        await one.until_present("d1", "raw")
        raw.close()
        await one.until_present("d1")


async def test_presence_spans_processes(
    start_service: Start, cluster: Cluster, account: str
) -> None:
    """Two phones are rarely on one process."""
    url = cluster.clone()
    a, b = start_service(url), start_service(url)
    async with talking(a.url, account, "d1") as one:
        async with talking(b.url, account, "d2") as two:
            assert await one.until_present("d1", "d2") == await two.until_present("d1", "d2")
        await one.until_present("d1")
    await until_rows(url, 0)


async def test_emptied_tables_are_filled_again(
    start_service: Start, cluster_18: Cluster, account: str
) -> None:
    """They are not logged, so a crash of the database empties them while the sockets stay."""
    url = cluster_18.clone()
    a, b = start_service(url), start_service(url)
    async with talking(a.url, account, "d1"), talking(b.url, account, "d2") as two:
        await two.until_present("d1", "d2")
        await asyncio.to_thread(fetch, url, "truncate presence, processes")
        await until_rows(url, 2)
        async with talking(b.url, account, "d3"):
            await two.until_present("d1", "d2", "d3")


async def test_a_silent_process_is_removed_and_comes_back(
    start_service: Start, cluster_18: Cluster, account: str
) -> None:
    """One that was only frozen finds itself removed and says again who is there."""
    url = cluster_18.clone()
    a, b = start_service(url), start_service(url)
    async with talking(a.url, account, "d1"), talking(b.url, account, "d2") as two:
        await two.until_present("d1", "d2")
        own = str(a.app.state.live.presence._process)
        bury = "delete from processes where process = $1::uuid"
        await asyncio.to_thread(fetch, url, bury, own)
        await asyncio.to_thread(fetch, url, "delete from presence where process = $1::uuid", own)
        b.app.state.live.presence.look([account])
        async with talking(b.url, account, "d3"):
            await two.until_present("d1", "d2", "d3")


async def test_a_stopped_process_leaves_no_rows(cluster_18: Cluster, account: str) -> None:
    """A deployment that is rolled over must not leave ghosts for seconds."""
    url = cluster_18.clone()
    with serving(url) as service:
        async with talking(service.url, account, "d1") as one:
            await one.until_present("d1")
    for table in ("presence", "processes"):
        assert await asyncio.to_thread(fetch, url, f"select from {table}") == []
