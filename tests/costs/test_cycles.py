"""Requests leave nothing that only Python's collector of cycles frees: while it looks, all wait."""

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

import httpx

from tests.conftest import Service
from tests.sync.wire import delete, patch, put, sync

StartService = Callable[..., Service]
ROOT = Path(__file__).parents[2]
OURS = tuple(str(ROOT / package) for package in ("app", "merge_rules"))


def requests(client: httpx.Client) -> None:
    """Whatever becomes of a write: applied, merged, unchanged, repeated, refused in every way."""
    repeated = put("notes", 1)
    sync(client, repeated, put("settings", {"a": 1}, 0), patch("user_stats", delta={"xp": 1}))
    sync(client, put("settings", {"b": 2}, 0), put("settings", {"b": 2}, 0), repeated)
    unheard_of = {"id": str(uuid4()), "type": "unheard-of", "payload": {}}
    events = [{"id": str(uuid4()), "type": "xp", "payload": {"amount": 5}}, unheard_of]
    sync(
        client,
        put("user_stats", {"xp": 2}, 1_000_000),
        put("user_stats", {"xp": "many"}, 0),
        put("no key", 1),
        {**repeated, "value": 2},
        delete("never"),
        events=events,
    )
    sync(client, *(put(f"lesson:{number}", {"order_number": number}) for number in range(25)))
    # A store that knows of an id which its server has never seen is a copy of another.
    client.post("/v1/sync", json={"device": "d1", "previous": str(uuid4()), "mutations": []})
    forked = {"device": "d1", "previous": str(uuid4()), "mutations": [put("notes", 3)]}
    client.post("/v1/sync", json=forked)
    client.post("/v1/sync", json={"cursor": "nonsense"})
    client.post("/v1/sync", content=b"{")
    client.put("/v1/documents/user_stats", json={"value": {"xp": 2}, "base": 1_000_000})
    client.put("/v1/documents/notes", json={"value": 4}, headers={"If-Match": '"1000"'})
    client.patch("/v1/documents/notes", json={})
    client.get("/v1/documents/notes")
    client.get("/v1/documents/never")
    client.post("/v1/events", json={"events": events})


def test_requests_leave_no_cycles(start_service: StartService) -> None:
    service = start_service()
    with service.client() as client:
        requests(client)
        with found_by_the_collector() as found:
            requests(client)
    assert found == {}


@contextmanager
def found_by_the_collector() -> Iterator[Counter[str]]:
    """Counts what of ours only the collector would free, by its kind, once this ends."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found.update(what for one in gc.garbage if (what := _kind(one)))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def _kind(one: Any) -> str:
    """The type of what is ours, or the function whose frame it is; nothing for all else."""
    if isinstance(one, FrameType):
        code = one.f_code
        return code.co_qualname if code.co_filename.startswith(OURS) else ""
    module = type(one).__module__
    ours = ("app.", "merge_rules.", "uvicorn.")  # what the server keeps, it keeps for our requests
    return type(one).__qualname__ if module.startswith(ours) else ""
