"""Pushing over real HTTP: results, outcomes, rejections."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.conftest import Service
from tests.sync.wire import (
    Json,
    delete,
    documents,
    keys,
    open_cursor,
    outcomes,
    patch,
    post,
    pull,
    put,
    refused,
    sync,
)


def test_results_stand_in_the_order_of_the_mutations(client: httpx.Client) -> None:
    """A client matches results to its outbox by position and id, whatever became of each."""
    mutations = [
        put("b", 1, 0),
        put("bad key", 1, 0),
        patch("user_stats", delta={"xp": 2}),
        put("a", [1], 0),
        delete("b", 1),
        delete("never-there"),
    ]
    results = sync(client, *mutations)["results"]
    assert [result["id"] for result in results] == [one["id"] for one in mutations]
    assert [result["key"] for result in results] == [one["key"] for one in mutations]
    assert [result["outcome"] for result in results] == [
        "applied",
        "rejected",
        "applied",
        "applied",
        "applied",
        "rejected",
    ]


def test_each_outcome(client: httpx.Client) -> None:
    """The five outcomes of the contract come through sync as through a single write."""
    first = put("settings", {"theme": "dark", "sound": True}, 0)
    assert outcomes(sync(client, first)) == ["applied"]
    assert outcomes(sync(client, first)) == ["duplicate"]
    sync(client, put("settings", {"theme": "dark", "sound": False}, 1))
    late = put("settings", {"theme": "light", "sound": True}, 1)
    (merged,) = sync(client, late, device="d2")["results"]
    assert (merged["outcome"], merged["version"]) == ("merged", 3)
    assert merged["value"] == {"sound": False, "theme": "light"}
    same = put("settings", {"theme": "light", "sound": False}, 3)
    (unchanged,) = sync(client, same)["results"]
    assert (unchanged["outcome"], unchanged["version"]) == ("unchanged", 3)
    sync(client, delete("settings", 3))
    (superseded,) = sync(client, put("settings", {"theme": "blue"}, 3), device="d2")["results"]
    assert superseded["outcome"] == "superseded"
    assert (superseded["version"], superseded["value"], superseded["deleted"]) == (4, None, True)


def test_a_rejected_mutation_blocks_nothing_behind_it(client: httpx.Client) -> None:
    """One bad edit must not hold a whole outbox up, and must say fully what is wrong with it."""
    sync(client, put("user_stats", {"xp": 1}, 0))
    wrong_type = put("user_stats", {"xp": "many"}, 1)
    unknown_base = put("user_stats", {"xp": 9})
    good = put("notes", "kept", 0)
    answer = sync(client, wrong_type, unknown_base, good)
    typed, baseless, last = answer["results"]
    assert (typed["outcome"], baseless["outcome"], last["outcome"]) == (
        "rejected",
        "rejected",
        "applied",
    )
    problem = typed["problem"]
    assert set(problem) >= {"type", "title", "status", "detail", "code", "path"}
    assert (problem["status"], problem["code"], problem["path"]) == (422, "wrong-type", "/xp")
    assert typed["version"] == 1
    assert "value" not in typed
    problem = baseless["problem"]
    assert (problem["status"], problem["code"]) == (409, "base-unknown")
    assert problem["document"]["value"] == {"xp": 1}
    assert problem["document"]["version"] == 1
    assert documents(client) == {"user_stats": {"xp": 1}, "notes": "kept"}
    # A rejection is not remembered: the same id is good once the mutation is.
    mended = {**unknown_base, "base_value": {"xp": 1}}
    assert outcomes(sync(client, mended)) == ["merged"]


@pytest.mark.parametrize(
    ("mutation", "code"),
    [
        (put("k" * 129, 1), "invalid-key"),
        (put("", 1), "invalid-key"),
        (put("k\n", 1), "invalid-key"),
        ({"op": "put", "key": "k", "base": 0}, "invalid-request"),
        (put("k", 2**53), "invalid-value"),
        (put("k", "\x00"), "invalid-value"),
        (put("k", 1, 0, delta={"xp": 1}), "invalid-request"),
        (put("k", 1, 0, set={"xp": 1}), "invalid-request"),
        (put("k", 1, 0, operations=[]), "invalid-request"),
        (patch("k", value=1), "invalid-request"),
        (patch("k", base_value=1), "invalid-request"),
        (delete("k", value=None), "invalid-request"),
        (delete("k", set={}), "invalid-request"),
        (patch("user_stats", operations=[{"op": "increment", "path": "/xp"}]), "invalid-operation"),
        (patch("user_stats", delta={"xp": 1.5}), "wrong-type"),
        (put("k", 1, -1), "invalid-request"),
        (put("k", 1, 0, edited_at=1764000000000.5), "invalid-request"),
        (put("k", 1, 0, colour=1), "invalid-request"),
        ({"op": "merge", "key": "k", "value": 1}, "invalid-request"),
        ({"op": "put", "key": 7, "value": 1}, "invalid-request"),
        ({"op": "put", "value": 1}, "invalid-request"),
        (patch("k", operations=[{"op": "explode", "path": "/a"}]), "invalid-request"),
        (patch("k", operations=[{"op": "unset", "path": "/a", "from": "/b"}]), "invalid-request"),
        (patch("k", set=[]), "invalid-request"),
        (put("k", "x" * 300_000), "document-too-large"),
        (put("k", "x" * 4_000_000), "document-too-large"),
    ],
)
def test_what_cannot_be_read_is_rejected_by_itself(
    client: httpx.Client, mutation: Json, code: str
) -> None:
    """A field that its op would not look at is a mistake to report, and a bad value or key
    stands alone like every rejection."""
    mutation = {**mutation, "id": str(uuid4())}
    rejected, applied = sync(client, mutation, put("good", 1, 0))["results"]
    assert (rejected["outcome"], applied["outcome"]) == ("rejected", "applied")
    assert rejected["problem"]["code"] == code
    assert rejected["id"] == mutation["id"]
    assert rejected["key"] == (mutation["key"] if isinstance(mutation.get("key"), str) else "")
    assert documents(client) == {"good": 1}


NESTED = [levels * "[" + levels * "]" for levels in (33, 60, 500, 2_000, 100_000)]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        *(('"value": ' + value, "invalid-value") for value in NESTED),
        *(('"value": 1, "base": ' + value, "invalid-request") for value in NESTED),
        *(('"value": 1, "colour": ' + value, "invalid-request") for value in NESTED),
        ('"value": "\\ud83d"', "invalid-value"),
        ('"value": {"\\udc00": 1}', "invalid-value"),
        ('"value": 1e400', "invalid-value"),
        ('"value": ' + "9" * 5_000, "invalid-value"),
        ('"value": {"a": 1, "a": 2}', "invalid-value"),
        ('"value": 1, "value": 2', "invalid-request"),
        ('"value": 1, "b\\u0061se": 1, "base": 2', "invalid-request"),
    ],
    ids=lambda text: text[:40],
)
def test_what_no_encoder_writes_is_rejected_by_itself(
    client: httpx.Client, fields: str, code: str
) -> None:
    """Such text blocked the outbox for ever: the whole request failed, with each retry again."""
    good, bad = put("good", 1, 0), str(uuid4())
    text = f'{{"id": "{bad}", "op": "put", "key": "bad", {fields}}}'
    body = f'{{"device": "d1", "mutations": [{text}, {json.dumps(good)}]}}'
    response = client.post("/v1/sync", content=body)
    assert response.status_code == 200, response.text
    rejected, applied = response.json()["results"]
    assert (rejected["id"], rejected["key"], rejected["outcome"]) == (bad, "bad", "rejected")
    assert rejected["problem"]["code"] == code
    assert applied["outcome"] == "applied"
    assert documents(client) == {"good": 1}


@pytest.mark.parametrize(
    "body",
    [
        '{"mutations": [%s], "mutations": []}',
        '{"device": "d1", "mutations": [%s], "d\\u0065vice": "d2"}',
    ],
)
def test_a_name_that_stands_twice_in_a_sync_is_refused(client: httpx.Client, body: str) -> None:
    """Of two lists of mutations the first was dropped in silence, and never pushed."""
    text = body % json.dumps(put("good", 1, 0))
    refused(client.post("/v1/sync", content=text), 400, "invalid-request")
    assert documents(client) == {}


@pytest.mark.parametrize(
    "fields",
    [
        '"delta": {"xp": 1, "xp": 2}',
        '"delta": {"a\\"b": 1, "a\\u0022b": 2}',
        '"set": {"n": 1}, "set": {"n": 2}',
        '"operations": [{"op": "unset", "path": "/a", "path": "/b"}]',
    ],
)
def test_a_name_that_stands_twice_in_a_patch_rejects_it_alone(
    client: httpx.Client, fields: str
) -> None:
    """Of two increments of one field the first was dropped, and the patch acknowledged."""
    text = f'{{"id": "{uuid4()}", "op": "patch", "key": "user_stats", {fields}}}'
    body = f'{{"device": "d1", "mutations": [{text}, {json.dumps(put("good", 1, 0))}]}}'
    rejected, applied = client.post("/v1/sync", content=body).json()["results"]
    assert rejected["problem"]["code"] == "invalid-request"
    assert applied["outcome"] == "applied"
    assert documents(client) == {"good": 1}


def test_times_may_be_whole_floats(client: httpx.Client) -> None:
    """A language without integers writes 1764000000000.0, which is the same moment."""
    edit = put("settings", {"theme": "late"}, 0, edited_at=1764000000000.0)
    assert outcomes(sync(client, edit, sent_at=1764000000000.0)) == ["applied"]
    body = {"value": 1, "edited_at": 1764000000000.0, "sent_at": 1e300}
    assert client.put("/v1/documents/k", json=body).status_code == 201


@pytest.mark.parametrize(
    "change",
    [
        {"colour": 1},
        {"device": "has space"},
        {"device": ""},
        {"limit": 0},
        {"limit": "many"},
        {"previous": "not-a-uuid"},
        {"sent_at": 1.5},
        {"mutations": None},
        {"mutations": [put("k", 1) | {"id": "1"}]},
        {"mutations": [put("k", 1) | {"id": None}]},
        {"mutations": [{"op": "put", "key": "k", "value": 1}]},
        {"mutations": ["put"]},
        {"mutations": [None]},
    ],
)
def test_a_malformed_request_is_refused_whole(client: httpx.Client, change: Json) -> None:
    """Unknown fields and wrong types are a client's fault; nothing of such a request is done.
    Of a mutation without an id nobody could be told what became of it."""
    request = {"device": "d1", "mutations": [put("good", 1, 0)], **change}
    if change.get("mutations"):
        request["mutations"] = [put("good", 1, 0), *change["mutations"]]
    problem = refused(client.post("/v1/sync", json=request), 400, "invalid-request")
    if change.get("mutations"):
        assert problem["path"] == "$.mutations[1]"
    assert documents(client) == {}


def test_value_is_present_exactly_when_the_document_differs(client: httpx.Client) -> None:
    """A client keeps what it sent unless told otherwise: a missing value would be lost data, a
    needless one lost bandwidth."""
    written = sync(client, put("game_stats", {"score": 5, "name": "é\u2028"}, 0))["results"][0]
    assert "value" not in written
    stale = sync(client, put("game_stats", {"score": 3}, 0), device="d2")["results"][0]
    assert (stale["outcome"], stale["value"]) == ("unchanged", {"name": "é\u2028", "score": 5})
    # Other spelling, same bytes once canonical.
    body = (
        b'{"device":"d1","mutations":[{"id":"%s","op":"put","key":"n","base":0,'
        b'"value":{ "b":1e0, "a" : "\\u0061"}}]}' % str(uuid4()).encode()
    )
    spelled = client.post("/v1/sync", content=body).json()["results"][0]
    assert (spelled["outcome"], "value" in spelled) == ("applied", False)
    patched = sync(client, patch("game_stats", delta={"games_played": 1}))["results"][0]
    assert patched["value"] == {"games_played": 1, "name": "é\u2028", "score": 5}
    removed = sync(client, delete("game_stats", 2))["results"][0]
    assert (removed["value"], removed["deleted"]) == (None, True)


def test_what_was_applied_as_sent_is_not_echoed_and_everything_else_is(
    client: httpx.Client,
) -> None:
    """Echoes cost, gaps lose data: changes hold exactly what results have not said."""
    start = sync(client)["cursor"]
    sync(client, put("others", 1, 0), put("both", {"a": 1}, 0), device="d2", cursor=start)
    answer = sync(client, put("mine", 1, 0), put("broken key", 2), cursor=start)
    assert keys(answer) == ["others", "both"]
    assert open_cursor(answer["cursor"])[1] == 3
    later = sync(client, put("mine", 2, 1), cursor=answer["cursor"])
    assert later["changes"] == []
    assert sync(client, cursor=later["cursor"])["changes"] == []


def test_a_rejected_write_is_no_reason_to_hide_the_document(client: httpx.Client) -> None:
    """The rejected device has not got the document yet, so changes must hold it."""
    sync(client, put("user_stats", {"xp": 1}, 0), device="d2")
    answer = sync(client, put("user_stats", {"xp": 2}))
    assert outcomes(answer) == ["rejected"]
    assert keys(answer) == ["user_stats"]


def test_a_deleted_document_is_a_change_without_a_value(client: httpx.Client) -> None:
    """Other devices learn of a deletion by the same cursor, and a new one sees the tombstone."""
    first = sync(client, put("notes", 1, 0))
    sync(client, delete("notes", 1), device="d2")
    (change,) = sync(client, cursor=first["cursor"])["changes"]
    assert (change["key"], change["version"], change["value"], change["deleted"]) == (
        "notes",
        2,
        None,
        True,
    )
    assert change["device"] == "d2"
    assert documents(client) == {"notes": None}
    again = sync(client, put("notes", 2, 2))["results"][0]
    assert (again["outcome"], again["version"]) == ("applied", 3)


def test_null_is_a_value(client: httpx.Client) -> None:
    """null and deleted are different things: mixing them up would delete documents."""
    answer = sync(client, put("nothing", None, 0))
    assert "value" not in answer["results"][0]
    (change,) = pull(client)
    assert (change["value"], change["deleted"]) == (None, False)


def test_too_many_mutations_push_nothing(start_service: Callable[..., Service]) -> None:
    """The limit of one request is an error that says so, before anything is written."""
    service = start_service(max_mutations=3)
    with service.client() as client:
        problem = refused(
            post(client, *(put(f"k{i}", i, 0) for i in range(4))), 400, "invalid-request"
        )
        assert "3" in problem["detail"]
        assert documents(client) == {}
        assert outcomes(sync(client, *(put(f"k{i}", i, 0) for i in range(3)))) == ["applied"] * 3


def test_ids_are_of_one_account(service: Service) -> None:
    """Two accounts that mint the same id must not hide each other's writes."""
    mutation = put("notes", 1, 0)
    with service.client() as one, service.client() as other:
        assert outcomes(sync(one, mutation)) == ["applied"]
        assert outcomes(sync(other, mutation)) == ["applied"]
        assert outcomes(sync(other, mutation)) == ["duplicate"]


