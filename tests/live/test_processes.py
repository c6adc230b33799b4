"""Several processes: what one commits reaches the sockets of the others, whatever breaks between.

Where a test is about messages, the sweep is set to once an hour, so that it cannot help.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.live.relay import HEARD_S
from app.main import create_app
from app.settings import Settings, SettingsError
from tests.conftest import Cluster, Service
from tests.live.servers import Redis, kill_postgres, own_cluster
from tests.live.talk import Talk, opened, talking, until
from tests.sync.database import fetch
from tests.sync.processes import two_processes
from tests.sync.wire import put, sync

Start = Callable[..., Service]
HOURLY = 3_600.0
LISTENERS = """
select pid from pg_stat_activity where datname = current_database()
and query ~* '^(listen|select 1$|select pg_notify|set synchronous)'
"""


@pytest.fixture
def own() -> Iterator[Cluster]:
    with own_cluster() as cluster:
        yield cluster


@pytest.fixture
def redis() -> Iterator[Redis]:
    server = Redis()
    yield server
    server.kill()


def _two(start: Start, cluster: Cluster, **settings: Any) -> tuple[Service, Service]:
    """Two services on one database, each with a loop of its own."""
    url = cluster.clone()
    return start(url, **settings), start(url, **settings)


async def _know_each_other(*services: Service) -> None:
    """They can hear each other; what one says to whom is another matter."""
    lives = [service.app.state.live for service in services]
    await until(lambda: all(one.relay.up for one in lives), "they are deaf")


def _write(service: Service, account: str, key: str, value: object = 1) -> None:
    with service.client(account) as client:
        answer = client.put(f"/v1/documents/{key}", json={"value": value})
    assert answer.status_code in (200, 201), answer.text


async def _arrives(talk: Talk, key: str) -> None:
    while key not in [one["key"] for one in (await talk.next("changes"))["changes"]]:
        pass


async def test_a_message_says_what_another_process_committed(
    start_service: Start, cluster: Cluster, account: str
) -> None:
    """By PostgreSQL's notifications, which need nothing else to run, on both versions of it."""
    a, b = _two(start_service, cluster, live_sweep_s=HOURLY)
    await _know_each_other(a, b)
    async with talking(a.url, account, "d1") as one, talking(b.url, account, "d2") as two:
        for number in range(20):
            writer = (a, b)[number % 2]
            await asyncio.to_thread(_write, writer, account, f"k{number}")
            await _arrives(one, f"k{number}")
            await _arrives(two, f"k{number}")
    assert b.app.state.live.relay.heard > 0


async def test_nothing_is_said_while_nobody_listens(
    start_service: Start, cluster: Cluster, account: str
) -> None:
    """A message a batch costs more than the batch; without sockets elsewhere it is for nobody."""
    a, b = _two(start_service, cluster, live_sweep_s=HOURLY)
    await _know_each_other(a, b)
    told = a.app.state.live.relay
    await asyncio.to_thread(_write, a, account, "unheard")
    assert told.sent == 0
    async with talking(b.url, account) as talk:
        await until(lambda: not told.unheard, "nobody said that somebody listens")
        await asyncio.to_thread(_write, a, account, "heard")
        await _arrives(talk, "heard")
        assert told.sent > 0
        assert b.app.state.live.relay.sent == 0  # nobody listens at `a`
    await until(lambda: told.unheard, "nobody said that the last socket has gone")
    said = told.sent
    await asyncio.to_thread(_write, a, account, "unheard", 2)
    await asyncio.sleep(0.1)
    assert told.sent == said


async def test_what_is_written_while_the_first_socket_comes_arrives(
    start_service: Start, cluster_18: Cluster, account: str
) -> None:
    """The other process may not know of it yet, and no sweep comes for an hour."""
    a, b = _two(start_service, cluster_18, live_sweep_s=HOURLY)
    await _know_each_other(a, b)
    for number in range(5):
        async with talking(b.url, account) as talk:
            await asyncio.to_thread(_write, a, account, f"k{number}")
            await _arrives(talk, f"k{number}")


async def test_redis_carries_the_messages_where_there_is_one(
    start_service: Start, cluster_18: Cluster, redis: Redis, account: str
) -> None:
    """Kill it and start it again: the listeners come back by themselves, each on its own."""
    a, b = _two(start_service, cluster_18, live_sweep_s=HOURLY, redis_url=redis.url)
    await _know_each_other(a, b)
    async with talking(b.url, account) as talk:
        await asyncio.to_thread(_write, a, account, "before")
        await _arrives(talk, "before")
        await asyncio.sleep(2 * HEARD_S)  # so that nothing is looked for any more
        redis.kill()
        await until(lambda: not b.app.state.live.relay.up, "it did not notice")
        await asyncio.to_thread(_write, a, account, "meanwhile")
        assert [f for f in await talk.quiet() if f["type"] == "changes"] == []
        redis.start_again()
        await _arrives(talk, "meanwhile")  # whoever comes back looks at what it missed
        await _know_each_other(a, b)
        await asyncio.to_thread(_write, a, account, "after")
        await _arrives(talk, "after")


async def test_a_frozen_redis_silences_no_socket(
    start_service: Start, cluster_18: Cluster, redis: Redis, account: str
) -> None:
    """A connection that stays and says nothing is found out, and the sweep goes on meanwhile."""
    a, b = _two(start_service, cluster_18, live_sweep_s=1.0, redis_url=redis.url)
    await _know_each_other(a, b)
    async with talking(b.url, account) as talk:
        redis.freeze()
        await asyncio.to_thread(_write, a, account, "frozen")
        await _arrives(talk, "frozen")
        await until(lambda: not b.app.state.live.relay.up, "it did not notice", 30)
        redis.thaw()
        await _know_each_other(a, b)


