"""Two real processes on one database write the same account at once.

Only the tag of the account's head and the lock on it stand between them, so gaps, lost updates
and double counts show here or nowhere.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.conftest import Cluster
from tests.sync.database import fetch
from tests.sync.processes import Process, two_processes
from tests.sync.wire import Json, pull, sync

ACCOUNT = "shared"
WRITERS = 6
WRITES = 25
HISTORY = 32


@pytest.fixture
def processes(cluster: Cluster) -> Iterator[tuple[str, list[Process]]]:
    url = cluster.clone()
    with two_processes(url) as running:
        yield url, running


class Writer:
    """One device that writes through both processes, each mutation more than once."""

    def __init__(self, processes: list[Process], number: int) -> None:
        self.name = f"device-{number}"
        self.random = random.Random(number)
        self.clients = [process.client(ACCOUNT) for process in processes]
        self.acknowledged: Counter[tuple[str, str]] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.ids: list[str] = []

    def run(self) -> None:
        with ThreadPoolExecutor(2) as pool:
            for turn in range(WRITES):
                choice = self.random.choice(
                    [self._increment, self._increment, self._sync, self._put, self._delete]
                )
                choice(pool, turn)
        for client in self.clients:
            client.close()

    def _id(self) -> str:
        identifier = str(UUID(int=self.random.getrandbits(128), version=4))
        self.ids.append(identifier)
        return identifier

    def _everywhere(self, pool: ThreadPoolExecutor, method: str, path: str, **more: Any) -> Json:
        """The same request to both processes at once; then once more, as a retry."""
        calls = [pool.submit(client.request, method, path, **more) for client in self.clients]
        answers = [call.result() for call in calls]
        answers.append(self.random.choice(self.clients).request(method, path, **more))
        for answer in answers:
            assert answer.status_code in (200, 201), answer.text
        said = [answer.json() for answer in answers]
        if "outcome" in said[0]:
            told = Counter(one["outcome"] for one in said)
            self.outcomes.update(told)
            assert told["duplicate"] == 2, told
        return dict(said[0])

    def _increment(self, pool: ThreadPoolExecutor, turn: int) -> None:
        amount = self.random.randint(-3, 9) or 1
        body = {"id": self._id(), "device": self.name, "delta": {"xp": amount}}
        self._everywhere(pool, "PATCH", "/v1/documents/user_stats", json=body)
        self.acknowledged["user_stats", "xp"] += amount

    def _sync(self, pool: ThreadPoolExecutor, turn: int) -> None:
        """A whole document with its base, beside increments and a note."""
        current = self.clients[0].get("/v1/documents/game_stats")
        held: Json = current.json() if current.status_code == 200 else {"value": {}, "version": 0}
        value = {**held["value"], "score": turn, f"seen-{self.name}": turn}
        value["games_played"] = value.get("games_played", 0) + 1
        mutations = [
            {
                "id": self._id(),
                "op": "put",
                "key": "game_stats",
                "value": value,
                "base": held["version"],
                "base_value": held["value"],
            },
            {"id": self._id(), "op": "patch", "key": "user_stats", "delta": {"hearts": 2}},
            {"id": self._id(), "op": "put", "key": "settings", "base": 0, "value": {"t": turn}},
        ]
        body = {"device": self.name, "mutations": mutations}
        calls = [pool.submit(client.post, "/v1/sync", json=body) for client in self.clients]
        for call in calls:
            results = call.result().json()["results"]
            self.outcomes.update(result["outcome"] for result in results)
            assert not any(result["outcome"] == "rejected" for result in results), results
        self.acknowledged["game_stats", "games_played"] += 1
        self.acknowledged["user_stats", "hearts"] += 2

    def _put(self, pool: ThreadPoolExecutor, turn: int) -> None:
        key = self.random.choice(["note:a", "note:b"])
        body = {"id": self._id(), "device": self.name, "value": f"{self.name} {turn} é"}
        self._everywhere(pool, "PUT", f"/v1/documents/{key}", json=body)

    def _delete(self, pool: ThreadPoolExecutor, turn: int) -> None:
        key = self.random.choice(["note:a", "note:b"])
        query = {"id": self._id(), "device": self.name}
        for client in self.clients:
            answer = client.delete(f"/v1/documents/{key}", params=query)
            assert answer.status_code in (200, 404), answer.text


class Poller:
    """Pulls by cursor, from one process and then the other, as long as the writers write."""

    def __init__(self, processes: list[Process]) -> None:
        self.clients = [process.client(ACCOUNT) for process in processes]
        self.cursor: str | None = None
        self.held: dict[str, tuple[int, Any]] = {}
        self.pulls = 0
        self.ended = threading.Event()

    def run(self) -> None:
        last = False
        while not last:
            last = self.ended.is_set()
            client = self.clients[self.pulls % 2]
            more = True
            while more:
                answer = sync(client, device="poller", cursor=self.cursor, limit=2)
                for change in answer["changes"]:
                    version, _ = self.held.get(change["key"], (0, None))
                    assert change["version"] > version, "a version went back"
                    self.held[change["key"]] = (change["version"], change["value"])
                self.cursor, more = answer["cursor"], answer["more"]
            self.pulls += 1


def test_writes_at_once_lose_nothing(processes: tuple[str, list[Process]]) -> None:
    """Counters equal what was acknowledged, versions have no gaps, no change is missed by a
    cursor, whichever process serves which request."""
    url, running = processes
    writers = [Writer(running, number) for number in range(WRITERS)]
    poller = Poller(running)
    with ThreadPoolExecutor(WRITERS + 1) as pool:
        polling = pool.submit(poller.run)
        try:
            for writing in [pool.submit(writer.run) for writer in writers]:
                writing.result()
        finally:
            poller.ended.set()
        polling.result()
    with running[0].client(ACCOUNT) as one, running[1].client(ACCOUNT) as other:
        fresh = {change["key"]: (change["version"], change["value"]) for change in pull(one)}
        assert pull(other) == pull(one)
    assert poller.held == fresh
    assert poller.pulls > 10
    totals: Counter[Any] = Counter()
    for writer in writers:
        totals.update(writer.acknowledged)
    for (key, name), total in totals.items():
        assert fresh[key][1][name] == total
    outcomes: Counter[str] = Counter()
    for writer in writers:
        outcomes.update(writer.outcomes)
    assert outcomes["merged"] > 0
    assert outcomes["duplicate"] > 50
    audit(url, {identifier for writer in writers for identifier in writer.ids})


def audit(url: str, ids: set[str]) -> None:
    """What the database must look like, whoever wrote it."""
    (head,) = fetch(url, "select seq from heads where account = $1", ACCOUNT)
    documents = fetch(url, "select key, version, seq from documents where account = $1", ACCOUNT)
    seqs = [row["seq"] for row in documents]
    assert max(seqs) == head["seq"]
    assert len(set(seqs)) == len(seqs)
    # Each version took one number of the sequence, and none was skipped.
    assert sum(row["version"] for row in documents) == head["seq"]
    for row in documents:
        kept = fetch(
            url,
            "select version, slot from revisions where account = $1 and key = $2 order by version",
            ACCOUNT,
            row["key"],
        )
        first = max(1, row["version"] - HISTORY + 1)
        assert [one["version"] for one in kept] == list(range(first, row["version"] + 1))
        assert all(one["slot"] == one["version"] % HISTORY for one in kept)
    seen = fetch(url, "select id::text from mutations where account = $1", ACCOUNT)
    assert {row["id"] for row in seen} <= ids


def test_kill_9_under_load_keeps_what_was_acknowledged(cluster_18: Cluster) -> None:
    """A process dies in the middle of everything. What it had answered is there, and what it
    had not is settled by sending it again, to the other one."""
    url = cluster_18.clone()
    acknowledged: list[int] = []
    with two_processes(url) as (doomed, survivor):
        ended = threading.Event()

        def write(number: int) -> int:
            written = 0
            with doomed.client(ACCOUNT) as first, survivor.client(ACCOUNT) as second:
                client, switched = first, 0
                while switched < 10:
                    body = {
                        "id": str(UUID(int=random.getrandbits(128), version=4)),
                        "device": f"device-{number}",
                        "delta": {"xp": 1},
                        "set": {f"last-{number}": written + 1},
                    }
                    try:
                        answer = client.patch("/v1/documents/user_stats", json=body)
                    except httpx.TransportError:
                        assert ended.is_set(), "nobody was killed yet"
                        client = second
                        answer = client.patch("/v1/documents/user_stats", json=body)
                    assert answer.status_code in (200, 201), answer.text
                    written += 1
                    switched += client is second
            return written

        with ThreadPoolExecutor(WRITERS) as pool:
            writing = [pool.submit(write, number) for number in range(WRITERS)]
            time.sleep(1.0)
            ended.set()
            doomed.kill()
            acknowledged = [one.result() for one in writing]
        with survivor.client(ACCOUNT) as client:
            (change,) = pull(client)
        last = {f"last-{number}": count for number, count in enumerate(acknowledged)}
        assert change["value"] == {"xp": sum(acknowledged), **last}
        assert change["version"] == sum(acknowledged)
    assert sum(acknowledged) > 10 * WRITERS
