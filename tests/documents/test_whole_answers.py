"""Answers of the hottest requests leave in one piece, and keep to HTTP all the same."""

import re
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.conftest import Service
from tests.documents.api import path, put
from tests.documents.test_http import connected

DATA_SEGMENTS_IN = 152
"""Where `struct tcp_info` of Linux counts the segments with data that came in."""


@pytest.fixture
def head(service: Service) -> Iterator[bytes]:
    """Headers of a client whose token was verified before, and who has the document `a`."""
    with service.client("someone") as client:
        put(client, "a", {"text": "x" * 1_000})
        yield f"Host: x\r\nAuthorization: {client.headers['authorization']}\r\n".encode()


def read(head: bytes, *, more: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"GET %b HTTP/%b\r\n%b%b\r\n" % (path("a").encode(), version, head, more)


def answer(sock: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of the next answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(sock, 1)
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    while len(body) < int(length[1]):
        body += _some(sock, int(length[1]) - len(body))
    return head, body


def _some(sock: socket.socket, most: int) -> bytes:
    piece = sock.recv(most)
    assert piece, "the connection ended within an answer"
    return piece


def segments(sock: socket.socket) -> int:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    (count,) = struct.unpack_from("I", info, DATA_SEGMENTS_IN)
    return int(count)


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="segments are counted on Linux")
def test_head_and_body_come_in_one_segment(service: Service, head: bytes) -> None:
    with connected(service) as sock:
        before = segments(sock)
        for number in range(1, 6):
            sock.sendall(read(head))
            found, body = answer(sock)
            assert found.startswith(b"HTTP/1.1 200 ")
            assert b'etag: "1"' in found
            assert b'"text":"xxx' in body
            assert segments(sock) - before == number


def test_requests_that_come_at_once_are_answered_in_order(service: Service, head: bytes) -> None:
    """Hot ones and one that takes the router, all in one packet."""
    missing = b"GET %b HTTP/1.1\r\n%b\r\n" % (path("missing").encode(), head)
    routed = read(head, more=b"Prefer: respond-async\r\n")
    with connected(service) as sock:
        sock.sendall((read(head) + missing + routed) * 5)
        statuses = [answer(sock)[0].split(b" ")[1] for _ in range(15)]
    assert statuses == [b"200", b"404", b"200"] * 5


@pytest.mark.parametrize(
    ("more", "version"), [(b"Connection: close\r\n", b"1.1"), (b"", b"1.0")], ids=["close", "1.0"]
)
def test_a_connection_that_is_to_end_ends(
    service: Service, head: bytes, more: bytes, version: bytes
) -> None:
    with connected(service) as sock:
        sock.sendall(read(head, more=more, version=version))
        found, body = answer(sock)
        assert found.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close" in found
        assert body
        assert sock.recv(1) == b""


def test_a_client_that_reads_late_gets_every_answer(service: Service) -> None:
    """Past what the socket takes, an answer waits for the reader, as those of the router do."""
    size, times = 100_000, 60
    with service.client("late") as client, connected(service) as sock:
        put(client, "a", {"text": "x" * size})
        head = f"Host: x\r\nAuthorization: {client.headers['authorization']}\r\n".encode()
        sock.sendall(read(head) * times)
        for _ in range(times):
            found, body = answer(sock)
            assert found.startswith(b"HTTP/1.1 200 ")
            assert len(body) > size
        assert client.get(path("a")).status_code == 200


def test_a_client_that_goes_away_harms_nobody(service: Service, head: bytes) -> None:
    for _ in range(20):
        with connected(service) as sock:
            sock.sendall(read(head) * 3)
    with connected(service) as sock:
        sock.sendall(read(head))
        assert answer(sock)[0].startswith(b"HTTP/1.1 200 ")
