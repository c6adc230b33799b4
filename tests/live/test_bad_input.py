"""What strangers, bugs and bad networks send: a code and a reason, and nothing is left behind."""

import asyncio
import json
import logging
import random
import secrets
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.live import socket as live_socket
from tests.conftest import Cluster, Service, serving
from tests.live.raw import BINARY, CLOSE, CONT, PING, TEXT, Raw, frame, hello
from tests.live.talk import Json, opened, talking, until
from tests.sync.wire import put

Start = Callable[..., Service]
QUICK = {"live_hello_s": 1.0, "live_send_s": 1.0, "live_frames_per_s": 20}


@pytest.fixture(scope="module")
def quick(cluster_18: Cluster) -> Iterator[Service]:
    """A service that loses patience soon."""
    with serving(cluster_18.clone(), **QUICK) as running:
        yield running


def until_empty(service: Service) -> None:
    """Every socket has left, whatever it did."""
    live, endpoint = service.app.state.live, service.app.asgi_handler
    deadline = time.monotonic() + 15
    while live.hub.sockets or live.hub.accounts or endpoint.waiting:
        assert time.monotonic() < deadline, "a socket was left behind"
        time.sleep(0.02)


async def test_a_socket_that_says_nothing_is_closed(quick: Service) -> None:
    """Open sockets cost memory; only those who say who they are may keep one."""
    async with opened(quick.url) as talk:
        assert await talk.closed() == (4408, "no hello came")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("", 1007),
        ("hello", 1007),
        ("[1]", 1007),
        ('{"type": 1}', 1007),
        ('{"type": "hello"}', 1007),
        ('{"type": "hello", "token": "x", "device": "a b"}', 1007),
        ('{"type": "hello", "token": "x", "device": "d", "more": 1}', 1007),
        ('{"type": "ping"}', 4401),
        ('{"type": "push", "mutations": []}', 4401),
        ('{"type": "sing"}', 1007),
        ("[" * 5_000, 1007),
        ('{"type": "hello", "token": ' + "[" * 5_000, 1007),
        (b"\x00\x01", 1003),
    ],
)
async def test_what_is_no_hello_closes_the_socket(
    quick: Service, sent: str | bytes, code: int
) -> None:
    """Before a hello nothing else is looked at."""
    async with opened(quick.url) as talk:
        await talk.connection.send(sent)
        found, reason = await talk.closed()
        assert found == code
        assert reason


async def test_a_bad_cursor_closes_the_socket(quick: Service, account: str) -> None:
    """The reason names the code that `POST /v1/sync` would give."""
    async with opened(quick.url) as talk:
        await talk.hello(account, "d1", "nonsense")
        code, reason = await talk.closed()
        assert code == 1007
        assert reason.startswith("malformed-cursor")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("no frame", 1007),
        ("{}", 1007),
        (b"binary", 1003),
        ('{"type": "hello", "token": "x", "device": "d"}', 1007),
    ],
)
async def test_garbage_later_closes_the_socket(
    quick: Service, account: str, sent: str | bytes, code: int
) -> None:
    """A client that speaks another language is better told so than kept waiting."""
    async with talking(quick.url, account) as talk:
        await talk.connection.send(sent)
        assert (await talk.closed())[0] == code


async def test_a_frame_that_is_too_large_closes_the_socket(start_service: Start) -> None:
    """Strangers may send little, those who said who they are what the setting says."""
    service = start_service(live_frame_bytes=50_000)
    async with opened(service.url) as talk:
        await talk.connection.send("x" * 20_000)
        assert (await talk.closed())[0] == 1009
    async with talking(service.url, "maja") as talk:
        await talk.push(put("a", "x" * 40_000))
        await talk.connection.send("x" * 60_000)
        assert (await talk.closed())[0] == 1009


async def test_too_many_frames_close_the_socket(quick: Service, account: str) -> None:
    """One client in a loop must not take the process from the others."""
    async with talking(quick.url, account) as talk:
        for _ in range(300):
            await talk.connection.send('{"type": "ping"}')
        code, reason = await talk.closed()
        assert code == 4429
        assert "20 frames a second" in reason
        assert 100 <= sum(one["type"] == "pong" for one in talk.frames) < 200


