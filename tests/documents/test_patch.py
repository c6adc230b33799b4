"""PATCH: operations on the current document, once."""

import threading
from typing import Any
from uuid import uuid4

import pytest

from tests.documents.api import OLD_MS, operate, patch, path, put, refused, value, version, wrote
from tests.documents.contract import CheckedService, StartService

REMOVED = "and cannot be taken away"


def test_short_forms_and_operations_in_order(client: Any) -> None:
    """`delta`, then `set`, then `operations`: the order decides what is left, so it is fixed."""
    answer = patch(
        client,
        "k",
        delta={"n": 5, "m": 1},
        set={"n": 7},
        operations=[
            {"op": "increment", "path": "/n", "value": 2},
            {"op": "set", "path": "/m", "value": [1]},
            {"op": "add", "path": "/m", "value": 2},
        ],
    )
    wrote(answer, "applied", 1, {"n": 9, "m": [1, 2]}, 201)


def test_the_example_of_the_design(client: Any) -> None:
    """The request that the documentation shows must do what it shows."""
    put(client, "user_stats", {"xp": 5, "hearts": 3, "level": 1}, base=0, device="a")
    answer = patch(
        client,
        "user_stats",
        device="d1",
        delta={"xp": 10, "hearts": -1},
        set={"level": 2},
        operations=[{"op": "add", "path": "/unlocked", "value": "l3"}],
    )
    expected = {"xp": 15, "hearts": 2, "level": 2, "unlocked": ["l3"]}
    wrote(answer, "applied", 2, expected)


BEFORE: dict[str, Any] = {"n": 5, "list": [1, 2], "in": {"deep": {"x": 1}}, "s": "text"}


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (("set", "", 7), 7),
        (("set", "/n", None), BEFORE | {"n": None}),
        (("set", "/in/deep/x", 2), BEFORE | {"in": {"deep": {"x": 2}}}),
        (("set", "/in/new/y", 2), BEFORE | {"in": {"deep": {"x": 1}, "new": {"y": 2}}}),
        (("set", "/list/0", 9), BEFORE | {"list": [9, 2]}),
        (("unset", "/n"), {key: BEFORE[key] for key in ("list", "in", "s")}),
        (("unset", "/in/deep/x"), BEFORE | {"in": {"deep": {}}}),
        (("unset", "/list/0"), BEFORE | {"list": [2]}),
        (("increment", "/n", -2), BEFORE | {"n": 3}),
        (("increment", "/n", 0.5), BEFORE | {"n": 5.5}),
        (("increment", "/fresh", 2), BEFORE | {"fresh": 2}),
        (("increment", "/in/deep/x", 1), BEFORE | {"in": {"deep": {"x": 2}}}),
        (("maximum", "/n", 9), BEFORE | {"n": 9}),
        (("minimum", "/n", 1), BEFORE | {"n": 1}),
        (("maximum", "/fresh", 1), BEFORE | {"fresh": 1}),
        (("add", "/list", 3), BEFORE | {"list": [1, 2, 3]}),
        (("add", "/fresh", 3), BEFORE | {"fresh": [3]}),
        (("remove", "/list", 1), BEFORE | {"list": [2]}),
    ],
)
def test_operations_on_plain_documents(client: Any, operation: Any, expected: Any) -> None:
    """Every operation works on documents without a rule of their own, at any depth."""
    put(client, "k", BEFORE)
    wrote(operate(client, "k", operation), "applied", 2, expected)
    assert value(client, "k") == expected


@pytest.mark.parametrize(
    "operation",
    [
        ("unset", "/missing"),
        ("unset", "/in/missing/x"),
        ("remove", "/list", 9),
        ("remove", "/missing", 9),
        ("add", "/list", 1),
        ("increment", "/n", 0),
        ("maximum", "/n", 1),
        ("minimum", "/n", 9),
        ("set", "/n", 5),
    ],
)
def test_operations_that_change_nothing(client: Any, operation: Any) -> None:
    """No new version where nothing changed, or every device would pull for nothing."""
    put(client, "k", BEFORE)
    wrote(operate(client, "k", operation), "unchanged", 1, BEFORE)


def test_no_operations_change_nothing(client: Any) -> None:
    """An empty PATCH is a question, not a mistake; of a missing document it is a 404."""
    refused(patch(client, "k"), 404, "document-not-found")
    put(client, "k", 1)
    wrote(patch(client, "k"), "unchanged", 1, 1)


