"""From events to the dashboard, and from the catalogue to XP: the parts as a device meets them."""

import time
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.documents.api import put
from tests.documents.contract import CheckedService

DAY_MS = 86_400_000


def now_ms() -> int:
    return int(time.time() * 1000)


def record(client: httpx.Client, *events: Any) -> list[Any]:
    """The results of events, each of which gets an id of its own."""
    body = {"events": [{"id": str(uuid4()), **event} for event in events]}
    answer = client.post("/v1/events", json=body)
    assert answer.status_code == 200, answer.text
    results: list[Any] = answer.json()["results"]
    return results


def studied(days_ago: int, **payload: Any) -> dict[str, Any]:
    full = {"thread": "addition", "stitch": "s1", "total_questions": 4, **payload}
    return {"type": "session", "occurred_at": now_ms() - days_ago * DAY_MS, "payload": full}


def test_study_sessions_make_the_dashboard(client: httpx.Client) -> None:
    """Whatever the order in which they come: a device that was offline sends the old ones last."""
    put(client, "player", {"display_name": "Ana"})
    put(client, "lesson:addition:s1", {"is_completed": True})
    speeds = [(0, 1.0), (1, 1.0), (2, None), (3, 1.0), (4, 1.0), (9, 8.0), (8, 8.0), (7, 8.0)]
    results = record(
        client,
        *(
            studied(days, points=10, correct_answers=3, stitch=f"s{days}", blink_speed=speed)
            for days, speed in speeds
        ),
    )
    assert {one["outcome"] for one in results} == {"accepted"}
    made = client.get("/v1/dashboard").json()
    profile, recent = made["profile"], made["recent_sessions"]
    assert profile["display_name"] == "Ana"
    assert (profile["total_points"], profile["total_sessions"]) == (80, 8)
    assert (profile["streak_days"], profile["evolution_level"]) == (5, 1)
    assert profile["blink_speed"] > 1.2
    assert profile["blink_speed_trend"] == "improving"
    assert [one["stitch"] for one in recent] == ["s0", "s1", "s2", "s3", "s4"]
    assert [one["blink_speed"] for one in recent] == [1.0, 1.0, None, 1.0, 1.0]
    assert {(one["total_points"], one["accuracy"]) for one in recent} == {(10, 75.0)}
    assert profile["last_session_date"] == recent[0]["completed_at"]
    assert recent[0]["id"] == results[0]["id"]
    assert made["progress"] == {"total_stitches_completed": 1, "thread_progress": {"addition": 1}}


def test_a_missed_day_ends_the_streak_on_the_screen(client: httpx.Client) -> None:
    """The document still says three: it is the dashboard's clock that ends it."""
    record(client, studied(2), studied(3), studied(4))
    assert client.get("/v1/documents/profile").json()["value"]["streak"]["current"] == 3
    assert client.get("/v1/dashboard").json()["profile"]["streak_days"] == 0


def test_what_a_client_says_of_itself_makes_no_points(client: httpx.Client) -> None:
    """Only the name comes from the app's own document; the rest is the server's to know."""
    claimed = {"display_name": "Bo", "total_points": 10_000, "is_subscribed": True}
    put(client, "player", claimed)
    profile = client.get("/v1/dashboard").json()["profile"]
    assert (profile["display_name"], profile["total_points"]) == ("Bo", 0)
    assert not profile["is_subscribed"]


@pytest.mark.parametrize(("repeat", "xp"), [("first", [15, 0]), ("every", [15, 15])])
def test_an_attempt_is_worth_what_the_newest_catalogue_says(
    own_service: CheckedService, repeat: str, xp: list[int]
) -> None:
    """Published once, it counts for the next attempt, whatever the client thinks."""
    level = {"level": "intro-1", "min_correct": 7, "xp_reward": 15, "repeat": repeat}
    attempt = {
        "type": "attempt",
        "payload": {"level": "intro-1", "total_questions": 10, "correct_answers": 7},
    }
    with own_service.client() as client, own_service.operator() as operator:
        (unknown,) = record(client, attempt)
        assert unknown["problem"]["code"] == "unknown-level"
        operator.put("/v1/admin/levels", json={"levels": [level]})
        rewarded = record(client, attempt) + record(client, attempt)
        assert [one["effects"]["xp"] for one in rewarded] == xp
        operator.put("/v1/admin/levels", json={"levels": [{**level, "min_correct": 8}]})
        (failed,) = record(client, attempt)
        assert failed["effects"]["xp"] == 0
        operator.put("/v1/admin/levels", json={"levels": []})
        (gone,) = record(client, attempt)
        assert gone["problem"]["code"] == "unknown-level"