def test_accounts_never_see_each_other(service: Service) -> None:
    """Keys, cursors and devices are an account's own."""
    with service.client() as one, service.client() as other:
        cursor = sync(one, put("notes", "secret", 0), put("more", 1, 0))["cursor"]
        answer = sync(other, put("mine", 1, 0))
        assert (keys(answer), documents(other)) == ([], {"mine": 1})
        # Another account's cursor is only a number: past one's own head it is refused.
        refused(post(other, cursor=cursor), 410, "cursor-expired")
        assert documents(one) == {"notes": "secret", "more": 1}


def test_the_same_id_with_other_content_is_rejected(client: httpx.Client) -> None:
    """A reused id is a client's bug; calling it a duplicate would lose the second edit."""
    mutation = put("notes", 1, 0)
    sync(client, mutation)
    for changed in ({**mutation, "value": 2}, {**mutation, "key": "other"}):
        (result,) = sync(client, changed)["results"]
        assert (result["outcome"], result["problem"]["code"]) == ("rejected", "id-reused")
    assert documents(client) == {"notes": 1}


def test_duplicates_within_one_request(client: httpx.Client) -> None:
    """An outbox that holds a mutation twice counts it once."""
    add = patch("user_stats", delta={"xp": 5})
    answer = sync(client, add, add, {**add, "delta": {"xp": 6}}, add)
    assert outcomes(answer) == ["applied", "duplicate", "rejected", "duplicate"]
    assert answer["results"][3]["value"] == {"xp": 5}
    assert documents(client) == {"user_stats": {"xp": 5}}