async def test_there_are_only_so_many_sockets(start_service: Start, account: str) -> None:
    """A bug that opens sockets again and again must not lock out the other accounts."""
    service = start_service(live_account_sockets=2, live_sockets=3)
    async with talking(service.url, account), talking(service.url, account, "d2"):
        async with opened(service.url) as third:
            await third.hello(account, "d3")
            assert await third.closed() == (4429, "this account has 2 sockets")
        async with talking(service.url, f"{account}-2"), opened(service.url) as fourth:
            await fourth.hello(f"{account}-3", "d1")
            assert await fourth.closed() == (4429, "this process has 3 sockets")
    until_empty(service)
    async with talking(service.url, account, "d3"):
        assert service.app.state.live.hub.refused == 2


async def test_a_flood_of_pings_ends(quick: Service, account: str) -> None:
    """Each is answered into a buffer, which a client that reads nothing would fill for ever."""
    raw = Raw(quick.url).send(hello(account))
    await asyncio.to_thread(raw.send, frame(PING, b"x" * 100) * 300)
    assert await asyncio.to_thread(raw.until_closed) == (4429, "too many pings")
    raw.close()
    until_empty(quick)


async def test_a_message_in_endless_fragments_ends(quick: Service, account: str) -> None:
    """Empty fragments add nothing to the size of a message, and something to the memory."""
    raw = Raw(quick.url).send(hello(account), frame(TEXT, b"{", fin=False))
    await asyncio.to_thread(raw.send, frame(CONT, b"", fin=False) * 5_000)
    closed = await asyncio.to_thread(raw.until_closed)
    assert closed is not None
    assert closed[0] == 1009
    raw.close()
    until_empty(quick)


async def test_headers_that_the_socket_refuses_end_the_connection(quick: Service) -> None:
    """The parser of the handshake is another one than that of requests, and stricter."""
    raw = await asyncio.to_thread(Raw, quick.url, more=f"X-Long: {'x' * 10_000}\r\n")
    assert raw.status in (400, 431)
    assert await asyncio.to_thread(raw.until_closed) is None
    raw.close()


async def test_a_client_that_never_reads_is_closed(start_service: Start, account: str) -> None:
    """What it does not take waits in the database, and not in the service's memory."""
    service = start_service(live_send_s=0.5, live_change_bytes=200_000)
    raw = Raw(service.url, buffer=4_096).send(hello(account))
    sent = service.app.state.live.hub.frames
    with service.client(account) as client:
        deadline = time.monotonic() + 30
        while service.app.state.live.hub.sockets:
            assert time.monotonic() < deadline, "it was kept"
            value = {"text": "x" * 100_000, "n": random.random()}
            answer = await asyncio.to_thread(
                client.put, "/v1/documents/large", json={"value": value}
            )
            assert answer.status_code in (200, 201)
    assert sent["changes"] < 60  # of 100 kB each: the buffers of both kernels, and no more
    raw.close()
    until_empty(service)


async def test_a_client_that_says_goodbye_and_reads_nothing_is_cut_off(
    start_service: Start, account: str
) -> None:
    """It counts nowhere any more, so as many as it likes could hold memory and files for ever."""
    service = start_service(live_change_bytes=200_000)
    raw = Raw(service.url, buffer=4_096).send(hello(account))
    await asyncio.to_thread(raw.texts, 0.5)
    (one,) = service.app.state.live.hub
    await _fill(service, account)
    raw.send(frame(CLOSE, b"\x03\xe8"))
    await until(lambda: one._wire.disconnected, "the connection is still there")
    until_empty(service)
    raw.close()


async def _fill(service: Service, account: str) -> None:
    """Changes a document until the one socket of the service takes no more."""
    hub, deadline = service.app.state.live.hub, time.monotonic() + 30
    with service.client(account) as client:
        while all(one._wire.is_writable for one in hub):
            assert time.monotonic() < deadline
            value = {"text": "x" * 100_000, "n": random.random()}
            await asyncio.to_thread(client.put, "/v1/documents/large", json={"value": value})


