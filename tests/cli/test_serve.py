"""`syncline serve` as a process: it starts with a greeting, and stops without losing a word."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.cli.conftest import ADMIN_TOKEN, OWN_SECRETS, PATIENCE_S, Invoke, Serve
from tests.conftest import Cluster

ROOT = Path(__file__).parents[2]

Start = Callable[..., Serve]


def _body(key: str) -> dict[str, object]:
    return {"value": {"key": key}, "base": 0}


def _put(client: httpx.Client, key: str) -> httpx.Response:
    return client.put(f"/v1/documents/{key}", json=_body(key))


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def database(cluster_18: Cluster) -> str:
    return cluster_18.clone()


def test_it_greets_and_stops(serve: Start, database: str) -> None:
    """What the greeting says is there at once, and a stop is a success, not a death by signal."""
    service = serve(SYNCLINE_DATABASE_URL=database).greeted()
    assert service.said().splitlines() == [
        f"Syncline listens on {service.url}",
        f"  API docs   {service.url}/docs",
        *service.said().splitlines()[2:3],
        "  a token    syncline token ACCOUNT",
        "  a demo     syncline demo",
    ]
    assert httpx.get(f"{service.url}/readyz").json() == {"status": "ready"}
    assert httpx.get(f"{service.url}/docs").status_code == 200
    began = time.monotonic()
    assert service.stopped(signal.SIGTERM) == 0
    assert time.monotonic() - began < 5
    assert len(service.said().splitlines()) == 5


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_new_admin_token_is_shown_once(
    serve: Start, database: str, folder: Path, workers: str
) -> None:
    """It has to reach a person, and no log of a later start."""
    variables = {
        "SYNCLINE_DATABASE_URL": database,
        "SYNCLINE_ADMIN_TOKEN": "",
        "SYNCLINE_DATA_DIR": "data",
        "SYNCLINE_WORKERS": workers,
    }
    first = serve(**variables).greeted()
    path = folder / "data" / "admin-token"
    said = first.said().splitlines()
    assert said[:2] == [
        f"The admin token, shown this once and kept in {path}:",
        f"  {path.read_text()}",
    ]
    assert httpx.get(f"{first.url}/readyz", timeout=PATIENCE_S).status_code == 200
    assert first.stopped(signal.SIGTERM) == 0
    again = serve(**variables).greeted()
    assert httpx.get(f"{again.url}/readyz", timeout=PATIENCE_S).status_code == 200
    assert path.read_text() not in again.said()


STOPPED_WHILE_COLLECTING = """
import signal, sys
from app import serving

class Cycle:
    def __init__(self):
        self.me = self

    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
        sum(range(10))  # the handler runs here

signal.signal(signal.SIGTERM, serving._leave)
Cycle()
serving._collect_seldom()
sys.exit(3)
"""


def test_a_stop_that_comes_during_a_collection_is_heard() -> None:
    """A service that was told to stop right after its greeting ran on: the signal came while the
    finalisers ran, and Python drops what is raised there."""
    program = [sys.executable, "-c", STOPPED_WHILE_COLLECTING]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_taken_port_is_one_sentence(invoke: Invoke, database: str) -> None:
    """The most common failure of a second start says which address, and which variable."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for workers in ("1", "2"):
            result = invoke(
                "serve",
                SYNCLINE_DATABASE_URL=database,
                SYNCLINE_PORT=str(port),
                SYNCLINE_WORKERS=workers,
                **OWN_SECRETS,
            )
            assert (result.exit_code, result.stdout) == (1, "")
            assert result.stderr == (
                f"syncline: cannot listen on http://127.0.0.1:{port}: Address already in use; stop "
                "what uses it, or set SYNCLINE_HOST and SYNCLINE_PORT to another address\n"
            )


def test_a_host_that_is_not_ours_is_one_sentence(invoke: Invoke, database: str) -> None:
    """A name that resolves to nothing fails like a port that is taken."""
    result = invoke(
        "serve",
        SYNCLINE_DATABASE_URL=database,
        SYNCLINE_HOST="no-such-host.invalid",
        **OWN_SECRETS,
    )
    assert result.exit_code == 1
    assert result.stderr.startswith("syncline: cannot listen on http://no-such-host.invalid:")
    assert result.stderr.count("\n") == 1


