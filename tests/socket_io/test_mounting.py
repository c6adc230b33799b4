"""Socket.IO beside all else: mounted when it is asked for, in any process, until the end."""

import json
import os
import socket
import subprocess
import sys
import time
from uuid import uuid4

import httpx
import pytest
from websockets.sync.client import connect as open_socket

from tests.conftest import Cluster, Service
from tests.live.servers import kill_postgres, own_cluster
from tests.socket_io.conftest import Connect
from tests.sync.processes import REPOSITORY, Process, two_processes


def test_it_is_not_there_unless_asked_for(start_service: object) -> None:
    assert callable(start_service)
    plain: Service = start_service()
    answer = httpx.get(f"{plain.url}/socket.io/?EIO=4&transport=polling")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not-found"


def test_all_else_is_answered_as_before(service: Service, account: str) -> None:
    """The busiest requests, the router, the live socket, and addresses that look alike."""
    with service.client(account) as client:
        assert client.put("/v1/documents/a", json={"value": 1}).status_code == 201
        assert client.get("/v1/documents/a").json()["value"] == 1
        assert client.post("/v1/sync", json={"mutations": []}).status_code == 200
        assert client.get("/v1/documents").status_code == 200
    for path in ("/socket.iox", "/socket.io.js", "/v1/socket.io/"):
        answer = httpx.get(service.url + path)
        assert answer.headers["content-type"] == "application/problem+json", path
    url = service.url.replace("http://", "ws://") + "/v1/live"
    with open_socket(url) as live:
        hello = {"type": "hello", "token": service.token(account), "device": "d1", "cursor": None}
        live.send(json.dumps(hello))
        while (frame := json.loads(live.recv(timeout=15)))["type"] != "changes":
            pass
        assert [change["key"] for change in frame["changes"]] == ["a"]


def test_an_update_reaches_a_client_of_another_process(
    cluster_18: Cluster, connect: Connect, account: str
) -> None:
    """Clients of one account come to whichever process the balancer chose."""
    with two_processes(cluster_18.clone(), socketio="true") as processes:
        clients = [connect(account, url=process.url) for process in processes]
        for client in clients:
            client.wait("connect")
        for number, client in enumerate(clients, start=1):
            client.emit("user:clientUpdate", {"xp": 1})
            for told in clients:
                told.wait("user:update", xp=number)


@pytest.mark.parametrize("transports", [["websocket"], ["polling"]], ids="+".join)
def test_a_client_survives_a_restart(
    cluster_18: Cluster, connect: Connect, account: str, transports: list[str]
) -> None:
    """The process ends in good order although requests of pollers hang, and the client comes back
    by itself, as it does only if it was not the service that said goodbye to it."""
    url = cluster_18.clone()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = Process(url, socketio="true", port=port)
    try:
        process.wait_until_ready()
        client = connect(account, url=process.url, transports=transports)
        client.wait("connect")
        client.ask("user:clientUpdate", {"xp": 1})
        process.end()
        assert client.wait("disconnect") in ("transport close", "transport error")
        process = Process(url, socketio="true", port=port)
        client.wait("connect")
        assert client.ask("user:clientUpdate", {"xp": 1, "id": str(uuid4())})["ok"]
        client.wait("user:update", xp=2)
    finally:
        process.end()


def test_a_killed_postgres_silences_no_client(connect: Connect, account: str) -> None:
    """kill -9 of the database: who writes is told, and the other hears of it when it is back."""
    with own_cluster() as own, two_processes(own.clone(), socketio="true") as (a, b):
        one, two = connect(account, url=a.url), connect(account, url=b.url)
        for client in (one, two):
            client.wait("connect")
        one.ask("user:clientUpdate", {"xp": 1})
        two.wait("user:update", xp=1)
        kill_postgres(own)
        update = {"xp": 1, "id": str(uuid4())}
        while not (answer := one.ask("user:clientUpdate", update))["ok"]:
            assert answer["problem"]["code"] == "database-unavailable"
            time.sleep(0.2)  # past the rate of frames it would be closed
        while not one.ask("presence:join")["ok"]:
            time.sleep(0.2)
        # This cluster saves no commit from a kill, so what there was before may be gone.
        shown = one.last("user:data:updated")
        if two.last("user:update") != shown:
            two.wait("user:update", **shown)


def test_several_workers_take_websockets_only(
    cluster_18: Cluster, connect: Connect, account: str
) -> None:
    """The requests of a client that polls come to any worker, and only one knows it."""
    process = Process(cluster_18.clone(), socketio="true", workers="2")
    try:
        process.wait_until_ready()
        refused = httpx.get(f"{process.url}/socket.io/?EIO=4&transport=polling")
        assert refused.status_code == 400
        client = connect(account, url=process.url, transports=["websocket"])
        client.wait("connect")
        assert client.ask("user:clientUpdate", {"xp": 1})["ok"]
    finally:
        process.end()


def test_without_the_extra_the_start_says_what_to_install(cluster_18: Cluster) -> None:
    """An operator who sets the variable reads the one command that is missing."""
    without = "import sys; sys.modules['socketio'] = None; from app.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", without, "serve"],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "SYNCLINE_SOCKETIO": "true",
            "SYNCLINE_PORT": "0",
            "SYNCLINE_DATABASE_URL": cluster_18.clone(),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "SYNCLINE_SOCKETIO needs what is not installed" in done.stderr
    assert "pip install 'syncline[socketio]'" in done.stderr
    assert "Traceback" not in done.stderr
