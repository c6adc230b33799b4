"""What is said on one socket: hello, changes, pokes, pushes."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from app.live.types import Push
from app.sync.types import SyncRequest
from tests.conftest import Service
from tests.live.talk import Json, opened, talking, until
from tests.sync.wire import forge_cursor, open_cursor, patch, put, sync

Start = Callable[..., Service]


def keys(frame: Json) -> list[str]:
    return [change["key"] for change in frame["changes"]]


async def test_the_first_changes_say_that_a_device_has_caught_up(
    service: Service, account: str
) -> None:
    """A client shows `up to date` only once it knows, so an empty frame has to come too."""
    with service.client(account) as client:
        client.put("/v1/documents/a", json={"value": 1})
        cursor = sync(client)["cursor"]
    async with talking(service.url, account, cursor=cursor) as up_to_date:
        assert up_to_date.first == {"type": "changes", "cursor": cursor, "changes": []}
    async with talking(service.url, account) as new:
        assert keys(new.first) == ["a"]
        assert new.first["cursor"] == cursor
    async with talking(service.url, f"{account}-empty") as nobody:
        assert open_cursor(nobody.first["cursor"])[1] == 0


async def test_a_change_reaches_every_socket_of_the_account_and_no_other(
    service: Service, account: str
) -> None:
    """Another account's data on a socket would be the worst bug of all."""
    async with (
        talking(service.url, account, "d1") as one,
        talking(service.url, account, "d2") as two,
        talking(service.url, f"{account}-other", "d1") as stranger,
    ):
        with service.client(account) as client:
            client.put("/v1/documents/a", json={"value": {"n": 1}, "device": "d3"})
        for talk in (one, two):
            frame = await talk.next("changes")
            (change,) = frame["changes"]
            assert (change["key"], change["value"], change["device"]) == ("a", {"n": 1}, "d3")
        assert [frame["type"] for frame in await stranger.quiet()] in ([], ["presence"])


async def test_a_delete_is_a_change(service: Service, account: str) -> None:
    """A tombstone that did not come would leave the document on the other screen."""
    async with talking(service.url, account) as talk:
        with service.client(account) as client:
            client.put("/v1/documents/a", json={"value": 1})
            await talk.next("changes")
            client.delete("/v1/documents/a")
        (change,) = (await talk.next("changes"))["changes"]
        assert (change["deleted"], change["value"], change["version"]) == (True, None, 2)


async def test_a_push_is_answered_as_a_sync(service: Service, account: str) -> None:
    """A client keeps one piece of code for what came of its mutations."""
    mutations = [put("a", {"n": 1}, base=0), patch("user_stats", delta={"xp": 1}), put("", 1)]
    with service.client(account) as client:
        by_http = sync(client, *mutations, device="d1")
    async with talking(service.url, f"{account}-2") as talk:
        by_socket = await talk.push(*mutations, cursor=None)
        again = await talk.push(*mutations, cursor=None)
    told = [{k: v for k, v in r.items() if k != "updated_at"} for r in by_socket["results"]]
    expected = [{k: v for k, v in r.items() if k != "updated_at"} for r in by_http["results"]]
    assert told == expected
    assert by_socket.keys() == {*by_http.keys(), "type", "ref"}
    assert [r["outcome"] for r in again["results"]] == ["duplicate", "duplicate", "rejected"]


async def test_a_push_names_the_device_and_the_position_of_its_socket(
    service: Service, account: str
) -> None:
    """What a client said in its hello it need not say again with every edit."""
    async with (
        talking(service.url, account, "d1") as one,
        talking(service.url, account, "d2") as two,
    ):
        first = await one.push(put("a", 1))
        (change,) = (await two.next("changes"))["changes"]
        assert change["device"] == "d1"
        answer = await two.push(patch("user_stats", delta={"xp": 5}))
        assert answer["changes"] == []  # "a" came before
        assert open_cursor(answer["cursor"])[1] == open_cursor(first["cursor"])[1] + 1
        assert keys(await one.next("changes")) == ["user_stats"]


async def test_what_came_with_a_push_is_not_sent_again(service: Service, account: str) -> None:
    """The answer moves the socket on, so that each change costs its bytes once."""
    async with talking(service.url, account, "d1") as talk:
        await talk.push(put("a", 1), put("b", 2))
        assert [frame["type"] for frame in await talk.quiet()] == ["presence"]


async def test_a_push_on_an_older_cursor_takes_the_socket_back(
    service: Service, account: str
) -> None:
    """A client whose storage failed says so by its cursor: from there on nothing is left out."""
    async with talking(service.url, account, "d1") as talk:
        start = talk.first["cursor"]
        for key in ("a", "b", "c"):
            await talk.push(put(key, 1))
        answer = await talk.push(cursor=start, limit=1)
        assert (keys(answer), answer["more"]) == (["a"], True)
        assert keys(await talk.push()) == ["b", "c"]
        assert keys(await talk.push(cursor=None)) == ["a", "b", "c"]


async def test_until_a_client_has_pulled_to_the_end_it_is_only_poked(
    service: Service, account: str
) -> None:
    """Changes sent past a gap would come with a cursor that hides the gap."""
    async with talking(service.url, account, "d1") as talk:
        for key in ("a", "b", "c"):
            await talk.push(put(key, 1))
        answer = await talk.push(cursor=None, limit=1)
        assert answer["more"]
        with service.client(account) as client:
            client.put("/v1/documents/d", json={"value": 1})
        assert await talk.next("poke", "changes") == {"type": "poke"}
        assert keys(await talk.push()) == ["b", "c", "d"]
        with service.client(account) as client:
            client.put("/v1/documents/e", json={"value": 1})
        assert keys(await talk.next("poke", "changes")) == ["e"]


