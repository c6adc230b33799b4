"""A database that is restored under a running service: cursors of the lost past are refused."""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from app.clock import system_clock
from app.database.engine import Database
from app.database.era import current_era
from tests.conftest import Cluster, Service, serving
from tests.sync.database import administer, fetch
from tests.sync.wire import documents, open_cursor, post, put, refused, sync


def name_of(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def back_up(url: str) -> str:
    """A copy of a database; whoever is connected is thrown out."""
    name = name_of(url)
    administer(
        url,
        f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'",
        f'create database "{name}_backup" template "{name}"',
    )
    return f"{name}_backup"


def restore(url: str, backup: str) -> None:
    """As an operator does it from a dump: drop, create, fill; the service keeps running."""
    name = name_of(url)
    administer(
        url,
        f'drop database "{name}" with (force)',
        f'create database "{name}" template "{backup}"',
    )


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.clone()


@pytest.mark.parametrize("pushes", [False, True])
def test_a_restore_under_a_running_service_expires_cursors(url: str, pushes: bool) -> None:
    """The era was read once at start, so an old cursor skipped the changes that others made
    after the restore, and a push on it went through."""
    with serving(url) as service, service.client("someone") as client:
        sync(client, put("notes", 1, 0))
        backup = back_up(url)
        lost = sync(client, put("notes", 2, 1), put("lost", 1, 0))["cursor"]
        restore(url, backup)
        # Others move the head past the old cursor, whose numbers now name other changes.
        for number in range(4):
            if not pushes:
                sync(client, put(f"new-{number}", 1, 0), device="d2")
        before = documents(client) if not pushes else {"notes": 1}
        edits = [put("mine", 1, 0)] if pushes else []
        problem = refused(post(client, *edits, cursor=lost), 410, "cursor-expired")
        assert "base_value" in problem["detail"]
        assert documents(client) == before
        fresh = sync(client, *edits)["cursor"]
        assert open_cursor(fresh)[0] != open_cursor(lost)[0]
        assert sync(client, cursor=fresh)["changes"] == []


def test_a_push_is_refused_by_the_connection_that_notices(url: str) -> None:
    """The first request after a restore still believes in the old era when it comes in: nothing
    of it may be written, although its cursor lies below the restored head."""
    with serving(url) as service, service.client("someone") as client:
        cursor = sync(client, put("notes", 1, 0))["cursor"]
        restore(url, back_up(url))
        refused(post(client, put("notes", 2, 1), cursor=cursor), 410, "cursor-expired")
        assert documents(client) == {"notes": 1}


def test_an_era_that_another_process_began_is_found(
    start_service: Callable[..., Service],
) -> None:
    """An operator's `migrate --new-era` reaches processes that run, and cursors of the new era
    are good in a process that has not met it yet."""
    first = start_service()
    second = start_service(first.database_url)
    with first.client("someone") as client, second.client("someone") as other:
        old = sync(client, put("notes", 1, 0))["cursor"]
        era = asyncio.run(begin_era(first.database_url))
        refused(post(client, cursor=old), 410, "cursor-expired")
        new = sync(client)["cursor"]
        assert open_cursor(new)[0] == era
        assert sync(other, put("more", 1, 0), cursor=new)["changes"] == []
        refused(post(other, put("third", 1, 0), cursor=old), 410, "cursor-expired")
        assert documents(other) == {"notes": 1, "more": 1}


async def begin_era(url: str, now_ms: int | None = None) -> str:
    database = Database(url, pool_size=1, statement_timeout_ms=10_000)
    try:
        async with database.connection() as connection:
            return await current_era(connection, now_ms or system_clock(), begin=True)
    finally:
        await database.close()


def test_a_clock_that_went_back_begins_one_era_and_no_more(url: str) -> None:
    """The newest era is found by its time. Begun in the past, it was never found, and each
    process began another one: no cursor held longer than a connection."""
    future = asyncio.run(begin_era(url, system_clock() + 3_600_000))
    era = asyncio.run(begin_era(url))
    assert era != future
    with serving(url) as service, service.client("someone") as client:
        cursor = sync(client, put("notes", 1, 0))["cursor"]
        assert open_cursor(cursor)[0] == era
    (times,) = fetch(url, "select count(distinct began_at_ms), count(*) from eras")
    assert times[0] == times[1]
