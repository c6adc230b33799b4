"""What the machine found, shrunk and kept: each was a bug, or still is one."""

from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.conftest import Service
from tests.simulation.hunt import machine_on, model_maker
from tests.simulation.machine import DAY_MS, Devices
from tests.simulation.model import Model
from tests.simulation.server import HISTORY
from tests.sync.wire import Json, documents, outcomes, patch, post, put, refused, sync


@pytest.fixture
def client(start_service: Callable[..., Service]) -> Iterator[httpx.Client]:
    """A client of a service that forgets bases as soon as the machine's does."""
    with start_service(history=HISTORY).client() as running:
        yield running


@pytest.fixture
def machine() -> Devices:
    """The machine on the model, to be led by hand."""
    return machine_on(model_maker(Model), Counter())()


def forget(client: httpx.Client, key: str, name: str) -> None:
    """Another device writes so often that the versions before are forgotten."""
    writes = [patch(key, delta={name: 1}) for _ in range(HISTORY + 1)]
    sync(client, *writes, device="other")


def test_a_count_below_zero_on_a_forgotten_base(client: httpx.Client) -> None:
    """What a device had seen is made up from its value where the base is forgotten. A made-up
    count below zero lost against a missing one, so the second of two edits came out short."""
    sync(client, patch("user_stats", delta={"xp": -1}), device="other")
    forget(client, "user_stats", "xp")
    sync(
        client,
        put("user_stats", {"xp": 0}, 1, base_value={"xp": -1}),
        put("user_stats", {"xp": 1}, 1, base_value={"xp": 0}),
    )
    assert documents(client) == {"user_stats": {"xp": HISTORY + 2}}


def test_two_edits_of_a_new_document_in_one_moment(client: httpx.Client) -> None:
    """A whole document under last write wins has no state before its first write, which was
    taken for a forgotten base: the device's own first edit beat its second."""
    moment = {"edited_at": 1_764_000_000_000}
    first, second = put("note", "b", 0, **moment), put("note", "a", 0, **moment)
    assert outcomes(sync(client, first, second)) == ["applied", "merged"]
    assert documents(client) == {"note": "a"}


def test_an_edit_on_top_of_what_a_copy_had_sent(client: httpx.Client) -> None:
    """A copy of the store sent the first edit under the old device id. The second builds on it,
    and came in under a new one, which was not known to have seen it: it counted twice."""
    shared = patch("user_stats", delta={"xp": 1})
    sync(client, shared, device="d1")
    sync(client, shared, put("user_stats", {"xp": 2}, 0), device="d9")
    assert documents(client) == {"user_stats": {"xp": 2}}


def test_counts_on_a_made_up_copy_that_another_device_left(client: httpx.Client) -> None:
    """Two copies of a store share an edit whose base is forgotten. What one of them had seen was
    made up for its new device id; the other inherits that with the duplicate, and counts on it
    as if it had never counted itself, so that its older counts hide the new one."""
    counts = [patch("user_stats", delta={"xp": 1}) for _ in range(2)]
    sync(client, *counts, device="d1")
    forget(client, "user_stats", "hearts")
    shared = put("user_stats", {"xp": 2, "theme": "a"}, 2, base_value={"xp": 2})
    sync(client, shared, device="d9")
    more = put("user_stats", {"xp": 3, "theme": "a"}, 2, base_value={"xp": 2, "theme": "a"})
    sync(client, shared, more, device="d1")
    held = documents(client)["user_stats"]
    assert held == {"xp": 3, "theme": "a", "hearts": HISTORY + 1}


def test_a_copy_is_told_though_the_last_mutation_is_shared(client: httpx.Client) -> None:
    """The original's last mutation is one that the copy holds too, since it was refused at
    first; what the original sent before it the copy does not know, and it builds on less."""
    begin = put("settings", {"made": 1}, 0)
    sync(client, begin, previous=None)
    for number in range(HISTORY + 1):
        sync(client, patch("settings", set={"theme": str(number)}), device="other")
    shared = put("settings", {"made": 2}, 1)
    alone = put("user_stats", {"xp": 5}, 0)
    first = sync(client, shared, alone, previous=begin["id"])
    assert outcomes(first) == ["rejected", "applied"]
    sync(client, shared | {"base_value": {"made": 1}}, previous=alone["id"])
    copied: list[Json] = [shared, put("user_stats", {"xp": 1}, 0)]
    refused(post(client, *copied, previous=begin["id"]), 409, "device-forked")


def test_a_late_request_of_a_copy_that_has_a_new_id_by_now(client: httpx.Client) -> None:
    """A copy of a store was told from it, and sent its edit under a new device id. Its first
    request, under the old id, arrives late: the edit counted as known to the store that never saw
    it, whose next write then took it back."""
    begin = patch("user_stats", delta={"xp": 1})
    sync(client, begin, previous=None)
    copied = put("user_stats", {"xp": 3}, 0)
    refused(post(client, copied, previous=None), 409, "device-forked")
    sync(client, copied, device="d9")
    assert outcomes(sync(client, copied, previous=None)) == ["duplicate"]
    sync(client, put("user_stats", {"xp": 2}, 1), previous=begin["id"])
    assert documents(client) == {"user_stats": {"xp": 5}}


def test_a_refused_edit_does_not_come_in_behind_a_later_one(machine: Devices) -> None:
    """A store that turns out to be a copy says what its edits were made on. It said so for those
    made on each other and not for the first of them, which then was refused and came in last."""
    machine.begin(skews=[0, 0, 0], seeded=False)
    machine.clone(who=2)
    machine.choose(choice=0, place=("settings", "theme"), who=3)
    machine.choose(choice=0, place=("user_stats", "theme"), who=0)
    for who in (0, 2, 3):
        machine.sync(who=who)
    machine.a_busy_hour(place=("user_stats", "xp"), who=0)
    machine.choose_and_undo(first=1, place=("user_stats", "theme"), who=2)
    machine.teardown()


def test_a_copy_brings_an_edit_again_after_a_later_one(machine: Devices) -> None:
    """A restored server lost a PATCH that it had acknowledged; the edit made on it was refused at
    first, and comes alone. Then a copy of the store brings both. A PATCH is made on the document as
    it is, so nobody can say any more which of the two is the later one: the books said so."""
    place = ("settings", "theme")
    machine.begin(skews=[0, 0, 0], seeded=True)
    machine.choose_by_patch(choice=0, who=0)
    machine.come_back_after_folding(elapsed=100 * DAY_MS, other=0, place=place, who=0)
    machine.back_up_or_restore_the_server()
    machine.back_up_or_restore_a_store(who=0)
    machine.fold(elapsed=100 * DAY_MS)
    machine.sync(who=0)
    machine.back_up_or_restore_the_server()
    machine.teardown()
