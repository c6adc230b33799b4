"""Pulling over real HTTP: cursors and pages."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.conftest import Service
from tests.sync.wire import (
    delete,
    documents,
    forge_cursor,
    keys,
    open_cursor,
    patch,
    post,
    pull,
    put,
    refused,
    sync,
)


def test_a_first_sync_gives_everything(client: httpx.Client) -> None:
    """Null and absent both mean: this store is empty."""
    sync(client, put("a", 1, 0), put("b", 2, 0), delete("a", 1))
    for body in ({}, {"cursor": None}):
        answer = client.post("/v1/sync", json=body).json()
        assert keys(answer) == ["b", "a"]
        assert not answer["more"]


def test_an_empty_account_has_a_cursor(client: httpx.Client) -> None:
    """A client stores what it is given; the first cursor must serve as the later ones do."""
    cursor = sync(client)["cursor"]
    sync(client, put("a", 1, 0), device="d2")
    assert keys(sync(client, cursor=cursor)) == ["a"]


def test_a_cursor_is_opaque_and_url_safe(client: httpx.Client) -> None:
    """Clients put it into databases and addresses."""
    cursor = sync(client, put("a", 1, 0))["cursor"]
    assert cursor.replace("-", "").replace("_", "").isalnum()


def test_changes_stand_in_the_order_in_which_they_happened(client: httpx.Client) -> None:
    """One order per account: a document that changes again moves to the end."""
    sync(client, put("a", 1, 0), put("b", 1, 0), put("c", 1, 0), put("a", 2, 1))
    changes = pull(client)
    assert [(change["key"], change["version"]) for change in changes] == [
        ("b", 1),
        ("c", 1),
        ("a", 2),
    ]
    assert all(isinstance(change["updated_at"], int) for change in changes)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        " ",
        "0",
        "null",
        "MTIzNDU2Nzg",
        forge_cursor("12345678."),
        forge_cursor("12345678.-1"),
        forge_cursor("12345678.01"),
        forge_cursor("12345678.1\n"),
        forge_cursor("12345678.1 "),
        forge_cursor("12345678.٣"),
        forge_cursor("1234567G.1"),
        forge_cursor("12345678.1234567890123456789"),
        forge_cursor("12345678.1") + "=",
        forge_cursor("12345678.1")[:-1],
        "é" + forge_cursor("12345678.1"),
        forge_cursor("12345678.1") + "\n",
        "A" * 10_000,
        "' or 1=1 --",
        "\x00",
    ],
)
def test_a_malformed_cursor_pushes_nothing(client: httpx.Client, cursor: str) -> None:
    """A client bug is told from a restore, and the request is refused before it writes."""
    refused(post(client, put("notes", 1, 0), cursor=cursor), 400, "malformed-cursor")
    assert documents(client) == {}


def test_a_cursor_of_another_era_pushes_nothing(client: httpx.Client) -> None:
    """After a restore a client resyncs before it pushes, and finds nothing half done."""
    sync(client, put("notes", 1, 0))
    foreign = forge_cursor("00000000.1")
    problem = refused(post(client, put("notes", 2, 1), cursor=foreign), 410, "cursor-expired")
    assert "without a cursor" in problem["detail"]
    refused(post(client, cursor=foreign), 410, "cursor-expired")
    assert documents(client) == {"notes": 1}


def test_a_cursor_beyond_the_head_pushes_nothing(client: httpx.Client) -> None:
    """It comes from a past that this database has lost: its numbers name other changes now.

    The mutations of the request would move the head past it, so the check comes first.
    """
    era, head = open_cursor(sync(client, put("notes", 1, 0))["cursor"])
    beyond = forge_cursor(f"{era}.{head + 1}")
    refused(post(client, cursor=beyond), 410, "cursor-expired")
    edits = [put("notes", 2, 1), put("more", 1, 0), put("third", 1, 0)]
    refused(post(client, *edits, cursor=beyond), 410, "cursor-expired")
    assert documents(client) == {"notes": 1}
    sync(client, *edits, cursor=forge_cursor(f"{era}.{head}"))
    assert documents(client) == {"notes": 2, "more": 1, "third": 1}


def test_a_cursor_beyond_the_head_of_a_new_account(client: httpx.Client) -> None:
    """An account that the restore took away has no head at all."""
    era, _ = open_cursor(sync(client)["cursor"])
    beyond = forge_cursor(f"{era}.999999999999999999")
    refused(post(client, cursor=beyond), 410, "cursor-expired")
    refused(post(client, put("a", 1, 0), cursor=beyond), 410, "cursor-expired")
    refused(post(client, put("bad key", 1, 0), cursor=beyond), 410, "cursor-expired")
    assert documents(client) == {}


def test_a_restart_keeps_cursors_and_a_restore_expires_them(
    start_service: Callable[..., Service],
) -> None:
    """The era is the database's, not the process's."""
    first = start_service()
    with first.client("someone") as client:
        cursor = sync(client, put("a", 1, 0))["cursor"]
    second = start_service(first.database_url)
    with second.client("someone") as client:
        assert sync(client, cursor=cursor)["changes"] == []
    elsewhere = start_service()
    with elsewhere.client("someone") as client:
        refused(post(client, cursor=cursor), 410, "cursor-expired")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 500, 10**9])
def test_pages_hold_every_change_once(client: httpx.Client, limit: int) -> None:
    """Whatever the size of a page, all of them together are the whole."""
    sync(client, *(put(f"k{i}", i, 0) for i in range(7)), delete("k3", 1))
    pages, cursor, more = [], None, True
    while more:
        answer = sync(client, cursor=cursor, limit=limit, device="d2")
        cursor, more = answer["cursor"], answer["more"]
        assert 1 <= len(answer["changes"]) <= limit
        pages += keys(answer)
    assert pages == ["k0", "k1", "k2", "k4", "k5", "k6", "k3"]
    assert sync(client, cursor=cursor, limit=limit)["changes"] == []


def test_changes_that_move_while_paging_are_not_lost(client: httpx.Client) -> None:
    """A document written between two pages moves behind the cursor of neither."""
    sync(client, *(put(f"k{i}", i, 0) for i in range(6)))
    held: dict[str, Any] = {}
    cursor: str | None = None
    for turn in range(20):
        answer = sync(client, cursor=cursor, limit=2, device="d2")
        held |= {change["key"]: change["value"] for change in answer["changes"]}
        cursor = answer["cursor"]
        if not answer["more"]:
            break
        if turn < 4:
            sync(client, put(f"k{turn % 2 * 5}", f"moved {turn}"), put(f"new{turn}", turn, 0))
    assert held == documents(client)


def test_a_push_and_a_page_in_one_answer(client: httpx.Client) -> None:
    """What the results told is left out of the changes, but never moves the cursor too far."""
    sync(client, *(put(f"k{i}", i, 0) for i in range(5)), device="d2")
    answer = sync(client, put("mine", 1, 0), put("k0", "later", 1), limit=2)
    assert (keys(answer), answer["more"]) == (["k1", "k2"], True)
    rest = pull(client, answer["cursor"])
    assert {change["key"] for change in rest} == {"k3", "k4", "mine", "k0"}


def test_answers_are_bounded_and_lose_nothing(start_service: Callable[..., Service]) -> None:
    """The database stops by bytes as it stores them, the service by bytes as it sends them. A
    page that ends between the two limits must not take the cursor past what it left out."""
    service = start_service(max_answer_bytes=1000)
    for text in ("a", "é", "漢", "🐢"):
        for size in (1, 30, 97, 98, 99, 100, 240):
            with service.client() as client:
                _check_pages(client, text, size)


def _check_pages(client: httpx.Client, text: str, size: int) -> None:
    values: dict[str, Any] = {f"k{i:02}": text * size for i in range(14)}
    sync(client, *(put(key, value, 0) for key, value in values.items()))
    sync(client, delete("k05", 1), delete("k13", 1), put("k06", text, 1))
    values |= {"k05": None, "k13": None, "k06": text}
    held: dict[str, Any] = {}
    cursor, more = None, True
    while more:
        answer = sync(client, cursor=cursor, device=None)
        cursor, more = answer["cursor"], answer["more"]
        changes = answer["changes"]
        held |= {change["key"]: change["value"] for change in changes}
        sent = sum(len(change["value"].encode()) + 2 for change in changes if change["value"])
        assert sent <= 1000 or len(changes) == 1
    assert held == values


@pytest.mark.parametrize("noise", [0, 1])
def test_one_document_fits_whatever_its_size(
    start_service: Callable[..., Service], noise: int
) -> None:
    """A document larger than an answer must not stop a client for ever, compressed or not."""
    service = start_service(max_answer_bytes=10)
    with service.client() as client:
        big = "".join(chr(0x4E00 + i * i * i % 20_000) if noise else "x" for i in range(9_000))
        sync(client, put("a", big, 0), put("gone", 1, 0), put("b", big, 0))
        sync(client, delete("gone", 1), patch("s", set={"x": big}))
        changes = pull(client)
        assert [change["key"] for change in changes] == ["a", "b", "gone", "s"]
        assert changes[0]["value"] == big


def test_the_server_bounds_the_limit(start_service: Callable[..., Service]) -> None:
    """A client that asks for a billion changes gets a page."""
    service = start_service(max_changes=3)
    with service.client() as client:
        sync(client, *(put(f"k{i}", i, 0) for i in range(5)))
        answer = sync(client, limit=10**9, device="d2")
        assert (len(answer["changes"]), answer["more"]) == (3, True)
