"""Apps that speak Socket.IO: the events of the system that they come from, over our documents."""

import time
from uuid import uuid4

import httpx
import pytest

from tests.conftest import Service
from tests.socket_io.conftest import Connect

STATS = "/v1/documents/user_stats"
TRANSPORTS = (["websocket"], ["polling"], ["polling", "websocket"])


@pytest.mark.parametrize("transports", TRANSPORTS, ids="+".join)
def test_an_update_reaches_the_other_client(
    connect: Connect, account: str, transports: list[str]
) -> None:
    """This is what those apps are for: both screens show the same, whatever the transport."""
    one, other = (connect(account, transports=transports) for _ in range(2))
    for client in (one, other):
        client.wait("connect")
    one.emit("user:clientUpdate", {"xp": 10, "hearts": -1, "__set": {"level": 2}})
    answered = one.wait("user:data:updated")
    told = other.wait("user:update")
    assert answered == told
    assert {name: told[name] for name in ("xp", "hearts", "level")} == {
        "xp": 10,
        "hearts": -1,
        "level": 2,
    }
    assert told["updatedAt"].endswith("Z")
    assert one.wait("user:update") == told
    other.emit("user:clientUpdate", {"xp": 5})
    assert one.wait("user:update", xp=15)
    assert other.wait("user:data:updated", xp=15)


def test_a_client_upgrades(connect: Connect, account: str) -> None:
    """Clients begin by polling unless told otherwise, and go on by WebSocket."""
    client = connect(account)
    client.wait("connect")
    deadline = time.monotonic() + 10
    while "upgrade" not in client.names():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    client.emit("user:clientUpdate", {"xp": 1})
    client.wait("user:update", xp=1)


def test_what_others_write_reaches_the_clients(
    service: Service, connect: Connect, account: str
) -> None:
    """An app that has moved over and one that has not are the same account."""
    client = connect(account)
    client.wait("connect")
    with service.client(account) as http:
        http.put(STATS, json={"value": {"xp": 7, "max_streak": 3}, "device": "d1", "base": 0})
        assert client.wait("user:update", xp=7)["maxStreak"] == 3
        http.put("/v1/documents/settings", json={"value": {"dark": True}})
        http.delete(STATS)
    assert client.wait("user:update") == {}
    assert client.names().count("user:update") == 2, "another document is no news"


def test_names_are_those_of_the_app_outside_and_of_the_rule_inside(
    service: Service, connect: Connect, account: str
) -> None:
    """Under its own name `completedQuestions` would be no counter, and lose increments."""
    client = connect(account)
    client.wait("connect")
    client.emit(
        "user:clientUpdate",
        {"completedQuestions": 2, "__set": {"timePerQuestion": [2.5, 3], "streak": 4}},
    )
    shown = client.wait("user:data:updated")
    assert shown["completedQuestions"] == 2
    assert shown["timePerQuestion"] == [2.5, 3]
    with service.client(account) as http:
        assert http.get(STATS).json()["value"] == {
            "completed_questions": 2,
            "time_per_question": [2.5, 3],
            "streak": 4,
        }


def test_an_update_with_an_id_counts_once(connect: Connect, account: str) -> None:
    """A queue that is flushed after a lost answer sends again what was counted already."""
    client = connect(account)
    client.wait("connect")
    update = {"xp": 10, "id": str(uuid4())}
    assert client.ask("user:clientUpdate", update)["outcome"] == "applied"
    assert client.ask("user:clientUpdate", update)["outcome"] == "duplicate"
    assert client.ask("user:clientUpdate", {"xp": 1})["ok"]
    client.emit("presence:join")
    client.wait("user:data:updated", xp=11)


def test_joining_answers_with_the_stats(connect: Connect, account: str) -> None:
    """`presence:join` is how those apps ask for what there is."""
    one = connect(account)
    one.wait("connect")
    assert one.ask("presence:join", {"userId": account}) == {"ok": True}
    assert "user:data:updated" in one.names()
    one.ask("user:clientUpdate", {"xp": 3})
    other = connect(account)
    other.wait("connect")
    assert other.wait("user:update", xp=3), "a client that comes back is up to date by itself"
    other.emit("presence:join", account)
    assert other.wait("user:data:updated", xp=3)


