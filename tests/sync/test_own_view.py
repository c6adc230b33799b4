"""What a device has itself proposed is never held against it: the finer cases of the own view."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.conftest import Service
from tests.sync.wire import delete, outcomes, patch, put, sync

StartService = Callable[..., Service]


def value(client: httpx.Client, key: str) -> Any:
    return client.get(f"/v1/documents/{key}").json()["value"]


@pytest.mark.parametrize("together", [True, False])
def test_more_edits_on_one_base_than_the_history_holds(
    start_service: StartService, together: bool
) -> None:
    """A long offline session evicts its own base from the ring, and nobody else wrote at all."""
    with start_service(history=4).client() as client:
        sync(client, put("settings", {"theme": "t0"}, 0), put("note", "n0", 0), device="d0")
        edits = [
            put(key, value, 1, edited_at=1_700_000_000_000 + number)
            for number in range(12)
            for key, value in (("settings", {"theme": f"t{number}"}), ("note", f"n{number}"))
        ]
        answers = (
            [sync(client, *edits, device="d1")]
            if together
            else [sync(client, edit, device="d1") for edit in edits]
        )
        assert "rejected" not in [one for answer in answers for one in outcomes(answer)]
        assert value(client, "settings") == {"theme": "t11"}
        assert value(client, "note") == "n11"


def test_the_first_writes_of_a_device_outlive_the_history(start_service: StartService) -> None:
    """Base 0 is always known; what the device added to it must be as well."""
    with start_service(history=4).client() as client:
        first = [put("user_stats", {"xp": 10}, 0), put("user_stats", {"xp": 20, "hearts": 5}, 0)]
        sync(client, *first, device="d1")
        for number in range(8):
            sync(client, patch("user_stats", delta={"level_ups": number + 1}), device="d2")
        third = put("user_stats", {"xp": 25, "hearts": 3}, 0)
        answer = sync(client, *first, third, device="d1")
        assert outcomes(answer) == ["duplicate", "duplicate", "merged"]
        now = value(client, "user_stats")
        assert (now["xp"], now["hearts"]) == (25, 3)


def test_the_first_writes_of_a_device_outlive_a_batch(start_service: StartService) -> None:
    """The same where one request holds more versions than the history."""
    with start_service(history=2).client() as client:
        sync(client, put("user_stats", {"xp": 10}, 0), device="d1")
        sync(client, *(patch("user_stats", delta={"n": 1}) for _ in range(5)), device="d2")
        sync(client, put("user_stats", {"xp": 25}, 0), device="d1")
        assert value(client, "user_stats")["xp"] == 25


@pytest.mark.parametrize("together", [True, False])
def test_an_edit_that_agrees_with_the_document_is_remembered(
    client: httpx.Client, together: bool
) -> None:
    """Removed by another device and by this one; then this one brings it back, on its old base."""
    sync(client, put("settings", {"ai_themes": {"k": "v"}}, 0), device="d1")
    sync(client, put("settings", {"ai_themes": {}}, 1), device="d2")
    edits = [put("settings", {"ai_themes": {}}, 1), put("settings", {"ai_themes": {"k": "v"}}, 1)]
    if together:
        sync(client, *edits, device="d1")
    else:
        for edit in edits:
            sync(client, edit, device="d1")
    assert value(client, "settings") == {"ai_themes": {"k": "v"}}


@pytest.mark.parametrize("together", [True, False])
def test_a_copied_store_sends_what_the_original_has_sent(
    client: httpx.Client, together: bool
) -> None:
    """Under its new device id, a clone's count builds on an edit that came with the original."""
    sync(client, put("user_stats", {"xp": 100}, 0), device="d0")
    shared = put("user_stats", {"xp": 110}, 1)
    sync(client, shared, put("user_stats", {"xp": 112}, 1), device="d1")
    own = put("user_stats", {"xp": 115}, 1)
    if together:
        assert outcomes(sync(client, shared, own, device="d9")) == ["duplicate", "merged"]
    else:
        sync(client, shared, device="d9")
        sync(client, own, device="d9")
    assert value(client, "user_stats") == {"xp": 117}


def test_a_write_on_an_unknown_base_does_not_hide_earlier_ones(client: httpx.Client) -> None:
    """The chain of a device's proposals goes through a write that named no base."""
    sync(client, put("settings", {"theme": "dark"}, 0), device="d0")
    sync(client, put("settings", {"theme": "light"}, 1), device="d1")
    both = {"theme": "light", "q": 1}
    sync(client, put("settings", both, None, base_value={"theme": "light"}), device="d1")
    sync(client, put("settings", {"theme": "dark", "q": 1}, 1), device="d1")
    assert value(client, "settings") == {"theme": "dark", "q": 1}


def test_a_device_writes_on_after_its_own_delete(client: httpx.Client) -> None:
    """Offline it cannot know the version that its delete will have, but it has seen it."""
    sync(client, put("notes", "a", 0))
    answer = sync(client, delete("notes", 1), put("notes", "b", 1), put("notes", "c", 1))
    assert outcomes(answer) == ["applied", "applied", "merged"]
    assert value(client, "notes") == "c"
    sync(client, delete("notes", 1))
    assert client.get("/v1/documents/notes").status_code == 410


def test_a_device_makes_a_document_again_that_it_made_and_deleted(client: httpx.Client) -> None:
    """All offline, so all on base 0, and sent one by one."""
    for mutation in (put("notes", "a", 0), delete("notes", 0), put("notes", "b", 0)):
        assert outcomes(sync(client, mutation)) in (["applied"], ["merged"])
    assert value(client, "notes") == "b"


def test_a_device_writes_on_after_its_own_reset(client: httpx.Client) -> None:
    """The same for `reset`, over two requests."""
    sync(client, put("user_stats", {"xp": 5}, 0))
    reset = [{"op": "reset"}, {"op": "set", "path": "/xp", "value": 1}]
    sync(client, patch("user_stats", operations=reset, base=1))
    answer = sync(client, put("user_stats", {"xp": 3}, 1))
    assert outcomes(answer) == ["applied"]
    assert value(client, "user_stats") == {"xp": 3}


def test_others_have_not_seen_a_delete(client: httpx.Client) -> None:
    """Only the device that deleted is let through: from others an old edit is superseded."""
    sync(client, put("user_stats", {"xp": 5}, 0), device="d1")
    sync(client, delete("user_stats", 1), device="d2")
    late = [put("user_stats", {"xp": 9}, 1), patch("user_stats", delta={"xp": 4}, base=1)]
    assert outcomes(sync(client, *late, device="d1")) == ["superseded", "superseded"]
    assert client.get("/v1/documents/user_stats").status_code == 410


def test_many_operations_on_one_document_cost_no_square(client: httpx.Client) -> None:
    """Each mutation once decoded and joined all that came before it in the batch."""
    fields = {f"field_{number}": "x" * 50 for number in range(100)}
    sync(client, put("settings", fields, 0))
    edits = [patch("settings", set={f"field_{n % 100}": n}, base=1) for n in range(300)]
    assert set(outcomes(sync(client, *edits))) == {"applied"}
