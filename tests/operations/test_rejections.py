"""Refusals are counted: each once, by account, key and code, within bounds, by any process."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.database.engine import Database
from app.database.roles import act_as_service
from app.errors import Code, SynclineError
from app.operations import rejections as module
from app.operations import store
from app.operations.recorder import PORTION, Recorder
from app.operations.rejections import Rejection, Rejections
from tests.conftest import Cluster, serving
from tests.documents.api import patch, put
from tests.documents.contract import CheckedService, StartService
from tests.sync.database import fetch
from tests.sync.wire import post
from tests.sync.wire import put as put_mutation

ROWS = "select account, key, code, count, last_at_ms from rejections order by 1, 2, 3"
CONFLICT = SynclineError(Code.CONFLICT, "x")
NOTED = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["k", "events/xp", "", "a b", "k\0", "x" * 129, *"cdefgh"]),
        st.sampled_from([Code.CONFLICT, Code.WRONG_TYPE]),
    )
)


@given(NOTED, NOTED, st.integers(1, 6), st.integers(1, 3))
def test_no_refusal_is_lost_or_counted_twice_within_bounds(
    first: list[Any], second: list[Any], most: int, of_account: int
) -> None:
    """Whatever is noted, taken, given back and noted again: the sums stay, and so do the bounds."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "MOST_WAITING", most)
        patched.setattr(module, "MOST_OF_ACCOUNT", of_account)
        waiting = Rejections(lambda: 7)
        for account, key, code in first:
            waiting.note(account, key, SynclineError(code, "x"))
        waiting.give_back(waiting.take())
        for account, key, code in second:
            waiting.note(account, key, SynclineError(code, "x"))
        taken = waiting.take()
    assert sum(one.times for one in taken) + waiting.lost == len(first) + len(second)
    assert len(taken) <= most
    assert max(Counter(one.account for one in taken if one.key != "*").values(), default=0) <= (
        of_account
    )
    assert all(len(one.key) <= 135 and "\0" not in one.key for one in taken)
    assert len({one[:3] for one in taken}) == len(taken)
    assert taken == sorted(taken)
    assert waiting.take() == []


@pytest.fixture
async def database(cluster: Cluster) -> AsyncIterator[Database]:
    made = Database(
        cluster.clone(), pool_size=4, statement_timeout_ms=10_000, on_connect=act_as_service
    )
    yield made
    await made.close()


async def rows(database: Database) -> list[tuple[Any, ...]]:
    async with database.connection() as connection:
        return [tuple(row) for row in await connection.fetch(ROWS)]


async def write(database: Database, *rejections: Rejection) -> None:
    async with database.connection() as connection:
        await store.write_rejections(connection, rejections)


async def test_counts_add_up(database: Database) -> None:
    """From batch to batch, and the time is that of the last, in whatever order they come."""
    await write(database, Rejection("a", "k", "conflict", 2, 9), Rejection("b", "k", "x", 1, 1))
    await write(database, Rejection("a", "k", "conflict", 3, 5), Rejection("a", "k", "x", 1, 6))
    assert await rows(database) == [
        ("a", "k", "conflict", 5, 9),
        ("a", "k", "x", 1, 6),
        ("b", "k", "x", 1, 1),
    ]


