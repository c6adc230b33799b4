"""Each limit has a setting, and past it a clear error that changes nothing."""

from typing import Any
from uuid import uuid4

import pytest

from tests.documents.api import operate, patch, path, put, refused, value, version, wrote
from tests.documents.contract import StartService


def test_document_bytes(start_service: StartService) -> None:
    """The limit is of the canonical bytes: one more is refused, however it comes about."""
    with start_service(max_document_bytes=64).client() as client:
        fits = "x" * 62
        wrote(put(client, "k", fits), "applied", 1, fits, 201)
        problem = refused(put(client, "k", fits + "x"), 413, "document-too-large")
        assert problem["limit"] == 64
        refused(put(client, "u", "é" * 32), 413, "document-too-large")
        refused(operate(client, "k", ("set", "", fits + "y")), 413, "document-too-large")
        assert (version(client, "k"), value(client, "k")) == (1, fits)
        assert version(client, "u") == 0
        # White space is not part of the document.
        spaced = '{{"value": ["{}",{} 1]}}'.format("x" * 40, " " * 200)
        assert client.put(path("s"), content=spaced).status_code == 201


def test_document_bytes_exceeded_by_a_merge(start_service: StartService) -> None:
    """Two writes that each fit can join to one that does not: the later is refused, whole."""
    with start_service(max_document_bytes=400).client() as client:
        put(client, "settings", {}, base=0, device="a")
        put(client, "settings", {"a": "x" * 250}, base=1, device="a")
        late = put(client, "settings", {"b": "y" * 250}, base=1, device="b")
        assert refused(late, 413, "document-too-large")["limit"] == 400
        refused(patch(client, "settings", set={"b": "y" * 250}), 413, "document-too-large")
        assert (version(client, "settings"), value(client, "settings")) == (2, {"a": "x" * 250})
        answer = put(client, "settings", {"b": "y" * 9}, base=1, device="b")
        wrote(answer, "merged", 3, {"a": "x" * 250, "b": "y" * 9})


def test_what_is_known_about_a_document_is_bounded_too(start_service: StartService) -> None:
    """A counter keeps an entry a device: endless new device names must not fill the database."""
    with start_service(max_document_bytes=300).client() as client:
        answers = [
            patch(client, "user_stats", delta={"xp": 1}, device=f"{n}-{'d' * 40}")
            for n in range(12)
        ]
        good = [answer for answer in answers if answer.is_success]
        assert 0 < len(good) < 12
        for answer in answers[len(good) :]:
            refused(answer, 413, "document-too-large")
        assert value(client, "user_stats") == {"xp": len(good)}


def test_restore_past_a_limit_that_was_lowered(start_service: StartService) -> None:
    """A revision from before the limit is too large now; it stays readable and is not restored."""
    before = start_service()
    account = f"lowered-{uuid4()}"
    with before.client(account) as client:
        put(client, "k", "x" * 100)
        put(client, "k", "small")
    with start_service(before.database_url, max_document_bytes=64).client(account) as client:
        answer = client.post(path("k") + "/revisions/1/restore")
        refused(answer, 413, "document-too-large")
        assert client.get(path("k") + "/revisions/1").json()["value"] == "x" * 100
        assert value(client, "k") == "small"


def test_document_keys(start_service: StartService) -> None:
    """Keys on all levels count, in what is sent and in what a merge or operation makes of it."""
    with start_service(max_document_keys=4).client() as client:
        four = {"a": {"b": 1}, "c": [{"d": 1}]}
        wrote(put(client, "k", four), "applied", 1, four, 201)
        refused(put(client, "k", {**four, "e": 1}), 422, "invalid-value")
        refused(put(client, "k", 1, base_value={**four, "e": 1}), 422, "invalid-value")
        refused(patch(client, "k", set={"e": 1}), 422, "invalid-value")
        put(client, "settings", {"a": 1, "b": 1, "c": 1}, base=0, device="a")
        merging = put(client, "settings", {"d": 1, "e": 1}, base=0, device="b")
        refused(merging, 422, "invalid-value")
        assert (version(client, "k"), version(client, "settings")) == (1, 1)