def test_an_address_that_is_none_of_redis_stops_the_start() -> None:
    """A typo is told at once, and not found out when the messages are missed."""
    settings = Settings(
        database_url="postgresql://localhost", jwt_secret="s" * 40, redis_url="nonsense"
    )
    with pytest.raises(SettingsError, match="SYNCLINE_REDIS_URL"):
        create_app(settings)


async def test_without_redis_the_sweep_tells(
    start_service: Start, cluster_18: Cluster, account: str
) -> None:
    """An address where nothing listens costs latency and nothing else."""
    gone = "redis://127.0.0.1:1/0"
    a, b = _two(start_service, cluster_18, live_sweep_s=1.0, redis_url=gone)
    async with talking(b.url, account) as talk:
        for number in range(3):
            await asyncio.to_thread(_write, a, account, f"k{number}")
            await _arrives(talk, f"k{number}")
    assert b.app.state.live.watch.healed > 0


async def test_a_terminated_listener_comes_back_and_looks(
    start_service: Start, cluster: Cluster, account: str
) -> None:
    """Messages that were sent while it was away are lost, and the changes are not."""
    a, b = _two(start_service, cluster, live_sweep_s=HOURLY)
    await _know_each_other(a, b)
    async with talking(b.url, account) as talk:
        for number in range(3):
            killed = await asyncio.to_thread(
                fetch, a.database_url, f"select pg_terminate_backend(pid) from ({LISTENERS}) x"
            )
            assert len(killed) >= 2
            await asyncio.to_thread(_write, a, account, f"k{number}")
            await _arrives(talk, f"k{number}")
            await _know_each_other(a, b)


async def test_what_strangers_say_on_the_channel_does_no_harm(
    start_service: Start, cluster_18: Cluster, account: str
) -> None:
    """Whoever may notify may say anything: it is a hint at most."""
    a, b = _two(start_service, cluster_18, live_sweep_s=1.0)
    await _know_each_other(a, b)
    stranger = '{"from": "00000000-0000-0000-0000-000000000000", '
    said = [
        "",
        "garbage",
        "{}",
        f'{stranger}"reached": {{"{account}": 9e99}}}}',
        f'{stranger}"reached": {{"{account}": {2**63 - 1}}}}}',
        f'{stranger}"presence": ["nobody"]}}',
    ]
    async with talking(b.url, account) as talk:
        for text in said:
            await asyncio.to_thread(
                fetch, a.database_url, "select pg_notify('syncline_live', $1)", text
            )
        assert [f for f in await talk.quiet(1.0) if f["type"] != "presence"] == []
        await asyncio.to_thread(_write, a, account, "k")
        await _arrives(talk, "k")


async def test_a_new_era_reaches_every_socket(
    start_service: Start, cluster_18: Cluster, account: str
) -> None:
    """After a restore nobody goes on with a cursor of a lost past, not even who stays connected."""
    service = start_service(live_sweep_s=0.5)
    async with talking(service.url, account) as talk:
        await talk.push(put("a", 1))
        insert = (
            "insert into eras select 'feedbeef', identity, began_at_ms + 1 from eras "
            "order by began_at_ms desc limit 1"
        )
        await asyncio.to_thread(fetch, service.database_url, insert)
        assert (await talk.next("resync"))["reason"] == "cursor-expired"
        assert [one["key"] for one in (await talk.push(cursor=None))["changes"]] == ["a"]
        await asyncio.to_thread(_write, service, account, "b")
        await _arrives(talk, "b")


async def test_a_killed_postgres_silences_no_socket(own: Cluster, account: str) -> None:
    """kill -9 of the database: sockets stay open, and go on when it is back."""
    with two_processes(own.clone()) as (a, b):
        async with talking(a.url, account, "d1") as one, talking(b.url, account, "d2") as two:
            await one.push(put("before", 1))
            await _arrives(two, "before")
            await asyncio.to_thread(kill_postgres, own)
            async with opened(b.url) as late:  # a hello that finds no database
                await late.hello(f"{account}-late", "d3")
                for attempt in range(100):
                    await one.send("push", ref=attempt, mutations=[put("after", 1)])
                    if (await one.next("pushed", "problem"))["type"] == "pushed":
                        break
                    await asyncio.sleep(0.2)
                await _arrives(two, "after")
                await late.next("changes")
                await late.until_present("d3")
            async with talking(a.url, account, "d4"):
                await two.until_present("d1", "d2", "d4")
            with b.client(account) as client:
                await asyncio.to_thread(sync, client, put("last", 1))
            await _arrives(one, "last")
            await _arrives(two, "last")


async def test_a_killed_process_takes_only_its_own_sockets(
    cluster_18: Cluster, account: str
) -> None:
    """kill -9 of a process: the rest goes on, and its devices are seen to leave."""
    with two_processes(cluster_18.clone()) as (a, b):
        async with talking(a.url, account, "d1") as one, talking(b.url, account, "d2") as two:
            await two.until_present("d1", "d2")
            a.kill()
            with pytest.raises(Exception, match="no close frame"):
                await one.next("never")
            await two.until_present("d2")
            with b.client(account) as client:
                await asyncio.to_thread(sync, client, put("a", 1))
            await _arrives(two, "a")