async def test_an_account_fills_no_more_than_its_rows(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends ten thousand keys must not fill the table; what was known goes on counting."""
    monkeypatch.setattr(store, "REJECTIONS_OF_ACCOUNT", 3)
    await write(database, *(Rejection("a", f"k{n}", "x", 1, n) for n in range(2)))
    await write(database, *(Rejection("a", f"k{n}", "x", n + 1, n) for n in range(9)))
    assert await rows(database) == [
        ("a", "*", "x", sum(n + 1 for n in range(2, 8)), 7),
        ("a", "k0", "x", 2, 0),
        ("a", "k1", "x", 3, 1),
        ("a", "k8", "x", 9, 8),
    ]


async def test_processes_that_write_at_once_lose_nothing(database: Database) -> None:
    """They count for the same accounts, each in an order of its own."""
    recorders = [Recorder(database, lambda: 5, 30) for _ in range(4)]
    for number, recorder in enumerate(recorders):
        for step in range(200):
            name = str((step * (2 * number + 1)) % 40)
            recorder.rejections.note(f"account-{name}", f"key-{step % 3}", CONFLICT)
    await asyncio.gather(*(recorder.write([]) for recorder in recorders for _ in range(2)))
    found = await rows(database)
    assert sum(row[3] for row in found) == 800
    assert {recorder.rejections.lost for recorder in recorders} == {0}


async def test_what_did_not_happen_again_is_forgotten(database: Database) -> None:
    """In portions, so that no lock is held long; what is newer stays."""
    count = PORTION + 20
    await write(database, *(Rejection(f"{n:05}", "k", "x", 1, n) for n in range(count)))
    await Recorder(database, lambda: 0, 30).forget(count - 10)
    assert len(await rows(database)) == 10


async def test_a_database_that_is_away_delays_and_loses_nothing(database: Database) -> None:
    """Refusals wait, and are written once it is back."""
    away = Database("postgresql://127.0.0.1:1/x", pool_size=1, statement_timeout_ms=1_000)
    recorder = Recorder(away, lambda: 5, 30)
    recorder.rejections.note("a", "k", CONFLICT)
    recorder.devices.note("a", "d", 3, None)
    await recorder.write(recorder.devices.take())
    await away.close()
    back = Recorder(database, lambda: 5, 30)
    back.rejections, back.devices = recorder.rejections, recorder.devices
    await back.write(back.devices.take())
    assert await rows(database) == [("a", "k", "conflict", 1, 5)]
    async with database.connection() as connection:
        assert await connection.fetchval("select cursor_seq from devices") == 3


# --- from the requests ------------------------------------------------------------------------


def recorded(service: CheckedService, count: int) -> dict[tuple[str, str], int]:
    """Times by key and code, of all accounts, once so many were recorded."""
    deadline = time.monotonic() + 20
    while True:
        found: Counter[tuple[str, str]] = Counter()
        for _, key, code, times, _ in fetch(service.database_url, ROWS):
            found[key, code] += times
        if found.total() >= count:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_every_way_to_write_records_what_it_refuses(
    cluster: Cluster, start_service: StartService
) -> None:
    """An operator sees what devices were told, whichever route they took."""
    service = start_service(cluster.clone())
    event = {"type": "xp", "payload": {"amount": 10**9}}
    with service.client() as client:
        assert put(client, "good", 1).status_code == 201
        assert put(client, "game_stats", {"score": "high"}).status_code == 422
        assert (
            patch(client, "missing", operations=[{"op": "unset", "path": "/a"}]).status_code > 400
        )
        assert client.delete("/v1/documents/never").status_code == 404
        results = post(
            client,
            put_mutation("lesson:t:1", {"is_completed": True}, base=0),
            put_mutation("lesson:t:2", {"is_completed": "yes"}, base=0),
            put_mutation("no key", {}, base=0),
            {"id": str(uuid4()), "op": "put", "key": "k"},
            events=[
                {"id": str(uuid4()), **event},
                {"id": str(uuid4()), "type": "\0", "payload": 1},
            ],
        )
        assert results.status_code == 200, results.text
        again = [{"id": str(uuid4()), **event}, {"id": str(uuid4()), "type": "?", "payload": {}}]
        assert client.post("/v1/events", json={"events": again}).status_code == 200
    assert recorded(service, 10) == {
        ("game_stats", "wrong-type"): 1,
        ("missing", "document-not-found"): 1,
        ("never", "document-not-found"): 1,
        ("lesson:t:2", "wrong-type"): 1,
        ("*", "invalid-key"): 1,
        ("k", "invalid-request"): 1,
        ("events/xp", "amount-over-cap"): 2,
        ("*", "unknown-event-type"): 2,
    }


def test_what_waits_is_written_when_the_service_stops(
    cluster_18: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment that restarts often would else never see a refusal."""
    monkeypatch.setattr("app.operations.recorder.WRITE_EVERY_S", 3600)
    url = cluster_18.clone()
    with serving(url) as service, service.client() as client:
        client.delete("/v1/documents/never")
        client.post("/v1/sync", json={"device": "d1", "pending": 4})
    assert len(fetch(url, ROWS)) == 1
    assert [tuple(row) for row in fetch(url, "select device, pending from devices")] == [("d1", 4)]


def test_a_bulk_of_progress_rejects_its_bad_items_alone(client: httpx.Client) -> None:
    """The bulk progress sync of the source answered by batches of fifty, and a bad item failed its
    batch; here each of five hundred has a result of its own."""
    bad = {n: value for n, value in enumerate(["x", {"is_completed": 1}, [True], None])}
    mutations = [
        put_mutation(
            f"lesson:thread-{number % 7}:stitch-{number}",
            bad.get(number // 100, "x") if number % 100 == 50 else lesson(number),
            base=0,
        )
        for number in range(500)
    ]
    answer = post(client, *mutations)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [one["id"] for one in results] == [one["id"] for one in mutations]
    refused = [number for number, one in enumerate(results) if one["outcome"] == "rejected"]
    assert refused == [50, 150, 250, 350, 450]
    assert {results[number]["problem"]["code"] for number in refused} == {"wrong-type"}
    assert {one["outcome"] for one in results} == {"applied", "rejected"}
    again = post(client, *mutations).json()["results"]
    assert Counter(one["outcome"] for one in again) == {"duplicate": 495, "rejected": 5}
    progress = client.get("/v1/dashboard").json()["progress"]
    done = [n for n in range(500) if n not in refused and n % 3 == 0]
    assert progress == {
        "total_stitches_completed": len(done),
        "thread_progress": dict(sorted(Counter(f"thread-{n % 7}" for n in done).items())),
    }


def lesson(number: int) -> dict[str, Any]:
    return {
        "is_completed": number % 3 == 0,
        "order_number": number,
        "skip_number": 5,
        "distractor_level": "L1",
        "last_attempted": 1_796_000_000_000 + number,
    }
