"""A push onto the newest cursor pulls nothing, since its results tell all; nothing is missed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Barrier
from typing import Any

import httpx
import pytest

from tests.conftest import Cluster, Service
from tests.ledger.wire import xp
from tests.sync.wire import Json, delete, keys, patch, put, sync


def told(answer: Json) -> list[tuple[str, Any]]:
    return [(change["key"], change["value"]) for change in answer["changes"]]


def test_the_cursor_is_that_of_a_pull(client: httpx.Client) -> None:
    first = sync(client, put("a", 1, 0), put("b", 1, 0))
    assert first["changes"] == []
    second = sync(client, put("a", 2, 1), delete("b", 1), cursor=first["cursor"])
    assert (second["changes"], second["more"]) == ([], False)
    pulled = sync(client, cursor=second["cursor"])
    assert pulled["changes"] == []
    assert pulled["cursor"] == second["cursor"]


def test_what_another_device_wrote_between_is_told(client: httpx.Client) -> None:
    mine = sync(client, put("a", 1, 0))
    sync(client, put("b", 2, 0), device="d2")
    answer = sync(client, put("a", 3, 1), cursor=mine["cursor"])
    assert told(answer) == [("b", 2)]


def test_what_another_device_wrote_just_before_the_first_push_is_told(client: httpx.Client) -> None:
    """A new device on an account that is not new."""
    sync(client, put("b", 2, 0), device="d2")
    assert told(sync(client, put("a", 1, 0))) == [("b", 2)]


def test_a_repeated_push_is_told_what_it_may_have_missed(client: httpx.Client) -> None:
    """Its answer was lost, so the cursor is from before it."""
    start = sync(client)["cursor"]
    push = put("a", 1, 0)
    first = sync(client, push, cursor=start)
    again = sync(client, push, cursor=start)
    assert again["results"][0]["outcome"] == "duplicate"
    assert again["cursor"] == first["cursor"]


def test_a_merge_and_a_rejection_are_told_by_their_results(client: httpx.Client) -> None:
    sync(client, put("user_stats", {"xp": 5}, 0), device="d2")
    cursor = sync(client)["cursor"]
    merged = put("user_stats", {"xp": 3}, 0)
    answer = sync(client, merged, put("a", 1, 0), put("totals", 1, 0), cursor=cursor)
    outcomes = [(one["outcome"], one.get("value")) for one in answer["results"]]
    assert outcomes == [("merged", {"xp": 8}), ("applied", None), ("rejected", None)]
    assert answer["changes"] == []


def test_what_events_change_is_told(client: httpx.Client) -> None:
    """The documents of the service's own are in no result."""
    cursor = sync(client, put("a", 1, 0))["cursor"]
    body = {"device": "d1", "cursor": cursor, "mutations": [put("a", 2, 1)], "events": [xp(5)]}
    answer = client.post("/v1/sync", json=body).json()
    assert "totals" in keys(answer)


def test_what_an_answer_has_no_room_for_is_told(
    start_service: Callable[..., Service], cluster: Cluster
) -> None:
    """Two merged documents of which only one fits: the other comes as a change."""
    big = {f"field{number}": "x" * 1_000 for number in range(20)}
    service = start_service(cluster.clone(), max_answer_bytes=30_000)
    with service.client() as client:
        sync(client, put("a", big, 0), put("b", big, 0), device="d2")
        cursor: str | None = None
        while (page := sync(client, cursor=cursor))["more"]:
            cursor = page["cursor"]
        edits = [patch(key, set={"more": 1}) for key in ("a", "b")]
        answer = sync(client, *edits, cursor=page["cursor"])
        values = {one["key"]: one["value"] for one in answer["results"] if "value" in one}
        while True:
            values |= dict(told(answer))
            if not answer["more"]:
                break
            answer = sync(client, cursor=answer["cursor"])
    assert values == {"a": {**big, "more": 1}, "b": {**big, "more": 1}}


@pytest.mark.parametrize("seed", range(3))
def test_devices_that_push_at_once_miss_nothing(service: Service, seed: int) -> None:
    """Batches hold several of them: each is told what the others wrote, now or later."""
    all_wrote = Barrier(6, timeout=60)

    def live(number: int) -> dict[str, Any]:
        random, held, cursor = Random(f"{seed}/{number}"), dict[str, Any](), None
        versions: dict[str, int] = {}
        with service.client("together") as client:
            for turn in range(30):
                key = f"k{random.randrange(4)}"
                edit = put(key, [number, turn], versions.get(key, 0))
                pushed = [edit] if random.random() < 0.8 else []
                answer = sync(client, *pushed, device=f"d{number}", cursor=cursor)
                adopt(answer, pushed, held, versions)
                cursor = answer["cursor"]
            all_wrote.wait()
            adopt(sync(client, device=f"d{number}", cursor=cursor), [], held, versions)
        return held

    with ThreadPoolExecutor(6) as pool:
        copies = list(pool.map(live, range(6)))
    with service.client("together") as client:
        truth = dict(told(sync(client, device="new")))
    assert all(copy == truth for copy in copies)


def adopt(answer: Json, pushed: list[Json], held: dict[str, Any], versions: dict[str, int]) -> None:
    """As a client does: results, then changes."""
    for edit, result in zip(pushed, answer["results"], strict=True):
        held[result["key"]] = result.get("value", edit["value"])
        versions[result["key"]] = result["version"]
    for change in answer["changes"]:
        held[change["key"]], versions[change["key"]] = change["value"], change["version"]