def test_bases_made_within_the_batch(client: httpx.Client) -> None:
    """A later mutation of a request may name the version that an earlier one makes.

    The last names one from before the delete, which its own device made and so has seen.
    """
    answer = sync(
        client,
        put("user_stats", {"xp": 1}, 0),
        put("user_stats", {"xp": 3}, 1),
        delete("user_stats", 2),
        put("user_stats", {"xp": 7}, 3),
        put("user_stats", {"xp": 9}, 2),
    )
    assert outcomes(answer) == ["applied", "applied", "applied", "applied", "merged"]
    assert [result["version"] for result in answer["results"]] == [1, 2, 3, 4, 5]
    assert documents(client) == {"user_stats": {"xp": 9}}
    listed = client.get("/v1/documents/user_stats/revisions").json()["revisions"]
    assert [entry["version"] for entry in listed] == [5, 4, 3, 2, 1]


def test_more_revisions_in_one_batch_than_the_ring_holds(
    start_service: Callable[..., Service],
) -> None:
    """The ring keeps the newest, whatever order one statement writes them in, and bases that
    fall out of it within the batch are unknown as they would be after it."""
    service = start_service(history=4)
    with service.client() as client:
        writes = [put("user_stats", {"xp": i + 1}, i) for i in range(10)]
        answer = sync(client, *writes, put("user_stats", {"xp": 3}, 2), device="d1")
        assert outcomes(answer) == ["applied"] * 10 + ["rejected"]
        assert answer["results"][-1]["problem"]["code"] == "base-unknown"
        listed = client.get("/v1/documents/user_stats/revisions").json()["revisions"]
        assert [entry["version"] for entry in listed] == [10, 9, 8, 7]
        for entry in listed:
            version = entry["version"]
            kept = client.get(f"/v1/documents/user_stats/revisions/{version}").json()
            assert kept["value"] == {"xp": version}
        stale = sync(client, put("user_stats", {"xp": 12}, 7), device="d2")
        assert stale["results"][0]["value"] == {"xp": 15}