async def test_what_is_large_is_a_poke(start_service: Start, account: str) -> None:
    """A phone decides for itself when it loads a lot; the cursor stays where it was."""
    service = start_service(live_changes=3, live_change_bytes=1_000)
    async with talking(service.url, account, "d1") as talk:
        start = talk.first["cursor"]
        with service.client(account) as client:
            client.put("/v1/documents/large", json={"value": "x" * 2_000})
            assert await talk.next("poke", "changes") == {"type": "poke"}
            answer = await talk.push()
            assert keys(answer) == ["large"]
            sync(client, *(put(f"k{n}", n) for n in range(3)))
            assert keys(await talk.next("poke", "changes")) == ["k0", "k1", "k2"]
            sync(client, *(put(f"m{n}", n) for n in range(4)))
            assert await talk.next("poke", "changes") == {"type": "poke"}
    async with talking(service.url, account, "d2", start) as late:
        assert late.first == {"type": "changes", "cursor": start, "changes": []}
        assert await late.next("poke", "changes") == {"type": "poke"}
        assert len((await late.push())["changes"]) == 8


async def test_pulling_by_http_and_saying_so_ends_the_pokes(
    start_service: Start, account: str
) -> None:
    """A client may pull large things where they can be cached or compressed."""
    service = start_service(live_change_bytes=100)
    async with talking(service.url, account, "d1") as talk:
        with service.client(account) as client:
            client.put("/v1/documents/large", json={"value": "x" * 2_000})
            await talk.next("poke")
            cursor = sync(client, cursor=talk.first["cursor"])["cursor"]
            assert (await talk.push(cursor=cursor))["changes"] == []
            client.put("/v1/documents/small", json={"value": 1})
        assert keys(await talk.next("changes", "poke")) == ["small"]


@pytest.mark.parametrize("text", ["00000000.5", "{era}.99"])
async def test_a_cursor_of_a_lost_past_is_a_resync(
    service: Service, account: str, text: str
) -> None:
    """After a restore a socket must not go on as if nothing had happened, nor be closed for it."""
    with service.client(account) as client:
        era, _ = open_cursor(sync(client, put("a", 1))["cursor"])
    lost = forge_cursor(text.format(era=era))
    async with opened(service.url) as talk:
        await talk.hello(account, "d1", lost)
        frame = await talk.next("changes", "resync")
        assert (frame["type"], frame["reason"]) == ("resync", "cursor-expired")
        assert frame["problem"]["code"] == "cursor-expired"
        await talk.send("push", ref="x", mutations=[put("b", 1)])
        problem = await talk.next("problem", "pushed")
        assert (problem["ref"], problem["problem"]["code"]) == ("x", "cursor-expired")
        answer = await talk.push(cursor=None)
        assert keys(answer) == ["a"]
        with service.client(account) as client:
            client.put("/v1/documents/c", json={"value": 1})
        assert keys(await talk.next("changes", "poke")) == ["c"]


async def test_a_push_that_fails_as_a_whole_says_which(service: Service, account: str) -> None:
    """The socket stays, and the next push is answered."""
    async with talking(service.url, account) as talk:
        await talk.send("push", ref=7, mutations=[], cursor="nonsense")
        frame = await talk.next("problem")
        assert (frame["ref"], frame["problem"]["code"]) == (7, "malformed-cursor")
        for ref, (type, wrong) in enumerate((("push", {"mutations": "none"}), ("sing", {}))):
            await talk.send(type, ref=ref, **wrong)
            frame = await talk.next("problem")
            assert (frame["ref"], frame["problem"]["code"]) == (ref, "invalid-request")
        await talk.send("push", ref=-1)
        assert "ref" not in await talk.next("problem")
        assert (await talk.push(put("a", 1)))["results"][0]["outcome"] == "applied"


async def test_a_push_takes_what_a_sync_takes(service: Service, account: str) -> None:
    """A client has one outbox for both ways; `pending` was refused here for a while."""
    assert set(SyncRequest.__struct_fields__) <= set(Push.__struct_fields__)
    async with talking(service.url, account, "d1") as talk:
        await talk.push(put("a", 1), pending=3)
    with service.operator() as operator:
        path = f"/v1/admin/accounts/{account}/devices"
        await until(
            lambda: [d["pending"] for d in operator.get(path).json()["devices"]] == [3],
            "the device was not noted",
        )


async def test_a_copied_store_is_told_over_a_socket_too(service: Service, account: str) -> None:
    """`previous` means what it means by HTTP."""
    async with talking(service.url, account, "d1") as talk:
        first = put("a", 1)
        await talk.push(first, previous=None)
        await talk.send("push", mutations=[put("a", 2)], previous=str(uuid4()))
        assert (await talk.next("problem"))["problem"]["code"] == "device-forked"


async def test_a_ping_is_answered(service: Service, account: str) -> None:
    """A browser has no other way to find out whether its socket still lives."""
    async with talking(service.url, account) as talk:
        await talk.send("ping")
        assert (await talk.next("pong")).keys() == {"type", "server_time"}
        await talk.send("ping", ref="again")
        assert (await talk.next("pong"))["ref"] == "again"


async def test_health_counts_sockets_and_accounts(start_service: Start, account: str) -> None:
    """An operator sees whether anybody is connected."""
    service = start_service()
    with service.client() as client:
        async with (
            talking(service.url, account, "d1"),
            talking(service.url, account, "d2"),
            talking(service.url, f"{account}-2"),
        ):
            health = client.get("/health").json()
            assert (health["connected_clients"], health["connected_accounts"]) == (3, 2)


async def test_other_addresses_have_no_sockets(service: Service) -> None:
    """What is no live socket goes to the router, which has none."""
    with pytest.raises(Exception, match="HTTP 403"):
        async with opened(f"{service.url}/v2"):
            pass
