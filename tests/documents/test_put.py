"""PUT: what becomes of a whole document that a device sends."""

import threading
import time
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.documents.api import OLD_MS, path, put, refused, value, version, wrote
from tests.documents.contract import CheckedService, StartService

GAME = {"score": 10, "games_played": 1}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_every_outcome_in_the_life_of_a_document(client: httpx.Client) -> None:
    """The five outcomes are the contract's words, so each is seen once with all that it says."""
    one = {"id": str(uuid4()), "device": "a"}
    wrote(put(client, "k", {"n": 1}, base=0, **one), "applied", 1, {"n": 1}, 201)
    wrote(put(client, "k", {"n": 2}, base=1, device="a"), "applied", 2, {"n": 2})
    wrote(put(client, "k", {"n": 3}, base=1, device="b"), "merged", 3, {"n": 3})
    wrote(put(client, "k", {"n": 3}, base=3, device="b"), "unchanged", 3, {"n": 3})
    wrote(put(client, "k", {"n": 1}, base=0, **one), "duplicate", 3, {"n": 3})
    client.delete(path("k"))
    wrote(put(client, "k", {"n": 9}, base=3, device="b"), "superseded", 4, None)
    wrote(put(client, "k", {"n": 9}, base=4, device="b"), "applied", 5, {"n": 9}, 201)


def test_updated_at_is_the_time_of_the_last_change(client: httpx.Client) -> None:
    """A write that changed nothing must not make a document look fresh."""
    before = now_ms()
    first = put(client, "k", 1, base=0).json()["updated_at"]
    assert before <= first <= now_ms()
    assert put(client, "k", 1, base=1).json()["updated_at"] == first


@pytest.mark.parametrize("base", [{}, {"base": None}, {"base": 99}])
def test_unknown_base_where_no_base_is_needed(client: httpx.Client, base: dict[str, Any]) -> None:
    """Last write wins needs no base: an app that keeps no versions still works."""
    wrote(put(client, "k", "one", **base), "applied", 1, "one", 201)
    wrote(put(client, "k", "two", **base), "merged", 2, "two")
    wrote(put(client, "k", "two", **base), "unchanged", 2, "two")


@pytest.mark.parametrize("base", [{}, {"base": None}, {"base": 99}])
def test_unknown_base_where_one_is_needed(client: httpx.Client, base: dict[str, Any]) -> None:
    """Counting from an unknown base would count twice, so the caller is asked what it had."""
    put(client, "game_stats", GAME, base=0, device="a")
    mine = {"score": 8, "games_played": 3}
    problem = refused(put(client, "game_stats", mine, device="b", **base), 409, "base-unknown")
    assert problem["document"]["value"] == GAME
    assert problem["document"]["version"] == 1
    assert version(client, "game_stats") == 1
    answer = put(client, "game_stats", mine, device="b", base_value=GAME, **base)
    wrote(answer, "merged", 2, {"score": 10, "games_played": 3})


def test_base_value_of_what_others_have_passed(client: httpx.Client) -> None:
    """The inline base is what the device had, not what the server has: its own change counts."""
    put(client, "game_stats", {"games_played": 5}, base=0, device="a")
    put(client, "game_stats", {"games_played": 9}, base=1, device="a")
    answer = put(
        client, "game_stats", {"games_played": 7}, base_value={"games_played": 5}, device="b"
    )
    wrote(answer, "merged", 3, {"games_played": 11})


def test_base_that_history_no_longer_keeps(start_service: StartService) -> None:
    """A device that was away for long still syncs, with its base inline."""
    with start_service(history=4).client() as client:
        for n in range(1, 8):
            put(client, "game_stats", {"games_played": n}, base=n - 1, device="a")
            put(client, "plain", n, base=n - 1)
        mine = {"games_played": 4}
        for kept in (4, 5, 6):
            assert put(client, "kept", 0, base=kept).status_code in (200, 201)
        problem = refused(put(client, "game_stats", mine, base=3, device="b"), 409, "base-unknown")
        assert problem["document"]["value"] == {"games_played": 7}
        answer = put(client, "game_stats", mine, base=3, base_value={"games_played": 3}, device="b")
        wrote(answer, "merged", 8, {"games_played": 8})
        wrote(put(client, "plain", "late", base=1), "merged", 8, "late")