@pytest.mark.parametrize("together", [True, False])
def test_a_device_counts_from_its_own_view(client: httpx.Client, together: bool) -> None:
    """Two edits queued on one base: the second holds the first, which must not count twice, and
    an undo must undo, within a batch and across batches."""
    sync(client, put("user_stats", {"xp": 10, "theme": "dark"}, 0), device="d2")
    sync(client, put("user_stats", {"xp": 11, "theme": "dark"}, 1), device="d2")
    first = put("user_stats", {"xp": 15, "theme": "light"}, 1)
    second = put("user_stats", {"xp": 18, "theme": "dark"}, 1)
    if together:
        answer = sync(client, first, second)
    else:
        sync(client, first)
        sync(client, patch("user_stats", delta={"xp": 100}), device="d2")
        answer = sync(client, second)
    assert outcomes(answer)[-1] == "merged"
    total = 10 + 1 + 8 + (0 if together else 100)
    assert answer["results"][-1]["value"] == {"theme": "dark", "xp": total}


def test_an_increment_and_then_an_edit_of_what_it_gave(client: httpx.Client) -> None:
    """A PATCH waits in the outbox and the app edits the document as it then looks."""
    sync(client, put("user_stats", {"xp": 10}, 0), device="d2")
    sync(client, put("user_stats", {"xp": 11}, 1), device="d2")
    answer = sync(
        client,
        patch("user_stats", delta={"xp": 5}, base=1),
        put("user_stats", {"xp": 17}, 1),
    )
    assert answer["results"][1]["value"] == {"xp": 18}