@pytest.mark.parametrize(
    ("operation", "where"),
    [
        (("unset", ""), ""),
        (("set", "/s/x", 1), "/s/x"),
        (("set", "/list/2", 1), "/list/2"),
        (("set", "/list/-", 1), "/list/-"),
        (("set", "/list/x", 1), "/list/x"),
        (("increment", "/s", 1), "/s"),
        (("increment", "", 1), ""),
        (("maximum", "/list", 1), "/list"),
        (("add", "/n", 1), "/n"),
        (("remove", "/s", 1), "/s"),
        (("increment", "/n", 2**53 - 1), "/n"),
        (("reset", "/n"), "/n"),
        (("set", "/n"), "/n"),
        (("increment", "/n"), "/n"),
        (("unset", "/n", 1), "/n"),
        (("reset", "", 1), ""),
        (("set", "n", 1), ""),
        (("set", "/n~2", 1), ""),
        (("set", "/n~", 1), ""),
    ],
)
def test_operations_that_cannot_be_applied(client: Any, operation: Any, where: str) -> None:
    """A refused operation names its path, and takes the whole PATCH with it."""
    put(client, "k", BEFORE)
    problem = refused(operate(client, "k", ("set", "/ok", 1), operation), 422, "invalid-operation")
    assert problem["path"] == where
    assert (version(client, "k"), value(client, "k")) == (1, BEFORE)


@pytest.mark.parametrize(
    ("operation", "where"),
    [
        (("increment", "/n", "1"), "/n"),
        (("increment", "/in/deep/x", True), "/in/deep/x"),
        (("maximum", "/n", None), "/n"),
        (("minimum", "/n", []), "/n"),
    ],
)
def test_operands_of_the_wrong_type(client: Any, operation: Any, where: str) -> None:
    """A wrong operand names the path at which it was to be used."""
    put(client, "k", BEFORE)
    assert refused(operate(client, "k", operation), 422, "wrong-type")["path"] == where
    assert version(client, "k") == 1


