"""DELETE: a tombstone, which beats every edit that had not seen it."""

from typing import Any
from uuid import uuid4

from tests.documents.api import path, put, refused, value, version, wrote
from tests.documents.contract import CheckedService


def test_a_tombstone_is_left(client: Any) -> None:
    """The deletion is a version of its own, so that other devices learn of it."""
    put(client, "k", 1, base=0)
    wrote(client.delete(path("k")), "applied", 2, None)
    problem = refused(client.get(path("k")), 410, "document-deleted")
    assert problem["version"] == 2
    assert client.get("/v1/documents").json() == {"documents": []}


def test_what_had_not_seen_the_delete_is_superseded(client: Any) -> None:
    """A device that was offline while a document was deleted does not bring it back."""
    put(client, "game_stats", {"score": 9}, base=0)
    client.delete(path("game_stats"), params={"base": 1})
    for base in (0, 1):
        body = wrote(put(client, "game_stats", {"score": 10}, base=base), "superseded", 2, None)
        assert body["deleted"] is True
    asked = client.put(
        path("game_stats"), params={"receipt": "true"}, json={"value": {"score": 1}, "base": 1}
    )
    assert asked.json()["receipt"] == []


def test_a_superseded_write_stays_so_on_retry(client: Any) -> None:
    """It was acknowledged, so its retry is a duplicate even after the document came back."""
    put(client, "k", 1, base=0)
    client.delete(path("k"))
    late = {"base": 1, "id": str(uuid4())}
    wrote(put(client, "k", 5, **late), "superseded", 2, None)
    put(client, "k", 2, base=2)
    wrote(put(client, "k", 5, **late), "duplicate", 3, 2)


def test_a_write_that_saw_the_delete_starts_afresh(client: Any) -> None:
    """Nothing of the earlier life comes back, of rules that only grow neither."""
    put(client, "game_stats", {"score": 90, "games_played": 9}, base=0, device="a")
    client.delete(path("game_stats"))
    fresh = {"score": 1, "games_played": 1}
    wrote(put(client, "game_stats", fresh, base=2, device="a"), "applied", 3, fresh, 201)
    stale = put(client, "game_stats", {"score": 99, "games_played": 10}, base=1, device="a")
    wrote(stale, "superseded", 3, fresh)
    later = {"score": 2, "games_played": 2}
    wrote(put(client, "game_stats", later, base=3, device="b"), "applied", 4, later)


def test_a_write_without_a_base_starts_a_deleted_document_afresh(client: Any) -> None:
    """An app that keeps no versions can still use a key that was once deleted."""
    for key, plain in (("k", 1), ("game_stats", {"games_played": 1})):
        put(client, key, plain, base=0, device="a")
        client.delete(path(key))
        wrote(put(client, key, plain, device="a"), "applied", 3, plain, 201)


def test_edits_of_the_new_epoch_merge(client: Any) -> None:
    """After a fresh start, devices that saw it merge as ever."""
    put(client, "game_stats", {"games_played": 9}, base=0, device="a")
    client.delete(path("game_stats"))
    put(client, "game_stats", {"games_played": 1}, base=2, device="a")
    put(client, "game_stats", {"games_played": 2}, base=3, device="a")
    answer = put(client, "game_stats", {"games_played": 2}, base=3, device="b")
    wrote(answer, "merged", 5, {"games_played": 3})
    both_afresh = put(client, "game_stats", {"games_played": 4}, base=2, device="c")
    wrote(both_afresh, "merged", 6, {"games_played": 7})


def test_a_delete_on_an_older_base_deletes(client: Any) -> None:
    """A delete beats every edit that had not seen it, and these had not."""
    put(client, "k", 1, base=0)
    put(client, "k", 2, base=1)
    wrote(client.delete(path("k"), params={"base": 1}), "merged", 3, None)


def test_a_stale_delete_spares_what_was_written_since(client: Any) -> None:
    """A delete of an earlier life must not reach the document that came after it."""
    put(client, "k", 1, base=0)
    client.delete(path("k"))
    put(client, "k", 2, base=2)
    for base in (0, 1):
        wrote(client.delete(path("k"), params={"base": base}), "unchanged", 3, 2)
    wrote(client.delete(path("k"), params={"base": 2}), "merged", 4, None)


def test_deleting_what_never_was(client: Any) -> None:
    """There is nothing to leave a tombstone for."""
    refused(client.delete(path("k")), 404, "document-not-found")
    assert version(client, "k") == 0


def test_deleting_twice(client: Any) -> None:
    """Two devices may both delete; the second learns that it was done."""
    put(client, "k", 1, base=0)
    one = {"id": str(uuid4()), "device": "a", "base": 1}
    wrote(client.delete(path("k"), params=one), "applied", 2, None)
    wrote(client.delete(path("k"), params=one), "duplicate", 2, None)
    wrote(client.delete(path("k"), params={"base": 2}), "unchanged", 2, None)
    wrote(client.delete(path("k")), "unchanged", 2, None)


def test_a_retried_delete_spares_what_was_written_since(client: Any) -> None:
    """With an id, a late retry of a delete does not delete again."""
    put(client, "k", 1, base=0)
    one = {"id": str(uuid4())}
    client.delete(path("k"), params=one)
    put(client, "k", 2, base=2)
    wrote(client.delete(path("k"), params=one), "duplicate", 3, 2)


def test_delete_under_if_match(client: Any) -> None:
    """Strict locking holds for deletes as well."""
    put(client, "k", 1, base=0)
    put(client, "k", 2, base=1)
    problem = refused(
        client.delete(path("k"), headers={"If-Match": '"1"'}), 412, "precondition-failed"
    )
    assert problem["document"]["value"] == 2
    wrote(client.delete(path("k"), headers={"If-Match": '"2"'}), "applied", 3, None)
    problem = refused(
        client.delete(path("k"), headers={"If-Match": "*"}), 412, "precondition-failed"
    )
    assert problem["document"]["deleted"] is True


def test_two_epochs(client: Any) -> None:
    """Each deletion begins an epoch; only what saw the last one counts."""
    for life in range(3):
        wrote(put(client, "k", life, base=2 * life), "applied", 2 * life + 1, life, 201)
        wrote(client.delete(path("k")), "applied", 2 * life + 2, None)
    for base in range(6):
        wrote(put(client, "k", "late", base=base), "superseded", 6, None)


def test_another_account_keeps_its_document(service: CheckedService) -> None:
    """Keys are the account's own: deleting mine leaves yours."""
    with service.client() as mine, service.client() as yours:
        put(mine, "k", "mine")
        put(yours, "k", "yours")
        mine.delete(path("k"))
        assert value(yours, "k") == "yours"