def test_an_old_schema_is_one_sentence(invoke: Invoke, database: str) -> None:
    """A service must not greet and then die of a schema that it does not know."""
    asyncio.run(_execute(database, "update alembic_version set version_num = 'older'"))
    result = invoke("serve", SYNCLINE_DATABASE_URL=database, **OWN_SECRETS)
    assert result.exit_code == 1
    assert result.stderr == "syncline: the database is not up to date: run `syncline migrate`\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_secret_that_is_none_is_one_sentence(invoke: Invoke, database: str, workers: str) -> None:
    """Workers that fail one by one would be started again for ever, behind a good greeting."""
    key = Ed25519PrivateKey.generate().public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    result = invoke(
        "serve",
        SYNCLINE_DATABASE_URL=database,
        SYNCLINE_JWT_SECRET=pem,
        SYNCLINE_ADMIN_TOKEN=ADMIN_TOKEN,
        SYNCLINE_WORKERS=workers,
        SYNCLINE_PORT="0",
    )
    assert result.exit_code == 1
    assert result.stderr.startswith("syncline: SYNCLINE_JWT_SECRET: this is a public key")
    assert result.stderr.count("\n") == 1


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()


# --- rules ------------------------------------------------------------------------------------

LOOPS = """
from typing import Any

from merge_rules import Registry
from merge_rules.scalar import Maximum


class Loops(Maximum):
    name = "loops"

    def delta(self, base: Any, value: Any, stamp: Any) -> Any:
        while value == 987654321:
            pass
        return super().delta(base, value, stamp)


def register(registry: Registry) -> None:
    registry.register("odd", Loops())
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_rule_that_loops_rejects_its_own_mutation(
    serve: Start, database: str, tmp_path: Path, workers: str
) -> None:
    """It passed the trial; the others of its batch are written, and the service goes on."""
    rules = tmp_path / "looping.py"
    rules.write_text(LOOPS)
    service = serve(
        SYNCLINE_DATABASE_URL=database, SYNCLINE_RULES=str(rules), SYNCLINE_WORKERS=workers
    ).greeted()
    values = {"before": 1, "odd": 987654321, "after": 2}
    mutations = [
        {"id": str(uuid4()), "op": "put", "key": key, "value": value, "base": 0}
        for key, value in values.items()
    ]
    with service.client("maja") as client:
        answer = client.post("/v1/sync", json={"mutations": mutations}, timeout=PATIENCE_S)
        outcomes = [result["outcome"] for result in answer.json()["results"]]
        assert outcomes == ["applied", "rejected", "applied"]
        assert answer.json()["results"][1]["problem"]["code"] == "rule-failed"
        assert client.put("/v1/documents/odd", json={"value": 5}).json()["value"] == 5
    assert "rule failed" in service.said()


# --- stopping ---------------------------------------------------------------------------------


async def _until_a_write_waits(obstacle: asyncpg.Connection) -> None:
    """Returns once the service waits for a lock in this database."""
    waiting = (
        "select count(*) from pg_locks where not granted and database ="
        " (select oid from pg_database where datname = current_database())"
    )
    deadline = time.monotonic() + PATIENCE_S
    while await obstacle.fetchval(waiting) == 0:
        assert time.monotonic() < deadline, "no write reached the database"
        await asyncio.sleep(0.02)


async def _ask(address: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=1.0) as client:
        return await client.get(address)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_what_is_in_flight_is_answered(serve: Start, database: str, workers: str) -> None:
    """Writes that wait for the database when the stop comes are committed and answered."""
    service = serve(SYNCLINE_DATABASE_URL=database, SYNCLINE_WORKERS=workers).greeted()
    keys = [f"note-{number}" for number in range(8)]
    clients = [service.client("maja") for _ in keys]
    for client in clients:
        assert client.get("/readyz").status_code == 200  # connected, and the service is up
    obstacle = await asyncpg.connect(database)
    with ThreadPoolExecutor(len(keys)) as threads:
        async with obstacle.transaction():
            await obstacle.execute("lock table heads in exclusive mode")
            writes = [threads.submit(_put, *one) for one in zip(clients, keys, strict=True)]
            await _until_a_write_waits(obstacle)
            await asyncio.sleep(0.3)  # the other writes reach the service as well
            service.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(1.0)
            assert service.process.poll() is None
            assert not any(write.done() for write in writes)
            with pytest.raises(httpx.TransportError):
                await _ask(f"{service.url}/livez")
        answers = [write.result(PATIENCE_S) for write in writes]
    assert [answer.status_code for answer in answers] == [201] * len(keys)
    assert service.process.wait(PATIENCE_S) == 0
    found = await obstacle.fetch("select key from documents order by key")
    assert [row["key"] for row in found] == keys
    await obstacle.close()


def test_a_burst_across_a_stop_keeps_what_was_acknowledged(serve: Start, database: str) -> None:
    """Whenever the stop comes, a request is answered in full, turned away, or refused."""
    service = serve(SYNCLINE_DATABASE_URL=database).greeted()
    acknowledged: list[str] = []
    strange: list[str] = []

    def write(thread: int) -> None:
        for number in range(10_000):
            key = f"note-{thread}-{number}"
            began = False
            try:
                with (
                    service.client("maja") as client,
                    client.stream("PUT", f"/v1/documents/{key}", json=_body(key)) as answer,
                ):
                    began = True
                    answer.read()
            except httpx.TransportError as error:
                if began:
                    strange.append(f"half an answer: {error!r}")
                return
            if answer.status_code == 201 and answer.json()["value"] == {"key": key}:
                acknowledged.append(key)
            elif answer.status_code != 503 or answer.json()["code"] != "shutting-down":
                strange.append(f"{answer.status_code} {answer.text}")

    with ThreadPoolExecutor(6) as threads:
        burst = [threads.submit(write, thread) for thread in range(6)]
        _until(lambda: len(acknowledged) > 30)
        assert service.stopped(signal.SIGTERM) == 0
        for one in burst:
            one.result(PATIENCE_S)
    assert strange == []
    again = serve(SYNCLINE_DATABASE_URL=database).greeted()
    with again.client("maja") as client:
        listed = {entry["key"] for entry in client.get("/v1/documents").json()["documents"]}
    assert set(acknowledged) <= listed


def test_a_second_signal_cuts_the_draining_short(serve: Start, database: str) -> None:
    """A person who presses Ctrl-C twice does not want to wait for a load balancer."""
    service = serve(SYNCLINE_DATABASE_URL=database, SYNCLINE_DRAIN_S="25").greeted()
    address = f"{service.url}/readyz"
    assert httpx.get(address, timeout=PATIENCE_S).status_code == 200
    service.process.send_signal(signal.SIGINT)
    _until(lambda: httpx.get(address, timeout=PATIENCE_S).status_code == 503)
    assert httpx.get(address).json() == {"status": "draining"}
    began = time.monotonic()
    assert service.stopped(signal.SIGINT) == 0
    assert time.monotonic() - began < 5


# --- workers and crashes ----------------------------------------------------------------------


def _children(pid: int) -> set[int]:
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_serve_drain_and_stop_together(serve: Start, database: str) -> None:
    """Several processes behind one address are one service, and a load balancer sees 503 first."""
    service = serve(
        SYNCLINE_DATABASE_URL=database, SYNCLINE_WORKERS="2", SYNCLINE_DRAIN_S="1.2"
    ).greeted()
    for number in range(10):
        with service.client("maja") as client:
            assert _put(client, f"note-{number}").status_code == 201
    children = _children(service.process.pid)
    assert len(children) >= 2
    with service.client("maja") as client:
        assert len(client.get("/v1/documents").json()["documents"]) == 10
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        _until(lambda: client.get("/readyz").status_code == 503)
        assert client.get("/readyz").json() == {"status": "draining"}
        assert client.get("/livez").status_code == 200
        assert _put(client, "late").status_code == 201
    assert service.process.wait(PATIENCE_S) == 0
    assert 1.1 < time.monotonic() - began < 10
    _until(lambda: not any(map(_lives, children)))  # one of them only tracks resources
    assert service.said().count("Syncline listens") == 1
    assert "Traceback" not in service.said()


def test_workers_do_not_outlive_their_parent(serve: Start, database: str) -> None:
    """Orphans would keep the port, so that the service could not be started again."""
    service = serve(SYNCLINE_DATABASE_URL=database, SYNCLINE_WORKERS="2").greeted()
    assert httpx.get(f"{service.url}/readyz", timeout=PATIENCE_S).status_code == 200
    children = _children(service.process.pid)
    assert service.stopped(signal.SIGKILL) == -signal.SIGKILL
    _until(lambda: not any(map(_lives, children)))
    port = service.url.rpartition(":")[2]
    again = serve(SYNCLINE_DATABASE_URL=database, SYNCLINE_PORT=port).greeted()
    assert httpx.get(f"{again.url}/readyz", timeout=PATIENCE_S).status_code == 200


def test_a_killed_service_keeps_what_it_acknowledged(serve: Start) -> None:
    """Power cuts and the out-of-memory killer send no warning; 2xx means kept all the same."""
    service = serve().greeted()
    keys = [f"note-{number}" for number in range(20)]
    with service.client("maja") as client:
        assert [_put(client, key).status_code for key in keys] == [201] * len(keys)
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait(PATIENCE_S)
    again = serve().greeted()
    with again.client("maja") as client:
        listed = [entry["key"] for entry in client.get("/v1/documents").json()["documents"]]
        assert sorted(listed) == sorted(keys)
        assert client.get("/v1/documents/note-7").json()["value"] == {"key": "note-7"}
    assert again.stopped(signal.SIGTERM) == 0
