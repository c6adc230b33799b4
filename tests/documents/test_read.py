"""GET, HEAD, the list, and the kept revisions."""

from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from tests.documents.api import patch, path, put, refused, value, version, wrote
from tests.documents.contract import CheckedService, StartService


def test_a_document_is_read_as_it_was_written(client: httpx.Client) -> None:
    """The shape of a read, and the version in both of its places."""
    written = put(client, "k", {"b": 1, "a": [True, None]}, base=0).json()
    answer = client.get(path("k"))
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "key": "k",
        "version": 1,
        "value": {"a": [True, None], "b": 1},
        "deleted": False,
        "updated_at": written["updated_at"],
    }


def test_bytes_are_canonical(client: httpx.Client) -> None:
    """Devices hold the same bytes only if there is one way to write a value."""
    client.put(path("k"), content=b'{"value": { "b": 1.50,\n "a" : "\\u00e9\\/", "z": -0.0 }}')
    assert '"value":{"a":"é/","b":1.5,"z":0.0},' in client.get(path("k")).text


def test_head_says_what_get_would(client: httpx.Client) -> None:
    """HEAD is how a client asks for a version without the document."""
    put(client, "k", {"a": 1})
    got, head = client.get(path("k")), client.head(path("k"))
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-type", "content-length"):
        assert head.headers[name] == got.headers[name]
    missing = client.head(path("missing"))
    assert (missing.status_code, missing.content) == (404, b"")
    client.delete(path("k"))
    assert client.head(path("k")).status_code == 410


@pytest.mark.parametrize("tags", ['"2"', 'W/"2"', "*", '"1", "2"', '"x",W/"2" , "9"'])
def test_not_modified(client: httpx.Client, tags: str) -> None:
    """A client that holds the version is sent nothing (weak comparison, RFC 9110 13.1.2)."""
    put(client, "k", 1)
    put(client, "k", 2)
    for method in ("GET", "HEAD"):
        answer = client.request(method, path("k"), headers={"If-None-Match": tags})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == '"2"'


@pytest.mark.parametrize("tags", ['"1"', '"02"', "2", "", '"22"', "nonsense"])
def test_modified(client: httpx.Client, tags: str) -> None:
    """Whatever is not the version is answered whole; a condition on a read does no harm."""
    put(client, "k", 1)
    put(client, "k", 2)
    answer = client.get(path("k"), headers={"If-None-Match": tags})
    assert (answer.status_code, answer.json()["value"]) == (200, 2)


def test_missing_and_deleted_are_told_apart(client: httpx.Client) -> None:
    """A device must know whether to forget a document or to make it."""
    refused(client.get(path("k")), 404, "document-not-found")
    put(client, "k", 1)
    client.delete(path("k"))
    problem = refused(client.get(path("k")), 410, "document-deleted")
    wrote(put(client, "k", 2, base=problem["version"]), "applied", 3, 2, 201)
    assert value(client, "k") == 2


def test_the_list(client: httpx.Client) -> None:
    """What an account holds and how large it is, in one order, without what was deleted."""
    assert client.get("/v1/documents").json() == {"documents": []}
    values = {"b": {"x": "é"}, "a": [], "lesson:1": {"n": 1}, "B": 1, "gone": 1}
    answers = {key: put(client, key, plain).json() for key, plain in values.items()}
    put(client, "a", [1, 2])
    client.delete(path("gone"))
    listed = client.get("/v1/documents").json()["documents"]
    assert [one["key"] for one in listed] == ["B", "a", "b", "lesson:1"]
    assert [one["bytes"] for one in listed] == [1, 5, len('{"x":"é"}'.encode()), 7]
    assert [one["version"] for one in listed] == [1, 2, 1, 1]
    assert listed[2]["updated_at"] == answers["b"]["updated_at"]


def test_another_account_sees_nothing(service: CheckedService) -> None:
    """The account is in the token and nowhere else: the same address is another document."""
    with service.client() as mine, service.client() as other:
        put(mine, "k", "secret")
        put(mine, "k", "secret 2")
        refused(other.get(path("k")), 404, "document-not-found")
        refused(other.get(path("k") + "/revisions"), 404, "document-not-found")
        refused(other.get(path("k") + "/revisions/1"), 404, "revision-not-found")
        refused(other.post(path("k") + "/revisions/1/restore"), 404, "document-not-found")
        refused(other.delete(path("k")), 404, "document-not-found")
        assert other.get("/v1/documents").json() == {"documents": []}
        wrote(put(other, "k", "other", base=1), "applied", 1, "other", 201)
        assert value(mine, "k") == "secret 2"


# --- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a", "a" * 128, "lesson:1:2", "A.b_c~d-e:f", "...", "-", "~"])
def test_keys_that_are_allowed(client: httpx.Client, key: str) -> None:
    """The whole alphabet of keys and their whole length work, percent-encoded as well."""
    wrote(put(client, key, {}), "applied", 1, {}, 201)
    encoded = "".join(f"%{ord(character):02X}" for character in key)
    answer = client.get(path(encoded))
    assert answer.json()["key"] == key
    refused(client.get(path(encoded) + "/revisions/9"), 404, "revision-not-found")


