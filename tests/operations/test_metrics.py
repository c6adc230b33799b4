"""/metrics: what it counts is what happened, and it tells nobody's secrets."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.metering import Histogram
from tests.conftest import Cluster, Service
from tests.live.talk import talking
from tests.sync.processes import Process

OPERATE = Path(__file__).parents[2] / "docs/how-to/operate.md"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
StartService = Callable[..., Service]


def scrape(url: str) -> Samples:
    answer = httpx.get(f"{url}/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


def sync(client: httpx.Client, key: str, number: int) -> httpx.Response:
    mutation = {"id": str(uuid4()), "op": "put", "key": key, "value": {"n": number}}
    return client.post("/v1/sync", json={"device": "d1", "mutations": [mutation]})


def test_requests_are_counted_by_route_method_and_status(start_service: StartService) -> None:
    """Those that go past the router too, or the busiest routes would look idle."""
    service = start_service()
    with service.client() as client:
        for _ in range(3):
            client.put("/v1/documents/a", json={"value": 1})
        client.get("/v1/documents/a")
        client.get("/v1/documents/a", headers={"If-None-Match": '"7"'})
        client.get("/v1/documents/never")
        sync(client, "a", 1)
        client.get("/v1/documents")
    samples = scrape(service.url)
    counted = {
        (labels["route"], labels["method"], labels["status"]): number
        for (name, found), number in samples.items()
        if name == "syncline_http_requests_total"
        for labels in [dict(found)]
        if labels["route"].startswith("/v1/")
    }
    assert counted == {
        ("/v1/documents/{key}", "PUT", "2xx"): 3,
        ("/v1/documents/{key}", "GET", "2xx"): 2,
        ("/v1/documents/{key}", "GET", "4xx"): 1,
        ("/v1/sync", "POST", "2xx"): 1,
        ("/v1/documents", "GET", "2xx"): 1,
    }
    timed = "syncline_http_request_duration_seconds_count"
    assert value(samples, timed, route="/v1/documents/{key}", method="GET") == 3


def test_what_a_client_makes_up_names_no_series(service: Service) -> None:
    """Anybody could fill the memory of whoever collects these numbers otherwise."""
    for number in range(20):
        httpx.get(f"{service.url}/made-up-{number}")
        httpx.request(f"MADEUP{number}", f"{service.url}/livez")
        httpx.request("PURGE", f"{service.url}/made-up-{number}")
    text = httpx.get(f"{service.url}/metrics").text
    assert "made-up" not in text
    assert "MADEUP" not in text
    assert value(scrape(service.url), "syncline_http_requests_total", **OTHER) >= 20


OTHER = {"route": "other", "method": "other", "status": "4xx"}


def test_nothing_of_an_account_is_told(service: Service) -> None:
    """The address is open, as /health is."""
    account, key, secret = (f"{name}-{uuid4().hex}" for name in ("account", "key", "secret"))
    with service.client(account) as client:
        token = client.headers["authorization"].removeprefix("Bearer ")
        client.put(f"/v1/documents/{key}", json={"value": secret, "device": "device-1"})
        client.get(f"/v1/documents/{key}", params={"token": secret})
        sync(client, key, 1)
    text = httpx.get(f"{service.url}/metrics").text
    for told in (account, key, secret, token, "device-1"):
        assert told not in text


def test_batches_and_commits_are_counted(start_service: StartService) -> None:
    """An operator sees from them whether batching works, and how much of the cache serves."""
    service = start_service()
    with service.client() as client:
        for number in range(5):
            sync(client, "a", number)
        client.get("/v1/documents/a")
    samples = scrape(service.url)
    assert value(samples, "syncline_commits_total") == 5
    assert value(samples, "syncline_batch_size_count", queue="write") == 5
    assert value(samples, "syncline_batch_size_sum", queue="write") == 5
    # A first push to an empty account leaves nothing to be pulled.
    assert value(samples, "syncline_batch_size_count", queue="pull") == 4
    assert value(samples, "syncline_batch_size_count", queue="read") == 1
    assert value(samples, "syncline_queue_waiting", queue="write") == 0
    assert value(samples, "syncline_cache_misses_total") == 1
    assert value(samples, "syncline_cache_hits_total") == 4
    assert value(samples, "syncline_cache_accounts") == 1
    assert value(samples, "syncline_cache_bytes") > 0
    assert value(samples, "syncline_database_pool_connections") == 6
    # What goes on beside requests borrows one for a moment, now and then.
    lent = (value(scrape(service.url), "syncline_database_pool_lent") for _ in range(100))
    assert 0 in lent
    assert value(samples, "process_resident_memory_bytes") > 1_000_000


def test_events_are_counted_by_type_and_outcome(start_service: StartService) -> None:
    """An app that sends what no level allows shows here before its users complain."""
    service = start_service()
    event = {"id": str(uuid4()), "type": "xp", "payload": {"amount": 10, "game": "quiz"}}
    with service.client() as client:
        for amount in (10, 10, 10**9):
            sent = {**event, "payload": {"amount": amount, "game": "quiz"}}
            if amount > 10:
                sent["id"] = str(uuid4())
            client.post("/v1/events", json={"events": [sent]})
    samples = scrape(service.url)
    counted = {
        outcome: value(samples, "syncline_events_total", type="xp", outcome=outcome)
        for outcome in ("accepted", "duplicate")
    }
    assert counted == {"accepted": 1, "duplicate": 1}


def test_batches_that_meet_another_process_are_counted(start_service: StartService) -> None:
    """Many of them mean that a balancer spreads the requests of an account."""
    one = start_service()
    other = start_service(one.database_url)
    for number in range(2):
        for service in (one, other):
            with service.client("both") as client:
                sync(client, "a", number)
    assert value(scrape(one.url), "syncline_batches_contended_total") == 1


END_WHO_WAITS = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""


async def test_sockets_are_counted(start_service: StartService) -> None:
    """What an operator sizes processes by, and how late changes come."""
    service = start_service()
    async with talking(service.url, "metered", "d1") as one, talking(service.url, "metered", "d2"):
        await one.until_present("d1", "d2")
        await asyncio.to_thread(_write, service)
        await one.next("changes")
        samples = await asyncio.to_thread(scrape, service.url)
    assert value(samples, "syncline_live_sockets") == 2
    assert value(samples, "syncline_live_accounts") == 1
    assert value(samples, "syncline_live_presence_rows") == 2
    waiting = {dict(labels)["for"] for name, labels in samples if name == "syncline_live_waiting"}
    assert waiting == {"delivery", "relay", "presence"}
    assert value(samples, "syncline_live_relay_up") == 1
    assert value(samples, "syncline_live_frames_total", type="changes") >= 3
    assert value(samples, "syncline_live_lag_seconds_count") >= 2


def _write(service: Service) -> None:
    with service.client("metered") as client:
        client.put("/v1/documents/a", json={"value": 1})


async def _end_the_write_that_waits(url: str, ask: Callable[[], httpx.Response]) -> int:
    """Asks for a write, ends its connection in the middle; the status of its answer."""
    holder, watcher = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        async with holder.transaction():
            await holder.execute("select from heads for update")
            asked = asyncio.create_task(asyncio.to_thread(ask))
            for _ in range(1_000):
                # By another connection, for a transaction never sees who connected since it looked.
                ended = await watcher.fetch(END_WHO_WAITS)
                if ended or asked.done():
                    break
                await asyncio.sleep(0.01)
            assert ended, "the write did not wait for its account"
        return (await asked).status_code
    finally:
        await holder.close()
        await watcher.close()


def test_batches_that_are_tried_again_are_counted(start_service: StartService) -> None:
    """They are the first sign of a database in trouble, since clients see nothing of it."""
    service = start_service()
    with service.client() as client:
        sync(client, "a", 1)
        assert value(scrape(service.url), "syncline_batches_retried_total") == 0
        write = _end_the_write_that_waits(service.database_url, lambda: sync(client, "a", 2))
        assert asyncio.run(write) == 200
    assert value(scrape(service.url), "syncline_batches_retried_total") == 1


def test_every_metric_stands_in_the_documents(service: Service) -> None:
    """A number that nobody explains is a number that nobody alarms on."""
    text = httpx.get(f"{service.url}/metrics").text
    told = set(re.findall(r"^# TYPE (syncline_\w+) ", text, re.MULTILINE))
    explained = set(re.findall(r"^\| `(syncline_\w+)", OPERATE.read_text(), re.MULTILINE))
    assert explained == told


def test_each_of_several_workers_says_which_it_is(cluster_18: Cluster) -> None:
    """They share a socket: their counters under one name would seem to jump back and forth."""
    process = Process(cluster_18.clone(), workers="2")
    try:
        process.wait_until_ready()
        for _ in range(20):
            (worker,) = {dict(labels).get("worker") for _, labels in scrape(process.url)}
            assert worker is not None
            assert worker.isdigit()
    finally:
        process.end()


@pytest.mark.parametrize(
    ("number", "counts"), [(0, [1, 0, 0]), (1, [1, 0, 0]), (2, [0, 1, 0]), (3, [0, 0, 1])]
)
def test_a_bound_is_within_its_bucket(number: float, counts: list[int]) -> None:
    """`le` means less or equal."""
    histogram = Histogram((1, 2))
    histogram.add(number)
    assert histogram.counts == counts
    assert histogram.total == number
