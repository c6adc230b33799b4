"""Events over HTTP: each counted once, each judged by itself."""

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.ledger.boards import weekly_xp
from tests.conftest import Service
from tests.ledger.wire import audit, event, outcomes, record, session, value, xp
from tests.sync.database import fetch
from tests.sync.wire import keys, put, refused, sync

DAY_MS = 86_400_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_an_event_counts_once(client: httpx.Client) -> None:
    """A retry after a lost answer must neither count again nor be told that it failed."""
    first, second = xp(10), xp(-3)
    assert outcomes(record(client, first)) == ["accepted"]
    results = record(client, first, second, second)
    assert outcomes(results) == ["duplicate", "accepted", "duplicate"]
    assert [result["effects"] for result in results] == [{"xp": 10}, {"xp": -3}, {"xp": -3}]
    assert value(client, "totals") == {"xp": 7, "points": 0, "events": 2}
    assert audit(client)["events"] == 2


def test_the_same_id_with_other_content_is_an_error(client: httpx.Client) -> None:
    """Taken for a duplicate, what somebody earned would be lost without a word."""
    first = xp(10, occurred_at=now_ms() - 1000)
    record(client, first)
    others: list[dict[str, Any]] = [
        {"payload": {"amount": 11, "game": "quiz"}},
        {"payload": {"amount": 10, "game": "chess"}},
        {"occurred_at": first["occurred_at"] - 1},
        {"type": "session", "payload": {"thread": "t", "stitch": "s"}},
    ]
    for other in others:
        assert outcomes(record(client, {**first, **other})) == ["id-reused"]
    same = {**first, "payload": {"game": "quiz", "amount": 10}}
    assert outcomes(record(client, same)) == ["duplicate"]
    assert value(client, "totals")["xp"] == 10


def test_an_id_belongs_to_its_account(service: Service) -> None:
    """Two accounts never see each other, not even by the ids that they happen to share."""
    shared = xp(5)
    for _ in range(2):
        with service.client() as client:
            assert outcomes(record(client, shared)) == ["accepted"]
            assert value(client, "totals")["xp"] == 5


BAD: list[tuple[dict[str, Any], str]] = [
    (event("unheard-of", {}), "unknown-event-type"),
    (xp(10.0), "invalid-event"),
    (xp("10"), "invalid-event"),
    (xp(True), "invalid-event"),
    (xp(None), "invalid-event"),
    (xp(10_001), "amount-over-cap"),
    (xp(-10_001), "amount-over-cap"),
    (xp(2**53), "invalid-value"),
    (event("xp", {"amount": 1, "bonus": 1}), "invalid-event"),
    (event("xp", {}), "invalid-event"),
    (event("xp", [1]), "invalid-event"),
    (event("xp", {"amount": 1, "game": "x" * 65}), "invalid-event"),
    (event("session", {"thread": "a:b", "stitch": "s"}), "invalid-event"),
    (event("session", {"thread": "t"}), "invalid-event"),
    (event("session", {"thread": "t", "stitch": "s", "points": 100_001}), "amount-over-cap"),
    (event("session", {"thread": "t", "stitch": "s", "blink_speed": 0}), "invalid-event"),
    (event("session", {"thread": "t", "stitch": "s", "correct_answers": 1}), "invalid-event"),
    (event("session", {"thread": "t", "stitch": "s", "results": ["x" * 20_000]}), "invalid-event"),
    (event("attempt", {"level": "l", "total_questions": 1, "correct_answers": 1}), "unknown-level"),
    (
        event("attempt", {"level": "l", "total_questions": 1, "correct_answers": 1, "xp": 99}),
        "invalid-event",
    ),
    ({**xp(1), "occurred_at": "yesterday"}, "invalid-request"),
    ({**xp(1), "amount": 1}, "invalid-request"),
    ({"id": str(uuid4()), "type": "xp"}, "invalid-request"),
    (event("xp", {"amount": 1, "game": "a\u0000"}), "invalid-value"),
]


@pytest.mark.parametrize(("bad", "code"), BAD)
def test_a_bad_event_is_refused_alone(client: httpx.Client, bad: Any, code: str) -> None:
    """One device with one bug must not hold up what everything else has earned."""
    results = record(client, xp(1), bad, xp(2))
    assert outcomes(results) == ["accepted", code, "accepted"]
    assert results[1]["problem"]["detail"]
    assert "effects" not in results[1]
    assert value(client, "totals") == {"xp": 3, "points": 0, "events": 2}
    audit(client)