@pytest.mark.parametrize(
    "key",
    ["a" * 129, "a b", "a%2Bb", "é", "%00", "a%0A", "%FF", "%F0%9F%98%80", "a*", "a,b", "'--",
     "%7B%7D", "a%5Cb", "%E2%80%AE", "@", "$ref"],
)  # fmt: skip
def test_keys_that_are_not(client: httpx.Client, key: str) -> None:
    """One sentence says what a key may be, whichever way the key is reached."""
    address = path(key if "%" in key else quote(key))
    for method, rest, body in (
        ("GET", "", None),
        ("PUT", "", {"value": 1}),
        ("PATCH", "", {"id": str(uuid4()), "set": {"a": 1}}),
        ("DELETE", "", None),
        ("GET", "/revisions", None),
        ("GET", "/revisions/1", None),
        ("POST", "/revisions/1/restore", None),
    ):
        refused(client.request(method, address + rest, json=body), 400, "invalid-key")
    assert client.head(address).status_code == 400
    assert client.get("/v1/documents").json() == {"documents": []}


@pytest.mark.parametrize("key", ["a%2Fb", "a/b", "a/b/c"])
def test_a_slash_is_not_part_of_a_key(client: httpx.Client, key: str) -> None:
    """A slash, encoded or not, leads to another address, where there is nothing."""
    refused(client.put(path(key), json={"value": 1}), 404, "not-found")


# --- revisions -----------------------------------------------------------------------------------


def test_the_list_of_revisions(client: httpx.Client) -> None:
    """Who made each version, by which mutation and on which base; newest first."""
    ids = [str(uuid4()) for _ in range(2)]
    put(client, "k", {"n": 1}, base=0, device="a", id=ids[0])
    put(client, "k", {"n": 22}, base=1, device="a")
    put(client, "k", {"n": 3}, base=1, device="b", id=ids[1])
    client.delete(path("k"), params={"base": 3, "device": "a"})
    answer = client.get(path("k") + "/revisions").json()
    assert answer["key"] == "k"
    assert all(entry.pop("updated_at") > 0 for entry in answer["revisions"])
    expected = [
        (4, True, 0, "applied", 3, "a", None),
        (3, False, 7, "merged", 1, "b", ids[1]),
        (2, False, 8, "applied", 1, "a", None),
        (1, False, 7, "applied", 0, "a", ids[0]),
    ]
    names = ("version", "deleted", "bytes", "outcome", "base", "device", "id")
    assert answer["revisions"] == [dict(zip(names, one, strict=True)) for one in expected]
    refused(client.get(path("missing") + "/revisions"), 404, "document-not-found")


def test_one_revision(client: httpx.Client) -> None:
    """A person can see what a document was at each version, its deletion included."""
    put(client, "k", {"n": 1}, base=0, device="a")
    put(client, "k", {"n": 2}, base=1, device="a")
    client.delete(path("k"))
    for number, plain in ((1, {"n": 1}), (2, {"n": 2}), (3, None)):
        revision = client.get(path("k") + f"/revisions/{number}").json()
        assert (revision["version"], revision["value"]) == (number, plain)
        assert revision["deleted"] is (plain is None)
        assert "receipt" not in revision
    for number in (4, 2**53 - 1):
        refused(client.get(path("k") + f"/revisions/{number}"), 404, "revision-not-found")


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", "2%5E53", str(2**53), "9" * 5000])
def test_what_is_not_a_version(client: httpx.Client, number: str) -> None:
    """A version is a whole number from 1; anything else is the caller's mistake."""
    put(client, "k", 1)
    refused(client.get(path("k") + f"/revisions/{number}"), 400, "invalid-request")
    refused(client.post(path("k") + f"/revisions/{number}/restore"), 400, "invalid-request")
    assert version(client, "k") == 1


def test_the_horizon_of_revisions(start_service: StartService) -> None:
    """The history is a ring of its promised length: nothing beyond it, nothing missing in it."""
    with start_service(history=4).client() as client:
        for number in range(1, 11):
            put(client, "k", number)
        listed = client.get(path("k") + "/revisions").json()["revisions"]
        assert [one["version"] for one in listed] == [10, 9, 8, 7]
        assert client.get(path("k") + "/revisions/7").json()["value"] == 7
        for gone in (1, 6):
            refused(client.get(path("k") + f"/revisions/{gone}"), 404, "revision-not-found")
            answer = client.post(path("k") + f"/revisions/{gone}/restore")
            refused(answer, 404, "revision-not-found")
        assert version(client, "k") == 10
        wrote(client.post(path("k") + "/revisions/7/restore"), "applied", 11, 7)


