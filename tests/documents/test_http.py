"""HTTP itself: what is no request, headers without end, and the methods of an address."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import Service
from tests.documents.api import patch, path, put, refused, version, wrote

LIMIT = 64 * 1024
FLOOD = 16 * 1024 * 1024


@contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port or 0), timeout=10) as sock:
        yield sock


def flood(sock: socket.socket, start: bytes, piece: bytes) -> int:
    """Sends pieces until the service has enough; how many bytes it took."""
    sent = 0
    try:
        sock.sendall(start)
        while sent < FLOOD:
            sock.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    return sent


def answered(sock: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status and problem of the answer, after which the connection ends."""
    received = b""
    while piece := sock.recv(65536):
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    return int(head.split(b" ")[1]), json.loads(body)


PIECE = b"a" * 16_384


REFUSED = ((400, "invalid-key"), (405, "method-not-allowed"))


@pytest.mark.parametrize(
    "address",
    [
        "/v1/documents/0%2F",
        "/v1/documents/%30%2f",
        "/v1/documents/%2F0",
        "/v1/documents/0%2Frevisions",
        "/v1%2Fdocuments/0",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_encoded_slash_leads_nowhere(service: Service, address: str, method: str) -> None:
    """It was taken for a plain one, so that a key which cannot be stood for another document."""
    with service.client("slashes") as client:
        put(client, "0", "kept", base=None)
        url = httpx.URL(service.url).copy_with(raw_path=address.encode())
        answer = client.request(method, url, content=b'{"value": "lost"}')
        assert (answer.status_code, answer.json()["code"]) in REFUSED
        assert client.get(path("0")).json()["value"] == "kept"


FLOODS = {
    "one header": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ", PIECE),
    "one name": (b"GET /livez HTTP/1.1\r\nHost: x\r\n", PIECE),
    "many headers": (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"A: bcdefgh\r\n" * 1_000),
    "an address": (b"GET /", PIECE),
    "trailers": (
        b"POST /v1/sync HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        PIECE,
    ),
    "a chunk's extension": (
        b"POST /v1/sync HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;",
        PIECE,
    ),
}


@pytest.mark.parametrize("name", FLOODS)
def test_headers_without_end_are_cut_off(service: Service, name: str) -> None:
    """Nobody asks for a token before the headers are whole: they stalled the process for
    everybody, and took its memory."""
    with connected(service) as sock:
        began = time.monotonic()
        # What the kernels on both sides hold is more than the service reads.
        assert flood(sock, *FLOODS[name]) < FLOOD
        assert httpx.get(f"{service.url}/livez").status_code == 200
        assert time.monotonic() - began < 5


def test_headers_that_are_too_large_are_a_problem(service: Service) -> None:
    """A proxy that adds cookies, or a token that grew, must show as what it is."""
    for size, status in ((LIMIT - 2_000, 200), (LIMIT + 2_000, 431)):
        with connected(service) as sock:
            start = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: "
            sock.sendall(start + b"a" * size + b"\r\n\r\n")
            if status == 200:
                assert sock.recv(65536).startswith(b"HTTP/1.1 200")
                continue
            found, problem = answered(sock)
            assert (found, problem["code"], problem["limit"]) == (431, "headers-too-large", LIMIT)


def test_headers_count_for_each_request_and_bodies_not(service: Service) -> None:
    """A connection serves any number of requests, and large bodies."""
    value = json.dumps({"value": "x" * 200_000})
    with service.client() as client:
        for number in range(4):
            headers = {"X": "a" * 40_000}
            answer = client.put(f"/v1/documents/k{number}", content=value, headers=headers)
            assert answer.status_code == 201
            pieces = (value[at : at + 7_000].encode() for at in range(0, len(value), 7_000))
            assert client.put(f"/v1/documents/k{number}", content=pieces).status_code == 200


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"hello\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"POST /v1/sync HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST /v1/sync HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
def test_what_is_no_http_is_a_problem_too(service: Service, text: bytes) -> None:
    """Every error has one form, also to a client that speaks TLS to a plain port."""
    with connected(service) as sock:
        sock.sendall(text)
        status, problem = answered(sock)
        assert (status, problem["status"], problem["code"]) == (400, 400, "invalid-request")


ADDRESSES = {
    "/livez": "GET, HEAD, OPTIONS",
    "/readyz": "GET, HEAD, OPTIONS",
    "/health": "GET, HEAD, OPTIONS",
    "/docs": "GET, HEAD, OPTIONS",
    "/openapi.json": "GET, HEAD, OPTIONS",
    "/docs/live": "GET, HEAD, OPTIONS",
    "/asyncapi.json": "GET, HEAD, OPTIONS",
    "/metrics": "GET, HEAD, OPTIONS",
    "/v1/documents": "GET, HEAD, OPTIONS",
    "/v1/documents/k": "DELETE, GET, HEAD, OPTIONS, PATCH, PUT",
    "/v1/documents/k/revisions": "GET, HEAD, OPTIONS",
    "/v1/documents/k/revisions/1": "GET, HEAD, OPTIONS",
    "/v1/documents/k/revisions/1/restore": "OPTIONS, POST",
    "/v1/sync": "OPTIONS, POST",
    "/v1/events": "OPTIONS, POST",
    "/v1/ledger/audit": "GET, HEAD, OPTIONS",
    "/v1/levels": "GET, HEAD, OPTIONS",
    "/v1/leaderboards/xp": "GET, HEAD, OPTIONS",
    "/v1/admin/leaderboards/rebuild": "OPTIONS, POST",
    "/v1/dashboard": "GET, HEAD, OPTIONS",
    "/v1/admin/levels": "GET, HEAD, OPTIONS, PUT",
    "/v1/admin/stats": "GET, HEAD, OPTIONS",
    "/v1/admin/accounts/a/devices": "GET, HEAD, OPTIONS",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_options_name_the_methods(service: Service, address: str) -> None:
    """A browser and a proxy ask before they hold a token, and about all methods at once: the
    answer named those of one handler."""
    answer = httpx.options(service.url + address)
    assert (answer.status_code, answer.headers["allow"]) == (204, ADDRESSES[address])
    with service.client() as client:
        other = client.request("TRACE", address)
        refused(other, 405, "method-not-allowed")
        named = {one.strip() for one in other.headers["allow"].split(",")}
        assert named == set(ADDRESSES[address].split(", "))


def test_every_address_is_asked_here(service: Service) -> None:
    """A new address has to say its methods as well."""
    known = httpx.get(f"{service.url}/openapi.json").json()["paths"]
    assert len(known) == len(ADDRESSES)


@pytest.mark.parametrize(
    "address", [one for one, methods in ADDRESSES.items() if "HEAD" in methods.split(", ")]
)
def test_head_answers_as_get_without_a_body(service: Service, address: str) -> None:
    """Monitors and caches ask with HEAD: it was refused wherever nobody had thought of it."""
    with service.client() as client:
        put(client, "k", 1)
        got, head = client.get(address), client.head(address)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-type"] == got.headers["content-type"]
        moving = address in ("/health", "/metrics")  # which tell the time
        assert head.headers["content-length"] == str(len(got.content)) or moving


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "deflate, gzip"])
def test_a_compressed_body_is_refused_as_such(client: httpx.Client, encoding: str) -> None:
    """Taken for JSON, it was malformed, which says nothing of what to change."""
    headers = {"Content-Encoding": encoding}
    for method, address in (
        ("PUT", path("k")),
        ("PATCH", path("k")),
        ("POST", path("k") + "/revisions/1/restore"),
        ("POST", "/v1/sync"),
    ):
        answer = client.request(method, address, content=b"\x1f\x8b\x08", headers=headers)
        refused(answer, 415, "unsupported-encoding")
        assert answer.headers["accept-encoding"] == "identity"
    plain = client.put(path("k"), json={"value": 1}, headers={"Content-Encoding": "identity"})
    assert plain.status_code == 201


def test_a_parameter_that_stands_twice_is_refused(client: httpx.Client) -> None:
    """Two readers of one address took different ones: a delete on the wrong base is no retry."""
    put(client, "k", {"a": 1})
    for method, address, name in (
        ("DELETE", path("k") + "?base=1&base=2", "base"),
        ("DELETE", path("k") + "?device=a&device=a", "device"),
        ("PUT", path("k") + "?receipt=true&receipt=false", "receipt"),
        ("GET", path("k") + "/revisions/1?receipt=true&receipt=true", "receipt"),
    ):
        body = {"value": 2} if method == "PUT" else None
        problem = refused(client.request(method, address, json=body), 400, "invalid-request")
        assert problem["path"] == f"$.{name}"
    assert version(client, "k") == 1


def test_a_wrong_parameter_is_named_as_a_wrong_field_is(client: httpx.Client) -> None:
    """One form of `path` for body and query, so that a client needs one way to read it."""
    for address in (path("k") + "?base=x", path("k") + "?base=-1"):
        assert refused(client.delete(address), 400, "invalid-request")["path"] == "$.base"
    answer = client.get(path("k") + "/revisions/first")
    assert refused(answer, 400, "invalid-request")["path"] == "$.version"


def test_if_none_match_is_heeded_on_every_write(client: httpx.Client) -> None:
    """A condition was dropped, and the write went through."""
    condition = {"If-None-Match": "*"}
    put(client, "k", {"a": 1})
    put(client, "k", {"a": 2}, base=1)
    patched = {"id": "0199f3a0-0000-7000-8000-000000000001", "set": {"a": 3}}
    calls: list[tuple[str, str, Any]] = [
        ("PUT", path("k"), {"value": {"a": 3}}),
        ("PATCH", path("k"), patched),
        ("DELETE", path("k"), None),
        ("POST", path("k") + "/revisions/1/restore", None),
    ]
    for method, address, body in calls:
        answer = client.request(method, address, json=body, headers=condition)
        assert refused(answer, 412, "precondition-failed")["document"]["version"] == 2
        for wrong in ('"1"', "W/*"):
            answer = client.request(method, address, json=body, headers={"If-None-Match": wrong})
            refused(answer, 400, "invalid-request")
    assert version(client, "k") == 2
    answer = client.patch(path("new"), json=patched, headers=condition)
    wrote(answer, "applied", 1, {"a": 3}, 201)
    client.delete(path("k"))
    answer = client.post(path("k") + "/revisions/1/restore", headers=condition)
    assert answer.status_code == 201
    assert patch(client, "k", set={"a": 5}).status_code == 200
