"""Tokens, limits and garbage: a client of Socket.IO has no more rights than any other socket."""

import base64
import json
import socket
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.auth.tokens import mint
from app.clock import system_clock
from tests.conftest import SECRET, Service
from tests.live.raw import TEXT, Raw, frame
from tests.socket_io.conftest import Connect


def until(condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def refused(client: Any) -> str:
    client.wait("connect_error")
    code: str = client.seen[-1]["data"]["code"]
    return code


def test_a_token_is_asked_for(service: Service, connect: Connect) -> None:
    """None, a forged one, an expired one, one that is no token, one of no key at all."""
    assert refused(connect(None)) == "token-missing"
    assert refused(connect(None, auth={"token": ""})) == "token-missing"
    assert refused(connect(None, auth={"token": 7})) == "invalid-request"
    assert refused(connect(None, auth={"token": "x"})) == "token-invalid"
    forged = mint("another-secret-" + "0" * 32, "a", ttl_s=60, now_ms=system_clock())
    assert refused(connect(None, auth={"token": forged})) == "token-invalid"
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    unsigned = f"{header}.{service.token('a').split('.')[1]}.AA"
    assert refused(connect(None, auth={"token": unsigned})) == "token-invalid"
    old = mint(SECRET, "a", ttl_s=1, now_ms=system_clock() - 60_000)
    assert refused(connect(None, auth={"token": old})) == "token-expired"
    assert refused(connect(None, auth={"token": old, "device": "a b"})) == "invalid-request"


def test_a_token_may_stand_in_the_header_or_the_query(
    service: Service, connect: Connect, account: str
) -> None:
    """Older clients of those apps send it so."""
    token = service.token(account)
    headers = {"Authorization": f"Bearer {token}"}
    connect(None, extraHeaders=headers).wait("connect")
    connect(None, query={"token": token}).wait("connect")
    connect(None, query={"token": token}, transports=["websocket"]).wait("connect")


def test_a_socket_ends_with_its_token(service: Service, connect: Connect, account: str) -> None:
    """It has to show one again; the client connects again by itself, and is refused."""
    token = mint(SECRET, account, ttl_s=2, now_ms=system_clock())
    client = connect(None, auth={"token": token})
    client.wait("connect")
    assert client.wait("disconnect") == "transport close"
    assert refused(client) == "token-expired"


def test_the_sockets_of_an_account_are_limited(
    start_service: Any, connect: Connect, account: str
) -> None:
    """The same limit as for other sockets, and together with them."""
    service = start_service(socketio=True, live_account_sockets=2)
    clients = [connect(account, url=service.url) for _ in range(2)]
    for client in clients:
        client.wait("connect")
    assert refused(connect(account, url=service.url)) == "overloaded"
    clients[0].close()
    hub = service.app.state.live.hub
    until(lambda: hub.sockets == 1, "it still counts")
    connect(account, url=service.url).wait("connect")


@pytest.mark.parametrize("transports", [["websocket"], ["polling"]], ids="+".join)
def test_a_client_that_sends_too_much_is_closed(
    start_service: Any, connect: Connect, account: str, transports: list[str]
) -> None:
    """Too often, or with binary parts, which no event has and which would pile up."""
    service = start_service(socketio=True, live_frames_per_s=5)
    for flood in (True, False):
        client = connect(account, url=service.url, transports=transports, reconnection=False)
        client.wait("connect")
        if flood:
            for _ in range(60):
                client.emit("presence:ping")
        else:
            client.send_binary("presence:ping", 1000)
        client.wait("disconnect")


def test_a_frame_that_is_too_large_ends_the_connection(
    start_service: Any, connect: Connect, account: str
) -> None:
    """As everywhere; and the largest that is allowed passes once the token was shown."""
    service = start_service(socketio=True, live_frame_bytes=100_000)
    client = connect(account, url=service.url, transports=["websocket"], reconnection=False)
    client.wait("connect")
    assert client.ask("user:clientUpdate", {"__set": {"note": "x" * 90_000}})["ok"]
    client.emit("user:clientUpdate", {"__set": {"note": "x" * 110_000}})
    client.wait("disconnect")


# --- without a client that keeps to the protocol ----------------------------------------------


def open_polling(url: str) -> str:
    """A session that is open and has not shown a token; the path of its requests."""
    path = "/socket.io/?EIO=4&transport=polling"
    opened = httpx.get(url + path)
    assert opened.status_code == 200
    return f"{path}&sid={json.loads(opened.text[1:])['sid']}"


def test_a_session_that_never_shows_a_token_ends(start_service: Any) -> None:
    """Else anybody could hold as many as there may be."""
    service = start_service(socketio=True, live_hello_s=0.5, live_sockets=3)
    paths = [open_polling(service.url) for _ in range(3)]
    full = httpx.get(f"{service.url}/socket.io/?EIO=4&transport=polling")
    assert full.status_code == 401
    assert "too many" in full.text
    anew = f"{service.url}/socket.io/?EIO=4&transport=polling"
    until(lambda: httpx.get(anew).status_code == 200, "a session was kept")
    assert httpx.get(service.url + paths[0]).status_code in (200, 400)
    assert httpx.get(service.url + paths[0]).status_code == 400


GARBAGE = (
    "",
    "x",
    "9",
    "4",
    "4{",
    "4[]",
    "40{",
    '40{"token":',
    "42",
    "42{}",
    "42[]",
    '42["presence:ping"]',
    "42[1,2]",
    '42["user:clientUpdate",' + "[" * 5000,
    '4299999999999999999999["presence:join"]',
    '451-["presence:ping",{"_placeholder":true,"num":0}]',
    '459999999999-["presence:ping"]',
    "44{}",
    "49",
    "43[]",
    "430[]",
    "41",
    "40/admin,",
    "40/other,{}",
    "1",
    "2probe",
    "5",
    "6",
    "0{}",
    "b////",
    "\x1e" * 40,
)


@pytest.mark.parametrize("token", [True, False], ids=["known", "unknown"])
def test_garbage_harms_nobody(
    service: Service, connect: Connect, account: str, token: bool
) -> None:
    """No answer is a failure of the service, and who keeps to the protocol notices nothing."""
    good = connect(account)
    good.wait("connect")
    for text in GARBAGE:
        path = open_polling(service.url)
        if token:
            shown = "40" + json.dumps({"token": service.token(account)})
            assert httpx.post(service.url + path, content=shown).status_code == 200
        answer = httpx.post(service.url + path, content=text.encode())
        assert answer.status_code in (200, 400), (text, answer.text)
        httpx.post(service.url + path, content=b"1")
    assert httpx.post(f"{service.url}/socket.io/", content=b"\xff").status_code == 400
    assert httpx.get(f"{service.url}/socket.io/?EIO=3&transport=polling").status_code == 400
    assert httpx.put(f"{service.url}/socket.io/?EIO=4").status_code < 500
    good.ask("user:clientUpdate", {"xp": 1})
    good.wait("user:update", xp=1)


def test_a_client_that_reads_nothing_is_closed(start_service: Any, account: str) -> None:
    """What it does not take piles up nowhere, and no ping has to time out first."""
    service = start_service(socketio=True, live_send_s=1.0, live_ping_s=600.0)
    engine = service.app.state.socket_io
    shown = "40" + json.dumps({"token": service.token(account)})
    path = "/socket.io/?EIO=4&transport=websocket"
    frozen = Raw(service.url, path=path, buffer=4_096).send(frame(TEXT, shown.encode()))
    until(lambda: any(one.owner for one in engine.connections.values()), "it is not known")
    (connection,) = engine.connections.values()
    most = 0
    deadline = time.monotonic() + 60
    with service.client(account) as client:
        while engine.connections:
            assert time.monotonic() < deadline, "it is kept"
            changes = {"note": "x" * 200_000, "now": time.time()}
            body = {"id": str(uuid4()), "device": "d1", "set": changes}
            assert client.patch("/v1/documents/user_stats", json=body).status_code in (200, 201)
            most = max(most, engine.queued(connection))
    assert most <= 20
    assert not engine.server.eio.sockets
    until(lambda: not engine.server.environ, "the library keeps it")
    frozen.close()


def test_nothing_is_left_of_those_that_are_gone(
    start_service: Any, connect: Connect, account: str
) -> None:
    """However they went: a process that keeps a little of each ends with no memory."""
    service = start_service(socketio=True, live_ping_s=1.0, live_ping_timeout_s=1.0)
    engine = service.app.state.socket_io
    for transports in (["websocket"], ["polling"], ["polling", "websocket"]):
        closes, loses, dies = (
            connect(account, url=service.url, transports=transports, reconnection=False)
            for _ in range(3)
        )
        for client in (closes, loses, dies):
            client.wait("connect")
            client.ask("user:clientUpdate", {"xp": 1})
        closes.close()
        loses.lose_connection()
        dies.kill()
    for text in GARBAGE:
        httpx.post(service.url + open_polling(service.url), content=text.encode())
    refused(connect(None, url=service.url))
    server = engine.server
    until(lambda: not engine.connections, "connections are left", 60)
    until(lambda: not server.eio.sockets, "sockets are left", 60)
    assert not server.environ
    assert not server._binary_packet
    rooms = server.manager.rooms
    assert not any(members for one in rooms.values() for members in one.values()), rooms
    assert not server.manager.pending_connect
    assert service.app.state.live.hub.sockets == 0
    assert service.app.state.live.hub.accounts == 0


def test_a_connection_that_is_cut_leaves_nothing(service: Service, account: str) -> None:
    """In the middle of a request, of an upgrade, of anything."""
    host, port = service.url.removeprefix("http://").split(":")
    path = open_polling(service.url).replace("polling", "websocket")
    head = (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    for length in (10, len(head)):
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(head[:length].encode())
            if length == len(head):
                assert b" 101 " in raw.recv(4096)
    assert httpx.get(f"{service.url}/livez").status_code == 200
