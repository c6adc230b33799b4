"""What only dead devices and old edits need is folded together, and nobody's counts change."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx

from app.clock import system_clock
from app.database.engine import Database
from app.documents import housekeeping, store
from app.documents.documents import DocumentReader, Documents
from app.documents.model import Limits
from app.documents.mutations import Intake
from app.documents.pipeline import Pipeline, PipelineSettings
from app.documents.reader import Reader
from merge_rules.documents import shipped_registry
from tests.conftest import Service
from tests.documents.api import patch, path, put, refused, value, version, wrote

StartService = Callable[..., Service]
LATER_MS = 1_000_000


@asynccontextmanager
async def another_process(service: Service) -> Any:
    """The write path of a second process on the same database, in the loop of the test."""
    database = Database(service.database_url, pool_size=3, statement_timeout_ms=5_000)
    registry, limits = shipped_registry(), Limits(256 * 1024, 10_000)
    settings = PipelineSettings(1, 100, 100, 32, 1_000, limits)
    pipeline = Pipeline(database, registry, system_clock, settings)
    reader: DocumentReader = Reader(
        database, store.read_each, lanes=1, batch_limit=10, queue_limit=100
    )
    pipeline.start()
    intake = Intake(10_000, 100)
    try:
        yield (
            database,
            Documents(database, pipeline, reader, registry, intake, system_clock, 32),
        )
    finally:
        await pipeline.stop()
        await database.close()


async def fold(service: Service, before_ms: int) -> None:
    """What housekeeping does once a day."""
    async with another_process(service) as (database, documents):
        await housekeeping.fold(database, documents, before_ms)


async def sidecar_bytes(service: Service) -> int:
    connection = await asyncpg.connect(service.database_url)
    try:
        return int(await connection.fetchval("select octet_length(sidecar) from documents"))
    finally:
        await connection.close()


def count_on(client: httpx.Client, devices: int) -> None:
    """A document on which so many devices have counted once each."""
    for number in range(devices):
        body: dict[str, Any] = {"xp": number + 1, f"field_{number}": number}
        put(client, "user_stats", body, base=number, device=f"device-{number:02}")


async def test_dead_devices_become_one_entry(start_service: StartService) -> None:
    """The sidecar shrinks, and the document keeps its value and its version."""
    service = start_service()
    with service.client("a") as client:
        count_on(client, 20)
        before, held = await sidecar_bytes(service), value(client, "user_stats")
        await fold(service, system_clock() + LATER_MS)
        assert await sidecar_bytes(service) < before / 3
        assert value(client, "user_stats") == held
        assert version(client, "user_stats") == 20


async def test_older_bases_are_refused_from_then_on(start_service: StartService) -> None:
    """A state from before the folding cannot be joined; with its base inline the edit counts."""
    service = start_service()
    with service.client("a") as client:
        count_on(client, 20)
        await fold(service, system_clock() + LATER_MS)
        mine = {"xp": 16, "field_3": "late"}
        refused(put(client, "user_stats", mine, base=15, device="device-03"), 409, "base-unknown")
        had = {"xp": 15, "field_3": 3}
        answer = put(client, "user_stats", mine, base=15, base_value=had, device="device-03")
        assert answer.json()["value"]["xp"] == 21
        again = put(client, "user_stats", {"xp": 17}, base=15, base_value=had, device="device-03")
        assert again.json()["value"]["xp"] == 22
        now = {"xp": 23}
        wrote(
            put(client, "user_stats", now, base=22, device="device-07"),
            "applied",
            23,
            value(client, "user_stats") | now,
        )


async def test_a_queued_write_outlives_the_folding(start_service: StartService) -> None:
    """Its first write was accepted, the answer lost, the document folded: it counts once."""
    service = start_service()
    with service.client("a") as client:
        count_on(client, 20)
        had = {"base": 15, "base_value": {"xp": 15}, "device": "device-03"}
        put(client, "user_stats", {"xp": 17}, **had)
        await fold(service, system_clock() + LATER_MS)
        put(client, "user_stats", {"xp": 17}, **had)
        answer = put(client, "user_stats", {"xp": 18}, **had)
        assert answer.json()["value"]["xp"] == 23


async def test_a_second_write_on_nothing_outlives_the_folding(start_service: StartService) -> None:
    """Base 0 is no version that folding could forget, but what the device wrote on it may be in
    the common entry: joined with that, its first write would count twice. Also past a PATCH."""
    service = start_service()
    with service.client("a") as client:
        for number in range(20):
            put(client, "user_stats", {"xp": 1, f"field_{number}": 1}, base=0, device=str(number))
        await fold(service, system_clock() + LATER_MS)
        put(client, "user_stats", {"xp": 2, "field_3": 1}, base=0, device="3")
        assert value(client, "user_stats")["xp"] == 21
        patch(client, "user_stats", delta={"xp": 1}, base=0, device="4")
        had = {"base_value": {"xp": 2, "field_4": 1}, "device": "4"}
        put(client, "user_stats", {"xp": 3, "field_4": 1}, base=0, **had)
        assert value(client, "user_stats")["xp"] == 23


async def test_devices_that_are_alive_keep_their_entries(start_service: StartService) -> None:
    """Nothing is folded that a device may still build on, while it comes back in time."""
    service = start_service()
    with service.client("a") as client:
        count_on(client, 20)
        before = await sidecar_bytes(service)
        await fold(service, system_clock() - LATER_MS)
        assert await sidecar_bytes(service) == before
        answer = put(client, "user_stats", {"xp": 6}, base=5, device="device-04")
        assert answer.json()["value"]["xp"] == 21


async def test_folding_leaves_tombstones_and_small_documents(start_service: StartService) -> None:
    """There is nothing to fold in what is deleted, and nothing to win in what is small."""
    service = start_service()
    with service.client("a") as client:
        count_on(client, 20)
        put(client, "k", 1, base=0, device="b")
        wrote(client.delete(path("user_stats")), "applied", 21, None)
        await fold(service, system_clock() + LATER_MS)
        assert (version(client, "user_stats"), value(client, "k")) == (21, 1)