def test_deep_and_repeated_payloads_are_refused_alone(client: httpx.Client) -> None:
    """What no decoder can take must not end the request, let alone the service."""
    deep = "[" * 10_000 + "]" * 10_000
    twice = '{"amount": 1, "amount": 2}'
    good = xp(1)
    texts = [
        f'{{"id": "{uuid4()}", "type": "xp", "payload": {payload}}}' for payload in (deep, twice)
    ]
    texts.append(f'{{"id": "{good["id"]}", "type": "xp", "payload": {{"amount": 1}}}}')
    answer = client.post("/v1/events", content=f'{{"events": [{", ".join(texts)}]}}')
    assert answer.status_code == 200, answer.text
    found = outcomes(answer.json()["results"])
    assert found == ["invalid-value", "invalid-value", "accepted"]


@pytest.mark.parametrize("bad", [{}, {"id": 7}, {"id": "no uuid"}, None, [], "x", 1])
def test_an_event_without_an_id_refuses_the_request(client: httpx.Client, bad: Any) -> None:
    """Nobody could be told which one was refused, so nothing is done, and its place is named."""
    problem = refused(
        client.post("/v1/events", json={"events": [xp(1), bad]}), 400, "invalid-request"
    )
    assert problem["path"] == "$.events[1]"
    assert value(client, "totals") is None


def test_500_events_fit_and_501_do_not(client: httpx.Client) -> None:
    """A batch is bounded, and says so before anything is done."""
    events = [xp(1) for _ in range(501)]
    problem = refused(client.post("/v1/events", json={"events": events}), 400, "invalid-request")
    assert problem["limit"] == 500
    assert value(client, "totals") is None
    assert set(outcomes(record(client, *events[:500]))) == {"accepted"}
    assert value(client, "totals")["xp"] == 500
    refused(
        client.post("/v1/sync", json={"device": "d", "cursor": None, "events": events}),
        400,
        "invalid-request",
    )


def test_impossible_times_are_clamped_and_marked(service: Service, client: httpx.Client) -> None:
    """A wrong clock is no reason to lose what was earned, but it must not be believed either."""
    now = now_ms()
    times = {"future": now + 3 * DAY_MS, "past": 0, "long ago": -(10**15), "true": now - DAY_MS}
    results = record(client, *(xp(1, occurred_at=at) for at in times.values()))
    assert outcomes(results) == ["accepted"] * 4
    assert [result.get("clamped", False) for result in results] == [True, True, True, False]
    future, past, long_ago, true = (result["occurred_at"] for result in results)
    assert abs(future - now) < 60_000
    assert abs(past - (now - 366 * DAY_MS)) < 60_000
    assert past == long_ago
    assert true == times["true"]
    ids = [result["id"] for result in results]
    rows = fetch(
        service.database_url, "select claimed_at_ms from events where id = any($1::uuid[])", ids
    )
    assert {row[0] for row in rows} == {times["future"], times["past"], times["long ago"], None}


def test_a_clock_that_is_off_is_set_right(client: httpx.Client) -> None:
    """An event a minute before it was sent stays one, by whichever clock; nothing is clamped."""
    wrong = now_ms() - 400 * DAY_MS
    (result,) = record(client, xp(1, occurred_at=wrong - 60_000), sent_at=wrong, device="d1")
    assert abs(result["occurred_at"] - (now_ms() - 60_000)) < 30_000
    assert "clamped" not in result


def test_a_time_without_integers_and_without_time(client: httpx.Client) -> None:
    """Some languages write whole numbers with a point; and an event may come without a time."""
    at = now_ms() - 5_000
    results = record(client, xp(1, occurred_at=float(at)), xp(1))
    assert results[0]["occurred_at"] == at
    assert abs(results[1]["occurred_at"] - now_ms()) < 60_000


def test_events_travel_with_a_sync(client: httpx.Client) -> None:
    """One round trip carries both, and brings back what the service made of them."""
    mutation, first, bad = put("notes", {"a": 1}, 0), xp(4), xp(10_001)
    answer = sync(client, mutation, events=[first, bad])
    assert [result["outcome"] for result in answer["results"]] == ["applied"]
    assert outcomes(answer["events"]) == ["accepted", "amount-over-cap"]
    assert keys(answer) == ["totals"]
    again = sync(client, mutation, events=[first], cursor=answer["cursor"])
    assert outcomes(again["events"]) == ["duplicate"]
    assert keys(again) == []
    only = sync(client, events=[xp(1)], cursor=answer["cursor"])
    assert only["changes"][0]["value"] == {"xp": 5, "points": 0, "events": 2}
    assert "events" not in sync(client, cursor=only["cursor"])