def test_documents(start_service: StartService) -> None:
    """The limit is of new documents only: those that are there can be written and deleted."""
    service = start_service(max_documents=2)
    with service.client() as client, service.client() as other:
        put(client, "a", 1)
        put(client, "b", 1)
        assert refused(put(client, "c", 1), 422, "too-many-documents")["limit"] == 2
        refused(patch(client, "c", set={"x": 1}), 422, "too-many-documents")
        wrote(put(client, "a", 2, base=1), "applied", 2, 2)
        wrote(client.delete(path("b")), "applied", 2, None)
        wrote(put(client, "b", 3, base=2), "applied", 3, 3, 201)
        wrote(put(other, "c", 1), "applied", 1, 1, 201)
        assert version(client, "c") == 0


def test_what_makes_no_document_is_not_one_too_many(start_service: StartService) -> None:
    """At the limit, deleting or restoring a missing document said that there were too many."""
    with start_service(max_documents=1).client() as client:
        put(client, "a", 1)
        refused(client.delete(path("c")), 404, "document-not-found")
        refused(client.post(path("c") + "/revisions/1/restore"), 404, "document-not-found")


def test_documents_in_one_batch(start_service: StartService) -> None:
    """Mutations of one transaction count each other's new documents."""
    with start_service(max_documents=2).client() as client:
        mutations: list[dict[str, Any]] = [
            {"id": str(uuid4()), "op": "put", "key": key, "base": 0, "value": 1} for key in "abcd"
        ]
        results = client.post("/v1/sync", json={"mutations": mutations}).json()["results"]
        outcomes = [result["outcome"] for result in results]
        assert outcomes == ["applied", "applied", "rejected", "rejected"]


def test_operations(start_service: StartService) -> None:
    """Short forms and operations count together."""
    with start_service(max_operations=3).client() as client:
        three = {"delta": {"a": 1}, "set": {"b": 1}}
        one = {"op": "set", "path": "/c", "value": 1}
        answer = patch(client, "k", **three, operations=[one])
        wrote(answer, "applied", 1, {"a": 1, "b": 1, "c": 1}, 201)
        refused(patch(client, "k", **three, operations=[one, one]), 400, "invalid-request")
        refused(patch(client, "k", set=dict.fromkeys("abcd", 1)), 400, "invalid-request")
        assert version(client, "k") == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_body_bytes(start_service: StartService, chunked: bool) -> None:
    """A body is refused by its stated length, or as soon as it has grown past the limit."""
    with start_service(max_body_bytes=200).client() as client:

        def send(method: str, address: str, text: str) -> Any:
            pieces = (text[at : at + 50].encode() for at in range(0, len(text), 50))
            return client.request(method, address, content=pieces if chunked else text.encode())

        fits = '{"value": 1}'.ljust(200)
        assert send("PUT", path("k"), fits).status_code == 201
        for method, address in (
            ("PUT", path("k")),
            ("PATCH", path("k")),
            ("POST", path("k") + "/revisions/1/restore"),
            ("POST", "/v1/sync"),
        ):
            for size in (201, 100_000):
                refused(send(method, address, fits.ljust(size)), 413, "body-too-large")
        assert version(client, "k") == 1


def test_the_queue(start_service: StartService) -> None:
    """More waiting writes than the queue takes are told to come back; nothing of them is done."""
    with start_service(queue_limit=1).client() as client:
        mutations = [
            {"id": str(uuid4()), "op": "put", "key": key, "base": 0, "value": 1} for key in "ab"
        ]
        answer = client.post("/v1/sync", json={"mutations": mutations})
        refused(answer, 503, "overloaded")
        assert int(answer.headers["retry-after"]) > 0
        assert put(client, "k", 1).status_code == 201
        assert version(client, "a") == 0