def test_an_increment_on_a_forgotten_base_stands_for_itself_alone(
    start_service: Callable[..., Service],
) -> None:
    """It proposes its own change only. Taken for all that the device held, the next write on
    that base would count the other devices' part as this one's."""
    service = start_service(history=2)
    with service.client() as client:
        sync(client, put("user_stats", {"xp": 100}, 0), device="d2")
        sync(client, *(patch("user_stats", delta={"xp": 1}) for _ in range(5)), device="d2")
        sync(client, patch("user_stats", delta={"xp": 1}, base=1))
        late = put("user_stats", {"xp": 103}, 1, base_value={"xp": 101})
        assert sync(client, late)["results"][0]["value"] == {"xp": 108}


def test_two_devices_converge(client: httpx.Client) -> None:
    """Devices that have pulled to the same cursor hold the same bytes."""
    held: dict[str, dict[str, Any]] = {"d1": {}, "d2": {}}
    cursors: dict[str, str | None] = {"d1": None, "d2": None}
    for turn in range(6):
        for device in held:
            value = {"xp": held[device].get("user_stats", {}).get("xp", 0) + turn, device: turn}
            key = {"d1": "settings", "d2": "lesson_progress"}[device]
            mutations = [put("user_stats", value, turn), put(key, {"turn": turn}, turn)]
            answer = sync(client, *mutations, device=device, cursor=cursors[device])
            for sent, result in zip(mutations, answer["results"], strict=True):
                if result["outcome"] != "rejected":
                    held[device][sent["key"]] = result.get("value", sent["value"])
            for change in answer["changes"]:
                held[device][change["key"]] = change["value"]
            cursors[device] = answer["cursor"]
    for device in held:
        for change in pull(client, cursors[device]):
            held[device][change["key"]] = change["value"]
    assert held["d1"] == held["d2"] == documents(client)