def test_a_shorter_history_after_a_restart(start_service: StartService) -> None:
    """An operator may shorten or lengthen the ring; what lies in other slots is not mixed up."""
    long = start_service(history=8)
    account = f"ring-{uuid4()}"
    with long.client(account) as client:
        for number in range(1, 9):
            put(client, "k", number)
    for history in (3, 8):
        other = start_service(long.database_url, history=history)
        with other.client(account) as client:
            put(client, "k", f"{history}")
            newest = version(client, "k")
            listed = client.get(path("k") + "/revisions").json()["revisions"]
            found = [one["version"] for one in listed]
            assert set(found) >= {newest}
            assert all(newest - history < number <= newest for number in found)
            for number in found:
                kept = client.get(path("k") + f"/revisions/{number}")
                assert kept.json()["version"] == number


def test_a_revision_without_its_base_has_no_receipt(start_service: StartService) -> None:
    """A receipt that had to guess would be worse than none."""
    with start_service(history=2).client() as client:
        for number in range(1, 4):
            put(client, "k", number, base=number - 1)
        asked = {"receipt": "true"}
        assert client.get(path("k") + "/revisions/2", params=asked).json()["receipt"] is None
        newest = client.get(path("k") + "/revisions/3", params=asked).json()["receipt"]
        assert [entry["decided"] for entry in newest] == ["yours"]


# --- restore -------------------------------------------------------------------------------------


def test_restore(client: httpx.Client) -> None:
    """An earlier version comes back as a new one, even under rules that only ever grow."""
    put(client, "game_stats", {"score": 5, "games_played": 1}, base=0, device="a")
    put(client, "game_stats", {"score": 9, "games_played": 4}, base=1, device="a")
    early = {"score": 5, "games_played": 1}
    wrote(client.post(path("game_stats") + "/revisions/1/restore"), "applied", 3, early)
    assert value(client, "game_stats") == early
    stale = put(client, "game_stats", {"score": 99, "games_played": 5}, base=2, device="a")
    wrote(stale, "superseded", 3, early)
    late = {"score": 6, "games_played": 2}
    wrote(put(client, "game_stats", late, base=3, device="a"), "applied", 4, late)
    other = put(client, "game_stats", {"score": 5, "games_played": 3}, base=3, device="b")
    wrote(other, "merged", 5, {"score": 6, "games_played": 4})


def test_restore_of_the_present_version(client: httpx.Client) -> None:
    """It is there already: no new version, and no epoch that would supersede anybody."""
    put(client, "k", 1, base=0)
    wrote(client.post(path("k") + "/revisions/1/restore"), "unchanged", 1, 1)
    wrote(put(client, "k", 2, base=0), "merged", 2, 2)


def test_restore_after_a_delete(client: httpx.Client) -> None:
    """A deletion can be undone, and says 201 since a document is there again."""
    put(client, "k", 1, base=0)
    client.delete(path("k"))
    refused(client.post(path("k") + "/revisions/9/restore"), 404, "revision-not-found")
    wrote(client.post(path("k") + "/revisions/1/restore"), "applied", 3, 1, 201)
    refused(client.post(path("k") + "/revisions/2/restore"), 409, "revision-deleted")
    assert version(client, "k") == 3


def test_restore_of_a_missing_document(client: httpx.Client) -> None:
    """There is nothing to take back."""
    refused(client.post(path("k") + "/revisions/1/restore"), 404, "document-not-found")


def test_restore_counts_once(client: httpx.Client) -> None:
    """A retried restore must not undo what was written since."""
    put(client, "k", 1, base=0)
    put(client, "k", 2, base=1)
    body = {"id": str(uuid4()), "device": "a"}
    address = path("k") + "/revisions/1/restore"
    wrote(client.post(address, json=body), "applied", 3, 1)
    put(client, "k", 4, base=3)
    wrote(client.post(address, json=body), "duplicate", 4, 4)
    other = client.post(path("k") + "/revisions/2/restore", json=body)
    refused(other, 422, "id-reused")
    newest = client.get(path("k") + "/revisions").json()["revisions"][1]
    assert (newest["id"], newest["device"]) == (body["id"], "a")


def test_receipts_of_kept_revisions(client: httpx.Client) -> None:
    """Every kept version can be explained: first writes, deletions, restores and operations too."""
    put(client, "game_stats", {"score": 1, "name": "x"}, base=0, device="a")
    patch(client, "game_stats", set={"name": "y"})
    client.delete(path("game_stats"))
    client.post(path("game_stats") + "/revisions/1/restore")
    paths = []
    for number in range(1, 5):
        address = path("game_stats") + f"/revisions/{number}"
        receipt: Any = client.get(address, params={"receipt": "true"}).json()["receipt"]
        paths.append([(entry["path"], entry["decided"]) for entry in receipt])
    assert paths == [
        [("/name", "yours"), ("/score", "yours")],
        [("/name", "yours")],
        [("/name", "yours"), ("/score", "yours")],
        [("/name", "yours"), ("/score", "yours")],
    ]