RULES = """
from merge_rules import (
    best, causal_set, counter, flag, last_write_wins, map_of, maximum, minimum, record, strict,
    union,
)

def register(registry):
    registry.register("all", record({
        "maximum": maximum, "minimum": minimum, "flag": flag, "best": best("by"),
        "counter": counter, "union": union, "causal_set": causal_set,
        "map": map_of(counter), "removable": map_of(maximum, removable=True),
        "record": record({"n": counter}), "plain": last_write_wins,
    }))
    registry.register("strict", strict)
    registry.register("tags", causal_set)
"""
ALL = {
    "maximum": 5,
    "minimum": 5,
    "flag": False,
    "best": {"by": 5},
    "counter": 5,
    "union": [1],
    "causal_set": [1],
    "map": {"a": 5},
    "removable": {"a": 5},
    "record": {"n": 5},
    "plain": 5,
}
EVERY = ("set", "unset", "increment", "maximum", "minimum", "add", "remove")
TAKES: dict[str, dict[str, tuple[Any, Any]]] = {
    # path: {operation: (operand, value after it at the path)}
    "/maximum": {"set": (7, 7), "maximum": (7, 7)},
    "/minimum": {"set": (3, 3), "minimum": (3, 3)},
    "/flag": {"set": (True, True)},
    "/best": {"set": ({"by": 6}, {"by": 6})},
    "/counter": {"set": (9, 9), "increment": (2, 7)},
    "/union": {"set": ([2], [1, 2]), "add": (2, [1, 2])},
    "/causal_set": {"set": ([2], [2]), "add": (2, [1, 2]), "remove": (1, [])},
    "/map": {"set": ({"a": 6}, {"a": 6})},
    "/map/a": {"set": (6, 6), "increment": (2, 7)},
    "/map/b": {"set": (6, 6), "increment": (2, 2)},
    "/removable": {"set": ({"b": 1}, {"b": 1}), "remove": ("a", {})},
    "/removable/a": {"set": (6, 6), "maximum": (6, 6), "unset": (None, None)},
    "/record": {"set": ({"n": 6}, {"n": 6})},
    "/record/n": {"set": (6, 6), "increment": (2, 7)},
    "/plain": {
        "set": (6, 6), "unset": (None, None), "increment": (1, 6), "maximum": (6, 6),
        "minimum": (4, 4),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("rules") / "patch_rules.py"
    file.write_text(RULES)
    return str(file)


def test_every_operation_on_every_rule(start_service: StartService, rules: str) -> None:
    """Suitable operations do what they say, unsuitable ones are refused at their path."""
    service = start_service(rules=rules)
    with service.client() as client:
        for number, (where, suitable) in enumerate(TAKES.items()):
            for op in EVERY:
                key = "all"
                client.delete(path(key))
                base = version(client, key)
                put(client, key, ALL, base=base, device="a")
                base += 1
                operand, expected = suitable.get(op, (number, None))
                operands = () if op == "unset" else (operand,)
                answer = operate(client, key, (op, where, *operands), device="b")
                if op not in suitable:
                    problem = refused(answer, 422, answer.json()["code"])
                    assert problem["code"] in ("invalid-operation", "wrong-type"), (op, where)
                    assert problem["path"] == where
                    assert (version(client, key), value(client, key)) == (base, ALL)
                    continue
                assert answer.status_code == 200, (op, where, answer.text)
                found = answer.json()["value"]
                for token in where[1:].split("/"):
                    found = found.get(token)
                assert found == expected, (op, where)


def test_a_strict_document_is_patched_as_it_is(start_service: StartService, rules: str) -> None:
    """An operation is not a stale copy, so a document that is never merged takes it."""
    with start_service(rules=rules).client() as client:
        put(client, "strict", {"a": 1, "b": [1]})
        wrote(
            operate(client, "strict", ("increment", "/a", 2), ("add", "/b", 2), device="d"),
            "applied", 2, {"a": 3, "b": [1, 2]},
        )  # fmt: skip
        asked = {"receipt": "true"}
        kept = client.get(path("strict") + "/revisions/2", params=asked).json()
        assert [entry["decided"] for entry in kept["receipt"]] == ["yours"]


def test_a_document_that_is_a_set(start_service: StartService, rules: str) -> None:
    """The empty path is the whole document, where its rule takes the operation."""
    with start_service(rules=rules).client() as client:
        wrote(operate(client, "tags", ("add", "", "x")), "applied", 1, ["x"], 201)
        wrote(operate(client, "tags", ("remove", "", "x")), "applied", 2, [])


def test_a_set_document_wide_value_of_the_wrong_type(client: Any) -> None:
    """A value of the wrong type is refused whole, with the path of the part at fault."""
    put(client, "game_stats", {"score": 1}, base=0)
    problem = refused(
        patch(client, "game_stats", set={"score": 2, "best_scores": {"a": "b"}}), 422, "wrong-type"
    )
    assert problem["path"] == "/best_scores/a"
    assert value(client, "game_stats") == {"score": 1}


# --- ids -----------------------------------------------------------------------------------------


def test_an_id_is_needed(client: Any) -> None:
    """Without an id a retry would add again, so there is no PATCH without one."""
    for body in ({"set": {"a": 1}}, {"id": None, "set": {"a": 1}}, {}):
        refused(client.patch(path("k"), json=body), 422, "id-required")
    assert version(client, "k") == 0


def test_a_retry_counts_once(client: Any) -> None:
    """An increment whose answer was lost is sent again, and must not count again."""
    one = {"id": str(uuid4()), "device": "a"}
    wrote(patch(client, "user_stats", delta={"xp": 5}, **one), "applied", 1, {"xp": 5}, 201)
    patch(client, "user_stats", delta={"xp": 1}, device="a")
    for _ in range(3):
        answer = patch(client, "user_stats", delta={"xp": 5}, **one)
        wrote(answer, "duplicate", 2, {"xp": 6})
    # The same operation in its long form is the same mutation.
    long = operate(client, "user_stats", ("increment", "/xp", 5), **one)
    wrote(long, "duplicate", 2, {"xp": 6})
    refused(patch(client, "user_stats", delta={"xp": 6}, **one), 422, "id-reused")


def test_retries_in_parallel_count_once(service: CheckedService) -> None:
    """A client that retries too early sends the same mutation twice at once."""
    account = f"parallel-{uuid4()}"
    body = {"id": str(uuid4()), "device": "a", "delta": {"xp": 5}}
    outcomes: list[str] = []

    def send() -> None:
        with service.client(account) as client:
            outcomes.append(client.patch(path("user_stats"), json=body).json()["outcome"])

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["applied"] + ["duplicate"] * 7
    with service.client(account) as client:
        assert value(client, "user_stats") == {"xp": 5}


def test_counters_need_a_device_here_too(client: Any) -> None:
    """The same rule as for PUT: who counts says who it is; the rest works."""
    problem = refused(patch(client, "user_stats", delta={"xp": 5}), 422, "device-required")
    assert problem["path"] == "/xp"
    wrote(patch(client, "user_stats", set={"level": 5}), "applied", 1, {"level": 5}, 201)


# --- missing and deleted documents, reset --------------------------------------------------------


def test_a_missing_document_is_made(client: Any) -> None:
    """The first operation on a key makes the document."""
    wrote(patch(client, "k", set={"a": 1}), "applied", 1, {"a": 1}, 201)
    answer = patch(client, "game_stats", delta={"games_played": 1}, device="a")
    wrote(answer, "applied", 1, {"games_played": 1}, 201)


@pytest.mark.parametrize("key", ["k", "game_stats", "settings"])
def test_taking_away_from_nothing_makes_nothing(client: Any, key: str) -> None:
    """Removing a field of a document that is not there made an empty document of a record."""
    operation = ("unset", "/some/field") if key == "k" else ("unset", "/field")
    refused(operate(client, key, operation), 404, "document-not-found")
    put(client, key, {"field": 1}, base=0)
    client.delete(path(key))
    wrote(operate(client, key, operation), "unchanged", 2, None)


def test_a_deleted_document_starts_afresh(client: Any) -> None:
    """An operation applies to the document as it is, and a deleted one holds nothing."""
    put(client, "user_stats", {"xp": 100, "level": 9}, base=0, device="a")
    client.delete(path("user_stats"))
    answer = patch(client, "user_stats", delta={"xp": 1}, device="a")
    wrote(answer, "applied", 3, {"xp": 1}, 201)


def test_reset_alone_deletes(client: Any) -> None:
    """A reset leaves nothing, and a document of nothing is a deleted one."""
    refused(operate(client, "k", ("reset", "")), 404, "document-not-found")
    put(client, "game_stats", {"games_played": 9}, base=0, device="a")
    wrote(operate(client, "game_stats", ("reset", "")), "applied", 2, None)
    wrote(operate(client, "game_stats", ("reset", "")), "unchanged", 2, None)
    wrote(put(client, "game_stats", {"games_played": 9}, base=1, device="b"), "superseded", 2, None)


def test_reset_followed_by_operations(client: Any) -> None:
    """A reset beats every edit that had not seen it, even of rules that only ever grow."""
    put(client, "game_stats", {"score": 90, "games_played": 9}, base=0, device="a")
    answer = operate(
        client,
        "game_stats",
        ("set", "/score", 200),
        ("reset", ""),
        ("set", "/score", 1),
        ("increment", "/games_played", 1),
        device="a",
    )
    fresh = {"score": 1, "games_played": 1}
    wrote(answer, "applied", 2, fresh)
    stale = put(client, "game_stats", {"score": 99, "games_played": 10}, base=1, device="b")
    wrote(stale, "superseded", 2, fresh)
    again = put(client, "game_stats", {"score": 3, "games_played": 2}, base=2, device="a")
    wrote(again, "applied", 3, {"score": 3, "games_played": 2})


# --- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "name"),
    [("/a~1b", "a/b"), ("/a~0b", "a~b"), ("/~01", "~1"), ("/", ""), ("/ ", " "), ("/é%2F", "é%2F")],
)
def test_path_escapes(client: Any, where: str, name: str) -> None:
    """Paths are JSON Pointers (RFC 6901), so any name can be reached."""
    wrote(operate(client, "k", ("set", where, 1)), "applied", 1, {name: 1}, 201)
    wrote(operate(client, "k", ("increment", where, 1)), "applied", 2, {name: 2})


def test_short_forms_take_names_and_not_paths(client: Any) -> None:
    """`delta` and `set` name fields as they are; no escape is read in them."""
    answer = patch(client, "k", delta={"a/b": 1}, set={"~1": 2, "": 3})
    wrote(answer, "applied", 1, {"a/b": 1, "~1": 2, "": 3}, 201)


# --- devices together ----------------------------------------------------------------------------


def test_devices_that_count_at_the_same_moment(service: CheckedService) -> None:
    """Operations of two devices add up, whatever order they come in."""
    account = f"adding-{uuid4()}"
    errors: list[str] = []

    def add(device: str) -> None:
        with service.client(account) as client:
            for _ in range(10):
                answer = patch(client, "user_stats", delta={"xp": 1, "hearts": -1}, device=device)
                errors.extend([] if answer.is_success else [answer.text])

    threads = [threading.Thread(target=add, args=(device,)) for device in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with service.client(account) as client:
        assert value(client, "user_stats") == {"xp": 40, "hearts": -40}
    assert errors == []


@pytest.mark.parametrize("between", [False, True])
def test_patch_then_put_on_an_old_base(client: Any, between: bool) -> None:
    """A device that patched knows what it patched: its next PUT neither loses nor doubles it."""
    put(client, "user_stats", {"xp": 10, "name": "x"}, base=0, device="a")
    patch(client, "user_stats", delta={"xp": 5}, device="a")
    if between:
        patch(client, "user_stats", delta={"xp": 100}, device="b")
    mine = {"xp": 16, "name": "y"}
    answer = put(client, "user_stats", mine, base=1, device="a")
    expected = {"xp": 116 if between else 16, "name": "y"}
    wrote(answer, "merged", 4 if between else 3, expected)


def test_patch_that_changed_nothing_then_put_on_an_old_base(client: Any) -> None:
    """An operation that made no version is still part of what the device knows."""
    put(client, "settings", {"theme": "dark"}, base=0, device="a")
    put(client, "settings", {"theme": "light"}, base=1, device="b")
    patch(client, "settings", set={"theme": "light"}, device="a", base=1)
    answer = put(client, "settings", {"theme": "dark"}, base=1, device="a")
    wrote(answer, "merged", 3, {"theme": "dark"})


def test_what_a_device_wrote_before_a_delete_does_not_hide_its_next_write(client: Any) -> None:
    """A PATCH without a base took the device's writes of before the delete into its own view.

    The view then said 100, so the device's next 50 looked like no change and was lost.
    """
    put(client, "game_stats", {"score": 100}, base=0, device="a")
    client.delete(path("game_stats"), params={"base": 1, "device": "b"})
    put(client, "game_stats", {"score": 5}, base=2, device="b")
    wrote(
        operate(client, "game_stats", ("maximum", "/score", 7), device="a"),
        "applied", 4, {"score": 7},
    )  # fmt: skip
    wrote(put(client, "game_stats", {"score": 50}, base=3, device="a"), "merged", 5, {"score": 50})


def test_an_old_edit_is_an_operation_of_its_time(client: Any) -> None:
    """A PATCH is made on the present document, so even a slow clock does not undo it."""
    put(client, "settings", {"theme": "dark"}, base=0, device="a")
    answer = patch(client, "settings", set={"theme": "light"}, device="b", edited_at=OLD_MS)
    wrote(answer, "applied", 2, {"theme": "light"})


def test_receipt_of_a_patch(client: Any) -> None:
    """`?receipt=true` was taken and gave nothing; and the kept receipt listed untouched fields."""
    put(client, "user_stats", {"xp": 10, "level": 3, "name": "x"}, base=0, device="a")
    body = {"id": str(uuid4()), "device": "b", "delta": {"xp": 5}}
    answer = client.patch(path("user_stats"), params={"receipt": "true"}, json=body)
    expected = {
        "path": "/xp", "rule": "counter", "decided": "yours",
        "base": 10, "yours": 15, "current": 10, "result": 15,
    }  # fmt: skip
    assert answer.json()["receipt"] == [expected]
    kept = client.get(path("user_stats") + "/revisions/2", params={"receipt": "true"})
    assert kept.json()["receipt"] == [expected]


def test_a_queued_put_does_not_undo_what_an_operation_came_to(client: Any) -> None:
    """The device's copy holds 6 where the server's sum is 10: sending 6 along is no edit."""
    put(client, "settings", {"n": 5, "theme": "dark"}, base=0, device="a")
    put(client, "settings", {"n": 9, "theme": "dark"}, base=1, device="b")
    patch(client, "settings", delta={"n": 1}, device="a", base=1)
    assert value(client, "settings") == {"n": 10, "theme": "dark"}
    put(client, "settings", {"n": 6, "theme": "light"}, base=1, device="a")
    assert value(client, "settings") == {"n": 10, "theme": "light"}