def test_a_rejected_event_makes_no_change(client: httpx.Client) -> None:
    """No device is woken for what did not happen."""
    before = sync(client, events=[xp(1)])
    after = sync(client, events=[xp(10_001)], cursor=before["cursor"])
    assert (after["changes"], after["cursor"]) == ([], before["cursor"])


@pytest.mark.parametrize("key", ["totals", "profile"])
def test_clients_only_read_what_the_service_computes(client: httpx.Client, key: str) -> None:
    """Whoever could write them could earn without playing."""
    record(client, session(5, 2.0))
    before = client.get(f"/v1/documents/{key}").json()
    path = f"/v1/documents/{key}"
    requests: list[Callable[[], httpx.Response]] = [
        lambda: client.put(path, json={"value": {"xp": 10**6}, "base": 1}),
        lambda: client.patch(path, json={"id": str(uuid4()), "set": {"xp": 10**6}}),
        lambda: client.delete(path),
        lambda: client.post(f"{path}/revisions/1/restore"),
    ]
    for request in requests:
        problem = refused(request(), 403, "server-owned")
        assert "event" in problem["detail"]
    answer = sync(client, put(key, {"xp": 10**6}, 1), put("notes", 1, 0))
    assert [result["outcome"] for result in answer["results"]] == ["rejected", "applied"]
    assert answer["results"][0]["problem"]["code"] == "server-owned"
    assert client.get(path).json() == before


def test_no_account_can_make_them_first(client: httpx.Client) -> None:
    """An account without events has no totals, and must not be able to invent some."""
    refused(client.put("/v1/documents/totals", json={"value": {}, "base": 0}), 403, "server-owned")
    record(client, xp(1))
    assert value(client, "totals") == {"xp": 1, "points": 0, "events": 1}


def test_scores_follow_the_events(service: Service) -> None:
    """A board reads what the same transaction wrote: of all time, and of the week of the event."""
    account = f"player-{uuid4()}"
    at = now_ms() - 21 * DAY_MS
    with service.client(account) as client:
        record(client, xp(10, occurred_at=at), xp(5), xp(0))
    assert standings(service, account) == {
        "xp": (15, True),
        weekly_xp(at): (10, True),
        weekly_xp(now_ms()): (5, True),
    }


def standings(service: Service, account: str) -> dict[str, tuple[int, bool]]:
    rows = fetch(
        service.database_url,
        "select board, score, listed from standings where account = $1",
        account,
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def test_who_does_not_want_to_be_seen_is_not(service: Service) -> None:
    """`listed` counts from the commit of `player` on, on every board, with or without events in
    the same request, and until it is taken back or deleted."""
    account = f"player-{uuid4()}"
    old, now = weekly_xp(now_ms() - 21 * DAY_MS), weekly_xp(now_ms())

    def listed() -> dict[str, bool]:
        return {board: seen for board, (_, seen) in standings(service, account).items()}

    with service.client(account) as client:
        record(client, xp(1, occurred_at=now_ms() - 21 * DAY_MS))
        sync(client, put("player", {"listed": False}, 0))
        assert listed() == {"xp": False, old: False}
        record(client, xp(1))
        assert listed() == {"xp": False, old: False, now: False}
        sync(client, put("player", {"listed": True}, 1), events=[xp(1)])
        assert listed() == {"xp": True, old: True, now: True}
        sync(client, put("player", {"listed": False}, 2), events=[xp(1)])
        assert listed() == {"xp": False, old: False, now: False}
        client.delete("/v1/documents/player")
        assert listed() == {"xp": True, old: True, now: True}


def test_an_audit_finds_what_was_tampered_with(service: Service) -> None:
    """An audit that cannot fail proves nothing."""
    account = f"player-{uuid4()}"
    with service.client(account) as client:
        record(client, xp(10))
        audit(client)
        change = "update totals set amount = amount + 1 where account = $1 and name = 'xp'"
        fetch(service.database_url, change, account)
        found = client.get("/v1/ledger/audit").json()
        assert not found["ok"]
        assert found["differences"] == [{"name": "xp", "total": 11, "sum": 10}]


def test_an_audit_shows_every_total(client: httpx.Client) -> None:
    """It is a proof for whoever reads it, so it gives both sides."""
    record(client, session(5, 2.0), xp(3))
    found = audit(client)
    week = weekly_xp(now_ms())
    assert {one["name"]: one["total"] for one in found["totals"]} == {
        "events": 2,
        "points": 5,
        "study:sessions": 1,
        "xp": 3,
        week: 3,
    }
    assert all(one["total"] == one["sum"] for one in found["totals"])


def test_an_account_without_events_adds_up(client: httpx.Client) -> None:
    """Nothing is nothing, not an error."""
    assert audit(client) == {"ok": True, "events": 0, "totals": [], "differences": []}