def test_the_oldest_kept_base_is_still_known(start_service: StartService) -> None:
    """The ring of revisions holds as many as it promises, not one less."""
    with start_service(history=4).client() as client:
        for n in range(1, 8):
            put(client, "game_stats", {"games_played": n}, base=n - 1, device="a")
        answer = put(client, "game_stats", {"games_played": 5}, base=4, device="b")
        wrote(answer, "merged", 8, {"games_played": 8})


def test_pruned_base_with_writes_of_the_same_device_queued(start_service: StartService) -> None:
    """Two writes queued on one base that was pruned meanwhile count once each."""
    with start_service(history=2).client() as client:
        for n in range(1, 6):
            put(client, "game_stats", {"games_played": n}, base=n - 1, device="a")
        had = {"base": 1, "base_value": {"games_played": 1}, "device": "b"}
        wrote(
            put(client, "game_stats", {"games_played": 2}, **had),
            "merged",
            6,
            {"games_played": 6},
        )
        wrote(
            put(client, "game_stats", {"games_played": 3}, **had),
            "merged",
            7,
            {"games_played": 7},
        )


def test_a_made_up_base_is_not_joined_with_a_known_one(start_service: StartService) -> None:
    """A device away for long sends its base inline, then edits what it pulled before the answer.

    What stood for the others' part of the inline base would count a second time, as its own.
    """
    with start_service(history=4).client() as client:
        for n in range(1, 8):
            put(client, "game_stats", {"games_played": n}, base=n - 1, device="a")
        old = {"base": 1, "base_value": {"games_played": 1}, "device": "b"}
        wrote(
            put(client, "game_stats", {"games_played": 2}, **old),
            "merged",
            8,
            {"games_played": 8},
        )
        # Its copy is version 7 with the write that waits, and one more game.
        answer = put(client, "game_stats", {"games_played": 9}, base=7, device="b")
        wrote(answer, "merged", 9, {"games_played": 9})
        answer = put(client, "game_stats", {"games_played": 10}, base=7, device="b")
        wrote(answer, "merged", 10, {"games_played": 10})


def test_undo_queued_on_one_base(client: httpx.Client) -> None:
    """Dark, light, dark queued offline ends dark: a device's later write knows its earlier one."""
    put(client, "settings", {"theme": "dark"}, base=0, device="a")
    wrote(
        put(client, "settings", {"theme": "light"}, base=1, device="a"),
        "applied",
        2,
        {"theme": "light"},
    )
    wrote(
        put(client, "settings", {"theme": "dark"}, base=1, device="a"),
        "merged",
        3,
        {"theme": "dark"},
    )


def test_undo_queued_while_another_device_writes(client: httpx.Client) -> None:
    """The own view is the device's alone: what another wrote between does not hide the undo."""
    put(client, "settings", {"theme": "dark", "sound": 1}, base=0, device="a")
    put(client, "settings", {"theme": "light", "sound": 1}, base=1, device="a")
    put(client, "settings", {"theme": "dark", "sound": 2}, base=1, device="b")
    put(client, "settings", {"theme": "dark", "sound": 1}, base=1, device="a")
    assert value(client, "settings") == {"theme": "dark", "sound": 2}


def test_two_counts_queued_on_one_base(client: httpx.Client) -> None:
    """The second of two queued counts adds only what the first did not."""
    put(client, "game_stats", {"games_played": 1}, base=0, device="a")
    put(client, "game_stats", {"games_played": 2}, base=1, device="a")
    put(client, "game_stats", {"games_played": 3}, base=1, device="a")
    assert value(client, "game_stats") == {"games_played": 3}


