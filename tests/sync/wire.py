"""Mutations and syncs as a client writes them."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any
from uuid import uuid4

import httpx

Json = dict[str, Any]


def put(key: str, value: Any, base: int | None = None, **more: Any) -> Json:
    return {"id": str(uuid4()), "op": "put", "key": key, "value": value, "base": base, **more}


def patch(key: str, **more: Any) -> Json:
    return {"id": str(uuid4()), "op": "patch", "key": key, **more}


def delete(key: str, base: int | None = None, **more: Any) -> Json:
    return {"id": str(uuid4()), "op": "delete", "key": key, "base": base, **more}


def post(client: httpx.Client, *mutations: Json, device: str | None = "d1", **more: Any) -> Any:
    """The response to a sync."""
    body = {"device": device, "cursor": None, "mutations": mutations, **more}
    return client.post("/v1/sync", json=body)


def sync(client: httpx.Client, *mutations: Json, device: str | None = "d1", **more: Any) -> Any:
    """The answer to a sync that must succeed."""
    response = post(client, *mutations, device=device, **more)
    assert response.status_code == 200, response.text
    return response.json()


def refused(response: httpx.Response, status: int, code: str) -> Json:
    """The problem of a request that must fail in this way."""
    assert response.status_code == status, response.text
    problem: Json = response.json()
    assert problem["code"] == code
    assert response.headers["content-type"] == "application/problem+json"
    return problem


def outcomes(answer: Json) -> list[str]:
    return [result["outcome"] for result in answer["results"]]


def keys(answer: Json) -> list[str]:
    return [change["key"] for change in answer["changes"]]


def pull(client: httpx.Client, cursor: str | None = None, **more: Any) -> list[Json]:
    """All changes after a cursor, page after page."""
    changes: list[Json] = []
    while True:
        answer = sync(client, cursor=cursor, device=None, **more)
        changes += answer["changes"]
        cursor = answer["cursor"]
        if not answer["more"]:
            return changes
        assert answer["changes"], "more to come, but nothing given"


def documents(client: httpx.Client) -> dict[str, Any]:
    """The values of all documents; None: deleted."""
    return {change["key"]: change["value"] for change in pull(client)}


def open_cursor(cursor: str) -> tuple[str, int]:
    """What the opaque cursor holds: tests need to forge some."""
    era, _, seq = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(".")
    return era, int(seq)


def forge_cursor(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")
