"""The two hottest requests go past the router: they must be answered as the router would."""

from typing import Any

import httpx
import pytest

from tests.conftest import Service
from tests.documents.api import path, put

THROUGH_THE_ROUTER = {"Prefer": "respond-async"}
"""A header that the routes look at, and that says nothing to them."""

BODIES = (
    b'{"value": {"xp": 1}}',
    b'{"value": {"xp": 2}, "base": 1, "device": "d1"}',
    b'{"value": {"xp": 2}, "base": 1, "id": "0b9f4bd0-0000-4000-8000-000000000001"}',
    b'{"value": {"xp": "many"}, "device": "d1"}',
    b'{"value": 1, "value": 2}',
    b'{"value": {"a": 1, "a": 2}}',
    b'{"value": 1e999}',
    b'{"value": "\\u0000"}',
    b'{"value": {}, "base": -1}',
    b'{"value": {}, "devise": "d1"}',
    b'{"value": ',
    b"",
    b"\xff",
    b"[]",
)


def same_answer(one: httpx.Response, other: httpx.Response) -> None:
    assert (one.status_code, one.content) == (other.status_code, other.content)
    ignored = {"date", "content-length"}
    names = [
        {name: text for name, text in answer.headers.items() if name not in ignored}
        for answer in (one, other)
    ]
    assert names[0] == names[1]


def _bodies(answer: httpx.Response) -> Any:
    body = answer.json()
    for document in (body, body.get("document", {})):
        document.pop("updated_at", None)
    return answer.status_code, body


@pytest.mark.parametrize("body", BODIES)
def test_a_write_is_answered_alike(service: Service, body: bytes) -> None:
    """The same body in two accounts, once each way; a problem is the same to the byte."""
    answers = []
    for headers in ({}, THROUGH_THE_ROUTER):
        with service.client() as client:
            put(client, "user_stats", {"xp": 1}, device="d1")
            sent = {"Content-Type": "application/json", **headers}
            answers.append(client.put(path("user_stats"), content=body, headers=sent))
    assert _bodies(answers[0]) == _bodies(answers[1])
    assert answers[0].headers["content-type"] == answers[1].headers["content-type"]
    assert answers[0].headers.get("etag") == answers[1].headers.get("etag")


def test_reads_are_answered_alike(service: Service) -> None:
    with service.client() as client:
        put(client, "here", {"a": 1})
        put(client, "gone", {"a": 1})
        client.delete(path("gone"))
        for key in ("here", "gone", "never"):
            plain = client.get(path(key))
            same_answer(plain, client.get(path(key), headers=THROUGH_THE_ROUTER))
            assert plain.status_code == {"here": 200, "gone": 410, "never": 404}[key]


@pytest.mark.parametrize(
    "address",
    [
        "/v1/documents/",
        "/v1/documents/a/",
        "/v1//documents/a",
        "/v1/documents/a%20b",
        "/v1/documents/%61",
        "/v1/documents/a?",
        "/v1/documents/a/revisions",
        "/v1/documents/" + "k" * 128,
        "/v1/documents/" + "k" * 129,
        "/v1/documents/a;b",
        "/v1/documents/..",
    ],
)
def test_no_other_address_is_taken_for_a_key(service: Service, address: str) -> None:
    with service.client("addresses") as client:
        put(client, "a", 1)
        url = httpx.URL(str(client.base_url)).copy_with(raw_path=address.encode())
        token = {"Authorization": client.headers["authorization"]}
    same_answer(httpx.get(url, headers=token), httpx.get(url, headers=token | THROUGH_THE_ROUTER))


SYNCS = (
    b"{}",
    b'{"mutations": []}',
    b'{"device": "d1", "mutations": [{"id": "0b9f4bd0-0000-4000-8000-000000000002", "op": "put",'
    b' "key": "a", "value": 1, "base": 0}]}',
    b'{"mutations": [{"id": "0b9f4bd0-0000-4000-8000-000000000003", "op": "put", "key": "a b"}]}',
    b'{"mutations": [{}]}',
    b'{"cursor": "x"}',
    b'{"cursor": null, "cursor": null}',
    b'{"events": [1]}',
    b"",
)


@pytest.mark.parametrize("body", SYNCS)
def test_a_sync_is_answered_alike(service: Service, body: bytes) -> None:
    answers = []
    for headers in ({}, THROUGH_THE_ROUTER):
        with service.client() as client:
            sent = {"Content-Type": "application/json", **headers}
            answer = client.post("/v1/sync", content=body, headers=sent)
            found = answer.json()
            for part in (found, *found.get("results", []), *found.get("changes", [])):
                for name in ("server_time", "updated_at"):
                    part.pop(name, None)
            answers.append((answer.status_code, answer.headers["content-type"], found))
    assert answers[0] == answers[1]


def test_a_token_is_asked_for(service: Service) -> None:
    """Only a good token goes past the router, letter by letter."""
    with service.client("someone") as client:
        put(client, "mine", 1)
        token = client.headers["authorization"]
        for other in ("", token[:-4] + "AAAA", token + "A", token.replace("Bearer", "Basic")):
            answer = client.get(path("mine"), headers={"Authorization": other})
            assert answer.status_code == 401, other
        two = [("Authorization", token), ("Authorization", token)]
        assert httpx.get(f"{service.url}{path('mine')}", headers=two).status_code == 401
        assert client.get(path("mine"), headers={"Authorization": token}).json()["value"] == 1


def test_a_chunked_body_and_a_query_take_the_router(service: Service) -> None:
    with service.client() as client:
        written = client.put(path("k"), content=iter([b'{"value"', b": 1}"]))
        assert (written.status_code, written.json()["value"]) == (201, 1)
        answer = client.put(path("k") + "?receipt=true", json={"value": 2, "base": 1})
        assert answer.json()["receipt"]
        assert client.get(path("k") + "?receipt=true").status_code == 400
