"""Devices that write by socket and by HTTP while processes, connections and listeners are killed.

At the end every copy that was kept by what came over the socket equals the database, and every
write that was acknowledged is there once.
"""

import asyncio
import json
import random
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.conftest import Cluster
from tests.live.talk import Json, opened, token, until
from tests.sync.database import fetch
from tests.sync.processes import Process

DEVICES = 6
ACCOUNTS = 2
WRITES = 30
ROUNDS = 4
TERMINATE = (
    "select pg_terminate_backend(pid) from pg_stat_activity "
    "where datname = current_database() and pid <> pg_backend_pid()"
)
GONE = (OSError, ConnectionClosed, InvalidHandshake, TimeoutError, httpx.TransportError, EOFError)


class Service:
    """The processes that there are just now."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.processes = [self._start(), self._start()]

    def _start(self) -> Process:
        process = Process(self.database_url)
        process.wait_until_ready()
        return process

    def replace(self, index: int) -> None:
        self.processes[index].kill()
        self.processes[index] = self._start()

    def end(self) -> None:
        for process in self.processes:
            process.end()


class Device:
    """Keeps a copy by what its socket is sent, and writes until each write is acknowledged."""

    def __init__(self, service: Service, number: int) -> None:
        self.service = service
        self.random = random.Random(number)
        self.account = f"account-{number % ACCOUNTS}"
        self.name = f"device-{number}"
        self.copy: dict[str, tuple[int, Any]] = {}
        self.cursor: str | None = None
        self.outbox: list[Json] = [self._mutation(turn) for turn in range(WRITES)]
        self.acknowledged: list[Json] = []
        self.connections = 0
        self.resumed_at: list[str | None] = []

    def _mutation(self, turn: int) -> Json:
        id = str(UUID(int=self.random.getrandbits(128), version=4))
        if turn % 3:
            return {"id": id, "op": "patch", "key": "user_stats", "delta": {"xp": 1}}
        value = {"of": self.name, "turn": turn}
        return {"id": id, "op": "put", "key": f"notes.{self.name}", "value": value, "base": None}

    async def run(self, done: asyncio.Event) -> None:
        """Until everything is written, `done` is set, and the copy was brought up to date."""
        while self.outbox or not done.is_set():
            url = self.random.choice(self.service.processes).url
            with suppress(*GONE):
                await self._connected(url, done)
            await asyncio.sleep(self.random.uniform(0, 0.1))

    async def _connected(self, url: str, done: asyncio.Event) -> None:
        async with opened(url, open_timeout=5) as talk:
            hello = {"token": token(self.account), "device": self.name, "cursor": self.cursor}
            self.resumed_at.append(self.cursor)
            await talk.send("hello", **hello)
            reading = asyncio.create_task(self._read(talk.connection))
            try:
                while not reading.done() and (self.outbox or not done.is_set()):
                    if not self.outbox:
                        await asyncio.sleep(0.05)
                    elif self.random.random() < 0.3:
                        await self._write_by_http(url)
                    else:
                        await self._write_by_socket(talk)
                    if self.random.random() < 0.05:
                        talk.connection.transport.abort()
                    await asyncio.sleep(self.random.uniform(0, 0.05))
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _write_by_http(self, url: str) -> None:
        """A PUT or PATCH of its own, whose answer is nothing to the copy: the socket tells."""
        mutation = self.outbox[0]
        headers = {"Authorization": f"Bearer {token(self.account)}"}
        body = {k: v for k, v in mutation.items() if k not in ("op", "key")}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as client:
            method = {"put": "PUT", "patch": "PATCH"}[mutation["op"]]
            answer = await client.request(
                method, f"/v1/documents/{mutation['key']}", json={**body, "device": self.name}
            )
        assert answer.status_code in (200, 201, 503), answer.text
        if answer.status_code != 503:
            self._acknowledge(mutation["id"])

    async def _write_by_socket(self, talk: Any) -> None:
        """Several at once, sometimes; the answer comes among the other frames."""
        several = self.outbox[: self.random.randint(1, 3)]
        await talk.send("push", mutations=several, ref=several[-1]["id"])
        with suppress(AssertionError):
            await until(lambda: several[-1] not in self.outbox, "it was not answered", 3)

    def _acknowledge(self, id: str) -> None:
        for mutation in self.outbox:
            if mutation["id"] == id:
                self.outbox.remove(mutation)
                self.acknowledged.append(mutation)
                return

    async def _read(self, connection: Any) -> None:
        self.connections += 1
        async for text in connection:
            frame = json.loads(text)
            if frame["type"] == "pushed":
                # Results first, then changes, then the cursor.
                for result in frame["results"]:
                    assert result["outcome"] != "rejected", result
                    self._adopt(result)
                    self._acknowledge(result["id"])
            if frame["type"] in ("pushed", "changes"):
                for change in frame["changes"]:
                    self._adopt(change)
                self.cursor = frame["cursor"]
            assert frame["type"] != "resync" or frame["reason"] != "cursor-expired", frame

    def _adopt(self, told: Json) -> None:
        held = self.copy.get(told["key"])
        if held is None or told["version"] > held[0]:
            value = told.get("value")
            if value is None:  # as it was sent
                (value,) = [m["value"] for m in self.outbox if m["id"] == told["id"]] or [None]
            self.copy[told["key"]] = (told["version"], value)


def _documents(url: str, account: str) -> dict[str, tuple[int, Any]]:
    rows = fetch(url, "select key, version, value::text from documents where account = $1", account)
    return {row[0]: (row[1], msgspec.json.decode(row[2])) for row in rows}


@pytest.fixture
def service(cluster_18: Cluster) -> Any:
    running = Service(cluster_18.clone())
    yield running
    running.end()


async def test_copies_converge_whatever_is_killed(service: Service) -> None:
    """The promise of the socket: what its cursor says was sent, the device has."""
    devices = [Device(service, number) for number in range(DEVICES)]
    done = asyncio.Event()
    running = [asyncio.create_task(device.run(done)) for device in devices]
    for number in range(ROUNDS):
        await asyncio.sleep(1.0)
        await asyncio.to_thread(fetch, service.database_url, TERMINATE)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(service.replace, number % 2)
    await until(lambda: not any(device.outbox for device in devices), "not all was written", 60)
    url = service.database_url
    for device in devices:
        expected = await asyncio.to_thread(_documents, url, device.account)
        await until(lambda: device.copy == expected, f"{device.name} was not told all")  # noqa: B023
    done.set()
    await asyncio.gather(*running)
    for name in {device.account for device in devices}:
        found = await asyncio.to_thread(_documents, url, name)
        mine = [device for device in devices if device.account == name]
        counted = [m for device in mine for m in device.acknowledged if m["op"] == "patch"]
        assert found["user_stats"][1]["xp"] == len(counted) == len(mine) * WRITES * 2 // 3
        for device in mine:
            last = [m for m in device.acknowledged if m["op"] == "put"][-1]
            assert found[f"notes.{device.name}"][1] == last["value"]
    # The test must not pass by doing nothing.
    assert sum(device.connections for device in devices) > 2 * DEVICES
    assert any(cursor for device in devices for cursor in device.resumed_at)
