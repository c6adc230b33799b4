"""Short ways to say what these tests ask, and what they expect of the answers."""

from typing import Any
from uuid import uuid4

import httpx

OLD_MS = 1_000_000_000_000
"""A time in 2001: older than every write that the service dates itself."""


def path(key: str) -> str:
    return f"/v1/documents/{key}"


def put(client: httpx.Client, key: str, value: Any, **fields: Any) -> httpx.Response:
    return client.put(path(key), json={"value": value, **fields})


def patch(client: httpx.Client, key: str, **fields: Any) -> httpx.Response:
    return client.patch(path(key), json={"id": str(uuid4()), **fields})


def operate(client: httpx.Client, key: str, *operations: Any, **fields: Any) -> httpx.Response:
    """Operations as (op, path) or (op, path, value)."""
    names = ("op", "path", "value")
    bodies = [dict(zip(names, one, strict=False)) for one in operations]
    return patch(client, key, operations=bodies, **fields)


def value(client: httpx.Client, key: str) -> Any:
    answer = client.get(path(key))
    assert answer.status_code == 200, answer.text
    return answer.json()["value"]


def version(client: httpx.Client, key: str) -> int:
    """The version of a document, deleted or not; 0 if there is none."""
    answer = client.get(path(key))
    body = answer.json()
    return 0 if answer.status_code == 404 else int(body["version"])


def wrote(answer: httpx.Response, outcome: str, version: int, value: Any, status: int = 200) -> Any:
    """Asserts what a write came to, on every channel that says it; returns the body."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    found = (body["outcome"], body["version"], body["value"], body["deleted"])
    assert found == (outcome, version, value, value is None)
    assert answer.headers["etag"] == f'"{version}"'
    return body


def refused(answer: httpx.Response, status: int, code: str) -> Any:
    """Asserts a whole problem document; returns it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["type"].endswith(f"#{code}")
    assert body["title"]
    assert body["detail"]
    return body