def test_a_ping_is_answered(connect: Connect, account: str) -> None:
    client = connect(account)
    client.wait("connect")
    client.emit("presence:ping")
    assert client.wait("presence:pong")["timestamp"].endswith("Z")
    client.emit("presence:ping", {"userId": "whoever"})
    assert client.wait("presence:pong")


def test_a_client_is_present(service: Service, connect: Connect, account: str) -> None:
    """Operators see it among the clients, and its account's other devices see it, too."""
    before = httpx.get(f"{service.url}/health").json()["connected_clients"]
    client = connect(account, auth={"device": "phone-1"})
    client.wait("connect")
    assert httpx.get(f"{service.url}/health").json()["connected_clients"] == before + 1
    client.ask("user:clientUpdate", {"xp": 1})
    with service.client(account) as http:
        (revision,) = http.get(f"{STATS}/revisions").json()["revisions"]
    assert revision["device"] == "phone-1"
    client.close()
    deadline = time.monotonic() + 10
    while httpx.get(f"{service.url}/health").json()["connected_clients"] > before:
        assert time.monotonic() < deadline, "it is still counted"
        time.sleep(0.05)


def test_a_queue_that_is_flushed_at_once_is_taken_whole(connect: Connect, account: str) -> None:
    """Of a request with more than 16 packets the library would drop all, and say that it did not:
    the offline queue of a client that polls at first."""
    client = connect(account, transports=["polling"])
    for _ in range(100):
        client.emit("user:clientUpdate", {"xp": 1})
    client.wait("user:update", xp=100)


def test_a_client_that_lost_its_connection_has_what_it_missed(
    service: Service, connect: Connect, account: str
) -> None:
    """Between two connections nothing is sent, so what counts is what comes after."""
    client = connect(account)
    client.wait("connect")
    client.ask("user:clientUpdate", {"xp": 1})
    client.wait("user:update", xp=1)
    client.lose_connection()
    assert client.wait("disconnect")
    with service.client(account) as http:
        body = {"id": str(uuid4()), "device": "d1", "delta": {"xp": 41}}
        assert http.patch(STATS, json=body).status_code == 200
    client.wait("connect")
    client.wait("user:update", xp=42)


PROBLEMS = (
    ("not an object", "invalid-request"),
    ({"xp": "many"}, "wrong-type"),
    ({"xp": 1.5}, "wrong-type"),
    ({"xp": 2**53}, "invalid-value"),
    ({"__set": 3}, "invalid-request"),
    ({"totalQuestions": 1, "total_questions": 1}, "invalid-request"),
    ({"xp": 1, "id": "no uuid"}, "invalid-request"),
    ({"xp": 1, "userId": "somebody-else"}, "invalid-request"),
)


def test_what_cannot_be_done_is_told(connect: Connect, account: str) -> None:
    """By the acknowledgement, and as an event to those that ask for none; nothing is written."""
    client = connect(account)
    client.wait("connect")
    for payload, code in PROBLEMS:
        answer = client.ask("user:clientUpdate", payload)
        assert (answer["ok"], answer["problem"]["code"]) == (False, code), payload
        client.emit("user:clientUpdate", payload)
        assert client.wait("user:problem")["problem"]["code"] == code
    client.ask("user:clientUpdate", {"xp": 1})
    assert client.wait("user:update", xp=1)


def test_another_account_sees_nothing(connect: Connect, account: str) -> None:
    """Accounts never see each other, whatever a payload claims."""
    mine, theirs = connect(account), connect(f"{account}-other")
    for client in (mine, theirs):
        client.wait("connect")
    refused = theirs.ask("presence:join", {"userId": account})
    assert refused["problem"]["code"] == "invalid-request"
    theirs.ask("user:clientUpdate", {"xp": 1, "userId": account})
    mine.ask("user:clientUpdate", {"xp": 1000})
    mine.wait("user:update", xp=1000)
    theirs.ask("presence:join", {"userId": f"{account}-other"})
    for event in theirs.seen:
        assert "1000" not in str(event), event
    assert "user:update" not in theirs.names()