@pytest.mark.parametrize("devices", [["a", "b"], ["a", "b", "c", "d"]])
def test_devices_that_write_at_the_same_moment(service: CheckedService, devices: list[str]) -> None:
    """Whatever order the service takes them in, every device's counts are there once."""
    account = f"at-once-{uuid4()}"
    with service.client(account) as client:
        put(client, "game_stats", {"games_played": 0, "score": 0}, base=0, device="z")
    barrier = threading.Barrier(len(devices))
    outcomes: list[str] = []

    def play(device: str) -> None:
        with service.client(account) as client:
            barrier.wait()
            for n in range(1, 8):
                mine = {"games_played": n, "score": n}
                answer = put(client, "game_stats", mine, base=1, device=device, id=str(uuid4()))
                outcomes.append(answer.json()["outcome"])

    threads = [threading.Thread(target=play, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with service.client(account) as client:
        assert value(client, "game_stats") == {"games_played": 7 * len(devices), "score": 7}
        assert version(client, "game_stats") == 1 + 7 * len(devices)
    assert set(outcomes) <= {"applied", "merged"}
    assert len(outcomes) == 7 * len(devices)


def test_a_losing_write_is_still_known_to_its_device(client: httpx.Client) -> None:
    """An older edit loses and makes no version; the device's next write must still count as one."""
    put(client, "settings", {"theme": "dark"}, base=0, device="a")
    put(client, "settings", {"theme": "light"}, base=1, device="b")
    lost = put(client, "settings", {"theme": "blue"}, base=1, device="a", edited_at=OLD_MS)
    wrote(lost, "unchanged", 2, {"theme": "light"})
    # Back to what the base held: only with the own view is this an edit at all.
    again = put(client, "settings", {"theme": "dark"}, base=1, device="a")
    wrote(again, "merged", 3, {"theme": "dark"})


def test_a_losing_count_is_still_known_to_its_device(client: httpx.Client) -> None:
    """A write that loses in one field and counts in another is not counted again by the next."""
    put(client, "game_stats", {"name": "x", "games_played": 1}, base=0, device="a")
    put(client, "game_stats", {"name": "y", "games_played": 1}, base=1, device="b")
    old = {"edited_at": OLD_MS, "device": "a", "base": 1}
    put(client, "game_stats", {"name": "old", "games_played": 2}, **old)
    put(client, "game_stats", {"name": "old", "games_played": 2}, **old)
    put(client, "game_stats", {"name": "old", "games_played": 3}, **old)
    assert value(client, "game_stats") == {"name": "y", "games_played": 3}


def test_two_devices_write_the_same(client: httpx.Client) -> None:
    """Equal values are one value; the second writer learns that nothing changed."""
    put(client, "settings", {"theme": "dark"}, base=0, device="a")
    put(client, "settings", {"theme": "light"}, base=1, device="a")
    wrote(
        put(client, "settings", {"theme": "light"}, base=1, device="b"),
        "unchanged",
        2,
        {"theme": "light"},
    )
    # B's later stamp is kept, so an edit made between the two writes does not win.
    wrote(
        put(client, "settings", {"theme": "blue"}, base=1, device="c", edited_at=OLD_MS),
        "unchanged",
        2,
        {"theme": "light"},
    )


def test_two_devices_count_the_same(client: httpx.Client) -> None:
    """Two devices that each played one game write equal documents and played two games."""
    put(client, "game_stats", {"games_played": 1}, base=0, device="a")
    put(client, "game_stats", {"games_played": 2}, base=1, device="a")
    wrote(
        put(client, "game_stats", {"games_played": 2}, base=1, device="b"),
        "merged",
        3,
        {"games_played": 3},
    )


def test_fields_that_a_write_leaves_out_stay(client: httpx.Client) -> None:
    """An old version of an app drops fields that it does not know; they must survive it."""
    put(client, "game_stats", {"score": 5, "new_field": "kept"}, base=0, device="a")
    wrote(
        put(client, "game_stats", {"score": 6}, base=1, device="a"),
        "applied",
        2,
        {"score": 6, "new_field": "kept"},
    )


@pytest.mark.parametrize("plain", [None, True, 0, -1.5, "", "ünïcödé ☃ 😀", [], [1, [2]], {}])
def test_any_json_value_is_a_document(client: httpx.Client, plain: Any) -> None:
    """A document is any JSON value, null included, and null is not a deletion."""
    answer = put(client, "k", plain, base=0)
    assert (answer.status_code, answer.json()["deleted"]) == (201, False)
    assert value(client, "k") == plain


def test_true_one_and_one_point_nought_are_three_values(client: httpx.Client) -> None:
    """Values are compared by their bytes: Python's equality would lose such an edit."""
    for number, (text, shown) in enumerate([("1", 1), ("true", True), ("1.0", 1.0)], start=1):
        body = f'{{"value": {text}, "base": {number - 1}}}'
        answer = client.put(path("k"), content=body)
        assert (answer.json()["outcome"], answer.json()["version"]) == ("applied", number)
        assert f'"value":{text}' in client.get(path("k")).text
        assert answer.json()["value"] == shown


# --- preconditions -------------------------------------------------------------------------------


def test_if_match_takes_the_present_version_as_base(client: httpx.Client) -> None:
    """A client that only knows HTTP needs no `base`: the version that it matched is its base."""
    put(client, "game_stats", {"games_played": 1}, base=0, device="a")
    answer = client.put(
        path("game_stats"),
        json={"value": {"games_played": 2}, "device": "a"},
        headers={"If-Match": '"1"'},
    )
    wrote(answer, "applied", 2, {"games_played": 2})


@pytest.mark.parametrize(
    "tag", ['"1"', '"3"', 'W/"2"', '"02"', '"x"', '""', '"0"', '"-2"', '"٢"', f'"{"9" * 6000}"']
)
def test_if_match_that_does_not_match(client: httpx.Client, tag: str) -> None:
    """Strict locking never writes past a version that the caller has not seen (RFC 9110 13.1.1).

    Six thousand digits were a 500, and `"02"` matched version 2.
    """
    put(client, "k", "one")
    put(client, "k", "two")
    for answer in (
        client.put(path("k"), json={"value": "three"}, headers={b"If-Match": tag.encode()}),
        client.patch(
            path("k"),
            json={"id": str(uuid4()), "set": {"a": 1}},
            headers={b"If-Match": tag.encode()},
        ),
        client.delete(path("k"), headers={b"If-Match": tag.encode()}),
        client.post(path("k") + "/revisions/1/restore", headers={b"If-Match": tag.encode()}),
    ):
        problem = refused(answer, 412, "precondition-failed")
        assert problem["document"]["value"] == "two"
        assert problem["document"]["version"] == 2
    assert (version(client, "k"), value(client, "k")) == (2, "two")


def test_if_match_star(client: httpx.Client) -> None:
    """`*` asks only that there be a document, and a tombstone is none."""
    star = {"If-Match": "*"}
    problem = refused(
        client.put(path("k"), json={"value": 1}, headers=star), 412, "precondition-failed"
    )
    assert "document" not in problem
    put(client, "k", 1)
    wrote(client.put(path("k"), json={"value": 2, "base": 1}, headers=star), "applied", 2, 2)
    client.delete(path("k"))
    refused(client.put(path("k"), json={"value": 3}, headers=star), 412, "precondition-failed")
    assert version(client, "k") == 3


@pytest.mark.parametrize("tag", ["7", '"7', 'w/"7"', '"1", "2"', "", "x", '"1"x', "**"])
def test_malformed_if_match(client: httpx.Client, tag: str) -> None:
    """A condition that cannot be read must not be taken for none."""
    put(client, "k", 1)
    answer = client.put(path("k"), json={"value": 2}, headers={"If-Match": tag})
    refused(answer, 400, "invalid-request")
    assert version(client, "k") == 1


def test_if_match_of_a_missing_document(client: httpx.Client) -> None:
    """Nothing matches nothing, so such a write creates nothing."""
    answer = client.put(path("k"), json={"value": 1}, headers={"If-Match": '"1"'})
    refused(answer, 412, "precondition-failed")
    assert version(client, "k") == 0


def test_if_none_match_star_creates_only(client: httpx.Client) -> None:
    """Two devices that both create a document find out, when they ask to."""
    star = {"If-None-Match": "*"}
    wrote(client.put(path("k"), json={"value": 1}, headers=star), "applied", 1, 1, 201)
    problem = refused(
        client.put(path("k"), json={"value": 2}, headers=star), 412, "precondition-failed"
    )
    assert problem["document"]["value"] == 1
    client.delete(path("k"))
    wrote(client.put(path("k"), json={"value": 3}, headers=star), "applied", 3, 3, 201)


@pytest.mark.parametrize("tag", ['"1"', '"7"', "x", ""])
def test_if_none_match_of_anything_else_on_a_write(client: httpx.Client, tag: str) -> None:
    """Such a condition was dropped in silence, and the write went through."""
    put(client, "k", 1)
    answer = client.put(path("k"), json={"value": 2}, headers={"If-None-Match": tag})
    refused(answer, 400, "invalid-request")
    assert version(client, "k") == 1


def test_a_retry_under_if_match_is_a_duplicate(client: httpx.Client) -> None:
    """A lost answer must not turn into a refusal: the retry finds its own write."""
    put(client, "k", 1)
    body = {"value": 2, "id": str(uuid4())}
    headers = {"If-Match": '"1"'}
    wrote(client.put(path("k"), json=body, headers=headers), "applied", 2, 2)
    wrote(client.put(path("k"), json=body, headers=headers), "duplicate", 2, 2)


@pytest.mark.parametrize(
    "header", ["return=minimal", "RETURN=minimal", 'respond-async, return="minimal"; x=1']
)
def test_prefer_return_minimal(client: httpx.Client, header: str) -> None:
    """A client that knows what it wrote need not be sent it (RFC 7240)."""
    headers = {"Prefer": header}
    answer = client.put(path("k"), json={"value": 1}, headers=headers)
    assert "value" not in answer.json()
    assert answer.json()["outcome"] == "applied"
    assert answer.headers["preference-applied"] == "return=minimal"
    for other in (
        client.patch(path("k"), json={"id": str(uuid4()), "operations": []}, headers=headers),
        client.post(path("k") + "/revisions/1/restore", headers=headers),
        client.delete(path("k"), headers=headers),
    ):
        assert "value" not in other.json()
    whole = client.put(path("k"), json={"value": 1}, headers={"Prefer": "return=representation"})
    assert whole.json()["value"] == 1
    assert "preference-applied" not in whole.headers


# --- receipts ------------------------------------------------------------------------------------


def test_receipt_says_who_decided(client: httpx.Client) -> None:
    """Every merge can explain itself, path by path."""
    put(client, "game_stats", {"score": 5, "games_played": 1, "name": "x"}, base=0, device="a")
    put(client, "game_stats", {"score": 9, "games_played": 2, "name": "x"}, base=1, device="a")
    answer = client.put(
        path("game_stats"),
        params={"receipt": "true"},
        json={
            "value": {"score": 7, "games_played": 2, "name": "y"},
            "base": 1,
            "device": "b",
        },
    )
    assert answer.json()["receipt"] == [
        {
            "path": "/games_played", "rule": "counter", "decided": "both",
            "base": 1, "yours": 2, "current": 2, "result": 3,
        },
        {
            "path": "/name", "rule": "last_write_wins", "decided": "yours",
            "base": "x", "yours": "y", "current": "x", "result": "y",
        },
        {
            "path": "/score", "rule": "maximum", "decided": "current",
            "base": 5, "yours": 7, "current": 9, "result": 9,
        },
    ]  # fmt: skip
    kept = client.get(path("game_stats") + "/revisions/3", params={"receipt": "true"}).json()
    assert kept["receipt"] == answer.json()["receipt"]


def test_receipt_does_not_call_a_left_out_field_taken_away(client: httpx.Client) -> None:
    """The receipt of a write showed every field that it left out as one that it had removed."""
    put(client, "game_stats", {"score": 5, "name": "x"}, base=0, device="a")
    for base in (1, 1):
        score = 6 + version(client, "game_stats")
        answer = client.put(
            path("game_stats"),
            params={"receipt": "true"},
            json={"value": {"score": score}, "base": base, "device": "a"},
        )
        assert [entry["path"] for entry in answer.json()["receipt"]] == ["/score"]


def test_receipt_of_a_first_write_and_of_none(client: httpx.Client) -> None:
    """A write that made the document explains itself too; without asking there is no receipt."""
    asked = {"receipt": "true"}
    first = client.put(path("k"), params=asked, json={"value": 1, "base": 0}).json()
    assert first["receipt"] == [
        {"path": "", "rule": "last_write_wins", "decided": "yours", "yours": 1, "result": 1}
    ]
    same = client.put(path("k"), params=asked, json={"value": 1, "base": 1}).json()
    assert same["receipt"] == []
    plain = client.put(path("k"), params={"receipt": "false"}, json={"value": 2}).json()
    assert "receipt" not in plain


# --- clocks --------------------------------------------------------------------------------------


def test_an_edit_from_the_far_future_does_not_win_for_ever(client: httpx.Client) -> None:
    """An edit never lies in the future, or one wrong clock would lock a field for years."""
    put(client, "k", "base", base=0, device="a")
    put(client, "k", "future", base=1, device="a", edited_at=now_ms() + 10**11)
    time.sleep(0.01)
    wrote(put(client, "k", "later", base=1, device="b"), "merged", 3, "later")
    wrote(put(client, "k", "huge", base=1, device="a", edited_at=10**30), "merged", 4, "huge")


@pytest.mark.parametrize("edited_at", [OLD_MS, 0, -1, -(10**30)])
def test_an_edit_from_the_far_past_loses_and_is_not_refused(
    client: httpx.Client, edited_at: int
) -> None:
    """The time of the edit decides, not that of its arrival; no clock is wrong enough to refuse."""
    put(client, "k", "base", base=0, device="a")
    put(client, "k", "new", base=1, device="a")
    wrote(put(client, "k", "old", base=1, device="b", edited_at=edited_at), "unchanged", 2, "new")
    # What it saw, it beats, whatever its clock says.
    wrote(put(client, "k", "seen", base=2, device="b", edited_at=edited_at), "applied", 3, "seen")


def test_a_slow_clock_is_set_right_by_sent_at(client: httpx.Client) -> None:
    """A clock that is a day behind when it sends was a day behind when the edit was made."""
    day = 86_400_000
    start = now_ms()
    put(client, "k", "base", base=0, device="a", edited_at=start - 60_000)
    put(client, "k", "half a minute ago", base=1, device="a", edited_at=start - 30_000)
    behind = {"edited_at": start - day - 10_000, "sent_at": now_ms() - day}
    wrote(
        put(client, "k", "ten seconds ago", base=1, device="b", **behind),
        "merged",
        3,
        "ten seconds ago",
    )
    ahead = {"edited_at": start + day - 20_000, "sent_at": now_ms() + day}
    wrote(
        put(client, "k", "twenty seconds ago", base=1, device="c", **ahead),
        "unchanged",
        3,
        "ten seconds ago",
    )


def test_two_minutes_of_skew_are_let_be(client: httpx.Client) -> None:
    """Within two minutes the clock may be right and the network slow, so nothing is shifted."""
    start = now_ms()
    put(client, "k", "base", base=0, device="a", edited_at=start - 200_000)
    put(client, "k", "a minute ago", base=1, device="a", edited_at=start - 60_000)
    slow = {"edited_at": start - 100_000, "sent_at": now_ms() - 90_000}
    wrote(put(client, "k", "older", base=1, device="b", **slow), "unchanged", 2, "a minute ago")


# --- ids and devices -----------------------------------------------------------------------------


def test_the_same_id_counts_once(client: httpx.Client) -> None:
    """A retry may come at any time, on any base and from any device name, and changes nothing."""
    put(client, "game_stats", {"games_played": 0}, base=0, device="a")
    one = {"id": str(uuid4()), "device": "a"}
    put(client, "game_stats", {"games_played": 1}, base=1, **one)
    put(client, "game_stats", {"games_played": 2}, base=2, device="a")
    for retry in ({"base": 1}, {"base": 3}, {}, {"edited_at": 5}):
        answer = put(client, "game_stats", {"games_played": 1}, **one, **retry)
        wrote(answer, "duplicate", 3, {"games_played": 2})
    spaced = client.put(
        path("game_stats"),
        content=f'{{ "value": {{ "games_played" : 1 }}, "id": "{one["id"].upper()}" }}',
    )
    assert spaced.json()["outcome"] == "duplicate"


def test_the_same_id_for_something_else_is_an_error(client: httpx.Client) -> None:
    """Taken for a duplicate, the second write would be lost in silence."""
    used = str(uuid4())
    put(client, "k", 1, id=used)
    refused(put(client, "k", 2, id=used), 422, "id-reused")
    refused(put(client, "other", 1, id=used), 422, "id-reused")
    refused(client.delete(path("k"), params={"id": used}), 422, "id-reused")
    refused(client.patch(path("k"), json={"id": used, "set": {"a": 1}}), 422, "id-reused")
    refused(client.post(path("k") + "/revisions/1/restore", json={"id": used}), 422, "id-reused")
    assert (version(client, "k"), version(client, "other")) == (1, 0)


def test_ids_belong_to_the_account(service: CheckedService) -> None:
    """One account must not be able to use up, or find out, the ids of another."""
    used = str(uuid4())
    for number in range(2):
        with service.client() as client:
            wrote(put(client, "k", number, id=used), "applied", 1, number, 201)


def test_a_refused_write_does_not_use_up_its_id(client: httpx.Client) -> None:
    """What was refused may be corrected and sent again under the same id."""
    put(client, "game_stats", GAME, base=0, device="a")
    used = str(uuid4())
    refused(put(client, "game_stats", GAME | {"games_played": 2}, id=used), 409, "base-unknown")
    answer = put(client, "game_stats", GAME | {"games_played": 2}, id=used, base=1, device="a")
    wrote(answer, "applied", 2, GAME | {"games_played": 2})


def test_only_counters_need_a_device(client: httpx.Client) -> None:
    """What a missing device costs is counting, and nothing else."""
    refused(put(client, "game_stats", {"games_played": 1}, base=0), 422, "device-required")
    assert version(client, "game_stats") == 0
    wrote(put(client, "game_stats", {"score": 4}, base=0), "applied", 1, {"score": 4}, 201)
    put(client, "game_stats", {"score": 4, "games_played": 2}, base=1, device="a")
    # Sent along unchanged, a counter needs no device.
    answer = put(client, "game_stats", {"score": 5, "games_played": 2}, base=2)
    wrote(answer, "applied", 3, {"score": 5, "games_played": 2})
    problem = refused(
        put(client, "game_stats", {"score": 6, "games_played": 3}, base=3), 422, "device-required"
    )
    assert version(client, "game_stats") == 3
    assert "device" in problem["detail"]
