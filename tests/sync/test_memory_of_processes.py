"""What a process keeps in memory is never taken for the truth when another has written since."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.conftest import Service
from tests.documents.api import patch, put, refused, value, wrote
from tests.sync.database import fetch


@pytest.fixture
def two(start_service: Callable[..., Service]) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Clients of one account at two services on one database."""
    first = start_service(max_documents=3)
    second = start_service(first.database_url, max_documents=3)
    with first.client("someone") as one, second.client("someone") as other:
        yield one, other


def test_a_write_meets_what_another_process_wrote(two: tuple[httpx.Client, httpx.Client]) -> None:
    one, other = two
    for turn in range(0, 8, 2):
        wrote(
            put(one, "user_stats", {"xp": turn + 1}, base=turn, device="d1"),
            *("applied", turn + 1, {"xp": turn + 1}),
            status=200 if turn else 201,
        )
        answer = put(other, "user_stats", {"xp": turn + 2}, base=turn + 1, device="d2")
        wrote(answer, "applied", turn + 2, {"xp": turn + 2})
    stale = put(one, "user_stats", {"xp": 8}, base=7, device="d1")
    wrote(stale, "merged", 9, {"xp": 9})


def test_a_refusal_is_not_given_from_memory(two: tuple[httpx.Client, httpx.Client]) -> None:
    """What writes nothing is checked against the head just as well."""
    one, other = two
    put(one, "note", 1)
    put(other, "note", 2, base=1)
    answer = one.put("/v1/documents/note", json={"value": 3}, headers={"If-Match": '"1"'})
    assert refused(answer, 412, "precondition-failed")["document"]["value"] == 2
    answer = one.put("/v1/documents/note", json={"value": 3}, headers={"If-Match": '"2"'})
    wrote(answer, "applied", 3, 3)


def test_a_repeated_mutation_counts_once_at_either(two: tuple[httpx.Client, httpx.Client]) -> None:
    one, other = two
    patch(one, "user_stats", delta={"xp": 1}, device="d1")
    same = "3f1c2c1e-0000-4000-8000-00000000000a"
    for client in (other, one, other, one):
        patch(client, "user_stats", delta={"xp": 5}, device="d1", id=same)
    assert value(one, "user_stats") == {"xp": 6}


def test_deletes_and_new_documents_are_seen(two: tuple[httpx.Client, httpx.Client]) -> None:
    one, other = two
    put(one, "a", 1)
    other.delete("/v1/documents/a", params={"base": 1})
    wrote(put(one, "a", 2, base=1), "superseded", 2, None)
    put(other, "b", 1)
    put(other, "c", 1)
    refused(put(one, "d", 1), 422, "too-many-documents")


def test_every_change_gives_the_head_another_tag(start_service: Callable[..., Service]) -> None:
    """Also one that makes no version: two devices that write the same, a repeated id."""
    service = start_service()
    with service.client("someone") as client:
        tags = []
        for device in ("d1", "d2", "d1"):
            put(client, "settings", {"theme": "dark"}, base=0, device=device)
            (row,) = fetch(service.database_url, "select seq, tag from heads")
            tags.append(row["tag"])
        assert row["seq"] == 1
        assert 0 not in tags
        assert len(set(tags[:2])) == 2
