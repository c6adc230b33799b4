"""`previous`: telling a copied local store from one whose answers were lost."""

from collections.abc import Callable
from uuid import uuid4

import httpx

from tests.conftest import Service
from tests.sync.database import REFUSE_POISON, fetch
from tests.sync.wire import (
    Json,
    documents,
    outcomes,
    patch,
    post,
    pull,
    put,
    refused,
    sync,
)


def add(amount: int) -> Json:
    return patch("user_stats", delta={"xp": amount})


def test_the_first_sync_of_a_device(client: httpx.Client) -> None:
    """A new store knows of no mutation, and neither does the server."""
    assert outcomes(sync(client, add(1), previous=None)) == ["applied"]


def test_a_device_that_goes_on_where_it_was(client: httpx.Client) -> None:
    """The common case must never be taken for a fork."""
    last = None
    for _ in range(3):
        one, two = add(1), add(1)
        sync(client, one, two, previous=last)
        last = two["id"]
    assert documents(client) == {"user_stats": {"xp": 6}}


def test_a_clone_is_told_and_nothing_of_it_is_done(client: httpx.Client) -> None:
    """Two stores with one device id would overwrite each other's counts."""
    first = add(1)
    sync(client, first, previous=None)
    theirs, mine = add(10), add(100)
    sync(client, theirs, previous=first["id"])
    problem = refused(post(client, mine, previous=first["id"]), 409, "device-forked")
    assert "new random device id" in problem["detail"]
    assert documents(client) == {"user_stats": {"xp": 11}}
    assert outcomes(sync(client, mine, device="d9", previous=None)) == ["applied"]
    assert documents(client) == {"user_stats": {"xp": 111}}


def test_a_store_from_before_its_first_sync_is_a_clone_too(client: httpx.Client) -> None:
    """null says that the store knows of no mutation; the server knows one."""
    sync(client, add(1), previous=None)
    refused(post(client, add(2), previous=None), 409, "device-forked")


def test_absent_asks_for_no_check(client: httpx.Client) -> None:
    """A client that does not keep `previous` can sync; it is only not told of clones."""
    sync(client, add(1), previous=None)
    assert outcomes(sync(client, add(2))) == ["applied"]
    assert documents(client) == {"user_stats": {"xp": 3}}


def test_without_a_device_there_is_nothing_to_fork(client: httpx.Client) -> None:
    """`previous` speaks of a device; alone it says nothing."""
    sync(client, put("a", 1, 0), device=None, previous=None)
    assert outcomes(sync(client, put("b", 1, 0), device=None, previous=str(uuid4()))) == ["applied"]


def test_a_pull_is_never_a_fork(client: httpx.Client) -> None:
    """Nothing is written, so nothing can be overwritten."""
    sync(client, add(1), previous=None)
    assert post(client, previous=None).status_code == 200
    assert post(client, previous=str(uuid4())).status_code == 200


def test_a_lost_answer_is_sent_again(client: httpx.Client) -> None:
    """The store knows nothing of what the lost answer said, and is itself all the same."""
    one, two, three = add(1), add(10), add(100)
    sync(client, one, two, previous=None)
    assert outcomes(sync(client, one, two, previous=None)) == ["duplicate", "duplicate"]
    more = sync(client, one, two, three, previous=None)
    assert outcomes(more) == ["duplicate", "duplicate", "applied"]
    assert documents(client) == {"user_stats": {"xp": 111}}


def test_a_part_of_a_lost_request_is_sent_again(client: httpx.Client) -> None:
    """A client that halves its outbox after a time-out repeats only mutations that are known."""
    one, two, three = add(1), add(10), add(100)
    sync(client, one, two, previous=None)
    assert outcomes(sync(client, one, previous=None)) == ["duplicate"]
    assert outcomes(sync(client, two, three, previous=one["id"])) == ["duplicate", "applied"]
    assert outcomes(sync(client, add(1), previous=three["id"])) == ["applied"]


def test_a_rejected_mutation_is_not_the_last_one(client: httpx.Client) -> None:
    """`previous` names what was acknowledged; a rejection acknowledges nothing."""
    good, bad = add(1), put("user_stats", {"xp": "text"}, 1)
    assert outcomes(sync(client, good, bad, previous=None)) == ["applied", "rejected"]
    assert outcomes(sync(client, add(1), previous=good["id"])) == ["applied"]


def test_single_writes_count_as_mutations_of_the_device(client: httpx.Client) -> None:
    """A device may write one document at a time between two syncs."""
    first = add(1)
    sync(client, first, previous=None)
    body = {"id": str(uuid4()), "device": "d1", "delta": {"xp": 2}}
    assert client.patch("/v1/documents/user_stats", json=body).status_code == 200
    refused(post(client, add(4), previous=first["id"]), 409, "device-forked")
    assert outcomes(sync(client, add(4), previous=body["id"])) == ["applied"]


def test_after_a_fork_nothing_counts_twice(client: httpx.Client) -> None:
    """The clone sends the same mutations again under its new id; those that the original had
    sent already are known."""
    shared_outbox = [add(1), put("notes", "n", 0), add(10)]
    sync(client, *shared_outbox, previous=None)
    sync(client, add(100), previous=shared_outbox[-1]["id"])
    mine = add(1000)
    refused(post(client, *shared_outbox, mine, previous=None), 409, "device-forked")
    again = sync(client, *shared_outbox, mine, device="d9", previous=None)
    assert outcomes(again) == ["duplicate", "duplicate", "duplicate", "applied"]
    assert documents(client) == {"user_stats": {"xp": 1111}, "notes": "n"}


def test_other_devices_and_accounts_are_not_concerned(service: Service) -> None:
    """The last mutation is remembered by account and device."""
    with service.client() as one, service.client() as other:
        sync(one, add(1), previous=None)
        assert outcomes(sync(one, add(2), device="d2", previous=None)) == ["applied"]
        assert outcomes(sync(other, add(4), previous=None)) == ["applied"]


def test_a_write_without_an_id_leaves_the_last_mutation(client: httpx.Client) -> None:
    """It can be nobody's `previous`, so the one before it stays the last."""
    first = add(1)
    sync(client, first, previous=None)
    client.put("/v1/documents/notes", json={"value": 1, "base": 0, "device": "d1"})
    assert outcomes(sync(client, add(1), previous=first["id"])) == ["applied"]


def test_a_batch_that_fails_is_no_fork(start_service: Callable[..., Service]) -> None:
    """A failed batch is tried mutation by mutation. The answer was lost, so the device repeats
    all of it, and the one that was rejected first must not look like a stranger's alone."""
    service = start_service()
    fetch(service.database_url, REFUSE_POISON)
    with service.client() as client:
        bad, good = put("poison", 1, 0), add(1)
        first = sync(client, bad, good, previous=None)
        assert outcomes(first) == ["rejected", "applied"]
        assert first["results"][0]["problem"]["code"] == "internal"
        assert outcomes(sync(client, bad, good, previous=None)) == ["rejected", "duplicate"]
        assert [change["key"] for change in pull(client)] == ["user_stats"]