async def test_a_client_that_pauses_for_a_moment_misses_nothing(
    start_service: Start, account: str
) -> None:
    """What could not be sent is sent as soon as the client reads again, without being asked."""
    service = start_service(live_send_s=20.0, live_change_bytes=200_000)
    raw = Raw(service.url, buffer=4_096).send(hello(account))
    await asyncio.to_thread(raw.texts, 0.5)
    await _fill(service, account)
    with service.client(account) as client:
        await asyncio.to_thread(client.put, "/v1/documents/last", json={"value": 1})
    seen: list[object] = []
    deadline = time.monotonic() + 15
    while "last" not in seen:
        assert time.monotonic() < deadline, "it was forgotten"
        for one in await asyncio.to_thread(raw.texts, 0.2):
            assert one["type"] in ("changes", "presence")
            seen += [change["key"] for change in one.get("changes", [])]
    raw.close()


async def test_a_slow_client_is_told_to_pull_and_is_kept(
    start_service: Start, account: str
) -> None:
    """Bad networks come and go; what was missed is pulled once it is better."""
    service = start_service(live_send_s=4.0, live_change_bytes=200_000)
    raw = Raw(service.url, buffer=4_096).send(hello(account))
    await asyncio.to_thread(raw.texts, 0.5)
    await _fill(service, account)
    with service.client(account) as client:
        await asyncio.to_thread(client.put, "/v1/documents/last", json={"value": 1})
        await asyncio.sleep(5.5)  # past its time once, not twice
        resync = await _read_until(raw, "resync")
        assert resync["reason"] == "slow"
    push = {"type": "push", "mutations": []}
    raw.send(frame(TEXT, json.dumps(push).encode()))
    answer: Json = await _read_until(raw, "pushed")
    assert "last" in [change["key"] for change in answer["changes"]]
    raw.close()


async def test_what_came_behind_a_push_that_was_not_taken_is_sent(
    start_service: Start, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is of before, and a client may take it for what the `resync` asked for."""
    monkeypatch.setattr(live_socket, "LEAST_BYTES", 2**40)  # what the kernels still move is nothing
    service = start_service(live_send_s=4.0, live_change_bytes=200_000)
    raw = Raw(service.url, buffer=4_096).send(hello(account))
    await asyncio.to_thread(raw.texts, 0.5)
    await _fill(service, account)
    (one,) = service.app.state.live.hub
    with service.client(account) as client:
        await asyncio.to_thread(client.put, "/v1/documents/first", json={"value": 1})
        await until(lambda: one._stalled is not None, "it took all")
        raw.send(frame(TEXT, b'{"type": "push"}'))
        await until(lambda: one.busy, "the push did not come")
        await asyncio.sleep(1.0)  # it was pulled for, and its answer waits
        await asyncio.to_thread(client.put, "/v1/documents/last", json={"value": 1})
    await asyncio.sleep(4.0)
    kinds: set[object] = set()
    seen: list[object] = []
    deadline = time.monotonic() + 15
    while "last" not in seen:
        assert time.monotonic() < deadline, f"it was forgotten after {kinds}"
        for got in await asyncio.to_thread(raw.texts, 0.3):
            kinds.add(got["type"])
            seen += [change["key"] for change in got.get("changes", [])]
    assert {"resync", "pushed"} <= kinds
    raw.close()


async def _read_until(raw: Raw, kind: str) -> Json:
    deadline = time.monotonic() + 15
    while True:
        assert time.monotonic() < deadline, f"no {kind} came"
        for one in await asyncio.to_thread(raw.texts, 0.3):
            if one["type"] == kind:
                return one


async def test_a_client_that_reads_slowly_but_steadily_is_kept(
    start_service: Start, account: str
) -> None:
    """A phone on a bad link gets its first pull, however long that takes: progress counts."""
    service = start_service(
        live_send_s=0.6, live_ping_s=0.5, live_ping_timeout_s=0.5, live_answer_bytes=1_000_000
    )
    with service.client(account) as client:
        for number in range(3):
            client.put(f"/v1/documents/d{number}", json={"value": "x" * 200_000})
    raw = Raw(service.url, buffer=4_096).send(hello(account))
    push: Json = {"type": "push", "cursor": None, "mutations": []}
    raw.send(frame(TEXT, json.dumps(push).encode()))
    got, deadline = 0, time.monotonic() + 60
    while got < 600_000:
        assert time.monotonic() < deadline
        # What the kernel has it would deliver even if the service had closed the connection.
        assert got == 0 or service.app.state.live.hub.sockets == 1, f"closed after {got} bytes"
        data = await asyncio.to_thread(raw.socket.recv, 25_000)
        assert data, f"cut after {got} bytes"
        got += len(data)
        await asyncio.sleep(0.25)
    raw.close()


async def test_a_peer_that_is_gone_without_a_word_leaves(
    start_service: Start, account: str
) -> None:
    """A lost radio sends no goodbye; the others see it leave within seconds."""
    service = start_service(live_ping_s=0.5, live_ping_timeout_s=0.5)
    raw = Raw(service.url).send(hello(account, "lost"))  # and never answers a ping
    async with talking(service.url, account, "d1") as talk:
        await talk.until_present("d1", "lost")
        await talk.until_present("d1")
    raw.close()


# --- anything at all --------------------------------------------------------------------------

SCRAPS = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [
            frame(TEXT, b'{"type": "ping", "ref": 1}'),
            frame(TEXT, b'{"type": "push", "mutations": [{"id": 1}]}'),
            frame(TEXT, b'{"type": "push", "mutations": [' + b"[" * 3_000),
            frame(TEXT, b'{"type": "token", "token": "a.b.c"}'),
            frame(TEXT, b'{"type"', fin=False),
            frame(TEXT, b"\xff\xfe"),
            frame(CONT, b": 1}"),
            frame(BINARY, b"\x00"),
            frame(PING, b"x" * 125),
            frame(PING, b"x" * 126),
            frame(PING, fin=False),
            frame(CLOSE, b"\x03"),
            frame(CLOSE, b"\x03\xe8bye"),
            frame(CLOSE),
            frame(TEXT, b"{}", mask=False),
            frame(3),
            frame(TEXT, b"x" * 70_000),
            b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
            b"\xf1\x80\0\0\0\0",
        ]
    ),
)


@given(greets=st.booleans(), scraps=st.lists(SCRAPS, max_size=6), cuts=st.booleans())
@settings(
    max_examples=120,
    # The service is the same for all examples, since what harms it has to show in later ones; each
    # example opens sockets and waits for their end.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_nothing_that_is_sent_harms_the_others(
    quick: Service,
    caplog: pytest.LogCaptureFixture,
    greets: bool,
    scraps: list[bytes],
    cuts: bool,
) -> None:
    """Whatever comes, a bystander is served, nobody is left behind, and no failure is logged."""
    logger = logging.getLogger("uvicorn")  # it passes nothing on to the root
    logger.addHandler(caplog.handler)
    try:
        with capture_logs() as logged:
            _send(quick, greets, scraps, cuts)
    finally:
        logger.removeHandler(caplog.handler)
    assert [one for one in logged if one["log_level"] == "error"] == []
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


def _send(quick: Service, greets: bool, scraps: list[bytes], cuts: bool) -> None:
    bystander, stranger = f"by-{secrets.token_hex(4)}", f"stranger-{secrets.token_hex(4)}"
    watching = Raw(quick.url).send(hello(bystander))
    raw = Raw(quick.url)
    try:
        raw.send(hello(stranger) if greets else b"", *scraps)
        if not cuts:
            raw.socket.shutdown(1)
    except OSError:
        pass  # it was closed in the middle
    if cuts:
        raw.close()
    with quick.client(bystander) as client:
        assert client.put("/v1/documents/a", json={"value": stranger}).status_code == 201
    deadline = time.monotonic() + 10
    seen: list[dict[str, object]] = []
    while not any(one["type"] == "changes" and one["changes"] for one in seen):
        assert time.monotonic() < deadline, seen
        seen += watching.texts(0.05)
    assert stranger in json.dumps(seen)
    for one in (raw, watching):
        one.close()
    until_empty(quick)
